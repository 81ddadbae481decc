"""What a codec is and how it refuses, in which words; and the codecs of what no annotation speaks for and of what JSON cannot carry."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, get_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Codec", "Mismatch", "Nothing", "Plain", "Unsupported", "brief", "listed", "shown", "within"]

_PLAIN_TYPES = "str, int, float, bool, None, list, dict with str keys"


class Mismatch(Exception):
    """This value is not of the annotation it stands under. `path` leads to it, from the innermost outwards."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.path: list[str] = []

    def __str__(self) -> str:
        return f"at {''.join(reversed(self.path)).lstrip('.')}: {self.args[0]}" if self.path else str(self.args[0])


class Unsupported(Mismatch):
    """This annotation asks for something that JSON cannot carry."""


class Codec(ABC):
    """This writes the values of one annotation as JSON, and reads them back."""

    kind: type | None = None
    """The class whose own values it is for: in a union, these go to it first."""
    breadth = 0
    """How much of JSON it takes for its own: in a union, the narrower is asked first."""
    is_text = False
    """Whether it always writes a string, which can be the key of an object."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation

    @abstractmethod
    def encode(self, value: Any, /) -> Any:
        """This gives what the JSON encoder takes. Raises `Mismatch`."""

    @abstractmethod
    def decode(self, written: Any, /) -> Any:
        """This gives the value back. Raises `Mismatch`."""

    def refuse(self, value: Any) -> Mismatch:
        """This is the error for a value that is not of the annotation."""
        return Mismatch(f"{_a(value)} is not {shown(self.annotation)}")


class Plain(Codec):
    """What nothing is said about: JSON as it is."""

    breadth = 11

    def __init__(self, annotation: Any = None, because: str = "it has no annotation") -> None:
        super().__init__(annotation)
        self._because = because

    def encode(self, value: Any, /) -> Any:
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - of anything
        if kind is str or kind is bool or kind is int or value is None:
            return value
        if kind is float:
            if math.isfinite(value):
                return value
            raise Unsupported(f"JSON has no {value}, and {self._because} to say that it is a float")
        if kind is list:
            for index, item in enumerate(value):
                within(f"[{index}]", self.encode, item)
            return value
        if kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    raise Unsupported(f"{_a(key)} is the key of a dict, and {self._because}, so only str can be")
                within(f"[{key!r}]", self.encode, item)
            return value
        raise Unsupported(f"{_a(value)} is no plain JSON ({_PLAIN_TYPES}), and {self._because} to read it by")

    def decode(self, written: Any, /) -> Any:
        return written


class Nothing(Codec):
    """The codec of a class that JSON says nothing about: it takes nothing."""

    breadth = 12

    def encode(self, value: Any, /) -> Any:
        raise Unsupported(f"JSON cannot carry {shown(self.annotation)}")

    def decode(self, written: Any, /) -> Any:
        raise Unsupported(f"JSON cannot carry {shown(self.annotation)}")


# Words


def shown(annotation: Any) -> str:
    """This prints an annotation for a message."""
    if isinstance(annotation, str):
        return repr(annotation)
    if annotation is type(None):
        return "None"
    return annotation.__qualname__ if isinstance(annotation, type) and get_origin(annotation) is None else str(annotation).replace("typing.", "")


def _a(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__qualname__}"


def brief(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's `__repr__`
        return f"<{type(value).__qualname__}>"
    return text if len(text) <= 60 else text[:57] + "..."


def listed(names: Iterable[Any]) -> str:
    return ", ".join(sorted(map(brief, names))[:5])


def within(step: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except Mismatch as exc:
        exc.path.append(step)
        raise
