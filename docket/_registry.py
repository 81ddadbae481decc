"""Names to tasks: which function a name stands for on one docket, and the plan of its dependencies, made once.

How a task is scheduled is `docket`'s business, and how it runs the worker's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from docket._loading import did_you_mean
from docket._signatures import name_of
from docket._task import SyncTask, Task, handle_of, is_task, unwrapped
from docket.dependencies._resolution import Plan, compile_plan
from docket.errors import NameTaken, UnknownTask

if TYPE_CHECKING:
    from docket.docket import Docket

__all__ = ["Registered", "Registry"]

logger = logging.getLogger("docket.docket")


@dataclass(frozen=True, slots=True)
class Registered:
    """This is one name on one docket: what runs for it, and how."""

    name: str
    function: Callable[..., Any]
    plan: Plan
    declared: tuple[Any, ...]
    handle: Task[..., Any] | SyncTask[..., Any]
    """The task as callers hold it."""
    built_in: bool = False
    """Whether a task of the user's may take the name."""


class Registry:
    """This knows the tasks of one docket."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._by_name: dict[str, Registered] = {}
        self._by_object: dict[Callable[..., Any], Registered] = {}
        self._functions: dict[str, Callable[..., Any]] = {}
        self.functions: Mapping[str, Callable[..., Any]] = MappingProxyType(self._functions)
        """The functions by name, as they stand."""

    def __iter__(self) -> Iterator[Registered]:
        return iter(list(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def register(self, function: Callable[..., Any], name: str | None = None, *, built_in: bool = False, bind: bool = True) -> Registered:
        """This makes a name stand for a function (or a handle's function, with what is declared on it), and compiles its plan.

        A handle that no docket knows yet is the docket's from now on, unless told not to `bind` it.
        The same function again (same module and qualified name: a module reloaded, a cell run twice) takes the place of the old one.
        Raises `NameTaken` when another function has the name, and `ValueError` for dependencies that do not go together.
        """
        function = unwrapped(function)
        handle = function if is_task(function) and name in (None, function.name) else _handle_named(function, name)
        existing = self._by_name.get(handle.name)
        if existing is not None:
            if existing.function is handle.function and existing.declared == handle.declared:
                self._by_object.setdefault(function, existing)
                if bind:
                    self._bind(function)
                return existing
            self._refuse_taken(existing, handle.function)
            self._forget(existing)

        plan = compile_plan(handle.function, handle.name, handle.declared)
        registered = Registered(handle.name, handle.function, plan, handle.declared, handle, built_in)
        self._by_name[handle.name] = registered
        self._functions[handle.name] = handle.function
        for known_as in (function, handle, handle.function):
            self._by_object.setdefault(known_as, registered)
            if bind or known_as is not function:
                self._bind(known_as)
        if handle.shape.reserved:
            logger.warning(
                "Task %r has a parameter of its own named %s; schedule it with %s.options(key=..., when=...).schedule(...), which passes every argument through.",
                handle.name,
                " and one named ".join(repr(parameter) for parameter in handle.shape.reserved),
                handle.name,
            )
        return registered

    def ensure(self, function: Callable[..., Any], name: str | None = None, *, bind: bool = True) -> Registered:
        """This finds what a function or handle is registered as (under that name, if one is given), and registers it if it is not."""
        registered = self._by_object.get(function)
        if registered is None or name not in (None, registered.name) or registered.declared != getattr(function, "declared", registered.declared):
            return self.register(function, name, bind=bind)
        if bind:
            self._bind(function)
        return registered

    def find(self, function: Callable[..., Any]) -> Registered | None:
        """This finds what a function or handle is registered as; None when it is not."""
        try:
            return self._by_object.get(function)
        except TypeError:  # not hashable, so never registered
            return None

    @contextmanager
    def for_now(self) -> Generator[None, None, None]:
        """This forgets, when it is left, what was registered since it was entered, and knows again what that took the place of: for tests."""
        kept = dict(self._by_name), dict(self._by_object), dict(self._functions)
        try:
            yield
        finally:
            for mapping, before in zip((self._by_name, self._by_object, self._functions), kept, strict=True):
                mapping.clear()
                cast("dict[Any, Any]", mapping).update(before)

    def get(self, name: str) -> Registered | None:
        """This finds a name; None when it stands for nothing here."""
        return self._by_name.get(name)

    def handle(self, name: str) -> Task[..., Any] | SyncTask[..., Any]:
        """This finds the handle of a name. Raises `UnknownTask`, with the name that was probably meant."""
        registered = self._by_name.get(name)
        if registered is None:
            raise UnknownTask(
                f"no task named {name!r} is registered with docket {self._docket.name!r} in this process{did_you_mean(name, self._by_name)}; "
                "declare it with @docket.task, or register it with docket.register(...)"
            )
        return registered.handle

    def _refuse_taken(self, existing: Registered, function: Callable[..., Any]) -> None:
        if existing.built_in or name_of(existing.function) == name_of(function):
            return
        raise NameTaken(
            f"the name {existing.name!r} stands for {name_of(existing.function)} on docket {self._docket.name!r}, so it cannot stand for {name_of(function)} too; "
            f"give one of them another: docket.task(name='...'), or docket.register(..., names=['...'])"
        )

    def _bind(self, function: Callable[..., Any]) -> None:
        if is_task(function):
            function.become_known_to(self._docket)

    def _forget(self, old: Registered) -> None:
        for known_as in [known_as for known_as, registered in self._by_object.items() if registered is old]:
            del self._by_object[known_as]


def _handle_named(function: Callable[..., Any], name: str | None) -> Task[..., Any] | SyncTask[..., Any]:
    if not is_task(function):
        return handle_of(function, name)
    return type(function)(function.function, name, function.declared)
