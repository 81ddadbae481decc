"""Python values as JSON, and back: by annotation, so that what arrives is of the class that the task asked for.

What no annotation speaks for is written as plain JSON. A value that would arrive as something else is refused before it leaves:
`Mismatch` says that a value is not of its annotation, `Unsupported` that JSON cannot carry what the annotation asks for.
"""

from __future__ import annotations

import base64
import binascii
import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import json
import math
import pathlib
import re
import sys
import types
import typing
import uuid
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import typing_extensions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["Codec", "Mismatch", "Plain", "Unsupported", "codec_of", "from_text", "shown", "to_text"]

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
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


# Text


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is more than a float can be")
    return number


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def to_text(written: Any) -> bytes:
    """This writes JSON. Raises `Mismatch` for what is nested too deep, or too long a number."""
    try:
        return _ENCODER.encode(written).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError) as exc:
        raise Mismatch(str(exc)) from exc


def from_text(data: bytes) -> Any:
    """This reads JSON. Raises `Mismatch` for anything else."""
    try:
        return _DECODER.decode(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as exc:
        raise Mismatch(str(exc)) from exc


# Codecs


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
                _within(f"[{index}]", self.encode, item)
            return value
        if kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    raise Unsupported(f"{_a(key)} is the key of a dict, and {self._because}, so only str can be")
                _within(f"[{key!r}]", self.encode, item)
            return value
        raise Unsupported(f"{_a(value)} is no plain JSON ({_PLAIN_TYPES}), and {self._because} to read it by")

    def decode(self, written: Any, /) -> Any:
        return written


class _None(Codec):
    kind = type(None)

    def encode(self, value: Any, /) -> Any:
        if value is None:
            return None
        raise self.refuse(value)

    decode = encode


class _Bool(Codec):
    kind = bool

    def encode(self, value: Any, /) -> Any:
        if type(value) is bool:
            return value
        raise self.refuse(value)

    decode = encode


class _Int(Codec):
    kind = int
    breadth = 1

    def encode(self, value: Any, /) -> Any:
        if isinstance(value, int):
            return value if type(value) in (int, bool) else int.__index__(value)
        raise self.refuse(value)

    decode = encode


class _Float(Codec):
    kind = float
    breadth = 2

    def encode(self, value: Any, /) -> Any:
        if isinstance(value, float):
            number = float.__pos__(value)
            if math.isfinite(number):
                return number
            return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
        return self._of_int(value)

    def decode(self, written: Any, /) -> Any:
        if type(written) is float:
            return written
        if type(written) is str and written in _NOT_FINITE:
            return _NOT_FINITE[written]
        return self._of_int(written)

    def _of_int(self, value: Any) -> float:
        if type(value) is int:
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if number == value:
                return number
            raise Mismatch("a whole number that a float cannot hold")
        raise self.refuse(value)


class _Str(Codec):
    kind = str
    breadth = 10
    is_text = True

    def encode(self, value: Any, /) -> Any:
        if isinstance(value, str):
            return value if type(value) is str else str.__str__(value)
        raise self.refuse(value)

    decode = encode


class _Text(Codec):
    """A class whose values are written as strings."""

    is_text = True

    def __init__(self, kind: type, write: Callable[[Any], str], read: Callable[[str], Any], breadth: int = 3, *, but: type | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.breadth = breadth
        self._write = write
        self._read = read
        self._but = but

    def encode(self, value: Any, /) -> Any:
        if isinstance(value, self.annotation) and not (self._but and isinstance(value, self._but)):
            return self._write(value)
        raise self.refuse(value)

    def decode(self, written: Any, /) -> Any:
        if type(written) is not str:
            raise self.refuse(written)
        try:
            return self._read(written)
        except (ValueError, ArithmeticError, OverflowError) as exc:
            raise Mismatch(f"{written[:60]!r} is no {shown(self.annotation)}") from exc


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _read_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise ValueError(text) from exc


def _read_moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))  # Python 3.10 knows no Z


_DURATION = re.compile(
    r"(?P<sign>-?)P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,6}))?S)?)?", re.ASCII
)


