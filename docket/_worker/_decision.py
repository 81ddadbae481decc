"""What follows a run: a plain function from how it went and what the task declares. Nothing here waits, writes or logs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from docket.dependencies._admission import AdmissionBlocked
from docket.dependencies._verdicts import Cancel, Discard, Dropped, Snooze
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket.dependencies._base import TaskOutcome
    from docket.dependencies._perpetual import Perpetual
    from docket.dependencies._retry import Retry

__all__ = ["Decision", "decide"]


@dataclass(frozen=True, slots=True)
class Decision:
    """This says how a run ends and what comes after it."""

    state: ExecutionState
    exception: BaseException | None = None
    again: str | None = None  # None | "retry" | "next" | "end" (whatever was to follow does not)
    when: datetime | None = None  # None: at once
    attempt: int = 1
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None  # of the next link; None: the same again
    dealt_with: bool = False  # a user's failure handler says so
    follows: bool = False  # a user's completion handler says so


def decide(
    outcome: TaskOutcome, *, attempt: int, retry: Retry | None, perpetual: Perpetual | None, started: datetime, now: datetime, last: bool = False
) -> Decision:
    """This decides. `last`: this run is the last that is wanted under its key, whatever it declares."""
    exception = outcome.exception
    if isinstance(exception, (asyncio.CancelledError, Cancel)):
        return Decision(ExecutionState.CANCELLED, exception, again="end")
    if isinstance(exception, (Snooze, AdmissionBlocked)) and exception.delay is not None:
        if last:
            return Decision(ExecutionState.CANCELLED, exception, again="end")
        return Decision(ExecutionState.FAILED, exception, again="retry", when=now + exception.delay if exception.delay else None, attempt=attempt)
    if exception is not None and retry is not None and not last and not isinstance(exception, (Discard, Dropped, AdmissionBlocked)):
        delay = retry.next_attempt(outcome, now)
        if delay is not None:
            return Decision(ExecutionState.FAILED, exception, again="retry", when=now + delay if delay else None, attempt=attempt + 1)
    state = ExecutionState.COMPLETED if exception is None else ExecutionState.FAILED
    if isinstance(exception, (Dropped, AdmissionBlocked)):
        state = ExecutionState.CANCELLED
    if last:
        return Decision(state, exception, again="end")
    if perpetual is None:
        return Decision(state, exception)
    when = perpetual.next_run(started, now)
    if when is None:
        return Decision(state, exception, again="end")
    changed = perpetual.args is not None or perpetual.kwargs is not None
    return Decision(state, exception, again="next", when=when, arguments=(perpetual.args or (), perpetual.kwargs or {}) if changed else None)
