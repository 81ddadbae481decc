"""What became of runs, seen while they run: `Watch` is the witness of a worker, `TaskRun` what it tells of each run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, cast

from typing_extensions import TypeVar

from docket._context import current_execution, witness
from docket._logging import Line
from docket._store.inspection import DEFAULT_TOTAL
from docket.errors import ExecutionCancelled
from docket.states import LIVE, ExecutionState
from docket.testing._logs import fields_of, listening

if TYPE_CHECKING:
    from docket._clock import Clock
    from docket._progress import ExecutionProgress
    from docket._worker._decision import Decision
    from docket.execution import Execution

__all__ = ["LogLine", "ProgressReport", "TaskProgress", "TaskRun", "Watch"]

R_co = TypeVar("R_co", covariant=True, default=Any)


@dataclass(frozen=True)
class LogLine:
    """This is one line that a task wrote, through its `TaskLogger` or a standard logger below `docket.task`.

    Lines of the same level, event and fields are equal: `LogLine("INFO", "Order sent", {"order": 12}) in run.logs`.
    """

    level: str
    """Its level, in capitals: `"INFO"`."""
    event: str
    """What was said, without the fields behind it."""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was given by name, bound to the logger, or passed as `extra`."""
    logger: str = field(default="", compare=False)
    """The name of the standard logger it went to."""
    exception: BaseException | None = field(default=None, compare=False)
    """The exception it was written with, if there was one."""


@dataclass(frozen=True)
class ProgressReport:
    """This is how far a task said it was."""

    current: int = 0
    """How much was done."""
    total: int = DEFAULT_TOTAL
    """How much there was to do."""
    message: str | None = None
    """What was being done, in the task's words."""


@dataclass(frozen=True)
class TaskProgress(ProgressReport):
    """This is how far a task said it was in the end, and every report on the way."""

    history: Sequence[ProgressReport] = field(default_factory=list[ProgressReport])
    """Every report, in order."""


@dataclass(frozen=True, repr=False, eq=False)
class TaskRun(Generic[R_co]):
    """This is one run of a task: what was asked, how it ended, and what it did on the way."""

    task: str
    """The name of the task."""
    key: str
    """The key of the run."""
    args: tuple[Any, ...]
    """What the call passed by position."""
    kwargs: Mapping[str, Any]
    """What the call passed by name."""
    attempt: int
    """Which attempt it was, from 1."""
    state: ExecutionState
    """`COMPLETED`, `FAILED` or `CANCELLED`; `SCHEDULED` or `QUEUED` for a run that is to be tried again."""
    exception: BaseException | None
    """What it raised: the very object."""
    started_at: datetime
    """When it started, by the docket's clock."""
    ended_at: datetime
    """When it ended, by the docket's clock."""
    retry_at: datetime | None
    """When the next attempt is due; None: there is none."""
    next_at: datetime | None
    """When the next run of a `Perpetual` or `Cron` is due; None: none follows."""
    scheduled: Sequence[Execution[Any]]
    """What it scheduled, in order: executions with `function_name`, `args`, `kwargs`, `key` and `when`."""
    logs: Sequence[LogLine]
    """What it wrote to its log, of every level, in order."""
    progress: TaskProgress
    """How far it said it was."""
    returned: Any
    """What it returned; None too where it raised."""

    def __repr__(self) -> str:
        raised = "" if self.exception is None else f": {self.exception!r}"
        return f"<TaskRun {self.task}{{{self.key}}} {self.state.value}{raised}>"

    @property
    def result(self) -> R_co:
        """This is what the task returned. Raises what it raised, and `ExecutionCancelled` where it did not get as far as that."""
        if self.exception is not None:
            raise self.exception
        if self.state is not ExecutionState.COMPLETED:
            raise ExecutionCancelled(f"{self.task}{{{self.key}}} was cancelled, so it has no result")
        return cast("R_co", self.returned)


class _Notes:
    """What one run does, while it does it."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Which of the runs that began this is."""
        self.scheduled: list[Execution[Any]] = []
        self.logs: list[LogLine] = []
        self.history: list[ProgressReport] = []


