"""A moment at which the current asyncio task is cancelled, once. For code that must not live in a cancel scope of anyio:
bodies, whose `finally` blocks may await, and teardowns, which may leave scopes that were entered earlier.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, cast

from typing_extensions import Self

__all__ = ["Deadline"]


class Deadline:
    """This cancels the block it surrounds when its time is up, and tells its own cancellation from anybody else's.

    On leaving, `fired` says whether the time was up; the CancelledError that this caused is for the caller to replace, and `foreign`
    says when the block was cancelled by somebody else as well.
    """

    _task: asyncio.Task[Any]
    _timer: asyncio.TimerHandle
    _cancelling: int

    def __init__(self, seconds: float) -> None:
        self.fired = False
        self.foreign = False
        self._seconds = seconds

    def __enter__(self) -> Self:
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._cancelling = _cancelling(self._task)
        self._timer = self._timer_for(self._seconds)
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self._timer.cancel()
        if self.fired:
            uncancel = getattr(self._task, "uncancel", None)  # Python 3.11
            self.foreign = uncancel is not None and uncancel() > self._cancelling

    def move(self, seconds: float) -> None:
        """This sets the time from now, inside the block; without effect once it was up."""
        if not self.fired:
            self._timer.cancel()
            self._timer = self._timer_for(seconds)

    def _timer_for(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(max(seconds, 0), self._fire)

    def _fire(self) -> None:
        self.fired = True
        self._task.cancel()


def _cancelling(task: asyncio.Task[Any]) -> int:
    counting = getattr(task, "cancelling", None)  # Python 3.11
    return counting() if counting is not None else 0
