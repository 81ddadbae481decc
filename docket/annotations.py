"""What a parameter's `Annotated[...]` metadata tells docket: the base of all such annotations, and `Logged`.

Reading the metadata of a whole signature is done here; when to read it, and what to do with it, is the caller's business.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from typing_extensions import Self

__all__ = ["Annotation", "Logged", "metadata_of"]


def metadata_of(annotation: Any) -> tuple[Any, ...]:
    """This gives the metadata of `Annotated[T, ...]`, in order; nothing for any other annotation."""
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


class Annotation:
    """This is the base of what may stand in `Annotated[T, ...]` to tell docket something about one parameter."""

    @classmethod
    def annotated_parameters(cls, signature: inspect.Signature) -> Mapping[str, Self]:
        """This finds the parameters annotated with this class, or with an instance of it: the instances by parameter name.

        A class named without being called stands for an instance made without arguments; of several, the first counts.
        """
        found: dict[str, Self] = {}
        for name, parameter in signature.parameters.items():
            for instance in cls._among(metadata_of(parameter.annotation)):
                found.setdefault(name, instance)
        return found

    @classmethod
    def _among(cls, metadata: tuple[Any, ...]) -> Iterator[Self]:
        for item in metadata:
            if isinstance(item, cls):
                yield item
            elif isinstance(item, type) and issubclass(item, cls):
                yield item()


class Logged(Annotation):
    """This lets the value of a parameter appear in log lines: `customer_id: Annotated[int, Logged]`.

    With `length_only=True` a list, dict or set shows only how many things it holds: `[len 3]`, `{len 3}`.
    """

    def __init__(self, length_only: bool = False) -> None:
        self.length_only = length_only

    def __repr__(self) -> str:
        return f"Logged(length_only={self.length_only})"

    def format(self, argument: Any) -> str:
        """This gives the argument as a log line shows it."""
        if not self.length_only:
            return repr(argument)
        if isinstance(argument, (dict, set, frozenset)):
            return f"{{len {len(argument)}}}"  # pyright: ignore[reportUnknownArgumentType] - a user's value
        if isinstance(argument, tuple):
            return f"(len {len(argument)})"  # pyright: ignore[reportUnknownArgumentType] - a user's value
        if hasattr(argument, "__len__"):
            return f"[len {len(argument)}]"
        return repr(argument)