class Watch:
    """This is the witness of the runs that a worker takes on while it is entered."""

    def __init__(self, clock: Clock, *, on_begin: Callable[[], object] | None = None, on_end: Callable[[], object] | None = None) -> None:
        self._clock = clock
        self._on_begin = on_begin
        self._on_end = on_end
        self._notes: dict[Execution[Any], _Notes] = {}
        self._begun = 0
        self._ended: list[tuple[int, TaskRun[Any]]] = []
        self._waiting: asyncio.Future[bool] | None = None

    def __len__(self) -> int:
        return len(self._ended)

    @property
    def runs(self) -> list[TaskRun[Any]]:
        """These are the runs that have ended, in the order in which they began."""
        return [run for _, run in sorted(self._ended, key=itemgetter(0))]

    @contextmanager
    def watching(self) -> Generator[None, None, None]:
        """This sees every run of workers that are started while it is entered, in this context."""
        former = witness.set(self)
        try:
            with listening(self._logged):
                yield
        finally:
            witness.reset(former)

    async def changed(self, seconds: float) -> bool:
        """This waits until a run ends, at most for so long, and says whether one did."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting = loop.create_future()
        timer = loop.call_later(seconds, _answer, waiting, False)
        try:
            return await waiting
        finally:
            timer.cancel()

    def _here(self) -> _Notes | None:
        """The notes on the run that does this."""
        execution = current_execution.get(None)
        return None if execution is None else self._notes.get(execution)

    def began(self, execution: Execution[Any]) -> None:
        """This sees a claimed run, before its limits."""
        self._begun += 1
        self._notes[execution] = _Notes(self._begun)
        if self._on_begin is not None:
            self._on_begin()

    def reported(self, progress: ExecutionProgress) -> None:
        """This sees progress, as it is after a report."""
        notes, execution = self._here(), current_execution.get(None)
        if notes is not None and execution is not None and progress.key == execution.key:
            notes.history.append(ProgressReport(progress.current or 0, progress.total, progress.message))

    def scheduled(self, execution: Execution[Any]) -> None:
        """This sees a run that was scheduled, by whoever did."""
        if (notes := self._here()) is not None:
            notes.scheduled.append(execution)

    def _logged(self, record: logging.LogRecord) -> None:
        notes = self._here()
        if notes is None:
            return
        said = record.msg.event if isinstance(record.msg, Line) else str(record.msg)
        event = said % record.args if record.args else said
        exception = record.exc_info[1] if record.exc_info else None
        notes.logs.append(LogLine(record.levelname, event, fields_of(record), record.name, exception))

    def settled(self, execution: Execution[Any], decision: Decision, result: Any, stands: ExecutionState | None) -> None:
        """This sees how a run ended, and what its key's record says then; None where another has taken its place."""
        notes = self._notes.pop(execution, None) or _Notes(self._begun)
        ended = self._clock.now()
        follows, goes_on = decision.when or ended, stands in LIVE
        last = notes.history[-1] if notes.history else ProgressReport()
        run: TaskRun[Any] = TaskRun(
            task=execution.function_name,
            key=execution.key,
            args=execution.args,
            kwargs=execution.kwargs,
            attempt=execution.attempt,
            state=_state(decision, stands),
            exception=decision.exception,
            started_at=execution.started_at or ended,
            ended_at=ended,
            retry_at=follows if goes_on and decision.again == "retry" else None,
            next_at=follows if goes_on and decision.again == "next" and not execution.successor_asked else None,
            scheduled=notes.scheduled,
            logs=notes.logs,
            progress=TaskProgress(last.current, last.total, last.message, notes.history),
            returned=result,
        )
        self._ended.append((notes.number, run))
        _answer(self._waiting, True)
        if self._on_end is not None:
            self._on_end()


def _answer(waiting: asyncio.Future[bool] | None, answer: bool) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(answer)


def _state(decision: Decision, stands: ExecutionState | None) -> ExecutionState:
    if stands is None:  # replaced meanwhile
        return ExecutionState.CANCELLED
    return stands if decision.again == "retry" else decision.state
