"""Plain values as tagged JSON, for the wire, and as text, for the command line.

Never a pickle: reading what another process wrote imports nothing. A member of an Enum therefore travels by name, and comes back
as an `EnumMember`. Only `parse_literal` imports, because whoever types `module.Class:text` asks for that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from enum import Enum, EnumMeta
from importlib.util import find_spec
from typing import Any, cast
from uuid import UUID

from docket._loading import did_you_mean, load
from docket._moments import read_moment
from docket._options import parse_duration
from docket.errors import InvalidOption, LoadError, PayloadError

__all__ = ["LITERALS", "EnumMember", "dumps_literal", "from_tagged", "loads_literal", "parse_literal", "parse_pair", "path_of", "plain_of", "to_tagged"]

LITERALS = "an int, float, Decimal, str, bool, None, date, datetime, time, timedelta, UUID or a member of an Enum"
"""What can be a literal, for messages."""

_MICROSECOND = timedelta(microseconds=1)


def path_of(kind: type) -> str:
    """This names a class in full: its module and its qualified name."""
    return f"{kind.__module__}.{kind.__qualname__}"


def plain_of(member: Enum) -> int | float | str | None:
    """This gives the plain value of a member that is also an int, a float or a str; None for any other."""
    # By the methods of the built-in classes: the Enum may have others of its own
    if isinstance(member, int):
        return int.__int__(member)
    if isinstance(member, float):
        return float.__float__(member)
    return str.__str__(member) if isinstance(member, str) else None


def _shown(kind: type) -> str:
    return path_of(kind).removeprefix("builtins.")


@dataclass(frozen=True, slots=True)
class EnumMember:
    """This names a member of an Enum, whose class need not be there."""

    path: str
    """The class, by module and qualified name."""
    name: str
    """The member's name."""
    plain: int | float | str | None = None
    """The member's plain value, where it is also an int, a float or a str."""

    def __repr__(self) -> str:
        return f"{self.path}.{self.name}"

    @classmethod
    def of(cls, member: Enum) -> EnumMember:
        """This names a member. Raises `InvalidOption` for a combination of flags that has no name."""
        name = cast("str | None", member.name)  # which Python 3.10 does not give to a combination of flags
        if name is None:  # pragma: no cover - Python 3.10 only
            raise InvalidOption(f"{member!r} has no name of its own to travel by; give its plain value, {member.value!r}")
        return cls(path_of(type(member)), name, plain_of(member))

    def is_of(self, value: object) -> bool:
        """This says whether a value is a member of the same class, by its name."""
        return isinstance(value, Enum) and path_of(type(value)) == self.path

    def names(self, value: object) -> bool:
        """This says whether a value is this very member."""
        return self.is_of(value) and cast("Enum", value).name == self.name


# To JSON and back


def _exactly(kind: type) -> Callable[[Any], Any]:
    """Takes what JSON gave, if it is of that class and no other."""

    def take(found: object) -> object:
        if type(found) is not kind:
            raise TypeError(f"found a {type(found).__name__}")
        return found

    return take


_text = _exactly(str)


