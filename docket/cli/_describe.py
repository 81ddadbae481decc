"""Executions as commands tell of them: in words for people, as JSON for scripts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from docket._clock import from_us, to_us
from docket.cli._output import STATE_STYLES, Cell, Styled
from docket.cli._server_time import server_clock
from docket.cli._words import local_moment, percent, span
from docket.states import TERMINAL, ExecutionState

if TYPE_CHECKING:
    from docket.docket import Docket
    from docket.execution import Execution

__all__ = ["ago", "as_object", "distance_words", "iso", "moment_words", "now_of", "progress_words", "state_cell", "trace_id", "when_words"]


async def now_of(docket: Docket) -> datetime:
    """This gives the server's time, by which every moment of a record was written."""
    return from_us((await server_clock(docket))())


def as_object(execution: Execution[Any]) -> dict[str, Any]:
    """This gives what is known of a run, for JSON. The names are a promise."""
    progress = execution.progress
    return {
        "key": execution.key,
        "task": execution.function_name,
        "state": execution.state.value,
        "when": iso(execution.when),
        "attempt": execution.attempt,
        "worker": execution.worker,
        "started_at": iso(execution.started_at),
        "completed_at": iso(execution.completed_at),
        "error": execution.error,
        "progress": None
        if progress.updated_at is None
        else {"current": progress.current, "total": progress.total, "message": progress.message, "updated_at": iso(progress.updated_at)},
        "redelivered": execution.redelivered,
        "generation": execution.generation,
        "trace_id": trace_id(execution),
    }


def iso(moment: datetime | None) -> str | None:
    """This writes a moment for JSON."""
    return None if moment is None else moment.isoformat()


def trace_id(execution: Execution[Any]) -> str | None:
    """This gives the id of the trace in which the run was scheduled."""
    parts = (execution.trace_context or {}).get("traceparent", "").split("-")
    return parts[1] if len(parts) > 1 else None


def state_cell(state: ExecutionState) -> Cell:
    """This writes a state in its colour."""
    return Styled(state.value, STATE_STYLES[state.value])


def when_words(execution: Execution[Any], now: datetime) -> str:
    """This tells, in a few words, how a run stands in time: `in 5m 00s`, `for 12s`, `3m 10s ago`."""
    if execution.state in TERMINAL:
        return ago(execution.completed_at, now)
    if execution.state is ExecutionState.SCHEDULED and execution.when > now:
        return f"in {_between(now, execution.when)}"
    since = execution.started_at if execution.state is ExecutionState.RUNNING else execution.when
    return f"for {_between(since or execution.when, now)}"


def ago(moment: datetime | None, now: datetime) -> str:
    """This says how long ago a moment was."""
    return "" if moment is None else f"{_between(moment, now)} ago"


def distance_words(moment: datetime | None, now: datetime) -> str:
    """This says how far away a moment is: `in 5m 00s`, `3m 10s ago`."""
    return f"in {_between(now, moment)}" if moment is not None and moment > now else ago(moment, now)


def moment_words(moment: datetime, now: datetime) -> str:
    """This writes a moment as the clock on the wall shows it, and how far away it is."""
    return f"{local_moment(to_us(moment))} ({distance_words(moment, now)})"


def progress_words(execution: Execution[Any]) -> str:
    """This says how far a run says it is: `45/100 (45%) Charging cards`; nothing when it has not said."""
    progress = execution.progress
    if progress.updated_at is None:
        return ""
    current = progress.current or 0
    words = f"{current}/{progress.total} ({percent(current, progress.total)}%)"
    return f"{words} {progress.message}" if progress.message else words


def _between(earlier: datetime, later: datetime) -> str:
    return span((later - earlier).total_seconds())
