"""Writing the recipe of a function: its dependency graph, put in order, each call once. Done when a task is registered, never in a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

from docket.dependencies._base import Dependency, Injected
from docket.dependencies._current import Argument
from docket.dependencies._declarations import Declarations, behaviour_class
from docket.dependencies._depends import DependsOn, identity_of
from docket.dependencies._limits import Limit
from docket.dependencies._parameters import describe, parameters_of
from docket.dependencies._shared import SharedOn, SharedStep
from docket.dependencies._steps import Act, Behave, Enter, Give, Recipe, Step, is_entered, step_for_call
from docket.errors import CycleError, InvalidOption

__all__ = ["Overrides", "write_recipe"]

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]


def write_recipe(
    function: Callable[..., Any], declarations: Declarations, *, given: AbstractSet[str] = frozenset(), overrides: Overrides | None = None
) -> Recipe:
    """This writes how a task's parameters get their values when the caller passes those that are `given`.

    Raises `CycleError` for dependencies that need each other, `InvalidOption` for one that cannot work.
    """
    return _Writer(function, declarations, given, overrides or {}).write()


class _Writer:
    def __init__(self, function: Callable[..., Any], declarations: Declarations | None, given: AbstractSet[str], overrides: Overrides) -> None:
        self._function = function
        self._declarations = declarations
        """None while writing for a `Shared`, which has no run and so no behaviours and arguments."""
        self._given = given
        self._overrides = overrides
        self._steps: list[Step] = []
        self._known: dict[Hashable, int] = {}
        self._path: dict[Hashable, str] = {}
        self._asks_for_arguments = False

    def write(self) -> Recipe:
        read = parameters_of(self._function)
        declarations = self._declarations
        assert declarations is not None
        besides: list[tuple[str, int]] = []
        for position in range(declarations.decorators):
            besides += self._entered(declarations, position)
        besides += [(repr(source), self._place(source, "")) for source in declarations.around]
        for name, actors in read.acting.items():
            entered = [actor for actor in actors if not isinstance(actor, Limit)]  # a limit is passed before anything is entered
            self._asks_for_arguments = self._asks_for_arguments or bool(entered)
            besides += [(name, self._add(Act(actor, name))) for actor in entered]
        targets = [(name, self._place(source, name)) for name, source in read.giving.items() if name not in self._given]
        for position in range(declarations.decorators, len(declarations.templates)):
            besides += self._entered(declarations, position)  # also those whose parameter the caller fills
        return Recipe(tuple(self._steps), tuple(targets), tuple(besides), self._asks_for_arguments)

    def write_shared(self, shared: SharedOn, path: Mapping[Hashable, str]) -> Recipe:
        self._path.update(path)
        self._call(shared.function, {}, repr(shared))
        return Recipe(tuple(self._steps))

    def _entered(self, declarations: Declarations, position: int) -> list[tuple[str, int]]:
        """This enters a behaviour that does something on entering or leaving, though no parameter may ask for it."""
        kind = type(declarations.templates[position])
        return [(f"@{kind.__name__}", self._behave(declarations, position))] if is_entered(kind) else []

    def _place(self, source: Dependency, parameter: str) -> int:
        """This finds or adds the step that gives what stands at a parameter."""
        if isinstance(source, DependsOn):
            return self._place_call(source, parameter)
        if isinstance(source, SharedOn):
            return self._share(source)
        if isinstance(source, Injected):
            return self._give(source.at(parameter))
        if self._declarations is not None and (position := self._declarations.position_of(source)) is not None:
            return self._behave(self._declarations, position)
        if source.single:
            raise InvalidOption(f"{source!r} at parameter {parameter!r} belongs to a run, and a Shared or an override has none to give it to")
        return self._once(("enter", id(source)), lambda: Enter(source))

    def _place_call(self, source: DependsOn, parameter: str) -> int:
        kind = source.function
        if isinstance(kind, type) and issubclass(kind, Injected):
            return self._give(kind(**source.bindings).at(parameter))
        behaviour = behaviour_class(source)
        if behaviour is None:
            return self._call(source.function, source.bindings, repr(source))
        if self._declarations is not None and (position := self._declarations.position_for(behaviour, source.bindings)) is not None:
            return self._behave(self._declarations, position)
        if behaviour.single:
            raise InvalidOption(f"{source!r} at parameter {parameter!r} belongs to a run, and a Shared or an override has none to give it to")
        return self._once(("enter", identity_of(behaviour, source.bindings)), lambda: Enter(behaviour(**source.bindings)))

    def _behave(self, declarations: Declarations, position: int) -> int:
        return self._once(("behave", position), lambda: Behave(position, is_entered(type(declarations.templates[position]))))

    def _give(self, source: Injected) -> int:
        if self._declarations is None and not source.per_worker:
            raise InvalidOption(f"{type(source).__name__} belongs to one run, and a Shared outlives runs")
        identity = ("give", source.identity())
        if isinstance(source, Argument):
            self._asks_for_arguments = True
            if (sibling := self._sibling(source)) is not None:
                with self._descending(identity, f"CallArgument({source.parameter!r})"):
                    return self._place(*sibling)
        return self._once(identity, lambda: Give(source))

    def _sibling(self, source: Argument) -> tuple[Dependency, str] | None:
        """This finds the task's own dependency that an argument of the whole call stands for, and its parameter."""
        name = source.parameter
        if not source.siblings or name is None or name in self._given:
            return None
        sibling = parameters_of(self._function).giving.get(name)
        if sibling is None or (isinstance(sibling, Argument) and sibling.at(name).parameter == name):
            return None
        return sibling, name

    def _share(self, source: SharedOn) -> int:
        function = self._overridden(source.function)
        identity = ("shared", identity_of(function, {}))
        with self._descending(identity, repr(source)):
            writer = _Writer(self._function, None, self._given, self._overrides)
            return self._once(identity, lambda: SharedStep(identity, writer.write_shared(SharedOn(function), self._path)))

    def _call(self, function: Callable[..., Any], bindings: Mapping[str, Any], shown: str) -> int:
        function = self._overridden(function)
        identity = ("call", identity_of(function, bindings))
        if identity in self._known:
            return self._known[identity]
        with self._descending(identity, shown):
            read = parameters_of(function)
            if unbound := [name for name in read.required if name not in bindings]:
                raise InvalidOption(
                    f"{shown} in {describe(self._function)!r} needs {', '.join(map(repr, unbound))}, which nothing gives: bind it, "
                    f"as in Depends({describe(function)}, {unbound[0]}=...), or give the parameter a default such as TaskArgument()"
                )
            sources = {name: source for name, source in read.giving.items() if name not in bindings}
            sources.update({name: value for name, value in bindings.items() if isinstance(value, Dependency)})
            constants = {name: value for name, value in bindings.items() if name not in sources}
            placed = tuple((name, self._place(source, name)) for name, source in sources.items())
            return self._once(identity, lambda: step_for_call(function, constants, placed))

    def _overridden(self, function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return self._overrides.get(function, function)
        except TypeError:  # not hashable, so it cannot have been overridden
            return function

    @contextmanager
    def _descending(self, identity: Hashable, shown: str) -> Generator[None]:
        if identity in self._path:
            circle = [*self._path.values()][[*self._path].index(identity) :]
            raise CycleError(f"{describe(self._function)!r} has dependencies that need each other: {' -> '.join([*circle, shown])}")
        self._path[identity] = shown
        try:
            yield
        finally:
            del self._path[identity]

    def _once(self, identity: Hashable, make: Callable[[], Step]) -> int:
        if identity not in self._known:
            self._known[identity] = self._add(make())
        return self._known[identity]

    def _add(self, step: Step) -> int:
        self._steps.append(step)
        return len(self._steps) - 1
