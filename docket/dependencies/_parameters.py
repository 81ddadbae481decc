"""Which parameters of a function are dependencies, read from its signature once.

Annotations that cannot be evaluated here (imported under TYPE_CHECKING only) hide nothing of ours and are passed over.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from docket._signatures import get_signature
from docket.annotations import metadata_of
from docket.dependencies._base import Dependency

__all__ = ["Parameters", "dependency_parameters", "describe", "parameters_of"]


@dataclass(frozen=True)
class Parameters:
    """This is what one function's signature says of dependencies."""

    signature: inspect.Signature
    giving: Mapping[str, Dependency]
    """By parameter, in order: what gives its value, from its default or its `Annotated` metadata."""
    acting: Mapping[str, tuple[Dependency, ...]]
    """By parameter: what acts for its argument, from its `Annotated` metadata."""

    @property
    def required(self) -> list[str]:
        """These parameters somebody must fill."""
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return [
            name
            for name, parameter in self.signature.parameters.items()
            if parameter.default is parameter.empty and parameter.kind not in variadic and name not in self.giving
        ]

    @classmethod
    def read(cls, function: Callable[..., Any]) -> Parameters:
        """This reads a callable's signature."""
        try:
            signature = get_signature(function)
        except (TypeError, ValueError):  # some built-in callables tell nothing of theirs
            return cls(inspect.Signature(), {}, {})
        giving: dict[str, Dependency] = {}
        acting: dict[str, tuple[Dependency, ...]] = {}
        for name, parameter in signature.parameters.items():
            annotated = [entry for entry in metadata_of(parameter.annotation) if isinstance(entry, Dependency)]
            for entry in annotated:
                if entry.fills_parameter:
                    giving[name] = entry
            if isinstance(parameter.default, Dependency):
                giving[name] = parameter.default
            if actors := tuple(entry for entry in annotated if not entry.fills_parameter):
                acting[name] = actors
        return cls(signature, giving, acting)


_known: weakref.WeakKeyDictionary[Callable[..., Any], Parameters] = weakref.WeakKeyDictionary()


def parameters_of(function: Callable[..., Any]) -> Parameters:
    """This reads a callable's signature; a plain function's once."""
    if not inspect.isfunction(function):
        return Parameters.read(function)
    known = _known.get(function)
    if known is None:
        known = _known[function] = Parameters.read(function)
    return known


def dependency_parameters(function: Callable[..., Any]) -> Mapping[str, Dependency]:
    """This gives the parameters of a function that a worker fills, with what fills them. Cheap to repeat for a plain function."""
    return parameters_of(function).giving


def describe(function: Callable[..., Any]) -> str:
    """This names a callable as a reader would."""
    return getattr(function, "__qualname__", None) or repr(function)
