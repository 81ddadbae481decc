"""Waits for the end of one run: hears of it, and reads the record wherever it may have missed something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docket._context import while_waiting
from docket._store.events import REREAD_EVERY
from docket._store.records import Outcome, StateChange
from docket.errors import ExecutionSuperseded, ResultTimeout, ResultUnavailable
from docket.states import TERMINAL, ExecutionState

if TYPE_CHECKING:
    from docket._store.events import Feed
    from docket._store.records import RunRecord
    from docket.docket import Docket

__all__ = ["Ending"]

_LATE_EVENT = 0.25
"""Seconds in which the event of an end arrives after the record went."""


class Ending:
    """This is the end of one run, yet to come or not."""

    def __init__(self, docket: Docket, key: str, generation: int) -> None:
        self._docket = docket
        self._key = key
        self.generation = generation
        """Which run of the key; 0 until the record has been read, for whichever stands there."""
        self.task = ""
        """The task that the record names, once it has been read: under a key that was taken, it need not be the one that was asked for."""

    async def wait(self, until: float | None) -> Outcome | None:
        """This waits for how the run ended; None when it has ended and nothing was kept."""
        ended, outcome = await self._ended()
        if ended:
            return outcome
        aside = while_waiting.get()
        if aside is None:
            return await self._hear_of_it(until)
        async with aside:
            return await self._hear_of_it(until)

    async def _hear_of_it(self, until: float | None) -> Outcome | None:
        async with self._docket.store.events.feed(self._key) as feed:
            while True:
                ended, outcome = await self._ended()
                if outcome is None and ended:
                    return await self._announced_ending(feed)
                if ended:
                    return outcome
                change = await feed.get(self._patience(until))
                if isinstance(change, StateChange) and (told := self._told_by(change)):
                    return told

    async def _ended(self) -> tuple[bool, Outcome | None]:
        """This says whether the run has ended, and how, as far as it was kept."""
        inspection = self._docket.store.inspection
        record = await inspection.load(self._key)
        if record is not None and self.generation in (0, record.generation):
            self.generation, self.task = record.generation, record.function
            return record.state in TERMINAL, record.outcome or Outcome(record.state)
        if record is not None and record.successor == self.generation:
            return False, None
        if (outcome := await inspection.outcome(self._key, self.generation)) is not None:
            return True, outcome
        if not self._docket.execution_ttl:
            return True, None
        if record is not None:
            return True, self._remembered(record)
        raise ResultUnavailable(
            f"nothing is known of execution {self._key} (any more): its record is kept for {self._docket.execution_ttl} after its end; raise execution_ttl, or ask earlier"
        )

    async def _announced_ending(self, feed: Feed) -> Outcome | None:
        """This gives the end that was published when nothing is kept (`execution_ttl` of zero): the record may go before its event arrives."""
        clock = self._docket.clock
        until = clock.monotonic() + _LATE_EVENT
        told: Outcome | None = None
        while told is None and (left := until - clock.monotonic()) > 0:
            change = await feed.get(left)  # None need not mean that time is up
            told = self._told_by(change) if isinstance(change, StateChange) else None
        return told

    def _told_by(self, change: StateChange) -> Outcome | None:
        """This gives the end that an event tells of, if it is this run's and nothing else tells it."""
        if change.generation != self.generation or change.state not in TERMINAL:
            return None
        if change.superseded:
            raise self._superseded()
        return None if self._docket.execution_ttl else Outcome(change.state, change.error)

    def _remembered(self, record: RunRecord) -> Outcome:
        """This gives the end that the record of the run after it remembers."""
        earlier = record.earlier
        if earlier is None or earlier.generation != self.generation or earlier.was_replaced:
            raise self._superseded()
        if earlier.state is ExecutionState.CANCELLED:
            return Outcome(earlier.state)
        raise ResultUnavailable(
            f"execution {self._key} {earlier.state.value}, and what came of it went when its key was scheduled again; "
            "ask earlier, or give every run that somebody waits for a key of its own"
        )

    def _superseded(self) -> ExecutionSuperseded:
        return ExecutionSuperseded(f"Execution {self._key} was replaced before it ended; the run that took its place is docket.get_execution({self._key!r})")

    def _patience(self, until: float | None) -> float:
        if until is None:
            return REREAD_EVERY
        remaining = until - self._docket.clock.monotonic()
        if remaining <= 0:
            raise ResultTimeout(f"Timeout waiting for execution {self._key} to complete")
        return min(remaining, REREAD_EVERY)
