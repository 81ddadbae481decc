"""The states of a run, which of them are final, and what may follow what. Plain data: scripts, docs and tests are checked against it."""

import enum

__all__ = ["LIVE", "TERMINAL", "TRANSITIONS", "Disposition", "ExecutionState"]


class ExecutionState(enum.Enum):
    """This is where a run stands between being scheduled and its end."""

    SCHEDULED = "scheduled"
    """Due later."""
    QUEUED = "queued"
    """Due, and waiting for a worker, or for a place under a limit."""
    RUNNING = "running"
    """With a worker."""
    COMPLETED = "completed"
    """Ended well."""
    FAILED = "failed"
    """Ended with an exception, and not tried again."""
    CANCELLED = "cancelled"
    """Ended by a cancellation, a strike, or a limit that drops."""


class Disposition(enum.Enum):
    """This says what became of a request to schedule."""

    LOADED = "loaded"
    """It was not scheduled here but read."""
    SCHEDULED = "scheduled"
    """It was scheduled."""
    ALREADY_SCHEDULED = "already_scheduled"
    """The key was taken: nothing changed, and the execution stands for the run that has it."""
    STRUCK = "struck"
    """A strike kept it out, or ended it."""
    SUPERSEDED = "superseded"
    """Another run has taken its place before its end."""
    FAILED = "failed"
    """It could not be scheduled: `Execution.schedule_exception` says why."""


TERMINAL: frozenset[ExecutionState] = frozenset({ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED})
"""The states that a run ends in, and never leaves."""
LIVE: frozenset[ExecutionState] = frozenset(ExecutionState) - TERMINAL
"""The states of a run that has not ended, and has its key."""

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
"""What one run (one generation of a key) may become. A replacement is a new generation and so not in here."""
