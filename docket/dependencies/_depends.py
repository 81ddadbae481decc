"""`Depends`: a parameter's value comes from calling something. How it is called and closed is `_steps`' business."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Hashable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeVar, overload

from docket.dependencies._base import Dependency

__all__ = ["DependencyFunction", "Depends", "DependsOn", "identity_of"]

R = TypeVar("R")

DependencyFunction = (
    Callable[..., AbstractAsyncContextManager[R]]
    | Callable[..., AbstractContextManager[R]]
    | Callable[..., AsyncGenerator[R, None]]
    | Callable[..., Generator[R, None, None]]
    | Callable[..., Awaitable[R]]
    | Callable[..., R]
)
"""What `Depends` takes: whatever gives an `R` when it is called, awaited, entered or iterated."""


class DependsOn(Dependency):
    """This is what `Depends(function, **bindings)` leaves in a signature."""

    fills_parameter = True

    def __init__(self, function: Callable[..., Any], bindings: Mapping[str, Any]) -> None:
        self.function = function
        self.bindings = bindings

    def __repr__(self) -> str:
        bindings = "".join(f", {name}={value!r}" for name, value in self.bindings.items())
        return f"Depends({getattr(self.function, '__qualname__', repr(self.function))}{bindings})"


def identity_of(function: Callable[..., Any], bindings: Mapping[str, Any]) -> Hashable:
    """This is equal for two calls that one value can serve: of the same function, with the same bindings."""
    return (_identity(function), *sorted((name, _identity(value)) for name, value in bindings.items()))


def _identity(value: Any) -> Hashable:
    if isinstance(value, DependsOn):
        return identity_of(value.function, value.bindings)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return (value.__class__, value)  # 1, 1.0 and True are equal and not the same


# A context manager comes before an awaitable: what can be both (a connection pool) is entered.
@overload
def Depends(dependency: Callable[..., AbstractAsyncContextManager[R, Any]], /, **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., AbstractContextManager[R, Any]], /, **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., AsyncGenerator[R, Any]], /, **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., AsyncIterator[R]], /, **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., Generator[R, Any, Any]], /, **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., Iterator[R]], /, **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., Awaitable[R]], /, **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., R], /, **bindings: Any) -> R: ...
def Depends(dependency: Callable[..., Any], /, **bindings: Any) -> Any:  # noqa: N802 - reads as a type in a signature
    """This gives a parameter what a call returns, yields or, for a context manager, gives on entering.

    The callable may be a function (sync or async), a generator function (sync or async), anything that gives a context manager (sync or
    async), a class, or a `Dependency` subclass. Its own parameters may be dependencies again; `bindings` fill the others, and may be
    dependencies too. The same callable with the same bindings is called once per run. What was entered is left in reverse order after
    the body, however that ended.

    A worker calls synchronous functions, and enters and leaves synchronous context managers, in a thread. Classes it calls where they stand, in
    the event loop, and so a function whose decorator or return annotation says that it gives something asynchronous.

    `Depends(Retry, attempts=3)` is `Retry(attempts=3)`; without bindings `Depends(Retry)` gives the task's own `Retry`, wherever it was declared.
    """
    return DependsOn(dependency, bindings)
