"""Listing executions: an iterator, and pages with a cursor for those who come back later.

Where runs are found and how they are read is the store's business; here is decided where to look, in which order, and where to go on.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from docket._snapshot import ExecutionPage
from docket._task import NamedTask
from docket.errors import InvalidOption
from docket.execution import Execution
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket._store.listing import Listing as _OfOne
    from docket._store.records import RunRecord
    from docket._store.shards import ShardedListing
    from docket.docket import Docket

__all__ = ["FUTURE", "RUNNING", "Cursor", "Executions", "Wanted", "check_count", "dumps_cursor", "execution_of", "loads_cursor", "read_page"]

PAGE = 100
"""Executions on a page, unless asked otherwise."""

MOST = 1000
"""Executions on a page, at most; an iterator reads so many at a time."""

_CHUNK = 50
"""Candidates that are looked at together, at least."""

_FRUITLESS = 200
"""Candidates beyond the size of a page that are looked at, and not wanted, before it is given as it is."""


if TYPE_CHECKING:
    Listing = _OfOne | ShardedListing

ANY: None = None
"""The generation of a candidate that is known by its key only."""

Cursor = tuple[str, list[Any] | None]
"""Where a listing goes on: in which of its places, and behind what there."""


@dataclass(frozen=True)
class Wanted:
    """This says which runs are listed."""

    states: tuple[ExecutionState, ...] | None = None
    task: str | None = None
    prefix: str = ""


class _Candidate(NamedTuple):
    key: str
    generation: int | None
    place: list[Any]  # where the listing goes on behind it


# Where to look for runs that stand in an order. Each takes the place to go on behind, and how many to look at; fewer are all there are.


async def _in_schedule(listing: Listing, after: Any, count: int) -> list[_Candidate]:
    return [_Candidate(key, ANY, [moment, key]) for moment, key in await listing.scheduled(after, count)]


async def _in_stream(listing: Listing, after: Any, count: int) -> list[_Candidate]:
    entries = await listing.entries(after and after[0], count)
    return [_Candidate(entry.key, entry.generation, [entry.message_id.decode()]) for entry in entries]


async def _with_workers(listing: Listing, after: Any, count: int) -> list[_Candidate]:
    entries = await listing.fetched(after and after[0], count)
    return [_Candidate(entry.key, entry.generation, [entry.message_id.decode()]) for entry in entries]


async def _in_line(listing: Listing, after: Any, count: int) -> list[_Candidate]:
    return [_Candidate(each.key, each.generation, [each.identity, each.arrival]) for each in await listing.parked(after, count)]


_STAGES: dict[str, tuple[Callable[[Listing, Any, int], Awaitable[list[_Candidate]]], list[type]]] = {
    "schedule": (_in_schedule, [int, str]),
    "stream": (_in_stream, [str]),
    "workers": (_with_workers, [str]),
    "line": (_in_line, [str, int]),
}
"""How each looks, and what its places consist of."""

FUTURE = ("stream", "line", "schedule")
"""Where work is that has not begun, in about the order in which it will run."""

RUNNING = ("workers",)

_WHERE: dict[ExecutionState, tuple[str, ...]] = {
    ExecutionState.SCHEDULED: ("schedule",),
    ExecutionState.QUEUED: FUTURE,  # in the schedule too: a limit may have told it to come back later
    ExecutionState.RUNNING: RUNNING,
}
_ANYWHERE = ("scan",)

_ENTRY = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")  # which a server takes for an entry's name, whatever the digits


async def read_page(listing: Listing, where: Sequence[str], wanted: Wanted, cursor: Cursor | None, size: int) -> tuple[list[RunRecord], Cursor | None]:
    """This reads a page of runs that stand in an order: at most that many, and where to go on behind them (None: nowhere).

    It looks at no more than the size of the page and some 200 candidates, so that it may come back empty-handed.
    """
    name, place = cursor or (where[0], None)
    stage = where.index(name)
    records: dict[tuple[str, int], RunRecord] = {}
    looked = 0
    while stage < len(where) and len(records) < size and looked < size + _FRUITLESS:
        look, _ = _STAGES[where[stage]]
        count = min(max(size - len(records), _CHUNK), MOST)
        found = await look(listing, place, count)
        looked += len(found)
        is_cut = False
        for candidate, record in zip(found, await _read(listing, found, wanted), strict=True):
            is_cut = len(records) == size
            if is_cut:
                break
            place = candidate.place
            if record is not None:
                records[record.key, record.generation] = record
        if len(found) < count and not is_cut:
            stage, place = stage + 1, None
    return list(records.values()), None if stage == len(where) else (where[stage], place)


async def _read(listing: Listing, found: Sequence[_Candidate], wanted: Wanted) -> list[RunRecord | None]:
    records: list[RunRecord | None] = [None] * len(found)
    places = [place for place, each in enumerate(found) if each.key.startswith(wanted.prefix)]
    read = await listing.select([(found[place].key, found[place].generation) for place in places], wanted.states, wanted.task)
    for place, record in zip(places, read, strict=True):
        records[place] = record
    return records


async def scan_page(listing: Listing, wanted: Wanted, cursor: Cursor | None, size: int) -> tuple[list[RunRecord], Cursor | None]:
    """This reads a page of runs wherever they are, in no order: those among about that many keys of the server."""
    _, place = cursor or ("", None)
    keys, onward = await listing.scan(place[0] if place else "0", size, wanted.prefix)
    records = await listing.select([(key, ANY) for key in keys], wanted.states, wanted.task)
    return [record for record in records if record is not None], None if onward is None else (_ANYWHERE[0], [onward])


# Cursors


def dumps_cursor(cursor: Sequence[Cursor | None] | None) -> str | None:
    """This gives cursors as text that may stand in a URL."""
    if cursor is None:
        return None
    return base64.urlsafe_b64encode(json.dumps(cursor, separators=(",", ":")).encode()).decode().rstrip("=")


def loads_cursor(text: str, *wheres: Sequence[str]) -> list[Cursor | None]:
    """This gives cursors back, one for each listing. Raises `InvalidOption` for anything that listings which look there cannot have given."""
    try:
        cursors: Any = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        if not any(cursors):
            raise ValueError(cursors)
        return [None if cursor is None else _checked(*cursor, where=where) for cursor, where in zip(cursors, wheres, strict=True)]
    except (ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise InvalidOption(f"{text!r} is no cursor of this listing; pass what the page before gave, with the same filter, or None to begin") from exc


def _checked(name: str, place: list[Any] | None, *, where: Sequence[str]) -> Cursor:
    where.index(name)
    if place is not None:
        parts = _STAGES[name][1] if name in _STAGES else [str]
        if [type(part) for part in place] != parts or (name in ("stream", "workers") and not _ENTRY.fullmatch(place[0])):
            raise ValueError(name, place)
        json.dumps(place, ensure_ascii=False).encode()
    return name, place


# What callers hold


def execution_of(docket: Docket, record: RunRecord) -> Execution[Any]:
    """This makes an execution of what was read, also of a task that is not registered here."""
    registered = docket.registry.get(record.function)
    return Execution.loaded(docket, registered.function if registered else NamedTask(record.function or "?", docket), record)


class Executions:
    """This lists executions: with `async for` all of them, with `page` a page at a time.

    Scheduled work comes in order of its due time, ready and running work in the order in which it became ready; without a state,
    and of a state that is an end, there is no order. Each page takes a bounded amount of work, however large the docket is, and
    so may be empty and not the last.

    Nothing is held still meanwhile. What changes its state while it is listed may come twice, or not at all; what stays as it is
    comes once, or without an order at least once. Arguments are decoded only when somebody asks for them, so nothing that was
    stored can make a listing fail, and none of the tasks has to be known here. Large ones are brought along up to eight megabytes for
    every 200 runs; the others are read with `Docket.get_execution`.
    """

    def __init__(
        self, docket: Docket, *, state: ExecutionState | str | None = None, task: str | None = None, key_prefix: str | None = None, limit: int | None = None
    ) -> None:
        state = _state(state)
        if limit is not None:
            check_count("limit", limit, None)
        self._docket = docket
        self._where = _ANYWHERE if state is None else _WHERE.get(state, _ANYWHERE)
        self._wanted = Wanted(None if state is None else (state,), task, key_prefix or "")
        self._limit = limit

    async def page(self, cursor: str | None = None, size: int = PAGE) -> ExecutionPage:
        """This gives a page of at most `size` executions (of a listing without an order, a few more), and where the next begins.

        A cursor belongs to the listing that gave it: any other raises `InvalidOption`.
        """
        check_count("size", size, MOST)
        store, wanted = self._docket.store.listing, self._wanted
        [start] = [None] if cursor is None else loads_cursor(cursor, self._where)
        if self._where is _ANYWHERE:
            records, onward = await scan_page(store, wanted, start, size)
        else:
            records, onward = await read_page(store, self._where, wanted, start, size)
        return ExecutionPage([execution_of(self._docket, record) for record in records], dumps_cursor(onward and [onward]))

    async def __aiter__(self) -> AsyncIterator[Execution[Any]]:
        left = self._limit
        is_filtered = self._wanted.task is not None or self._wanted.prefix or self._where is _ANYWHERE
        cursor: str | None = None
        while True:
            size = MOST if left is None or is_filtered else min(left, MOST)
            page = await self.page(cursor, size)
            for execution in page.executions[:left]:
                yield execution
            left = None if left is None else left - len(page.executions)
            cursor = page.cursor
            if cursor is None or (left is not None and left <= 0):
                return


def _state(state: ExecutionState | str | None) -> ExecutionState | None:
    try:
        return None if state is None else ExecutionState(state)
    except ValueError:
        raise InvalidOption(f"state is {state!r}; give one of {', '.join(each.value for each in ExecutionState)}") from None


def check_count(option: str, value: object, most: int | None) -> None:
    """This raises `InvalidOption` for what is no whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        raise InvalidOption(f"{option} is {value!r}; give a whole number of at least 1" + (f" and at most {most}" if most else ""))
