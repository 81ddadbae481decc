"""What a task can declare: the dependencies that it is given, and the behaviours that govern its runs."""

from docket._context import current_docket, current_execution, current_worker
from docket._durations import format_duration
from docket.dependencies._admission import AdmissionBlocked, ConcurrencyBlocked
from docket.dependencies._base import CompletionHandler, Dependency, FailureHandler, Runtime, TaskOutcome
from docket.dependencies._concurrency import ConcurrencyLimit
from docket.dependencies._cooldown import Cooldown
from docket.dependencies._cron import Cron
from docket.dependencies._current import CallArgument, CurrentDocket, CurrentExecution, CurrentWorker, TaskArgument, TaskKey
from docket.dependencies._debounce import Debounce
from docket.dependencies._deliveries import MaxDeliveries
from docket.dependencies._depends import DependencyFunction, Depends
from docket.dependencies._failures import FailedDependency
from docket.dependencies._logger import TaskLogger
from docket.dependencies._lookup import (
    get_annotation_dependencies,
    get_dependency_parameters,
    get_single_dependency_of_type,
    get_single_dependency_parameter_of_type,
    resolved_dependencies,
    validate_dependencies,
)
from docket.dependencies._perpetual import Perpetual
from docket.dependencies._progress import Progress
from docket.dependencies._rate_limit import RateLimit
from docket.dependencies._retry import ExponentialRetry, ForcedRetry, Retry
from docket.dependencies._shared import Shared, SharedContext
from docket.dependencies._timeout import Timeout
from docket.dependencies._verdicts import Cancel, Discard, Snooze
from docket.errors import CycleError

__all__ = [
    "AdmissionBlocked",
    "CallArgument",
    "Cancel",
    "CompletionHandler",
    "ConcurrencyBlocked",
    "ConcurrencyLimit",
    "Cooldown",
    "Cron",
    "CurrentDocket",
    "CurrentExecution",
    "CurrentWorker",
    "CycleError",
    "Debounce",
    "Dependency",
    "DependencyFunction",
    "Depends",
    "Discard",
    "ExponentialRetry",
    "FailedDependency",
    "FailureHandler",
    "ForcedRetry",
    "MaxDeliveries",
    "Perpetual",
    "Progress",
    "RateLimit",
    "Retry",
    "Runtime",
    "Shared",
    "SharedContext",
    "Snooze",
    "TaskArgument",
    "TaskKey",
    "TaskLogger",
    "TaskOutcome",
    "Timeout",
    "current_docket",
    "current_execution",
    "current_worker",
    "format_duration",
    "get_annotation_dependencies",
    "get_dependency_parameters",
    "get_single_dependency_of_type",
    "get_single_dependency_parameter_of_type",
    "resolved_dependencies",
    "validate_dependencies",
]