def _write_duration(value: dt.timedelta) -> str:
    """As ISO 8601 has it, in days and seconds, to the microsecond."""
    size = abs(value)
    fraction = f".{size.microseconds:06d}" if size.microseconds else ""
    return f"{'-' if value < dt.timedelta() else ''}P{size.days}DT{size.seconds}{fraction}S"


def _read_duration(text: str) -> dt.timedelta:
    found = _DURATION.fullmatch(text)
    if found is None or not text[-1].isupper() or text[-1] in "PT":
        raise ValueError(text)
    parts = {name: int(found[name] or 0) for name in ("days", "hours", "minutes", "seconds")}
    size = dt.timedelta(**parts, microseconds=int((found["fraction"] or "0").ljust(6, "0")))
    return -size if found["sign"] else size


def _text_codec(kind: type) -> Codec | None:
    """The codec of a class that is written as a string, if it is one of them."""
    if kind is bytes:
        return _Text(bytes, _write_bytes, _read_bytes, 8)
    if kind is dt.datetime:
        return _Text(kind, lambda value: value.isoformat(), _read_moment)
    if kind is dt.date:
        return _Text(kind, lambda value: value.isoformat(), dt.date.fromisoformat, but=dt.datetime)
    if kind is dt.time:
        return _Text(kind, lambda value: value.isoformat(), dt.time.fromisoformat)
    if kind is dt.timedelta:
        return _Text(kind, _write_duration, _read_duration)
    if kind is uuid.UUID:
        return _Text(kind, str, uuid.UUID)
    if kind is decimal.Decimal:
        return _Text(kind, str, decimal.Decimal, 4)
    if issubclass(kind, pathlib.PurePath):
        return _Text(kind, str, kind, 9)
    return None


class _Enum(Codec):
    is_text = True

    def __init__(self, kind: type[enum.Enum]) -> None:
        super().__init__(kind)
        self.kind = kind

    def encode(self, value: Any, /) -> Any:
        if isinstance(value, self.annotation):
            return value.name
        raise self.refuse(value)

    def decode(self, written: Any, /) -> Any:
        if type(written) is str and written in self.annotation.__members__:
            return self.annotation.__members__[written]
        raise Mismatch(f"{_brief(written)} names no member of {shown(self.annotation)}")


class _Flag(Codec):
    """Its values may be several members at once, which have no name."""

    breadth = 1

    def __init__(self, kind: type[enum.Flag]) -> None:
        super().__init__(kind)
        self.kind = kind

    def encode(self, value: Any, /) -> Any:
        if isinstance(value, self.annotation):
            return int(value.value)
        raise self.refuse(value)

    def decode(self, written: Any, /) -> Any:
        if type(written) is not int:
            raise self.refuse(written)
        try:
            return self.annotation(written)
        except ValueError as exc:
            raise Mismatch(str(exc)) from exc


class _Literal(Codec):
    def __init__(self, annotation: Any) -> None:
        super().__init__(annotation)
        self._values = [(value, codec_of(type(value)).encode(value)) for value in get_args(annotation)]
        self.is_text = all(type(written) is str for _, written in self._values)

    def encode(self, value: Any, /) -> Any:
        for known, written in self._values:
            if type(known) is type(value) and known == value:
                return written
        raise self.refuse(value)

    def decode(self, written: Any, /) -> Any:
        for value, known in self._values:
            if type(known) is type(written) and known == written:
                return value
        raise self.refuse(written)


class _Union(Codec):
    """The first member that can read what was written is the one that does; what another member would read is refused."""

    def __init__(self, annotation: Any) -> None:
        super().__init__(annotation)
        self._members = sorted(map(codec_of, get_args(annotation)), key=lambda member: member.breadth)
        self.breadth = self._members[-1].breadth
        self.is_text = all(member.is_text for member in self._members)

    def encode(self, value: Any, /) -> Any:
        unsupported: Unsupported | None = None
        for member in sorted(self._members, key=lambda member: type(value) is not member.kind):
            try:
                written = member.encode(value)
            except Unsupported as exc:
                unsupported = exc
                continue
            except Mismatch:
                continue
            reader = self._reader(written)[0]
            if reader is member:
                return written
            raise Unsupported(
                f"as JSON, this {shown(member.annotation)} would be read as {shown(reader.annotation)}; put it into a dataclass that says which it is"
            )
        raise unsupported or self.refuse(value)

    def decode(self, written: Any, /) -> Any:
        return self._reader(written)[1]

    def _reader(self, written: Any) -> tuple[Codec, Any]:
        for member in self._members:
            try:
                return member, member.decode(written)
            except Mismatch:
                continue
        raise self.refuse(written)


