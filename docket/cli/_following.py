"""Follows the runs of one key: hears of every transition, and reads the record wherever it may have missed one.

What is shown of it, and how, is `_watch`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from docket._events import progress_of
from docket._store.records import StateChange
from docket.errors import RedisUnavailable, ResultUnavailable
from docket.states import TERMINAL, ExecutionState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from docket._store.records import ProgressChange, RunRecord
    from docket.docket import Docket

__all__ = ["Audience", "Following", "Run"]

T = TypeVar("T")

LOOK_EVERY = 2.0
"""Seconds for which events alone are trusted; so soon an outage is noticed, too."""

_LATE_EVENT = 0.25
"""Seconds in which an event arrives that tells of what the record does not show any more."""

_HICCUP = 1.0
"""Seconds without a connection that are not worth a word."""


@dataclass(frozen=True, slots=True)
class Run:
    """This is one run of the key, as far as it is known."""

    key: str
    generation: int
    state: ExecutionState
    function: str | None
    """None: only events have told of it, and they do not say."""
    attempt: int
    when_us: int
    worker: str | None = None
    started_us: int | None = None
    completed_us: int | None = None
    error: str | None = None
    progress: ProgressChange | None = None
    """None: it has not reported any."""

    @property
    def stage(self) -> object:
        """This tells one stage of a run's life from the others. Its error is none: a record keeps that of the last attempt."""
        return self.generation, self.state, self.when_us, self.worker, self.started_us


class Audience(Protocol):
    """This is told what becomes of the runs that are followed."""

    def waiting(self) -> None:
        """This hears, again and again, that there is no run under the key yet."""
        ...

    def stands(self, run: Run, before: Run | None) -> None:
        """This hears of a new stage of a run, its end among them; `before` is its last stage, None for the first one seen."""
        ...

    def progressed(self, run: Run) -> None:
        """This hears of a report of progress."""
        ...

    def replaced(self, run: Run) -> None:
        """This hears that another run has taken this one's place, and is followed from here on."""
        ...

    def goes_on(self, following: Run) -> None:
        """This hears that the run that ended is followed by another, as in a chain, which is not watched."""
        ...

    def away(self) -> None:
        """This hears that Redis is away, and is waited for."""
        ...

    def back(self) -> None:
        """This hears that Redis is back."""
        ...

    def tick(self) -> None:
        """This is called after everything else, and every few seconds."""
        ...


