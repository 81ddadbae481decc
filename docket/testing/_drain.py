"""`drain`: everything that is due, run by a real worker to its end; also through days, from due time to due time."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Container
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from docket._clock import to_us
from docket._when import aware
from docket._worker._perpetuals import seed
from docket.docket import Docket
from docket.errors import EndlessWork, InvalidOption
from docket.states import ExecutionState
from docket.testing._clock import MovableClock, span
from docket.testing._runs import TaskRun, Watch
from docket.worker import Worker

if sys.version_info < (3, 11):  # pragma: no cover - Python 3.10; the fundamentals run there
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from docket._clock import Clock
    from docket._store import Store

__all__ = ["AT_MOST", "Drain", "Drainage", "Standing", "drain"]

AT_MOST = 10_000
"""Runs of one `drain`: more than a test means, and soon reached by work that goes on for ever."""

_LOOK_UP = 0.005
"""Seconds after which it is looked again whether everything is done, though no run of ours has ended."""

_PATIENCE = 10
"""Such moments for which the time stands still while something runs. What takes longer may be waiting for it to pass."""

_SOON_US = 100_000
"""Microseconds before its time from which on work counts as due, where a server has a clock of its own."""

_SHOWN = 5


class Drain:
    """This is `drain` for one worker: what the fixture `drain` gives."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __repr__(self) -> str:
        return f"<drain of docket {self._worker.docket.name!r}>"

    async def __call__(
        self,
        *,
        until: datetime | None = None,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
        automatic: bool | None = None,
        raises: bool = True,
        at_most: int = AT_MOST,
    ) -> list[TaskRun[Any]]:
        """This runs what is due, as `docket.testing.drain` does."""
        return await drain(
            self._worker, until=until, weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds,
            automatic=automatic, raises=raises, at_most=at_most,
        )  # fmt: skip


