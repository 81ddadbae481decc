"""What a run knows of itself: its docket, worker, execution, key and arguments.

Each is a function typed as what the parameter gets, so that `key: str = TaskKey()` holds.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import Self

from docket.dependencies._base import Injected, RunScope

if TYPE_CHECKING:
    from docket.docket import Docket
    from docket.execution import Execution
    from docket.worker import Worker

__all__ = ["Argument", "CallArgument", "CurrentDocket", "CurrentExecution", "CurrentWorker", "TaskArgument", "TaskKey"]


class _Docket(Injected):
    per_worker = True

    def give(self, scope: RunScope) -> Docket:
        return scope.docket


class _Worker(Injected):
    per_worker = True

    def give(self, scope: RunScope) -> Worker:
        return scope.worker


class _Execution(Injected):
    def give(self, scope: RunScope) -> Execution[Any]:
        return scope.execution


class _Key(Injected):
    def give(self, scope: RunScope) -> str:
        return scope.execution.key


_MISSING: Any = object()


class Argument(Injected):
    """This gives an argument of the task, named by `parameter` or else by the parameter that this stands at.

    `siblings` widens it from what the caller passed to the whole call: values of the task's dependencies, and the defaults of its signature.
    """

    def __init__(self, parameter: str | None, *, optional: bool, siblings: bool, default: Any = _MISSING) -> None:
        self.parameter = parameter
        self.siblings = siblings
        self.default = None if optional and default is _MISSING else default

    def at(self, parameter: str) -> Self:
        if self.parameter is not None:
            return self
        named = copy.copy(self)
        named.parameter = parameter
        return named

    def identity(self) -> Hashable:
        return (type(self), self.parameter, self.siblings, id(self.default))

    def give(self, scope: RunScope) -> Any:
        name = self.parameter or ""
        if name in scope.arguments:
            return scope.arguments[name]
        if self.siblings and name in scope.defaults:
            return scope.defaults[name]
        if self.default is _MISSING:
            raise KeyError(f"{scope.execution.function_name!r} was not given an argument {name!r}")
        return self.default


def CurrentDocket() -> Docket:  # noqa: N802 - reads as a type in a signature
    """This gives a parameter the docket that runs the task."""
    return cast("Docket", _Docket())


def CurrentWorker() -> Worker:  # noqa: N802 - reads as a type in a signature
    """This gives a parameter the worker that runs the task."""
    return cast("Worker", _Worker())


def CurrentExecution() -> Execution[Any]:  # noqa: N802 - reads as a type in a signature
    """This gives a parameter the execution of the current run."""
    return cast("Execution[Any]", _Execution())


def TaskKey() -> str:  # noqa: N802 - reads as a type in a signature
    """This gives a parameter the key of the current run."""
    return cast("str", _Key())


def TaskArgument(parameter: str | None = None, optional: bool = False) -> Any:  # noqa: N802 - reads as a type in a signature
    """This gives a parameter what the caller passed as an argument of the task: the one named, else the one of the same name.

    An argument that was not passed is a KeyError, or None when `optional`.
    """
    return Argument(parameter, optional=optional, siblings=False)


def CallArgument(parameter: str | None = None, optional: bool = False, *, default: Any = _MISSING) -> Any:  # noqa: N802 - reads as a type in a signature
    """This gives a parameter an argument of the whole call: what the caller passed, else what the task's own dependency of that
    name gives, else the default in the task's signature, else `default`.

    When none of these is there, it is a KeyError, or None when `optional`.
    """
    return Argument(parameter, optional=optional, siblings=True, default=default)
