"""What every dependency and behaviour is: the base classes, and the values they exchange with the worker.

Finding them in a signature is `_parameters`' business, giving them to a body `_plan`'s.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, overload

from typing_extensions import Self

from docket._context import current_docket, current_execution, current_worker
from docket._task import Scheduler, SyncTask, Task, declare

if TYPE_CHECKING:
    from docket.docket import Docket
    from docket.execution import Execution
    from docket.worker import Worker

__all__ = ["CompletionHandler", "Dependency", "FailureHandler", "Injected", "RunScope", "Runtime", "TaskOutcome", "Verdict"]

P = ParamSpec("P")
R = TypeVar("R")


class Verdict(Exception):
    """This is raised by user code to say what is to become of its run; it passes unwrapped through dependencies."""


@dataclass(frozen=True)
class TaskOutcome:
    """This is how one run of a body went: how long it took, and what it returned or raised."""

    duration: timedelta
    """How long the body took."""
    result: Any = None
    """What it returned."""
    exception: BaseException | None = None
    """What it raised; None: nothing."""


class Dependency:
    """This is the base of everything that a task can declare in its signature or in a decorator above it.

    The instance in the source is a template. Each run works with a copy of its own (`for_run`), entered before the body and left
    after it, in reverse order, also when the body fails, times out or is cancelled. What `__aenter__` returns is what the parameter gets.
    """

    single: bool = False
    """Whether a task may declare only one of this kind. The kind is the class that says so, its subclasses included."""

    fills_parameter: ClassVar[bool] = False
    """Whether this gives the parameter its value when it stands in `Annotated` metadata. Others act for the argument that the caller passed."""

    def for_run(self, execution: Execution[Any]) -> Self:
        """This gives the copy that serves one run."""
        return copy.copy(self)

    def bind_to_parameter(self, name: str, value: Any) -> Self:
        """This gives a copy that acts for one argument; called for a dependency that stands in an argument's `Annotated` metadata."""
        return copy.copy(self)

    async def __aenter__(self) -> Any:
        """This starts the dependency for one run and gives the value of its parameter: by default itself."""
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> bool | None:
        """This ends the dependency for one run. It sees the failure of the body and cannot undo it."""

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload] - a scheduler is a coroutine function too, and stands for its own task
        self, function: Scheduler[P, R], /
    ) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        """This declares the dependency for a task, as a decorator, and returns the task's handle."""
        return declare(self, function)

    @property
    def docket(self) -> Docket:
        """This is the docket of the current run."""
        return current_docket.get()

    @property
    def worker(self) -> Worker:
        """This is the worker of the current run."""
        return current_worker.get()

    @property
    def execution(self) -> Execution[Any]:
        """This is the current run."""
        return current_execution.get()


class Runtime(Dependency, ABC):
    """This runs the body of a task in its own way: with a deadline, for example."""

    single = True

    @abstractmethod
    async def run(self, execution: Execution[Any], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """This runs the body, `await function(*args, **kwargs)`, and returns its result. What it raises, the run fails with."""


class FailureHandler(Dependency, ABC):
    """This says what follows a failed run. A worker calls one that a user wrote; a `Retry` is one too, which the worker asks for its `next_attempt`."""

    single = True

    @abstractmethod
    async def handle_failure(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
        """This is called in the worker, after the dependencies were closed, when a run failed; not for a verdict (`Snooze`, `Discard`, `Cancel`) nor when it
        was cancelled. It takes part in the run: what it schedules under the run's own key is the run's successor.

        It returns whether the failure is dealt with. The run has FAILED either way, and who waits for its result gets the exception; True only keeps
        it from the log as an error. It may raise a verdict, which then decides: `Snooze` to try again, `Discard` to fail for another reason, `Cancel`.
        Anything else that it raises is logged, and counts as False.
        """


class CompletionHandler(Dependency, ABC):
    """This says what follows a run that ended, well or not. A worker calls one that a user wrote; a `Perpetual` is one too, which it asks for its `next_run`."""

    single = True

    @abstractmethod
    async def on_complete(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
        """This is called in the worker, after the dependencies were closed, when a run has come to its end, well or not; not when it is to be tried
        again, nor when it was cancelled. It takes part in the run: what it schedules under the run's own key is the run's successor.

        It returns whether something follows the run, for the log to say so; how the run ended stands. What it raises is logged, and counts as False.
        """


@dataclass(slots=True)
class RunScope:
    """This is what the dependencies of one run are given from."""

    docket: Docket
    worker: Worker
    execution: Execution[Any]
    arguments: Mapping[str, Any]
    """What the caller passed, by parameter name; left empty when no dependency asks for an argument."""
    defaults: Mapping[str, Any]
    """What the task's signature says for arguments that were not passed."""


class Injected(Dependency, ABC):
    """This exists to give its parameter a value that the run already knows; nothing is entered or left."""

    fills_parameter = True
    per_worker: ClassVar[bool] = False
    """Whether the value is the worker's rather than one run's, so that a `Shared` may ask for it."""

    @abstractmethod
    def give(self, scope: RunScope) -> Any:
        """This gives the value; not part of the public interface."""

    def at(self, parameter: str) -> Self:
        """This gives the same as standing at that parameter; not part of the public interface."""
        return self

    def identity(self) -> Hashable:
        """This is equal for two that give the same object in one run; not part of the public interface."""
        return type(self)

    async def __aenter__(self) -> Any:
        execution = current_execution.get()
        return self.give(RunScope(current_docket.get(), current_worker.get(), execution, execution.kwargs, {}))
