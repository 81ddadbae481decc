"""The steps of a recipe: how each kind of dependency gets its value in one run. Which steps, and in which order, is `_recipe`'s business."""

from __future__ import annotations

import copy
import inspect
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_origin

from docket._signatures import is_async
from docket.dependencies._base import Dependency, Injected, RunScope, Verdict
from docket.dependencies._exits import Exits
from docket.dependencies._parameters import parameters_of

if TYPE_CHECKING:
    from docket.dependencies._shared import SharedContext

__all__ = ["Act", "Behave", "Call", "Enter", "Frame", "Give", "Recipe", "Step", "is_entered", "resolve", "step_for_call"]


def is_entered(kind: type[Dependency]) -> bool:
    """This says whether a class of dependencies does something on entering or leaving."""
    return kind.__aenter__ is not Dependency.__aenter__ or kind.__aexit__ is not Dependency.__aexit__


@dataclass(slots=True)
class Frame:
    """This is one resolution under way: where values come from and where they go."""

    scope: RunScope
    behaviours: Sequence[Dependency]
    """This run's copies of what its task declares."""
    shared: SharedContext | None
    values: list[Any]
    exits: Exits


@dataclass(frozen=True)
class Step(ABC):
    """This gives one value."""

    @property
    def needs(self) -> Sequence[int]:
        """The steps whose values this one takes."""
        return ()

    @abstractmethod
    async def value(self, frame: Frame) -> Any:
        """This gives the value in one run."""


@dataclass(frozen=True)
class Give(Step):
    """This gives what the run knows already."""

    source: Injected

    async def value(self, frame: Frame) -> Any:
        return self.source.give(frame.scope)


@dataclass(frozen=True)
class Behave(Step):
    """This gives this run's copy of a behaviour of the task, or what entering it gives."""

    position: int
    entered: bool

    async def value(self, frame: Frame) -> Any:
        behaviour = frame.behaviours[self.position]
        return await frame.exits.enter_async(behaviour) if self.entered else behaviour


@dataclass(frozen=True)
class Act(Step):
    """This has a dependency act for one argument, from the argument's `Annotated` metadata."""

    template: Dependency
    parameter: str

    async def value(self, frame: Frame) -> Any:
        scope, name = frame.scope, self.parameter
        if name in scope.arguments:
            argument = scope.arguments[name]
        elif name in scope.defaults:
            argument = scope.defaults[name]
        else:
            return None
        return await frame.exits.enter_async(self.template.bind_to_parameter(name, argument))


@dataclass(frozen=True)
class Enter(Step):
    """This enters a copy of a dependency that is not the task's own: one inside a `Shared`, or in what an override brought."""

    template: Dependency

    async def value(self, frame: Frame) -> Any:
        return await frame.exits.enter_async(copy.copy(self.template))


@dataclass(frozen=True)
class Call(Step):
    """This calls something; what it gives is entered when it is a context manager, and awaited when it is awaitable."""

    function: Callable[..., Any]
    constants: Mapping[str, Any]
    sources: tuple[tuple[str, int], ...]

    @property
    def needs(self) -> Sequence[int]:
        return [index for _, index in self.sources]

    def call(self, frame: Frame) -> Any:
        """This makes the call."""
        if not self.sources:
            return self.function(**self.constants)
        values = frame.values
        return self.function(**self.constants, **{name: values[index] for name, index in self.sources})

    async def value(self, frame: Frame) -> Any:
        return await self.finish(self.call(frame), frame)

    async def finish(self, given: Any, frame: Frame) -> Any:
        """This enters or awaits what the call gave, if it is of that kind."""
        if _is_async_manager(given):
            return await frame.exits.enter_async(given)
        if (manager := _manager_in(given)) is not None:
            return await frame.exits.enter(manager)
        if inspect.isawaitable(given):
            return await given
        if isinstance(given, types.AsyncGeneratorType):
            return await frame.exits.enter_async(asynccontextmanager(lambda: given)())  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
        return given


@dataclass(frozen=True)
class ForTheLoop:
    """This is what a call in a thread gave and only the event loop can enter or await."""

    step: Call
    given: Any


@dataclass(frozen=True)
class BlockingCall(Call):
    """This calls a synchronous function, which may take its time and so belongs in a thread."""

    def take(self, frame: Frame) -> Any:
        """This gives the value as far as a thread can: what is left over is `ForTheLoop`."""
        given = self.call(frame)
        if _is_async_manager(given):
            return ForTheLoop(self, given)
        if (manager := _manager_in(given)) is not None:
            return frame.exits.enter_here(manager)
        if inspect.isawaitable(given) or isinstance(given, types.AsyncGeneratorType):
            return ForTheLoop(self, given)
        return given


