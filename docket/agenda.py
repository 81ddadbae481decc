"""An agenda: calls collected first, and scheduled together, spread over a stretch of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from typing_extensions import ParamSpec

from docket._loading import did_you_mean
from docket._signatures import shape_of
from docket._task import Handle
from docket._when import check_key, due
from docket.errors import InvalidOption, UnknownTask
from docket.execution import Execution, TaskFunction

if TYPE_CHECKING:
    from docket.docket import Docket

__all__ = ["Agenda"]

P = ParamSpec("P")


class _Entry(NamedTuple):
    function: TaskFunction | str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: str | None


class Agenda:
    """This collects calls of tasks and schedules them all, evenly spread over a stretch of time. It may be scattered more than once."""

    def __init__(self, *, random: Random | None = None) -> None:
        self._random = random or Random()
        self._entries: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[TaskFunction | str, tuple[Any, ...], dict[str, Any], str | None]]:
        return iter(list(self._entries))

    def __repr__(self) -> str:
        return f"<Agenda of {len(self)} calls>"

    @overload
    def add(self, function: Callable[P, Any], key: str | None = None) -> Callable[P, None]: ...
    @overload
    def add(self, function: str, key: str | None = None) -> Callable[..., None]: ...
    def add(self, function: TaskFunction | str, key: str | None = None) -> Callable[..., None]:
        """This adds a call of a function, a handle or a task known by name: `agenda.add(send, key=...)(*args, **kwargs)`.

        Raises `InvalidArguments` for a call that does not bind.
        """
        if key is not None:
            check_key(key)
        held: object = function
        shape = None if isinstance(function, str) else held.shape if isinstance(held, Handle) else shape_of(function)

        def adding(*args: Any, **kwargs: Any) -> None:
            if shape is not None:
                shape.check(getattr(function, "__name__", repr(function)), args, kwargs)
            self._entries.append(_Entry(function, args, kwargs, key))

        return adding

    def clear(self) -> None:
        """This forgets all calls. What was scheduled already stays so."""
        self._entries.clear()

    async def scatter(self, docket: Docket, over: timedelta, start: datetime | None = None, jitter: timedelta | None = None) -> list[Execution[Any]]:
        """This schedules every call with one `Docket.add_many`: the first at `start` (now), the others at even distances, up to `over` later.

        With `jitter` each is moved by chance, by at most so much to either side, but not before `start`. Raises `InvalidOption` for
        an `over` that is not positive or a negative `jitter`, `InvalidSchedule` for a `start` without a time zone, and
        `UnknownTask` (a KeyError) for a name that the docket does not know, before anything is scheduled.
        """
        if over <= timedelta(0):
            raise InvalidOption("'over' parameter must be a positive duration")
        if jitter is not None and jitter < timedelta(0):
            raise InvalidOption(f"jitter is {jitter}; give a timedelta of zero or more")
        for entry in self._entries:
            if isinstance(entry.function, str) and entry.function not in docket.tasks:
                raise UnknownTask(f"Task '{entry.function}' is not registered{did_you_mean(entry.function, docket.tasks)}")
        begin = due(start, docket.clock) or docket.clock.now()
        times = self._times(begin, over, jitter)
        calls = [docket.call(entry.function, when, entry.key)(*entry.args, **entry.kwargs) for entry, when in zip(self._entries, times, strict=True)]
        return await docket.add_many(calls)

    def _times(self, start: datetime, over: timedelta, jitter: timedelta | None) -> list[datetime]:
        step = over / max(1, len(self._entries) - 1)
        times = [start + number * step for number in range(len(self._entries))]
        if jitter is None:
            return times
        return [max(start, when + self._random.uniform(-1, 1) * jitter) for when in times]