class Following:
    """This follows the run that stands under a key to its end; one that is replaced, through its replacement."""

    def __init__(self, docket: Docket, key: str, audience: Audience, *, wait: bool = False, onwards: bool = False) -> None:
        self._docket = docket
        self._store = docket.store
        self._key = key
        self._audience = audience
        self._wait = wait
        self._onwards = onwards
        self._run: Run | None = None
        self._over = 0  # the last generation that is done with
        self._is_gone = False  # at the last look

    async def to_the_end(self) -> Run:
        """This tells the audience of everything up to the end, and gives the run that ended.

        Raises `ResultUnavailable` when there is no run under the key, unless it is to be waited for, and when the record went
        before the end was learnt of. An outage of Redis is waited out. With `onwards`, the run that follows the one that ended
        is followed in its turn, for as long as there is one.
        """
        async with self._store.events.feed(self._key) as feed:
            change: StateChange | ProgressChange | None = None
            while True:
                if change is None:  # events may have been missed
                    await self._reread()
                elif isinstance(change, StateChange):
                    await self._heard(change)
                else:
                    self._reported(change)
                self._audience.tick()
                run = self._run
                if run is not None and run.state in TERMINAL and not await self._goes_on(run):
                    return run
                change = await feed.get(self._patience())

    def _patience(self) -> float:
        is_due_now = self._is_gone or (self._run is None and self._over)
        return _LATE_EVENT if is_due_now else LOOK_EVERY

    # What is read

    async def _reread(self) -> None:
        record = await self._load()
        run = self._run
        if run is not None and (record is None or record.generation != run.generation):
            await self._moved_on(run, record)
        elif record is not None and record.generation > self._over:
            self._stand(_of_record(record))
        elif self._over:
            self._gone(f"Another run has followed under {self._key!r}, and nothing is known of it (any more)")
        elif self._wait:
            self._audience.waiting()
        else:
            raise ResultUnavailable(
                f"There is no task {self._key!r} on the docket {self._docket.name!r}: none was added, or its record has expired. Give --wait to wait for one."
            )

    async def _moved_on(self, run: Run, record: RunRecord | None) -> None:
        """The record is not this run's any more: it ended, or it was replaced, while nobody listened."""
        outcome = await self._patiently(lambda: self._store.inspection.outcome(self._key, run.generation))
        earlier = None if record is None or record.earlier is None or record.earlier.generation != run.generation else record.earlier
        if earlier is not None and not earlier.was_replaced:
            self._stand(replace(run, state=earlier.state, completed_us=earlier.completed_us, error=outcome and outcome.error))
        elif outcome is not None:
            self._stand(replace(run, state=outcome.state, error=outcome.error))
        elif record is not None:
            self._replaced(run)
            self._stand(_of_record(record))
        else:
            self._gone(f"The record of {self._key!r} is gone (execution_ttl), so how it ended is not known; it was last seen {run.state.value}")

    def _gone(self, sentence: str) -> None:
        """Where ends are not kept (`execution_ttl` of zero), the record may go before the event of the end arrives."""
        if self._is_gone:
            raise ResultUnavailable(sentence)
        self._is_gone = True

    async def _goes_on(self, run: Run) -> bool:
        """This looks for what follows a run that has ended, and says whether that is to be followed."""
        record = await self._load()
        if record is None or record.generation <= run.generation:
            return False
        if self._onwards:
            self._run, self._over = None, run.generation
        else:
            self._audience.goes_on(_of_record(record))
        return self._onwards

    async def _load(self) -> RunRecord | None:
        return await self._patiently(lambda: self._store.inspection.load(self._key))

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """This reads, however long Redis is away."""
        is_away = False
        while True:
            try:
                if await self._store.backend.available(_HICCUP):
                    answer = await read()
                    break
            except RedisUnavailable:  # it has waited a while itself
                pass
            if not is_away:
                is_away = True
                self._audience.away()
        if is_away:
            self._audience.back()
        return answer

    # What is heard

    async def _heard(self, change: StateChange) -> None:
        run = self._run
        if change.generation <= self._over or change.never_began or (run is None and change.superseded):
            return
        if run is not None and change.generation != run.generation:
            await self._reread()  # a later run: the end of this one was missed
        elif run is not None and change.superseded:
            self._replaced(run)
        else:
            self._stand(await self._of_change(change))

    async def _of_change(self, change: StateChange) -> Run:
        run = self._run
        if run is None:
            run = Run(self._key, change.generation, change.state, None, 1, change.when_us)
        function, attempt = run.function, run.attempt
        waits = change.state in (ExecutionState.SCHEDULED, ExecutionState.QUEUED)
        if waits or function is None:  # the event does not tell which attempt is next
            record = await self._load()
            if record is not None and record.generation == change.generation:
                function, attempt = record.function, record.attempt
        return Run(
            key=self._key,
            generation=change.generation,
            state=change.state,
            function=function,
            attempt=attempt,
            when_us=change.when_us,
            worker=change.worker,
            started_us=change.started_us,
            completed_us=change.completed_us,
            error=change.error,
            progress=None if waits else run.progress,
        )

    def _reported(self, change: ProgressChange) -> None:
        run = self._run
        if run is not None and run.generation == change.generation and run.progress != change:
            self._run = replace(run, progress=change)
            self._audience.progressed(self._run)

    # What follows from it

    def _stand(self, run: Run) -> None:
        before, self._run = self._run, run
        self._is_gone = False
        if before is not None and run.progress is not None and run.progress != before.progress:
            self._audience.progressed(replace(before, progress=run.progress))
        if before is None or before.stage != run.stage:
            self._audience.stands(run, before)

    def _replaced(self, run: Run) -> None:
        self._audience.replaced(run)
        self._run, self._over = None, run.generation


def _of_record(record: RunRecord) -> Run:
    return Run(
        key=record.key,
        generation=record.generation,
        state=record.state,
        function=record.function,
        attempt=record.attempt,
        when_us=record.when_us,
        worker=record.worker,
        started_us=record.started_us,
        completed_us=record.completed_us,
        error=record.error,
        progress=None if record.progress_us is None else progress_of(record),
    )