def _is_async_manager(given: Any) -> bool:
    kind = given.__class__
    return hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__")


def _manager_in(given: Any) -> AbstractContextManager[Any] | None:
    kind = given.__class__
    if hasattr(kind, "__enter__") and hasattr(kind, "__exit__"):
        return given
    if isinstance(given, types.GeneratorType) and not inspect.isawaitable(given):  # pyright: ignore[reportUnknownArgumentType]
        return contextmanager(lambda: cast("types.GeneratorType[Any, Any, Any]", given))()
    return None


@dataclass(frozen=True)
class Await(Call):
    """This calls a coroutine function."""

    async def value(self, frame: Frame) -> Any:
        return await self.call(frame)


@dataclass(frozen=True)
class EnterAsync(Call):
    """This calls a function that gives an async context manager."""

    async def value(self, frame: Frame) -> Any:
        manager: AbstractAsyncContextManager[Any] = self.call(frame)
        return await frame.exits.enter_async(manager)


@dataclass(frozen=True)
class Recipe:
    """This is how the parameters of one function get their values: the steps in order, and which step's value goes where."""

    steps: tuple[Step, ...]
    targets: tuple[tuple[str, int], ...] = ()
    besides: tuple[tuple[str, int], ...] = ()
    """Steps taken for what they do; no parameter gets their value. Each with what it is called in an error."""
    asks_for_arguments: bool = False


def step_for_call(function: Callable[..., Any], constants: Mapping[str, Any], sources: tuple[tuple[str, int], ...]) -> Step:
    """This picks the kind of call by what the function is."""
    if inspect.isasyncgenfunction(function):
        return EnterAsync(asynccontextmanager(function), constants, sources)
    if inspect.isgeneratorfunction(function):
        return BlockingCall(contextmanager(function), constants, sources)
    if is_async(function):
        return Await(function, constants, sources)
    return (Call if _is_of_the_loop(function) else BlockingCall)(function, constants, sources)


def _is_of_the_loop(function: Callable[..., Any]) -> bool:
    """This says whether a function is called in the event loop although it is no coroutine function.

    Classes are, as making an object takes no time. So is what gives something asynchronous, by its decorator or its return annotation:
    a client, for example, that must be made where the loop runs.
    """
    if isinstance(function, type):
        return True
    made_of = inspect.unwrap(function)
    if inspect.isasyncgenfunction(made_of) or is_async(made_of):
        return True
    promised = parameters_of(function).signature.return_annotation
    kind = get_origin(promised) or promised
    return isinstance(kind, type) and any(hasattr(kind, name) for name in ("__await__", "__aenter__", "__aiter__"))


async def resolve(steps: Sequence[Step], frame: Frame) -> dict[int, Exception]:
    """This takes the steps in order and gives the failures by step. A step that needs a failed one is passed over and fails with it.

    Blocking steps that stand side by side are taken in one visit to a thread: the visit costs more than most of them.
    """
    failures: dict[int, Exception] = {}
    values, thread = frame.values, frame.exits.thread
    index, end = 0, len(steps)
    while index < end:
        step = steps[index]
        if thread is not None and isinstance(step, BlockingCall) and values[index].__class__ is not ForTheLoop:
            index = await thread.call(_take_blocking, steps, index, frame, failures)
            continue
        if not _is_passed_over(step, index, failures):
            left = values[index]
            try:
                values[index] = await (left.step.finish(left.given, frame) if left.__class__ is ForTheLoop else step.value(frame))
            except Verdict:
                raise
            except Exception as error:  # noqa: BLE001 - a user's code; the run fails with it, naming the parameter
                failures[index] = error
        index += 1
    return failures


def _take_blocking(steps: Sequence[Step], index: int, frame: Frame, failures: dict[int, Exception]) -> int:
    """This takes blocking steps, in a thread, up to another kind of step or something that is for the loop; it says how far it came."""
    while index < len(steps) and isinstance(step := steps[index], BlockingCall):
        if not _is_passed_over(step, index, failures):
            try:
                taken = frame.values[index] = step.take(frame)
            except Verdict:
                raise
            except Exception as error:  # noqa: BLE001 - as in `resolve`
                failures[index] = error
            else:
                if taken.__class__ is ForTheLoop:
                    break
        index += 1
    return index


def _is_passed_over(step: Step, index: int, failures: dict[int, Exception]) -> bool:
    broken = next((need for need in step.needs if need in failures), None) if failures else None
    if broken is None:
        return False
    failures[index] = failures[broken]
    return True