def _as_text(reader: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Takes what JSON gave, if it is a string that the reader can read."""
    return lambda found: reader(_text(found))


def _not_nan(value: Any) -> Any:
    if math.isnan(value) if type(value) is float else value.is_nan():
        raise InvalidOption(f"{value!r} is equal to nothing, so nothing can be compared with it")
    return value


def _float(text: str) -> float:
    return _not_nan(float(text))


def _decimal(text: str) -> Decimal:
    return _not_nan(Decimal(text))


def _utc(moment: datetime) -> str:
    """The same moment is to be the same text, whatever the zone it was given in."""
    return (moment.replace(tzinfo=None) if moment.utcoffset() is None else moment.astimezone(timezone.utc)).isoformat()


# From text


_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _truth(written: str) -> bool:
    return _TRUTHS[written.lower()]


def _nothing(written: str) -> None:
    if written:
        raise ValueError(written)


def _duration(written: str) -> timedelta:
    return -parse_duration(written[1:]) if written[:1] == "-" else parse_duration(written)


@dataclass(frozen=True, slots=True)
class _Kind:
    """This is one class of literals: its name, and its ways to and from JSON and from text."""

    tag: str
    of: type
    to_json: Callable[[Any], Any]
    from_json: Callable[[Any], Any]
    from_text: Callable[[str], Any]
    example: str


def _same(value: Any) -> Any:
    return value


_KINDS = (
    _Kind("none", type(None), _same, _exactly(type(None)), _nothing, "none:"),
    _Kind("bool", bool, _same, _exactly(bool), _truth, "bool:true"),
    _Kind("int", int, _same, _exactly(int), int, "int:5"),
    _Kind("float", float, lambda value: repr(_not_nan(value)), _as_text(_float), _float, "float:0.5"),
    _Kind("str", str, _same, _text, str, "str:five"),
    _Kind("decimal", Decimal, lambda value: str(_not_nan(value)), _as_text(_decimal), _decimal, "decimal:9.99"),
    _Kind("datetime", datetime, _utc, _as_text(read_moment), read_moment, "datetime:2030-01-31T12:00:00Z"),
    _Kind("date", date, date.isoformat, _as_text(date.fromisoformat), date.fromisoformat, "date:2030-01-31"),
    _Kind("time", time, time.isoformat, _as_text(time.fromisoformat), time.fromisoformat, "time:12:00"),
    _Kind("timedelta", timedelta, lambda value: value // _MICROSECOND, lambda found: _exactly(int)(found) * _MICROSECOND, _duration, "timedelta:90s"),
    _Kind("uuid", UUID, str, _as_text(UUID), UUID, "uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
)
_BY_TAG = {kind.tag: kind for kind in _KINDS}
_BY_CLASS = {kind.of: kind for kind in _KINDS}
_BY_NAME = {**_BY_TAG, "duration": _BY_TAG["timedelta"], **{path_of(kind.of): kind for kind in _KINDS}}
_ENUM = "enum"


def to_tagged(value: object) -> object:
    """This gives a literal as JSON can hold it: `{"int": 5}`; a pair of them is a list of two. Raises `InvalidOption` for any other class, by name."""
    if type(value) is tuple:
        pair = cast("tuple[object, ...]", value)
        if len(pair) != 2:
            raise InvalidOption(f"{value!r} has {len(pair)} values; give a pair: the lowest and the highest")
        return [_to_tagged(each) for each in pair]
    return _to_tagged(value)


def _to_tagged(value: object) -> object:
    if isinstance(value, Enum):
        value = EnumMember.of(value)
    if isinstance(value, EnumMember):
        return {_ENUM: [value.path, value.name, *([] if value.plain is None else [_to_tagged(value.plain)])]}
    kind = _BY_CLASS.get(type(value))
    if kind is None:
        raise InvalidOption(f"a {_shown(type(value))} cannot be compared with across processes; give {LITERALS}")
    try:
        return {kind.tag: kind.to_json(value)}
    except InvalidOption:
        raise
    except Exception as exc:  # a user's time zone may raise anything, and the first and the last day have no moment in UTC
        raise InvalidOption(f"this {kind.tag} cannot be written: {exc}") from exc


def from_tagged(found: object) -> Any:
    """This gives back what `to_tagged` was given, members of an Enum by name. Raises `PayloadError`, whatever was found."""
    if isinstance(found, list):
        low, high = _sized(cast("list[object]", found), 2)
        return _from_tagged(low), _from_tagged(high)
    return _from_tagged(found)


def _from_tagged(found: object) -> Any:
    if not isinstance(found, dict) or len(cast("dict[str, Any]", found)) != 1:
        raise PayloadError("a literal should be an object with one name")
    [(tag, written)] = cast("dict[str, Any]", found).items()
    if tag == _ENUM:
        return _from_names(written)
    kind = _BY_TAG.get(tag)
    if kind is None:
        raise PayloadError(f"a literal is of the kind {tag!r}, which this version of docket does not know")
    try:
        return kind.from_json(written)
    except Exception as exc:  # the classes' own ways to say that a text is none of theirs are many
        raise PayloadError(f"a literal is no {tag}: {exc}") from exc


def _from_names(written: object) -> EnumMember:
    path, name, *plain = _sized(written, 2, 3)
    if not isinstance(path, str) or not isinstance(name, str):
        raise PayloadError("a member of an Enum should be named by two strings")
    value: object = _from_tagged(plain[0]) if plain else None
    if value is not None and type(value) not in {int, float, str}:
        raise PayloadError(f"a member of an Enum cannot also be a {type(value).__name__}")
    return EnumMember(path, name, cast("Any", value))


def _sized(found: object, *sizes: int) -> list[object]:
    if not isinstance(found, list) or len(cast("list[object]", found)) not in sizes:
        raise PayloadError(f"a literal should be a list of {' or '.join(map(str, sizes))}")
    return cast("list[object]", found)


def dumps_literal(value: object) -> str:
    """This gives a literal, or a pair of them, as JSON: the same text for the same value. Raises `InvalidOption` for any other class, by name."""
    tagged = to_tagged(value)
    try:
        return json.dumps(tagged, sort_keys=True, separators=(",", ":"))
    except ValueError as exc:  # Python writes whole numbers of up to 4,300 digits
        raise InvalidOption(f"this value cannot be written: {exc}") from exc


def loads_literal(text: str | bytes) -> Any:
    """This gives back what `dumps_literal` was given. Raises `PayloadError`, whatever the text is."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise PayloadError(f"a literal cannot be decoded: {exc}") from exc
    return from_tagged(found)


# What is typed


def parse_literal(text: str) -> Any:
    """This reads `type:literal` as it is typed on a command line: `int:5`, `bool:true`, `date:2030-01-31`, `timedelta:90s`, `my.module.Class:MEMBER`.

    A text without a known type is a string; `str:` makes a string of any. Raises `InvalidOption`.
    """
    name, colon, written = text.partition(":")
    if not colon:
        return text
    kind = _BY_NAME.get(name)
    if kind is not None:
        return _read(kind, written, text)
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return _read_named(name, written, text)
    return text


def parse_pair(text: str) -> tuple[Any, Any]:
    """This reads two literals with two dots between them: `int:1..int:5`. The second is of the first one's type unless it says its own: `int:1..5`.

    Raises `InvalidOption`.
    """
    first, dots, second = text.partition("..")
    if not dots or not first or not second:
        raise InvalidOption(f"{text!r} is not a range; write the lowest and the highest with two dots between them, such as int:1..5")
    name, colon, _ = first.partition(":")
    is_typed = bool(colon) and (name in _BY_NAME or "." in name)
    other, has_type, _ = second.partition(":")
    if is_typed and not (has_type and (other in _BY_NAME or "." in other)):
        second = f"{name}:{second}"
    return parse_literal(first), parse_literal(second)


def _read(kind: _Kind, written: str, text: str) -> Any:
    try:
        return kind.from_text(written)
    except InvalidOption as exc:
        raise InvalidOption(f"{text!r} cannot be read: {exc}") from exc
    except (ValueError, KeyError, TypeError, OverflowError, InvalidOperation) as exc:
        article = "an" if kind.tag == "int" else "a"
        raise InvalidOption(f"{text!r} asks for {article} {kind.tag}, and {written!r} is none; write {kind.example}, or str:{text} for a string") from exc


def _read_named(path: str, written: str, text: str) -> Any:
    found = _class_at(path, text)
    if isinstance(found, EnumMeta):
        return _member(found, written, text)
    kind = _BY_CLASS.get(found) if isinstance(found, type) else None
    if kind is not None:
        return _read(kind, written, text)
    raise InvalidOption(f"{text!r} asks for a {path}, which cannot be compared with across processes; give {LITERALS}, or str:{text} for a string")


def _class_at(path: str, text: str) -> object:
    parts = path.split(".")
    module = next((parts[:size] for size in range(len(parts) - 1, 0, -1) if _is_there(".".join(parts[:size]))), parts[:-1])
    try:
        return load(f"{'.'.join(module)}:{'.'.join(parts[len(module) :])}")
    except LoadError as exc:
        raise InvalidOption(f"{text!r} names a class that cannot be had: {exc}; write str:{text} for a string") from exc


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
    except Exception:  # noqa: BLE001 - looking imports what is around it, which is a user's; loading it then says what is wrong
        return True


def _member(kind: EnumMeta, written: str, text: str) -> Enum:
    members: dict[str, Any] = dict(kind.__members__)
    if written in members:
        return members[written]
    for member in members.values():
        if str(member.value) == written:
            return member
    known = did_you_mean(written, members) or f"; it has {', '.join(members)}"
    raise InvalidOption(f"{text!r} asks for a member {written!r} of {path_of(kind)}, which has none of that name or value{known}")
