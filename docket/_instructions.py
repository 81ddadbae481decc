"""What a strike says: which calls of which tasks are not to run. Plain values, and how they are written on the wire."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from typing_extensions import Self

from docket._literals import EnumMember, from_tagged, to_tagged
from docket.errors import InvalidOption, PayloadError

__all__ = ["LONGEST", "LiteralOperator", "Operator", "Restore", "Strike", "StrikeInstruction"]

LiteralOperator = Literal["==", "!=", ">", ">=", "<", "<=", "between"]
"""How an `Operator` may be written."""

LONGEST = 4096
"""Bytes that one instruction may take: every process of a docket holds all of them."""


class Operator(str, enum.Enum):
    """This says how what a call passes is compared with the value of a strike."""

    EQUAL = "=="
    NOT_EQUAL = "!="
    GREATER_THAN = ">"
    GREATER_THAN_OR_EQUAL = ">="
    LESS_THAN = "<"
    LESS_THAN_OR_EQUAL = "<="
    BETWEEN = "between"

    def __str__(self) -> str:
        return self.value


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_FIELDS = {"function", "operator", "parameter", "value"}
_EQUALITY = frozenset({Operator.EQUAL, Operator.NOT_EQUAL})


@dataclass(frozen=True, eq=False)
class StrikeInstruction:
    """This names calls: of one function or of all (None), and with a parameter those alone whose argument compares so with the value.

    The value is a number, str, bool, None, date, time, duration, UUID, Decimal or member of an Enum, which is held by name
    (`EnumMember`); for `between` a pair of them, both included. Raises `InvalidOption` for any other class, by name.
    Two instructions are equal that are of one kind and say the same.
    """

    function: str | None = None
    """The name of the task; None: all."""
    parameter: str | None = None
    """The parameter whose argument is compared; None: every call is meant."""
    operator: Operator = Operator.EQUAL
    """How it is compared with `value`."""
    value: object = None
    """What it is compared with."""
    direction: ClassVar[Literal["", "strike", "restore"]] = ""
    """What is to be done with it: `strike` or `restore`."""

    def __post_init__(self) -> None:
        _check_name("function", self.function)
        _check_name("parameter", self.parameter)
        operator, value = _operator(self.operator), self.value
        if isinstance(value, list):  # as a configuration file would have a pair
            value = tuple(cast("list[object]", value))
        if self.parameter is None and (value is not None or operator is not Operator.EQUAL):
            raise InvalidOption(f"what is to be {operator} {value!r}? Name the parameter, or leave operator and value out for every call")
        tagged = to_tagged(value)
        if self.parameter is not None:
            _check_operand(operator, value)
        object.__setattr__(self, "operator", operator)
        object.__setattr__(self, "value", from_tagged(tagged))
        object.__setattr__(self, "_field", self._written(tagged))

    def _written(self, tagged: object) -> bytes:
        said = {"function": self.function, "parameter": self.parameter, "operator": self.operator.value, "value": tagged}
        try:
            written = _encoder.encode(said).encode()
        except ValueError as exc:  # Python writes whole numbers of up to 4,300 digits
            raise InvalidOption(f"this instruction cannot be written: {exc}") from exc
        if len(written) > LONGEST:
            raise InvalidOption(f"this instruction takes {len(written)} bytes, and may take {LONGEST}; give a shorter value")
        return written

    @property
    def field(self) -> bytes:
        """This is the instruction as it is written on the wire: the same for the same instruction, whoever gives it."""
        return cast("bytes", getattr(self, "_field"))  # noqa: B009 - set behind the back of a frozen class

    @classmethod
    def read(cls, field: bytes) -> Self:
        """This gives back the instruction of a field. Raises `PayloadError`, whatever the bytes are: a newer version may have written them."""
        try:
            said = cast("dict[str, Any]", json.loads(field))
            if type(said) is not dict or set(said) != _FIELDS:
                raise PayloadError("it should be an object of function, operator, parameter and value")
            return cls(said["function"], said["parameter"], said["operator"], from_tagged(said["value"]))
        except (ValueError, RecursionError) as exc:
            raise PayloadError(f"an instruction cannot be decoded: {exc}") from exc

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and cast("StrikeInstruction", other).field == self.field

    def __hash__(self) -> int:
        return hash((self.direction, self.field))

    def call_repr(self) -> str:
        """This prints the calls that are meant: `send(customer == 5)`; `*` for all functions, or for every call."""
        meant = "*" if self.parameter is None else f"{self.parameter} {self.operator} {self.value!r}"
        return f"{self.function or '*'}({meant})"

    def labels(self) -> dict[str, str]:
        """This gives what spans and log lines carry of it."""
        labels = {} if self.function is None else {"docket.task": self.function}
        if self.parameter is None:
            return labels
        return {**labels, "docket.parameter": self.parameter, "docket.operator": self.operator.value, "docket.value": repr(self.value)}


class Strike(StrikeInstruction):
    """This has the calls that it names not run."""

    direction = "strike"


class Restore(StrikeInstruction):
    """This takes back the strike that names the same calls."""

    direction = "restore"


def _check_name(what: str, name: object) -> None:
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidOption(f"{what} is {name!r}; give its name, or None for {'all functions' if what == 'function' else 'every call'}")


def _operator(operator: object) -> Operator:
    try:
        return Operator(operator)
    except ValueError as exc:
        raise InvalidOption(f"operator is {operator!r}; give one of {', '.join(each.value for each in Operator)}") from exc


def _check_operand(operator: Operator, value: object) -> None:
    """What nothing can be compared with would be struck never, and nobody would know."""
    if isinstance(value, tuple) is not (operator is Operator.BETWEEN):
        raise InvalidOption(
            f"{operator} takes a pair, the lowest and the highest, and the value is {value!r}"
            if operator is Operator.BETWEEN
            else f"{operator} takes one value, and a pair was given; between takes one"
        )
    if operator in _EQUALITY:
        return
    low, high = cast("tuple[Any, Any]", value) if isinstance(value, tuple) else (value, value)
    try:
        is_empty = _plain(low) > _plain(high)
    except TypeError as exc:
        raise InvalidOption(f"{operator} asks for an order, and there is none here: {exc}") from exc
    if is_empty:
        raise InvalidOption(f"nothing is between {low!r} and {high!r}; give the lowest first")


def _plain(value: Any) -> Any:
    if isinstance(value, EnumMember):
        return value.plain
    if isinstance(value, enum.Enum):
        return EnumMember.of(value).plain
    return value