class _Array(Codec):
    """Lists, sets and tuples of any length."""

    breadth = 5

    def __init__(self, annotation: Any, item: Codec, kind: type, takes: tuple[type, ...]) -> None:
        super().__init__(annotation)
        self.kind = kind
        self._item = item
        self._takes = takes

    def encode(self, value: Any, /) -> Any:
        if not isinstance(value, self._takes) or hasattr(value, "_fields"):
            raise self.refuse(value)
        encode = self._item.encode
        return [_within(f"[{index}]", encode, item) for index, item in enumerate(value)]

    def decode(self, written: Any, /) -> Any:
        assert self.kind is not None
        if type(written) is not list:
            raise self.refuse(written)
        decode = self._item.decode
        try:
            return self.kind(_within(f"[{index}]", decode, item) for index, item in enumerate(cast("list[Any]", written)))
        except TypeError as exc:  # what is in a set can be hashed
            raise Mismatch(str(exc)) from exc


class _Tuple(Codec):
    """Tuples of a fixed length, named ones among them."""

    breadth = 5

    def __init__(self, annotation: Any, items: Sequence[Codec], kind: type = tuple) -> None:
        super().__init__(annotation)
        self.kind = kind
        self._items = items

    def encode(self, value: Any, /) -> Any:
        if not isinstance(value, cast("type", self.kind)) or len(value) != len(self._items) or (self.kind is tuple and hasattr(value, "_fields")):
            raise self.refuse(value)
        return [_within(f"[{index}]", item.encode, each) for index, (item, each) in enumerate(zip(self._items, value, strict=True))]

    def decode(self, written: Any, /) -> Any:
        if type(written) is not list or len(cast("list[Any]", written)) != len(self._items):
            raise self.refuse(written)
        found = [_within(f"[{index}]", item.decode, each) for index, (item, each) in enumerate(zip(self._items, cast("list[Any]", written), strict=True))]
        return tuple(found) if self.kind is tuple else cast("Any", self.kind)(*found)


class _Dict(Codec):
    kind = dict
    breadth = 6

    def __init__(self, annotation: Any, key: Codec, item: Codec) -> None:
        super().__init__(annotation)
        self._key = key
        self._item = item

    def encode(self, value: Any, /) -> Any:
        if not isinstance(value, dict):
            raise self.refuse(value)
        found: dict[str, Any] = {}
        for key, item in cast("dict[Any, Any]", value).items():
            at = f"[{_brief(key)}]"
            written = _within(at, self._key.encode, key)
            found[written if self._key.is_text else to_text(written).decode("utf-8", "surrogatepass")] = _within(at, self._item.encode, item)
        return found

    def decode(self, written: Any, /) -> Any:
        if type(written) is not dict:
            raise self.refuse(written)
        found: dict[Any, Any] = {}
        for key, item in cast("dict[str, Any]", written).items():
            at = f"[{_brief(key)}]"
            read = _within(at, self._key.decode, key if self._key.is_text else from_text(key.encode("utf-8", "surrogatepass")))
            try:
                found[read] = _within(at, self._item.decode, item)
            except TypeError as exc:
                raise Mismatch(str(exc)) from exc
        return found


