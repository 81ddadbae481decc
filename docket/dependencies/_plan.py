"""A task's plan: everything about its dependencies and behaviours that can be known before a run, and the little that is left to do in one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Hashable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from docket._signatures import is_async, shape_of
from docket._threads import Thread
from docket.dependencies._base import CompletionHandler, Dependency, FailureHandler, RunScope, Runtime
from docket.dependencies._declarations import Declarations
from docket.dependencies._deliveries import MaxDeliveries
from docket.dependencies._exits import Exits
from docket.dependencies._failures import failure_of
from docket.dependencies._limits import Limit
from docket.dependencies._parameters import parameters_of
from docket.dependencies._perpetual import Perpetual
from docket.dependencies._recipe import Overrides, write_recipe
from docket.dependencies._retry import Retry
from docket.dependencies._shared import SharedContext
from docket.dependencies._steps import Frame, Recipe, resolve
from docket.errors import InvalidOption

if TYPE_CHECKING:
    from docket._store.records import Requirement
    from docket.docket import Docket
    from docket.execution import Execution
    from docket.worker import Worker

__all__ = ["Plan", "Resolution", "Resolved"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIANTS = 64
"""How many other recipes a plan keeps: for callers that pass a dependency themselves, and for overrides."""


class Plan:
    """This is what a task's function asks for, read once. Its templates are never changed; `begin` copies them for a run."""

    def __init__(self, function: Callable[..., Any], name: str, declarations: Declarations) -> None:
        read = parameters_of(function)
        self.function = function
        self.name = name
        self.is_coroutine = is_async(function)
        self.signature = read.signature
        self.parameters = frozenset(read.giving)
        """The parameters that a worker fills unless the caller did."""
        self.recipe = write_recipe(function, declarations)
        self.templates = tuple(declarations.templates)
        self.trivial = not self.recipe.steps and not self.templates and not any(read.acting.values())
        """Whether there is nothing to do: the worker just calls the function."""
        self.at = {kind: declarations.position_of_class(kind) for kind in (Retry, FailureHandler, Perpetual, CompletionHandler, Runtime)}
        """Where among the templates each kind stands that the worker acts upon."""
        self.retry: Retry | None = self._template(Retry)
        self.perpetual: Perpetual | None = self._template(Perpetual)
        self.runtime: Runtime | None = self._template(Runtime)
        self.max_deliveries = next((template.count for template in self.templates if isinstance(template, MaxDeliveries)), None)
        """How many workers it may take down; None: as many as the docket says."""
        failing, ending = self._template(FailureHandler), self._template(CompletionHandler)
        self.has_handlers = not (isinstance(failing, Retry | None) and isinstance(ending, Perpetual | None))
        """Whether a user's own handlers are to be asked what follows a run."""
        parameters = read.signature.parameters.values()
        self.limits = [template for template in self.templates if isinstance(template, Limit)]
        """The limits of the whole task, and (behind them) those of single arguments."""
        self._limit_positions = [position for position, template in enumerate(self.templates) if isinstance(template, Limit)]
        self._argument_limits = [actor.of_argument(parameter) for parameter, actors in read.acting.items() for actor in actors if isinstance(actor, Limit)]
        self.limits += self._argument_limits
        self._limits_arguments = any(limit.argument is not None for limit in self.limits)
        for limit in self.limits:
            limit.check(name, read.signature, self.parameters)
        self._positional = tuple(parameter.name for parameter in parameters if parameter.kind in _POSITIONAL)
        self._variadic = next((parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.VAR_POSITIONAL), None)
        self._first = min((index for index, parameter in enumerate(self._positional) if parameter in self.parameters), default=len(self._positional))
        self.defaults = {
            parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty and parameter.name not in read.giving
        }
        """The defaults of the caller's own parameters."""
        self._declarations = declarations
        self._shape = shape_of(function)
        self._variants: dict[Hashable, Recipe] = {}
        for parameter in parameters:
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.name in self.parameters:
                raise InvalidOption(
                    f"{name!r}: the dependency {parameter.name!r} is positional-only, and dependencies are given by name; move it behind the `/`"
                )

    def __repr__(self) -> str:
        return f"<Plan of {self.name!r}: {len(self.templates)} behaviours, {len(self.recipe.steps)} steps>"

    def validate_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """This raises `InvalidArguments` when a call does not bind to the signature."""
        self._shape.check(self.name, args, kwargs)

    def bound_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """This gives what the caller passed, by parameter name."""
        bound = dict(zip(self._positional, args, strict=False))
        if self._variadic is not None and len(args) > len(self._positional):
            bound[self._variadic] = args[len(self._positional) :]
        bound.update(kwargs)
        return bound

    def requirements(self, resolved: Resolved) -> tuple[Requirement, ...]:
        """This gives what a run has to pass before its body is called."""
        execution = resolved.execution
        arguments: dict[str, Any] = {}
        if self._limits_arguments:
            arguments = {**self.defaults, **self.bound_arguments(execution.args, execution.kwargs)}
        limits = [cast("Limit", resolved.behaviours[position]) for position in self._limit_positions]
        limits += [copy.copy(limit) for limit in self._argument_limits]
        return tuple(limit.require(execution, arguments) for limit in limits)

    def begin(self, execution: Execution[Any]) -> Resolved:
        """This makes one run's own copies of the behaviours. Nothing is entered or resolved yet, so a `Retry` applies to whatever fails from here on."""
        return Resolved(self, execution)

    def recipe_for(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], overrides: Overrides | None) -> Recipe:
        """This gives the recipe for a call: the plan's own, unless the caller passed a dependency or there are overrides."""
        if not overrides and len(args) <= self._first and (not kwargs or self.parameters.isdisjoint(kwargs)):
            return self.recipe
        given = self.parameters.intersection((*self._positional[: len(args)], *kwargs))
        wanted = (given, tuple((overrides or {}).items()))
        if wanted not in self._variants:
            if len(self._variants) >= _VARIANTS:
                self._variants.clear()
            self._variants[wanted] = write_recipe(self.function, self._declarations, given=given, overrides=overrides)
        return self._variants[wanted]

    def _template(self, kind: type[Any]) -> Any:
        position = self.at[kind]
        return None if position is None else self.templates[position]


