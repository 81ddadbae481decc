"""Which plan a name stands for on this worker: the docket's, with the worker's own dependencies around it, or the fallback's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from docket.dependencies._base import Dependency
from docket.dependencies._resolution import Plan, compile_plan
from docket.errors import InvalidOption, InvalidWorkerDependency

if TYPE_CHECKING:
    from docket._registry import Registered, Registry

__all__ = ["Plans", "checked_dependencies"]


def checked_dependencies(dependencies: Mapping[str, Any] | Sequence[Any] | None) -> tuple[Dependency, ...]:
    """This gives a worker's dependencies, named or not, as a tuple.

    Raises `InvalidOption` for a name that starts with two underscores, and `InvalidWorkerDependency` (a TypeError) for what is no dependency.
    """
    if dependencies is None:
        return ()
    named = dependencies.items() if isinstance(dependencies, Mapping) else ((f"number {index}", found) for index, found in enumerate(dependencies))
    checked: list[Dependency] = []
    for name, found in named:
        if name.startswith("__"):
            raise InvalidOption(f"the worker dependency {name!r} has a name that starts with two underscores; those are docket's own, so give it another")
        if not isinstance(found, Dependency):
            raise InvalidWorkerDependency(f"the worker dependency {name} is a {type(found).__name__}; give a Dependency, such as Timeout(...) or Depends(...)")
        checked.append(found)
    return tuple(checked)


class Plans:
    """This finds the plan for a task's name."""

    def __init__(self, registry: Registry, around: tuple[Dependency, ...], fallback: Callable[..., Any] | None) -> None:
        self._registry = registry
        self._around = around
        self._fallback = None if fallback is None else compile_plan(fallback, getattr(fallback, "__name__", "fallback"), around)
        self._made: dict[str, tuple[Registered, Plan]] = {}

    def knows(self, name: str) -> bool:
        """This says whether this worker can run a task of that name."""
        return self._fallback is not None or name in self._registry.functions

    def is_registered(self, name: str) -> bool:
        """This says whether a task of that name is registered here, so that it is one of a bounded number."""
        return name in self._registry.functions

    def find(self, name: str) -> Plan | None:
        """This gives the plan for a name; None when this worker cannot run it. Raises what is wrong with it together with the worker's dependencies."""
        registered = self._registry.functions.get(name) and self._registry.get(name)
        if not registered:
            return self._fallback
        if not self._around:
            return registered.plan
        made = self._made.get(name)
        if made is None or made[0] is not registered:
            made = self._made[name] = registered, compile_plan(registered.function, name, (*registered.declared, *self._around))
        return made[1]