class _Fields(Codec):
    """Dataclasses and typed dicts: an object with the fields that have a value. The fields are looked up when they are first needed: a class may hold itself."""

    breadth = 5

    def __init__(self, kind: type) -> None:
        super().__init__(kind)
        self.kind = kind
        self._is_dataclass = dataclasses.is_dataclass(kind)
        self._codecs: dict[str, Codec] | None = None
        self._required: frozenset[str] = frozenset()

    @property
    def codecs(self) -> dict[str, Codec]:
        if self._codecs is None:
            hints = self._hints()
            if self._is_dataclass:
                fields = [field for field in dataclasses.fields(self.annotation) if field.init]
                self._required = frozenset(field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING)
                names = [field.name for field in fields]
            else:
                optional, required = ({name for name, hint in hints.items() if get_origin(hint) in words} for words in (_OPTIONAL, _REQUIRED))
                self._required, names = (self.annotation.__required_keys__ | required) - optional, list(hints)  # which knows nothing of words in strings
            self._codecs = {name: codec_of(hints[name]) for name in names}
        return self._codecs

    def _hints(self) -> dict[str, Any]:
        try:
            hints = get_type_hints(self.annotation, include_extras=True)
        except Exception as exc:
            raise Unsupported(f"the annotations of {shown(self.annotation)} cannot be evaluated here ({exc}); import at run time what they name") from exc
        if any(isinstance(hint, dataclasses.InitVar) for hint in hints.values()):
            raise Unsupported(f"{shown(self.annotation)} is made from an InitVar, which it does not keep")
        return hints

    def encode(self, value: Any, /) -> Any:
        codecs = self.codecs
        if self._is_dataclass:
            if type(value) is not self.annotation:
                raise self.refuse(value)
            return {name: _within(f".{name}", codec.encode, getattr(value, name)) for name, codec in codecs.items()}
        if type(value) is not dict:
            raise self.refuse(value)
        found = cast("dict[str, Any]", value)
        self._check_names(found)
        return {name: _within(f"[{name!r}]", codecs[name].encode, item) for name, item in found.items()}

    def decode(self, written: Any, /) -> Any:
        codecs = self.codecs
        if type(written) is not dict:
            raise self.refuse(written)
        found = cast("dict[str, Any]", written)
        self._check_names(found)
        values = {name: _within(f".{name}", codecs[name].decode, item) for name, item in found.items()}
        if not self._is_dataclass:
            return values
        try:
            return self.annotation(**values)
        except Exception as exc:  # a user's `__post_init__` may raise anything
            raise Mismatch(f"{shown(self.annotation)} cannot be made of it: {type(exc).__name__}: {exc}") from exc

    def _check_names(self, found: Mapping[str, Any]) -> None:
        if strange := found.keys() - self.codecs.keys():
            raise Mismatch(f"{shown(self.annotation)} has no {_listed(strange)}")
        if missing := self._required - found.keys():
            raise Mismatch(f"{shown(self.annotation)} needs {_listed(missing)}")


class _Model(Codec):
    """Pydantic models write and read themselves. What was written is read once before it leaves, for a model may write what it does not read."""

    breadth = 5

    def __init__(self, kind: Any) -> None:
        super().__init__(kind)
        self.kind = kind

    def encode(self, value: Any, /) -> Any:
        if type(value) is not self.annotation:
            raise self.refuse(value)
        try:
            written = value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
        except Exception as exc:  # a user's serializer may raise anything
            raise Unsupported(f"{shown(self.annotation)} cannot be written: {type(exc).__name__}: {exc}") from exc
        try:
            self.decode(written)
        except Mismatch as exc:
            raise Unsupported(f"{shown(self.annotation)} does not read what it writes: {exc}") from exc
        return written

    def decode(self, written: Any, /) -> Any:
        if type(written) is not dict:
            raise self.refuse(written)
        try:
            return self.annotation.model_validate_json(to_text(written))
        except Mismatch:
            raise
        except Exception as exc:  # pydantic's own, and whatever a user's validator raises
            raise Mismatch(f"{shown(self.annotation)} does not take it: {exc}") from exc


class _Unsupported(Codec):
    """A class that JSON says nothing about."""

    breadth = 12

    def encode(self, value: Any, /) -> Any:
        raise Unsupported(f"JSON cannot carry {shown(self.annotation)}")

    def decode(self, written: Any, /) -> Any:
        raise Unsupported(f"JSON cannot carry {shown(self.annotation)}")


# From annotations to codecs

