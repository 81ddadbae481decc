"""The states of a run, which of them are final, and what may follow what. Plain data: scripts, docs and tests are checked against it."""

import enum

__all__ = ["LIVE", "TERMINAL", "TRANSITIONS", "Disposition", "ExecutionState"]


class ExecutionState(enum.Enum):
    """This is where a run stands between being scheduled and its end."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Disposition(enum.Enum):
    """This says what became of a request to schedule."""

    LOADED = "loaded"
    SCHEDULED = "scheduled"
    ALREADY_SCHEDULED = "already_scheduled"
    STRUCK = "struck"
    SUPERSEDED = "superseded"
    FAILED = "failed"


TERMINAL: frozenset[ExecutionState] = frozenset({ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED})
LIVE: frozenset[ExecutionState] = frozenset(ExecutionState) - TERMINAL

# What one run (one generation of a key) may become. A replacement is a new generation and so not in here.
TRANSITIONS: dict[ExecutionState, frozenset[ExecutionState]] = {
    ExecutionState.SCHEDULED: frozenset({ExecutionState.QUEUED, ExecutionState.CANCELLED}),
    ExecutionState.QUEUED: frozenset(
        {
            ExecutionState.SCHEDULED,  # rescheduled by an operator
            ExecutionState.RUNNING,
            ExecutionState.CANCELLED,
        }
    ),
    ExecutionState.RUNNING: frozenset(
        {
            ExecutionState.SCHEDULED,  # a retry with a delay, or handed back until a worker knows the task
            ExecutionState.QUEUED,  # a retry without one, or taken back from a dead worker
            ExecutionState.COMPLETED,
            ExecutionState.FAILED,
            ExecutionState.CANCELLED,
        }
    ),
    ExecutionState.COMPLETED: frozenset(),
    ExecutionState.FAILED: frozenset(),
    ExecutionState.CANCELLED: frozenset(),
}
