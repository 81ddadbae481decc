"""`Progress`: how far a run is, reported as often as the body likes and written a few times a second."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import anyio
from typing_extensions import Self

from docket._clock import SYSTEM, from_us
from docket._context import witness
from docket._store.inspection import DEFAULT_TOTAL
from docket._store.progress import UNCHANGED
from docket.dependencies._base import Dependency
from docket.errors import DocketError, InvalidOption
from docket.execution import ExecutionProgress

if TYPE_CHECKING:
    from docket._store.records import ProgressChange
    from docket.execution import Execution

__all__ = ["Progress", "Reported"]

logger = logging.getLogger("docket.worker")

_PACE = 0.05
"""Seconds between two writes of one run. What a run still has to say at its end is written at once."""

_BREATH = 0.005
"""Seconds after which a body that does nothing but report lets the event loop do something else."""


class Reported(Coroutine[Any, Any, None]):
    """This is what reporting gives. The report is made already, so it need not be awaited, and in a thread it cannot be."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due = 0.0

    def __await__(self) -> Generator[Any, Any, None]:
        now = SYSTEM.monotonic()
        if now >= self._due:
            self._due = now + _BREATH
            yield

    def send(self, value: Any, /) -> Any:
        """This ends at once, when it is run as a task."""
        raise StopIteration

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """This raises what is thrown, when it is cancelled as a task."""
        raise typ

    def close(self) -> None:
        """This closes nothing."""


class Progress(ExecutionProgress, Dependency):
    """This is the progress of the current run: `progress: Progress = Progress()`, or annotated as the `ExecutionProgress` that it is.

    `current`, `total` and `message` tell at once what was reported, here and on the `CurrentExecution()`. It is written at most every 50 ms,
    and once more before the run is settled; through outages, and each report once. So reporting costs little more than counting.
    Any thread may report, without awaiting.
    """

    fills_parameter = True

    _loop: asyncio.AbstractEventLoop
    _home: int

    def __init__(self, execution: Execution[Any] | None = None) -> None:
        self._execution = execution
        """The run it reports for; None on a template, which reports for none."""
        if execution is None:
            return
        ExecutionProgress.__init__(self, execution.docket, execution.key, execution.within())
        self.current, self.total = 0, DEFAULT_TOTAL  # a claim starts anew
        self._users = 0
        self._lock = threading.Lock()
        self._add, self._has_total, self._has_message = 0, False, False  # what is still to be written
        self._writes = 0
        self._is_writing = False
        self._is_over = False
        self._leaving = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._reported = Reported()
        self._witness = witness.get()

    def __repr__(self) -> str:
        return "Progress()"

    def for_run(self, execution: Execution[Any]) -> Self:
        """This gives the one progress of the run, however many of its parameters and dependencies ask for it."""
        reporting = execution.progress
        if not isinstance(reporting, Progress):
            reporting = type(self)(execution)
            execution.report_through(reporting)
        return cast("Self", reporting)

    async def __aenter__(self) -> Self:
        if self._execution is None:  # not the task's own: it stands in what an override brought
            return await self.for_run(self.execution).__aenter__()
        self._loop, self._home = asyncio.get_running_loop(), threading.get_ident()
        self._users += 1
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        if self._execution is None:
            await self.for_run(self.execution).__aexit__(exc_type, exc, traceback)
            return
        self._users -= 1
        if not self._users:
            await self._finish()

    def set_total(self, total: int) -> Reported:
        """This says how much there is to do."""
        if total < 1:
            raise InvalidOption("Total must be at least 1")
        with self._lock:
            self.total, self._has_total = total, True
        return self._report()

    def increment(self, amount: int = 1) -> Reported:
        """This says that so much more is done."""
        if amount < 1:
            raise InvalidOption("Amount must be at least 1")
        with self._lock:
            self.current = (self.current or 0) + amount
            self._add += amount
        return self._report()

    def set_message(self, message: str | None) -> Reported:
        """This says in words what is being done; None takes the words back."""
        with self._lock:
            self.message, self._has_message = message, True
        return self._report()

    def _report(self) -> Reported:
        if self._witness is not None:
            self._witness.reported(self)
        if not self._is_writing:  # if it is, what was reported is seen before it ends
            self._is_writing = True
            if threading.get_ident() == self._home:
                self._start_writing()
            else:
                self._loop.call_soon_threadsafe(self._start_writing)
        return self._reported

    def _start_writing(self) -> None:
        if not self._is_over and (self._writer is None or self._writer.done()):  # two threads may have asked at the same time
            self._writer = self._loop.create_task(self._write(), name=f"docket: progress of {self.key}")

    async def _finish(self) -> None:
        """Writes what is left, after a write that is under way."""
        self._is_over = True
        self._leaving.set()
        if self._writer is not None:
            await self._writer
        await self._write()

    async def _write(self) -> None:
        """Writes until there is nothing new, at the pace."""
        while (news := self._news()) is not None:
            next_write = self._loop.time() + _PACE
            try:
                change = await self.docket.store.progress.land(self.key, self._run, self._writes, **news)
            except DocketError:
                logger.exception("The progress of %s could not be written", self.key, extra=self.docket.labels())
            else:
                self._landed(change)
            with anyio.move_on_after(next_write - self._loop.time()):
                await self._leaving.wait()

    def _news(self) -> dict[str, Any] | None:
        """Takes what is to be written next, if there is anything."""
        with self._lock:
            if not (self._add or self._has_total or self._has_message):
                self._is_writing = False
                return None
            news = {"add": self._add, "total": self.total if self._has_total else None, "message": self.message if self._has_message else UNCHANGED}
            self._add, self._has_total, self._has_message = 0, False, False
            self._writes += 1
            return news

    def _landed(self, change: ProgressChange | None) -> None:
        if change is None:  # another claim of the key has taken over: nothing of this one counts any more
            self._is_over = True
            return
        with self._lock:
            self.current = (change.current or 0) + self._add
            self.updated_at = None if change.updated_us is None else from_us(change.updated_us)
