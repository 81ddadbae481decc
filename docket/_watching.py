"""What subscribers of one key are told: each transition once, in order, and an end for every run that they were told of.

What is heard and read comes from the store; whoever subscribes hands it on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from docket._events import iso, progress_event, progress_of, state_event
from docket._store.events import Reading
from docket._store.inspection import DEFAULT_TOTAL
from docket._store.records import ProgressChange, StateChange
from docket.errors import RedisUnavailable, ResultUnavailable
from docket.states import LIVE, TERMINAL, ExecutionState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from docket._events import ProgressEvent, StateEvent
    from docket._store.records import RunRecord
    from docket.docket import Docket

__all__ = ["Watch"]

logger = logging.getLogger("docket.docket")

T = TypeVar("T")


class Watch:
    """This remembers what subscribers of a key have been told, and says what they are to be told next."""

    def __init__(self, docket: Docket, key: str, generation: int, state: StateEvent | None, progress: ProgressChange) -> None:
        self._docket = docket
        self._key = key
        self._generation = generation
        """Which run of the key was told of last; 0: none. Those before it are no concern of whoever subscribes to this one."""
        self._state = state
        self.progress = progress
        """The progress that was told last."""

    @property
    def _is_open(self) -> bool:
        return bool(self._generation) and self._state is not None and self._state["state"] in LIVE

    async def take(self, item: StateChange | ProgressChange | Reading) -> list[StateEvent | ProgressEvent]:
        """This gives the events that follow from what was heard or read.

        Raises `ResultUnavailable` when the run that was told of has ended, and nothing says how.
        """
        if isinstance(item, Reading):
            return await self._read(item)
        if isinstance(item, StateChange):
            return await self._heard(item)
        return [] if item.generation < self._generation else self._tell_progress(item)

    async def _heard(self, change: StateChange) -> list[StateEvent | ProgressEvent]:
        generation = change.generation
        if generation < self._generation or (change.never_began and generation != self._generation):
            return []
        told: list[StateEvent | ProgressEvent] = []
        if generation > self._generation and self._is_open:
            told = await self._missed_end(await self._patiently(lambda: self._docket.store.inspection.load(self._key)))
        return told + self._tell(generation, state_event(change), _at_first(change))

    async def _read(self, reading: Reading) -> list[StateEvent | ProgressEvent]:
        record = reading.record
        if record is None:
            if reading.in_place and self._is_open:
                raise ResultUnavailable(
                    f"execution {self._key} has ended, and nothing is known of how (any more): its record is kept for {self._docket.execution_ttl} after its end"
                )
            return []
        if record.generation < self._generation:  # ours is the successor of the run that stands there, or was, and never began
            return [] if record.successor == self._generation or not self._is_open else self._tell_end(ExecutionState.CANCELLED)
        told: list[StateEvent | ProgressEvent] = []
        if record.generation > self._generation and self._is_open:
            told = await self._missed_end(record)
        return told + self._tell(record.generation, state_event(record), progress_of(record))

    async def _missed_end(self, record: RunRecord | None) -> list[StateEvent | ProgressEvent]:
        """Another run has taken the place of the one that was told of: how it ended is kept beside, or remembered by the one that came next."""
        outcome = await self._patiently(lambda: self._docket.store.inspection.outcome(self._key, self._generation))
        earlier = None if record is None else record.earlier
        if earlier is not None and earlier.generation == self._generation:
            return self._tell_end(earlier.state, earlier.completed_us, outcome and outcome.error)
        return [] if outcome is None else self._tell_end(outcome.state, None, outcome.error)

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await read()
            except RedisUnavailable as exc:  # it has been tried for seconds
                logger.debug("What became of %s cannot be read now, and will be when Redis is back: %s", self._key, exc)

    def _tell_end(self, state: ExecutionState, completed_us: int | None = None, error: str | None = None) -> list[StateEvent | ProgressEvent]:
        assert self._state is not None
        event: StateEvent = {**self._state, "state": state, "completed_at": iso(completed_us), "error": error}
        return self._tell(self._generation, event, self.progress)

    def _tell(self, generation: int, event: StateEvent, progress: ProgressChange | None) -> list[StateEvent | ProgressEvent]:
        """Two that differ in the error alone tell of the same: read later, that of an attempt is shorter."""
        is_news = self._state is None or generation != self._generation or {**event, "error": None} != {**self._state, "error": None}
        told: list[StateEvent | ProgressEvent] = [event] if is_news else []
        self._generation, self._state = generation, event
        return told if progress is None else told + self._tell_progress(progress)

    def _tell_progress(self, progress: ProgressChange) -> list[StateEvent | ProgressEvent]:
        before, self.progress = self.progress, progress
        if (before.current, before.total, before.message, before.updated_us) == (progress.current, progress.total, progress.message, progress.updated_us):
            return []
        if progress.updated_us is None and (before.current or 0, before.total, before.message) == (progress.current or 0, progress.total, progress.message):
            return []  # nothing was done, and nothing is
        return [progress_event(progress)]


def _at_first(change: StateChange) -> ProgressChange | None:
    """What a run's progress is as it comes to a state; None: as before."""
    if change.state in TERMINAL:
        return None
    return ProgressChange(change.key, change.generation, 0 if change.state is ExecutionState.RUNNING else None, DEFAULT_TOTAL, None, None)
