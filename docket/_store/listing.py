"""Lists runs, a page at a time: where their keys are found (the schedule, the stream, the lines before limits, the keyspace), and reading them.

Every call here takes an amount of work that its caller bounds, whatever the size of the docket, and changes nothing.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from docket._messages import peek_error, peek_struck
from docket._redis.batcher import BATCH_ITEMS
from docket._store.base import READ_PATIENCE, Base, as_dict, chunks
from docket._store.delivery import deliveries
from docket._store.inspection import CONTENDED, record_of
from docket._store.records import Outcome
from docket.errors import InvalidOption, ServerError
from docket.states import TERMINAL, ExecutionState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from docket._store.records import Delivery, RunRecord

__all__ = ["PAYLOAD_BYTES", "Listing", "Parked", "place_of_entry"]

PAYLOAD_BYTES = 8_000_000
"""Bytes of large payloads that one script call, so 200 runs, brings along."""

_ERROR_BYTES = 1000
"""Bytes of a stored outcome that are read for the error it tells of; the result behind it may be large."""


class Parked(NamedTuple):
    """This run waits in the line before a concurrency limit."""

    identity: str
    arrival: int
    key: str
    generation: int


class Listing(Base):
    """This finds runs and reads many at once."""

    # Where to look

    async def scheduled(self, after: tuple[int, str] | None, count: int) -> list[tuple[int, str]]:
        """This lists the schedule in order of due time: moments and keys, those behind `after`.

        What stands there throughout is listed once; what is moved meanwhile may be missed or come twice.
        """
        if after is None:
            return await self._queue(0, count)
        place = (after[0], after[1].encode())
        rank, score = await asyncio.gather(self._read("ZRANK", self._keys.queue, after[1]), self._read("ZSCORE", self._keys.queue, after[1]))
        if rank is None or score is None or int(float(score)) != after[0]:
            rank = await self._rank_behind(place)
        while True:
            # With the one before: it tells whether anything in front has moved since the rank was asked for
            first = max(rank - 1, 0)
            found = await self._queue(first, count + 2)
            if first == 0 or (found and _place(found[0]) <= place):
                break
            rank = await self._rank_behind(place)
        return [each for each in found if _place(each) > place][:count]

    async def _rank_behind(self, place: tuple[int, bytes]) -> int:
        """How many stand at this place of the schedule or before it."""
        low, high = 0, await self._read("ZCARD", self._keys.queue)
        while low < high:
            middle = (low + high) // 2
            found = await self._queue(middle, 1)
            if found and _place(found[0]) <= place:
                low = middle + 1
            else:
                high = middle
        return low

    async def scheduled_from(self, rank: int, count: int) -> list[str]:
        """This lists keys of the schedule from a rank on, for those who take away what they find."""
        return [key for _, key in await self._queue(rank, count)]

    async def _queue(self, start: int, count: int) -> list[tuple[int, str]]:
        flat = await self._read("ZRANGE", self._keys.queue, start, start + count - 1, "WITHSCORES")
        return [(int(float(score)), key.decode("utf-8", "replace")) for key, score in zip(flat[::2], flat[1::2], strict=True)]

    async def entries(self, after: str | None, count: int) -> list[Delivery]:
        """This lists the stream from its beginning: what runs stands there first, then what is ready, as it came."""
        return deliveries(await self._read("XRANGE", self._keys.stream, "-" if after is None else "(" + after, "+", "COUNT", count))

    async def fetched(self, after: str | None, count: int) -> list[Delivery]:
        """This lists those of the same entries that workers have fetched."""
        entries, last = await asyncio.gather(self.entries(after, count), self.fetched_up_to())
        return [entry for entry in entries if last is not None and place_of_entry(entry.message_id) <= last]

    async def fetched_up_to(self) -> tuple[int, int] | None:
        """This names the last entry of the stream that workers have fetched; None before the first."""
        try:
            groups = await self._read("XINFO", "GROUPS", self._keys.stream)
        except ServerError:  # there is no stream yet
            return None
        for group in map(as_dict, groups):
            if group[b"name"] == self._keys.group.encode():
                return place_of_entry(group[b"last-delivered-id"])
        return None

    async def parked(self, after: tuple[str, int] | None, count: int) -> list[Parked]:
        """This lists who waits in line before a concurrency limit: by limit, then in order of arrival. It looks at `CONTENDED` limits."""
        identities = sorted(identity.decode() for identity in await self._read("ZRANGE", self._keys.waiting, 0, CONTENDED - 1))
        if after is not None:
            identities = [identity for identity in identities if identity >= after[0]]
        lengths = await asyncio.gather(*(self._read("ZCARD", self._line(identity)) for identity in identities))
        asked: list[tuple[str, Any]] = []
        room = count
        for identity, length in zip(identities, lengths, strict=True):
            if room <= 0:
                break
            behind = after[1] if after is not None and identity == after[0] else None
            least = "-inf" if behind is None else f"({behind}"
            asked.append((identity, self._read("ZRANGEBYSCORE", self._line(identity), least, "+inf", "WITHSCORES", "LIMIT", 0, room)))
            room -= length if behind is None else 0  # of a line that has been listed in part, what is left is not known
        replies = await asyncio.gather(*(call for _, call in asked))
        found: list[Parked] = []
        for (identity, _), flat in zip(asked, replies, strict=True):
            for member, score in zip(flat[::2], flat[1::2], strict=True):
                generation, _, key = member.decode("utf-8", "replace").partition("|")
                found.append(Parked(identity, int(float(score)), key, int(generation)))
        return found[:count]

    def _line(self, identity: str) -> str:
        return self._keys.concurrency(identity)[1]

    async def scan(self, cursor: str, count: int, prefix: str) -> tuple[list[str], str | None]:
        """This looks at about that many keys of the server, and lists those of runs whose key has the prefix, in no order; then where to go on.

        What stands throughout is listed at least once.
        """
        if not (self._backend.is_memory or (re.fullmatch("[0-9]{1,20}", cursor) and int(cursor) < 1 << 64)):
            raise InvalidOption(f"{cursor!r} is no cursor of this server")
        start = self._keys.run(prefix)
        following, found = await self._read("SCAN", cursor, "MATCH", _escaped(start) + "*", "COUNT", count)
        skipped = len(self._keys.run(""))
        keys = [key.decode("utf-8", "replace")[skipped:] for key in dict.fromkeys(found)]
        return keys, None if following == b"0" else following.decode()

    # Reading what was found

    async def select(
        self, candidates: Sequence[tuple[str, int | None]], states: Iterable[ExecutionState] | None = None, task: str | None = None
    ) -> list[RunRecord | None]:
        """This reads the records of keys (and generations), those that are wanted; None for any other, and for what cannot be read."""
        wanted = "" if states is None else f",{','.join(state.value for state in states)},"
        replies = await asyncio.gather(*(self._select(part, wanted, task or "") for part in chunks(candidates, BATCH_ITEMS)))
        return [record for part in replies for record in part]

    async def _select(self, candidates: Sequence[tuple[str, int | None]], wanted: str, task: str) -> list[RunRecord | None]:
        spell = self._keys
        keys = [spelt for key, _ in candidates for spelt in (spell.run(key), spell.payload(key))]
        args = ["" if generation is None else generation for _, generation in candidates]
        replies = await self._persist(lambda: self._script("select", keys, wanted, task, PAYLOAD_BYTES, *args), READ_PATIENCE)
        records = [_record(key, reply) for (key, _), reply in zip(candidates, replies, strict=True)]
        elsewhere = [index for index, reply in enumerate(replies) if (record := records[index]) and record.state in TERMINAL and b"beside" in reply[0][::2]]
        await asyncio.gather(*(self._add_error(records, index) for index in elsewhere))
        return records

    async def _add_error(self, records: list[RunRecord | None], index: int) -> None:
        """Adds what ended a run, where that stands beside the record."""
        record = records[index]
        assert record is not None
        blob = await self._read("GETRANGE", self._keys.outcome(record.key, record.generation), 0, _ERROR_BYTES - 1)
        error = peek_error(blob)
        records[index] = replace(record, error=error, outcome=Outcome(record.state, error, struck=peek_struck(blob)))


def _record(key: str, reply: Any) -> RunRecord | None:
    if not reply or reply[0] == b"error":
        return None
    fields = as_dict(reply[0])
    payload = reply[1] if len(reply) > 1 else fields.get(b"payload")
    for blob in (fields.get(b"outcome"), None):
        try:
            return record_of(key, fields, payload, blob)
        except (KeyError, ValueError):  # written by somebody else; without its outcome it may be legible
            continue
    return None


def _place(found: tuple[int, str]) -> tuple[int, bytes]:
    """Where it stands in a sorted set: by score, then by the bytes of the member."""
    return found[0], found[1].encode()


def place_of_entry(identity: bytes) -> tuple[int, int]:
    """This is where an entry stands in the stream."""
    milliseconds, _, sequence = identity.decode().partition("-")
    return int(milliseconds), int(sequence or 0)


def _escaped(text: str) -> str:
    """A text that a pattern of `SCAN` takes as it is."""
    return re.sub(r"([\\*?[\]])", r"\\\1", text)
