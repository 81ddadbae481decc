"""`Shared`: values made once per worker, on first use, and closed when the worker leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar, overload

from typing_extensions import Self

from docket._threads import Thread
from docket.dependencies._base import Dependency, RunScope
from docket.dependencies._exits import Exits
from docket.dependencies._steps import Frame, Recipe, Step, resolve
from docket.errors import NotEntered

__all__ = ["Shared", "SharedContext", "SharedOn", "SharedStep"]

R = TypeVar("R")


class SharedOn(Dependency):
    """This is what `Shared(function)` leaves in a signature."""

    fills_parameter = True

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"Shared({getattr(self.function, '__qualname__', repr(self.function))})"


@dataclass(frozen=True)
class SharedStep(Step):
    """This gives what a worker shares. The last step of `recipe` makes it."""

    identity: Hashable
    recipe: Recipe

    async def value(self, frame: Frame) -> Any:
        if frame.shared is None:
            raise NotEntered("Shared values belong to a worker, and there is none around this run")
        return await frame.shared.get(self, frame.scope)


@dataclass(frozen=True)
class _Request:
    step: SharedStep
    scope: RunScope
    answer: asyncio.Future[Any]


class SharedContext:
    """This makes and keeps what a worker shares. The worker enters it once and hands it to every run.

    Values are made and closed in one task of its own, one at a time: a task group or a cancel scope must be left by the task that entered it.
    Synchronous functions among what makes them are called in `thread`, or else there.
    """

    def __init__(self, thread: Thread | None = None) -> None:
        self._values: dict[Hashable, Any] = {}
        self._thread = thread
        self._exits = Exits(thread)
        self._requests: asyncio.Queue[_Request | None] = asyncio.Queue()
        self._host: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._host = asyncio.create_task(self._serve(), name="docket: shared dependencies")
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        host, self._host = self._host, None
        if host is not None:
            self._requests.put_nowait(None)
            await host

    async def get(self, step: SharedStep, scope: RunScope) -> Any:
        """This gives a shared value, made on first use. One that could not be made is tried again at the next use."""
        if step.identity in self._values:
            return self._values[step.identity]
        if self._host is None:
            raise NotEntered("Shared values are made while their worker is entered")
        if asyncio.current_task() is self._host:  # one shared value needs another
            return await self._make(step, scope)
        request = _Request(step, scope, asyncio.get_running_loop().create_future())
        self._requests.put_nowait(request)
        return await request.answer

    async def _serve(self) -> None:
        while (request := await self._requests.get()) is not None:
            try:
                value = await self._make(request.step, request.scope)
            except Exception as error:  # noqa: BLE001 - a user's code; the run that asked fails with it
                if not request.answer.done():
                    request.answer.set_exception(error)
            else:
                if not request.answer.done():
                    request.answer.set_result(value)
        self._values.clear()
        await self._exits.leave(None)

    async def _make(self, step: SharedStep, scope: RunScope) -> Any:
        if step.identity in self._values:
            return self._values[step.identity]
        steps, exits = step.recipe.steps, Exits(self._thread)
        frame = Frame(scope, (), self, [None] * len(steps), exits)
        failures = await resolve(steps, frame)
        if failures:
            error = next(iter(failures.values()))
            await exits.leave(error)
            raise error
        self._exits.take(exits)
        value = self._values[step.identity] = frame.values[-1]
        return value


@overload
def Shared(factory: Callable[..., AbstractAsyncContextManager[R, Any]], /) -> R: ...
@overload
def Shared(factory: Callable[..., AbstractContextManager[R, Any]], /) -> R: ...
@overload
def Shared(factory: Callable[..., AsyncGenerator[R, Any]], /) -> R: ...
@overload
def Shared(factory: Callable[..., AsyncIterator[R]], /) -> R: ...
@overload
def Shared(factory: Callable[..., Generator[R, Any, Any]], /) -> R: ...
@overload
def Shared(factory: Callable[..., Iterator[R]], /) -> R: ...
@overload
def Shared(factory: Callable[..., Awaitable[R]], /) -> R: ...
@overload
def Shared(factory: Callable[..., R], /) -> R: ...
def Shared(factory: Callable[..., Any], /) -> Any:  # noqa: N802 - reads as a type in a signature
    """This gives a parameter a value that all runs of a worker share: made on first use, closed when the worker leaves.

    The factory may be whatever `Depends` takes. What it depends on lives as long as it does, and so cannot be one run's own.
    """
    return SharedOn(factory)
