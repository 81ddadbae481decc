"""The behaviours of a task, collected from its decorators, its signature and what that depends on, and checked for two of a kind."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from docket.dependencies._base import Dependency, Injected
from docket.dependencies._depends import DependsOn, identity_of
from docket.dependencies._parameters import describe, parameters_of
from docket.dependencies._shared import SharedOn
from docket.errors import InvalidOption

__all__ = ["Declarations", "behaviour_class"]


def behaviour_class(source: DependsOn) -> type[Dependency] | None:
    """This gives the class in `Depends(Retry, ...)`, or None when it depends on something else than a behaviour known beforehand.

    A class of many (not `single`) whose construction waits for other dependencies is called in the run, like any other class.
    """
    kind = source.function
    if not (isinstance(kind, type) and issubclass(kind, Dependency)) or issubclass(kind, Injected):
        return None
    if any(isinstance(value, Dependency) for value in source.bindings.values()) or parameters_of(kind).giving:
        if kind.single:
            raise InvalidOption(f"{source!r}: a {kind.__name__} must be known when the task is registered, so its arguments cannot be dependencies")
        return None
    return kind


class Declarations:
    """This holds the templates of one task's behaviours, each with the place it was declared at."""

    def __init__(self, function: Callable[..., Any], name: str, decorators: Sequence[Dependency]) -> None:
        self.templates: list[Dependency] = []
        self.around: list[Dependency] = []
        """What a worker puts around its tasks and that only gives values: a `Depends`, for what it opens and closes."""
        self._places: list[str] = []
        self._positions: dict[Hashable, int] = {}
        self._requests: list[tuple[DependsOn, type[Dependency], str, bool]] = []
        self._seen: set[Hashable] = set()
        self._acting: list[tuple[Dependency, str]] = []
        self._name = name
        for decorator in decorators:
            self._note(decorator, f"decorator @{type(decorator).__name__}", top=True)
            if decorator.fills_parameter:
                self.around.append(decorator)
        self.decorators = len(self.templates)
        self._walk(function, {}, top=True)
        for source, kind, place, top in self._requests:
            self._answer(source, kind, place, top=top)
        self._refuse_two_of_a_kind()

    def position_of(self, template: Dependency) -> int | None:
        """This finds a template among the declared ones."""
        return self._positions.get(id(template))

    def position_for(self, kind: type[Dependency], bindings: Mapping[str, Any]) -> int | None:
        """This finds what `Depends(kind, **bindings)` stands for. Without bindings: the task's only one, else a decorator's, else one made for such requests."""
        if not bindings:
            for position, template in enumerate(self.templates):
                if isinstance(template, kind) and (kind.single or position < self.decorators):
                    return position
        return self._positions.get(identity_of(kind, bindings))

    def position_of_class(self, kind: type[Dependency]) -> int | None:
        """This finds the first template of a class."""
        return next((position for position, template in enumerate(self.templates) if isinstance(template, kind)), None)

    def _walk(self, function: Callable[..., Any], bindings: Mapping[str, Any], *, top: bool = False) -> None:
        read = parameters_of(function)
        sources = {name: source for name, source in read.giving.items() if name not in bindings}
        sources.update({name: value for name, value in bindings.items() if isinstance(value, Dependency)})
        for name, source in sources.items():
            self._note(source, f"parameter {name!r}" if top else f"parameter {name!r} of {describe(function)}", top=top)
        if top:
            self._acting = [(actor, f"annotation of {name!r}") for name, actors in read.acting.items() for actor in actors]

    def _note(self, source: Dependency, place: str, *, top: bool) -> None:
        if isinstance(source, (Injected, SharedOn)):
            return
        if not isinstance(source, DependsOn):
            self._declare(id(source), source, place)
            return
        kind = behaviour_class(source)
        identity = identity_of(source.function, source.bindings)
        if kind is None:
            if identity not in self._seen:
                self._seen.add(identity)
                self._walk(source.function, source.bindings)
        elif source.bindings:
            self._declare(identity, kind(**source.bindings), place)
        else:
            self._requests.append((source, kind, place, top))

    def _declare(self, identity: Hashable, template: Dependency, place: str) -> None:
        if identity not in self._positions:
            self._positions[identity] = len(self.templates)
            self.templates.append(template)
            self._places.append(place)

    def _answer(self, source: DependsOn, kind: type[Dependency], place: str, *, top: bool) -> None:
        if self.position_for(kind, {}) is not None:
            return
        if kind.single and not top:
            raise InvalidOption(f"{self._name!r}: {place} asks for the task's own {kind.__name__}, and the task declares none")
        if needed := parameters_of(kind).required:
            raise InvalidOption(
                f"{self._name!r}: {place} is {source!r}, and the task declares no {kind.__name__} that it could be given; "
                f"declare one, or write Depends({kind.__name__}, {needed[0]}=...)"
            )
        self._declare(identity_of(kind, {}), kind(), place)

    def _refuse_two_of_a_kind(self) -> None:
        holders: dict[type, tuple[Dependency, str]] = {}
        for template, place in [*zip(self.templates, self._places, strict=True), *self._acting]:
            for kind in _single_kinds(type(template)):
                if kind in holders:
                    first, first_place = holders[kind]
                    raise InvalidOption(
                        f"Only one {kind.__name__} dependency is allowed per task, and {self._name!r} has two: "
                        f"{type(first).__name__} ({first_place}) and {type(template).__name__} ({place})"
                    )
                holders[kind] = (template, place)


def _single_kinds(kind: type[Dependency]) -> list[type]:
    return [base for base in kind.__mro__ if vars(base).get("single", False)] if kind.single else []
