"""Values that JSON writes as one word: numbers, texts, moments, durations, enums, paths and their like."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import enum
import math
import pathlib
import re
import uuid
from typing import TYPE_CHECKING, Any

from docket._json.codec import Codec, Mismatch, brief, shown
from docket._moments import read_moment

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["scalar_codec"]

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


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
        raise Mismatch(f"{brief(written)} names no member of {shown(self.annotation)}")


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


_PLAIN: dict[type, Callable[[Any], Codec]] = {type(None): _None, bool: _Bool, int: _Int, float: _Float, str: _Str}


def scalar_codec(kind: Any) -> Codec | None:
    """This gives the codec of a class whose values are written as one word, if it is one of them."""
    if kind in _PLAIN:
        return _PLAIN[kind](kind)
    if issubclass(kind, enum.Flag):
        return _Flag(kind)
    if issubclass(kind, enum.Enum):
        return _Enum(kind)
    return _text_codec(kind)


def _text_codec(kind: type) -> Codec | None:
    """The codec of a class that is written as a string, if it is one of them."""
    if kind is bytes:
        return _Text(bytes, _write_bytes, _read_bytes, 8)
    if kind is dt.datetime:
        return _Text(kind, lambda value: value.isoformat(), read_moment)
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