async def drain(
    target: Docket | Worker,
    /,
    *,
    until: datetime | None = None,
    weeks: float = 0,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    milliseconds: float = 0,
    automatic: bool | None = None,
    raises: bool = True,
    at_most: int = AT_MOST,
) -> list[TaskRun[Any]]:
    """This runs what is due on a docket, and what that schedules for now, and gives every run, in the order in which they began.

    It does not wait for the future. Given a time (`days=3`, `until=...`), it moves the docket's `MovableClock` there, from due time to due time, so that
    everything runs when it is due, as often as it is due; a cron that is due daily, three times. The clock is then at that time. Meanwhile it stands
    still from one due time to the next, except for a body that takes its time, and may be waiting for it to pass.

    * `target` is an entered docket, or an entered worker of it, with its dependencies and overrides.
    * `automatic` has the docket's automatic tasks started first, as a worker does that starts; by default where a time is given, and otherwise not.
    * `raises`: when all is done, the failures of runs that are not tried again are raised together, in an `ExceptionGroup`.
      With `raises=False` they are in the runs that are given: `run.state`, `run.exception`.
    * `at_most`: `EndlessWork` is raised after so many runs, because a perpetual without an interval goes on for ever.
    """
    docket = target if isinstance(target, Docket) else target.docket
    ahead = span(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    if at_most < 1:
        raise InvalidOption(f"at_most is {at_most}; give a whole number of at least 1")
    async with AsyncExitStack() as stack:
        standing = stack.enter_context(Standing(docket.clock))
        clock, until_us = _goal(docket, until, ahead)
        worker = target if isinstance(target, Worker) else await stack.enter_async_context(Worker(docket, name="drain", schedule_automatic_tasks=False))
        watch = Watch(docket.clock, on_end=lambda: len(watch) <= at_most or worker.stop())
        with watch.watching():
            if automatic or (automatic is None and clock is not None):
                await seed(docket)
            running = asyncio.create_task(worker.run_forever(), name="drain")
            try:
                await Drainage(docket.store, standing, _Known(worker), watch, running, at_most).through(clock, until_us)
            finally:
                worker.stop()
                await asyncio.wait([running])
        running.result()
    return _answer(watch.runs, raises=raises, at_most=at_most)


def _goal(docket: Docket, until: datetime | None, ahead: timedelta) -> tuple[MovableClock | None, int]:
    """The clock to move, and where to; None: time is left alone."""
    clock = docket.clock
    if until is None and not ahead:
        return None, 0
    if until is not None and ahead:
        raise InvalidOption("drain was given until=, and how far to go as well; give one of them")
    if not isinstance(clock, MovableClock):
        raise InvalidOption(
            f"drain is to move time, and the clock of docket {docket.name!r} cannot be moved; "
            "make it with one that can, in memory: Docket(url='memory://...', clock=testing.MovableClock())"
        )
    now, moment = clock.now(), None if until is None else aware("until", until)
    if moment is not None and moment < now:
        raise InvalidOption(f"time goes forward only, and until={moment.isoformat()} has passed: it is {now.isoformat()}")
    return clock, to_us(moment or now + ahead)


class _Known(Container[object]):
    """The tasks that a worker can run."""

    def __init__(self, worker: Worker) -> None:
        self._any = worker.fallback_task is not None
        self._tasks = worker.docket.tasks

    def __contains__(self, task: object) -> bool:
        return self._any or task in self._tasks


class Drainage:
    """This is one drain, while it goes on."""

    def __init__(self, store: Store, standing: Standing, known: Container[object], watch: Watch, running: asyncio.Task[None], at_most: int) -> None:
        self._store = store
        self._standing = standing
        self._known = known
        self._watch = watch
        self._running = running
        self._at_most = at_most
        # What is to follow at once is due by this process' idea of the server's time, which may be a little ahead
        self._soon_us = 0 if store.is_memory else _SOON_US

    async def through(self, clock: MovableClock | None, until_us: int) -> None:
        """Runs what is due; with a clock, everything up to that moment."""
        while await self._quiet() and clock is not None:
            due_us = await self._next_due(until_us)
            if due_us is None:
                break
            clock.reach_us(due_us)
        if clock is not None and not self._is_over():
            clock.reach_us(until_us)

    async def _quiet(self) -> bool:
        """Waits until nothing is due or running. False: the drain is over."""
        while not self._is_over():
            if not await self.has_work():
                self._standing.hold()
                return True
            if not await self._watch.changed(_LOOK_UP):
                self._standing.be_patient()
        return False

    def _is_over(self) -> bool:
        return self._running.done() or len(self._watch) > self._at_most

    async def has_work(self) -> bool:
        """This says whether anything is due or running."""
        delivery = self._store.delivery
        while True:  # two places are looked at, one after the other, and what is in one may move to the other meanwhile
            ended = len(self._watch)
            ready, later = await delivery.depth()
            if ready:
                return True
            _, wait_us, _ = await delivery.move_due(())
            if wait_us is not None and wait_us <= self._soon_us:
                return True
            if bool(later) == (wait_us is not None):
                ready, _ = await delivery.depth()
                return bool(ready) or ended != len(self._watch)

    async def _next_due(self, until_us: int) -> int | None:
        """When the next run is due that is not for strangers; None: not before that moment."""
        after: tuple[int, str] | None = None
        while found := await self._store.listing.scheduled(after, 20):
            records = await self._store.listing.select([(key, None) for _, key in found])
            for (due_us, _), record in zip(found, records, strict=True):
                if due_us > until_us:
                    return None
                if record is not None and record.function in self._known:
                    return due_us
            after = found[-1]
        return None


class Standing:
    """This has a clock that can be moved stand still, so that what is due at one time runs at one time, whatever a drain takes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock if isinstance(clock, MovableClock) else None
        self._is_held = False
        self._patience = 0

    def __enter__(self) -> Self:
        self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def hold(self) -> None:
        """This has the time stand still from now on."""
        self._patience = _PATIENCE
        if self._clock is not None and not self._is_held:
            self._is_held = True
            self._clock.hold()

    def be_patient(self) -> None:
        """This counts another moment in which no run has ended. After a few of them time goes on."""
        self._patience -= 1
        if self._patience <= 0:
            self._let_go()

    def _let_go(self) -> None:
        if self._clock is not None and self._is_held:
            self._is_held = False
            self._clock.go_on()


def _answer(runs: list[TaskRun[Any]], *, raises: bool, at_most: int) -> list[TaskRun[Any]]:
    if len(runs) > at_most:
        often = ", ".join(f"{task} ({times})" for task, times in Counter(run.task for run in runs).most_common(_SHOWN))
        raise EndlessWork(
            f"drain has run {at_most} tasks and is not done: {often}. A perpetual without an interval goes on for ever, and so does "
            "a task that schedules itself: end the chain, run it with worker.run_at_most, or give a higher at_most."
        )
    failed = [run for run in runs if run.state is ExecutionState.FAILED and run.exception is not None]
    if raises and failed:
        named = "; ".join(f"{run.task}{{{run.key}}}: {type(run.exception).__name__}" for run in failed[:_SHOWN])
        more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        raise BaseExceptionGroup(f"{len(failed)} of {len(runs)} runs failed: {named}{more}", [run.exception for run in failed if run.exception is not None])
    return runs
