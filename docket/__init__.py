"""Distributed background tasks for Python: declare a task, schedule it for now or for later, run it on Redis or in memory.

Each name is imported when it is first asked for, so that `import docket` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docket import testing
    from docket._task import Handle, Options, Scheduler, SyncTask, Task, task
    from docket._version import __version__
    from docket.agenda import Agenda
    from docket.annotations import Logged
    from docket.dependencies import (
        CallArgument,
        Cancel,
        ConcurrencyLimit,
        Cooldown,
        Cron,
        CurrentDocket,
        CurrentExecution,
        CurrentWorker,
        CycleError,
        Debounce,
        Depends,
        Discard,
        ExponentialRetry,
        ForcedRetry,
        MaxDeliveries,
        Perpetual,
        Progress,
        RateLimit,
        Retry,
        Shared,
        Snooze,
        TaskArgument,
        TaskKey,
        TaskLogger,
        Timeout,
    )
    from docket.docket import Docket, SyncClient, SyncExecution
    from docket.errors import DocketError, ExecutionCancelled, ExecutionSuperseded
    from docket.execution import Disposition, Execution, ExecutionProgress, ExecutionState, TaskCall
    from docket.strikelist import StrikeList
    from docket.worker import Worker

__all__ = [
    "Agenda",
    "CallArgument",
    "Cancel",
    "ConcurrencyLimit",
    "Cooldown",
    "Cron",
    "CurrentDocket",
    "CurrentExecution",
    "CurrentWorker",
    "CycleError",
    "Debounce",
    "Depends",
    "Discard",
    "Disposition",
    "Docket",
    "DocketError",
    "Execution",
    "ExecutionCancelled",
    "ExecutionProgress",
    "ExecutionState",
    "ExecutionSuperseded",
    "ExponentialRetry",
    "ForcedRetry",
    "Handle",
    "Logged",
    "MaxDeliveries",
    "Options",
    "Perpetual",
    "Progress",
    "RateLimit",
    "Retry",
    "Scheduler",
    "Shared",
    "Snooze",
    "StrikeList",
    "SyncClient",
    "SyncExecution",
    "SyncTask",
    "Task",
    "TaskArgument",
    "TaskCall",
    "TaskKey",
    "TaskLogger",
    "Timeout",
    "Worker",
    "__version__",
    "task",
    "testing",
]

_HOMES = {
    "docket._task": ("Handle", "Options", "Scheduler", "SyncTask", "Task", "task"),
    "docket._version": ("__version__",),
    "docket.agenda": ("Agenda",),
    "docket.annotations": ("Logged",),
    "docket.dependencies": (
        "CallArgument",
        "Cancel",
        "ConcurrencyLimit",
        "Cooldown",
        "Cron",
        "CurrentDocket",
        "CurrentExecution",
        "CurrentWorker",
        "CycleError",
        "Debounce",
        "Depends",
        "Discard",
        "ExponentialRetry",
        "ForcedRetry",
        "MaxDeliveries",
        "Perpetual",
        "Progress",
        "RateLimit",
        "Retry",
        "Shared",
        "Snooze",
        "TaskArgument",
        "TaskKey",
        "TaskLogger",
        "Timeout",
    ),
    "docket.docket": ("Docket", "SyncClient", "SyncExecution"),
    "docket.errors": ("DocketError", "ExecutionCancelled", "ExecutionSuperseded"),
    "docket.execution": ("Disposition", "Execution", "ExecutionProgress", "ExecutionState", "TaskCall"),
    "docket.strikelist": ("StrikeList",),
    "docket.worker": ("Worker",),
}
_MODULES = ("testing",)
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
