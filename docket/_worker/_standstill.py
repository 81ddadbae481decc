"""Says in the log what holds up a worker's event loop: which task, where it is, for how long; and when it has let go.

It is asked from another thread, for the loop cannot answer. It only reads: the beats of the `Pulse`, who holds which run (a copy), and what
the interpreter tells of another thread, its current asyncio task and its stack. All of that may change while it is read, where the loop has
just let go; so the beat is looked at once more before anything is said.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from contextvars import Context
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from docket._context import current_execution
from docket._worker import _pulse

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from docket._worker._crew import Crew
    from docket._worker._pulse import Pulse
    from docket._worker._runs import Runs
    from docket.execution import Execution

__all__ = ["Standstill"]

logger = logging.getLogger("docket.worker")

_LOOK_AGAIN = 0.5
"""Seconds between looks at a loop that stands still."""

_OVERSLEPT = 0.5
"""Seconds which this thread, too, was held up, so that what it sees is no sign of what came of the loop meanwhile."""

_SHOWN = 30
"""Frames of a stack that are shown, the innermost."""

_OURS = str(Path(__file__).parent)
_LOOPS = str(Path(asyncio.__file__).parent)


class Standstill:
    """This watches one event loop. What is to be done about one that stands still for too long is `on_stall`'s business."""

    def __init__(self, crew: Crew, runs: Runs, pulse: Pulse, loop: asyncio.AbstractEventLoop, thread: int, on_stall: Callable[[], object]) -> None:
        self._crew = crew
        self._runs = runs
        self._pulse = pulse
        self._loop = loop
        self._thread = thread
        self._on_stall = on_stall
        self._limit = crew.options.stall_limit.total_seconds()
        self._next = _pulse.NOTABLE
        """For how long it has to stand still before that is said (again)."""
        self._beat = pulse.last
        self._told_of: tuple[float, float] | None = pulse.late
        self._due = monotonic()
        self._said: str | None = None
        """What was said to hold it up."""
        self._has_stalled = False

    @property
    def is_stalled(self) -> bool:
        """This says whether the loop has been standing still for longer than the `stall_limit`, and still does."""
        return self._has_stalled and self._pulse.last == self._beat

    def look(self) -> float:
        """This looks, says what there is to say, and answers the seconds until it should look again."""
        beat, overdue, now = self._pulse.last, self._pulse.overdue(), monotonic()
        overslept, self._due = now - self._due, now
        if beat != self._beat:
            self._beat = beat
            self._turns()
        if overslept < _OVERSLEPT:
            if overdue >= self._next:
                self._stands_still(beat, overdue)
            if overdue >= self._limit and not self._has_stalled:
                self._has_stalled = True
                self._on_stall()
        wait = min(self._next, self._next if self._has_stalled else self._limit) - overdue
        wait = max(0.01, wait if overdue < 0 else min(wait, _LOOK_AGAIN))
        self._due += wait
        return wait

    def _turns(self) -> None:
        late = self._pulse.late
        if self._said is not None and late is not None:
            logger.warning("%s let go of the event loop after %.1f s", self._said, late[1], extra=self._crew.labels)
        elif late is not None and late is not self._told_of and late[1] >= 2 * _pulse.NOTABLE:
            logger.warning(
                "The event loop stood still for %.1f s, and so did the thread that watches it: this process was stopped, or code held the GIL. "
                "Leases are not renewed meanwhile, so what runs here may have been given to another worker",
                late[1], extra=self._crew.labels,
            )  # fmt: skip
        self._told_of, self._said, self._next, self._has_stalled = late, None, _pulse.NOTABLE, False

    def _stands_still(self, beat: float, seconds: float) -> None:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._thread)  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - made for this, and documented
        stack = "" if frame is None else _stack(frame)
        execution = self._execution_of(task)
        if self._pulse.last != beat:  # it has just let go, and what was found may be of what came after
            return
        who, fields = _called(task, execution)
        logger.warning(
            "%s has been blocking the event loop for %.1f s: nothing else runs in this worker. Blocking code belongs in a `def` task, which runs in a thread. It is here:\n%s",
            who, seconds, stack, extra={**self._crew.labels, **fields},
        )  # fmt: skip
        self._said = who
        self._next *= 2

    def _execution_of(self, task: asyncio.Task[Any] | None) -> Execution[Any] | None:
        """The run that a task of the event loop is, or belongs to (which Python tells from 3.12 on)."""
        for running in self._runs.running():
            if running.task is task:
                return running.execution
        context: Context = getattr(task, "get_context", Context)()
        return context.get(current_execution)


def _called(task: asyncio.Task[Any] | None, execution: Execution[Any] | None) -> tuple[str, dict[str, Any]]:
    if execution is not None:
        return f"Task {execution.function_name}{{{execution.key}}}", execution.specific_labels()
    if task is not None:
        coroutine = task.get_coro()
        return f"The asyncio task {task.get_name()!r} ({getattr(coroutine, '__qualname__', coroutine)})", {}
    return "A callback", {}


def _stack(frame: FrameType) -> str:
    """Where it is, as a traceback prints it: from the user's code on, if there is any."""
    frames = list(traceback.extract_stack(frame))
    own = max((number for number, each in enumerate(frames) if each.filename.startswith((_OURS, _LOOPS))), default=-1)
    return "".join(traceback.format_list((frames[own + 1 :] or frames)[-_SHOWN:])).rstrip()
