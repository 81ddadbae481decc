"""What every limit is: something a claimed run has to pass before its body is called. Passing is one script call for all limits of a run."""

from __future__ import annotations

import copy
import hashlib
from abc import abstractmethod
from collections.abc import Container, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from typing_extensions import Self

from docket._store.records import Requirement
from docket.dependencies._base import Dependency
from docket.errors import InvalidOption

if TYPE_CHECKING:
    import inspect

    from docket.execution import Execution

__all__ = ["Limit", "microseconds"]

_LONGEST_VALUE = 100


def microseconds(option: str, duration: timedelta) -> int:
    """This gives a duration of a limit in microseconds. Raises `InvalidOption` for one that is no limit."""
    if not isinstance(duration, timedelta) or duration <= timedelta(0):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        raise InvalidOption(f"{option} is {duration!r}; give a timedelta of more than zero")
    return duration // timedelta(microseconds=1)


@lru_cache(maxsize=1024)
def _named(scope: str | None, task: str) -> str:
    return quote(task, safe="") if scope is None else "@" + quote(scope, safe="")  # no scope is a task


class Limit(Dependency):
    """This holds runs back. As a default parameter, a decorator or a worker's dependency it is for the whole task; in `Annotated`
    metadata it is for each value of that argument. With a `scope`, tasks that name the same one share it.
    """

    kind: str
    """What the store calls limits of this kind; not part of the public interface."""

    def __init__(self, scope: str | None = None, argument: str | None = None) -> None:
        self.scope = scope
        self.argument = argument
        self._identity: str | None = None

    def of_argument(self, parameter: str) -> Self:
        """This gives the same limit for each value of an argument; not part of the public interface."""
        limit = copy.copy(self)
        limit.argument = parameter
        return limit

    def check(self, task: str, signature: inspect.Signature, given: Container[str]) -> None:
        """This raises `InvalidOption` when the argument is none of the task's, or one that a worker gives; not part of the public interface."""
        if self.argument is not None and self.argument not in signature.parameters:
            raise InvalidOption(
                f"{self!r} of task {task!r} is for an argument {self.argument!r}, which the task does not have; it has {', '.join(signature.parameters) or 'none'}"
            )
        if self.argument is not None and self.argument in given:
            raise InvalidOption(f"{self!r} of task {task!r} is for an argument {self.argument!r}, which a worker gives; name one that the caller passes")

    def identity_in(self, execution: Execution[Any], arguments: Mapping[str, Any]) -> str:
        """This names whom a run is limited with: the scope or the task, and the value of the argument, if it is for one; not part of the public interface."""
        named = _named(self.scope, "" if self.scope is not None else execution.function_name)
        if self.argument is None:
            return named
        value = str(arguments.get(self.argument))
        if len(value) > _LONGEST_VALUE:
            value = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{named}/{self.argument}={quote(value, safe='', errors='surrogatepass')}"

    @property
    def identity(self) -> str:
        """This names whom the current run is limited with. Raises `RuntimeError` outside a run."""
        if self._identity is None:
            raise RuntimeError(f"{self!r} knows whom it limits only inside a task")
        return self._identity

    def require(self, execution: Execution[Any], arguments: Mapping[str, Any]) -> Requirement:
        """This says what a run has to pass, and remembers whom it limits; not part of the public interface."""
        self._identity = self.identity_in(execution, arguments)
        return self.requirement(self._identity)

    @abstractmethod
    def requirement(self, identity: str) -> Requirement:
        """This says what has to be passed, in the words of the store; not part of the public interface."""