class Resolved:
    """This is a plan in one run: the run's own copies of its behaviours, and the way to its dependencies."""

    __slots__ = ("behaviours", "execution", "plan")

    def __init__(self, plan: Plan, execution: Execution[Any]) -> None:
        self.plan = plan
        self.execution = execution
        self.behaviours: list[Dependency] = [template.for_run(execution) for template in plan.templates]

    @property
    def retry(self) -> Retry | None:
        """This run's `Retry`, its `attempt` set."""
        return self._own(Retry)

    @property
    def failure_handler(self) -> FailureHandler | None:
        """This run's `FailureHandler`: its `Retry`, or a user's own."""
        return self._own(FailureHandler)

    @property
    def perpetual(self) -> Perpetual | None:
        """This run's `Perpetual`, on which the body may have called."""
        return self._own(Perpetual)

    @property
    def completion_handler(self) -> CompletionHandler | None:
        """This run's `CompletionHandler`: its `Perpetual`, or a user's own."""
        return self._own(CompletionHandler)

    @property
    def runtime(self) -> Runtime | None:
        """This is what runs this run's body, a `Timeout` for example."""
        return self._own(Runtime)

    def dependencies(
        self,
        *,
        docket: Docket,
        worker: Worker,
        shared: SharedContext | None = None,
        overrides: Overrides | None = None,
        cleanup_timeout: timedelta | None = None,
        thread: Thread | None = None,
    ) -> Resolution:
        """This resolves the dependencies: `async with` it gives the values by parameter name, and closes them on leaving.

        Entering raises `DependencyFailed`, which names the parameters, after everything already entered has been left again. Leaving
        waits for the dependencies to close, `cleanup_timeout` for each that is asynchronous, and raises only what closing itself brought.
        Synchronous functions among them are called in `thread`, or else here.
        """
        return Resolution(self, docket, worker, shared, overrides, cleanup_timeout, thread)

    def _own(self, kind: type[Any]) -> Any:
        position = self.plan.at[kind]
        return None if position is None else self.behaviours[position]


class Resolution:
    """This holds the dependencies of one run while it lasts."""

    __slots__ = ("_cleanup_timeout", "_docket", "_exits", "_overrides", "_resolved", "_shared", "_worker")

    def __init__(
        self,
        resolved: Resolved,
        docket: Docket,
        worker: Worker,
        shared: SharedContext | None,
        overrides: Overrides | None,
        cleanup_timeout: timedelta | None,
        thread: Thread | None,
    ) -> None:
        self._resolved = resolved
        self._docket = docket
        self._worker = worker
        self._shared = shared
        self._overrides = overrides
        self._cleanup_timeout = None if cleanup_timeout is None else cleanup_timeout.total_seconds()
        self._exits = Exits(thread)

    async def __aenter__(self) -> dict[str, Any]:
        plan, execution = self._resolved.plan, self._resolved.execution
        recipe = plan.recipe_for(execution.args, execution.kwargs, self._overrides)
        if not recipe.steps:
            return {}
        arguments = plan.bound_arguments(execution.args, execution.kwargs) if recipe.asks_for_arguments else {}
        scope = RunScope(self._docket, self._worker, execution, arguments, plan.defaults)
        frame = Frame(scope, self._resolved.behaviours, self._shared, [None] * len(recipe.steps), self._exits)
        try:
            if failures := await resolve(recipe.steps, frame):
                raise failure_of(recipe, failures)
        except BaseException as error:
            await self._exits.leave(error, self._cleanup_timeout)
            raise
        return {name: frame.values[index] for name, index in recipe.targets}

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self._exits.leave(exc, self._cleanup_timeout)