_SCALARS: dict[Any, Callable[[Any], Codec]] = {type(None): _None, bool: _Bool, int: _Int, float: _Float, str: _Str}
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection, collections.abc.Iterable)
_SETS = (set, collections.abc.Set, collections.abc.MutableSet)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_OPEN = (Any, object, inspect.Parameter.empty)
_OPTIONAL = (typing_extensions.NotRequired,)
_REQUIRED = (typing_extensions.Required,)
_QUALIFIERS = (*_OPTIONAL, *_REQUIRED, typing_extensions.ReadOnly, typing.Final)
_ALIASES = tuple({found for module in (typing, typing_extensions) if isinstance(found := getattr(module, "TypeAliasType", None), type)})


def codec_of(annotation: Any) -> Codec:
    """This gives the codec of an annotation. Making one never fails; using it may."""
    if annotation is None:
        annotation = type(None)
    if any(annotation is known for known in _OPEN):
        return Plain(annotation, "it has no annotation" if annotation is inspect.Parameter.empty else f"{shown(annotation)} is nothing")
    if isinstance(annotation, (str, typing.ForwardRef)):
        return Plain(annotation, f"its annotation {shown(annotation)} cannot be evaluated here (import at run time what it names)")
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return _codec_of_class(annotation)
    return _codec_of_form(annotation)


@lru_cache(maxsize=1024)
def _codec_of_class(kind: Any) -> Codec:
    if kind in _SCALARS:
        return _SCALARS[kind](kind)
    if issubclass(kind, enum.Flag):
        return _Flag(kind)
    if issubclass(kind, enum.Enum):
        return _Enum(kind)
    if (text := _text_codec(kind)) is not None:
        return text
    if _is_named_tuple(kind):
        return _named_tuple(kind)
    if _has_fields(kind):
        return _Fields(kind)
    if _is_model(kind):
        return _Model(kind)
    return _collection(kind, kind, ()) or _Unsupported(kind)


def _has_fields(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or typing_extensions.is_typeddict(kind)


def _is_named_tuple(kind: Any) -> bool:
    return issubclass(kind, tuple) and hasattr(cast("Any", kind), "_fields")


def _named_tuple(kind: Any) -> Codec:
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - evaluating an annotation runs a user's expression
        hints = {}
    return _Tuple(kind, [codec_of(hints.get(name, Any)) for name in kind._fields], kind)


def _is_model(kind: type) -> bool:
    """Whether it is a pydantic model; who has none has not imported pydantic."""
    base = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return isinstance(base, type) and issubclass(kind, base)


def _collection(annotation: Any, origin: Any, args: tuple[Any, ...]) -> Codec | None:
    inner = [codec_of(arg) for arg in args if arg is not ...]
    if origin in _LISTS:
        return _Array(annotation, inner[0] if inner else Plain(), list, (list, tuple) if origin is not list else (list,))
    if origin in _SETS or origin is frozenset:
        kind = frozenset if origin is frozenset else set
        return _Array(annotation, inner[0] if inner else Plain(), kind, (set, frozenset) if origin not in (set, frozenset) else (kind,))
    if origin is tuple:
        if not args or args[-1] is ...:
            return _Array(annotation, inner[0] if inner else Plain(), tuple, (tuple,))
        return _Tuple(annotation, [] if args == ((),) else inner)
    if origin in _DICTS:
        return _Dict(annotation, *(inner or (_Str(str), Plain())))
    return None


def _codec_of_form(annotation: Any) -> Codec:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _Union(annotation)
    if origin is Literal:
        return _Literal(annotation)
    if hasattr(annotation, "__metadata__"):  # Annotated[...]
        return codec_of(args[0])
    if isinstance(annotation, _ALIASES):
        return codec_of(annotation.__value__)
    if hasattr(annotation, "__supertype__"):  # NewType
        return codec_of(annotation.__supertype__)
    if isinstance(annotation, TypeVar):
        return codec_of(annotation.__bound__ or Any)
    if origin in _QUALIFIERS:
        return codec_of(args[0])
    if dataclasses.is_dataclass(origin) or (isinstance(origin, type) and _is_model(origin)):
        return codec_of(origin)
    return _collection(annotation, origin, args) or _Unsupported(annotation)


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


def _brief(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's `__repr__`
        return f"<{type(value).__qualname__}>"
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(sorted(map(_brief, names))[:5])


def _within(step: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except Mismatch as exc:
        exc.path.append(step)
        raise
