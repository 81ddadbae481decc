"""To bytes and back: the payload of a call, results, how a run ended, trace context, and the events scripts publish.

Values are pickled: `pickle` for plain built-in ones (cheap), `cloudpickle` for the rest (functions, classes of `__main__`).
Events are netstrings (`5:hello,`), which Lua writes and Python reads with a few lines and no escaping.
"""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import pickle
import uuid
from typing import TYPE_CHECKING, Any, cast

import cloudpickle  # pyright: ignore[reportMissingTypeStubs]

from docket.errors import NotSerializable, PayloadError
from docket.states import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "INLINE_LIMIT",
    "dumps_call",
    "dumps_exception",
    "dumps_outcome",
    "dumps_trace",
    "dumps_value",
    "loads_call",
    "loads_netstrings",
    "loads_outcome",
    "loads_trace",
    "loads_value",
    "peek_error",
    "peek_struck",
]

INLINE_LIMIT = 64
"""Bytes up to which a value may stand in a record; a longer one would cost the hash its compact form on the server."""

_PROTOCOL = 5
_ATOMS = frozenset({int, str, float, bool, type(None), bytes})
_STANDARD = frozenset({dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone, decimal.Decimal, uuid.UUID, complex, frozenset, set, bytearray})


class _NotPlainError(Exception):
    """This value holds something that `pickle` would send by reference."""


class _PlainPickler(pickle.Pickler):
    """Pickles built-in containers and the standard value types, and stops at anything that might be importable only here."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) in _STANDARD or obj in _STANDARD_CLASSES:
            return NotImplemented
        raise _NotPlainError


class _Identities:
    """The classes above themselves, found by identity: `in` on a set would call the `__eq__` and `__hash__` of user objects."""

    def __init__(self, members: frozenset[type]) -> None:
        self._ids = {id(member) for member in members}

    def __contains__(self, candidate: object) -> bool:
        return id(candidate) in self._ids


_STANDARD_CLASSES = _Identities(_STANDARD)


def _dumps_anything(value: Any) -> bytes:
    return cloudpickle.dumps(value, _PROTOCOL)  # pyright: ignore[reportUnknownMemberType] - untyped


def _dumps(value: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        _PlainPickler(buffer, _PROTOCOL).dump(value)
    except _NotPlainError:
        return _dumps_anything(value)
    return buffer.getvalue()


def dumps_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """This gives the arguments of a call as bytes. Raises `NotSerializable`, which names the argument."""
    if not kwargs and all(type(arg) in _ATOMS for arg in args):
        return pickle.dumps((args, {}), _PROTOCOL)
    try:
        return _dumps((args, dict(kwargs)))
    except Exception as exc:
        raise NotSerializable(_name_culprit(args, kwargs, exc)) from exc


def _name_culprit(args: tuple[Any, ...], kwargs: Mapping[str, Any], exc: Exception) -> str:
    named = [(f"argument {position}", value) for position, value in enumerate(args, start=1)]
    named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            _dumps(value)
        except Exception as own:  # noqa: BLE001 - whatever a user's class raises when pickled, its argument is the culprit
            return f"{name} (a {type(value).__qualname__}) cannot be pickled: {own}. Pass what it is made from, or an identifier to load it by."
    return f"the arguments cannot be pickled together: {exc}"


def loads_call(payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """This gives back the arguments of a call. Raises `PayloadError`, whatever the bytes are."""
    try:
        args, kwargs = cast("tuple[Any, Any]", pickle.loads(payload))
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # what is unpickled may raise SystemExit as well, which is not to end a worker
        raise PayloadError(f"the arguments ({len(payload)} bytes) cannot be decoded: {type(exc).__name__}: {exc}") from exc
    if isinstance(args, tuple) and isinstance(kwargs, dict):
        return cast("tuple[Any, ...]", args), cast("dict[str, Any]", kwargs)
    raise PayloadError(f"the arguments should be a tuple and a dict, found {_kind(cast('Any', args))} and {_kind(kwargs)}")


def _kind(value: object) -> str:
    return type(value).__name__


def dumps_value(value: Any) -> bytes:
    """This gives a result as bytes. Raises `NotSerializable`."""
    try:
        return _dumps(value)
    except Exception as exc:
        raise NotSerializable(f"the result (a {type(value).__qualname__}) cannot be pickled: {exc}") from exc


def dumps_exception(error: BaseException) -> bytes | None:
    """This gives an exception as bytes, or None when it cannot make the journey there and back."""
    for form in (error, _Remade(error)):
        try:
            dumped = _dumps_anything(form)
            pickle.loads(dumped)
        except Exception:  # noqa: BLE001, S112 - anything may go wrong in a user's __reduce__ or __init__; the error's text is stored in any case
            continue
        return dumped
    return None


class _Remade:
    """This pickles as an exception that is made without its `__init__`, which takes other arguments than it hands on (`super().__init__(text)`)."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return remake, (type(self._error), self._error.args, vars(self._error))


def remake(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """This makes an exception anew from its class, its arguments and its attributes."""
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error


def loads_value(value: bytes) -> Any:
    """This gives back a result or an exception. Raises `PayloadError`, whatever the bytes are."""
    try:
        return pickle.loads(value)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # as above
        raise PayloadError(f"the stored value ({len(value)} bytes) cannot be decoded: {type(exc).__name__}: {exc}") from exc


_OUTCOME_LETTERS = {ExecutionState.COMPLETED: b"c", ExecutionState.FAILED: b"f", ExecutionState.CANCELLED: b"x"}
_STRUCK = b"s"  # a way of being cancelled
_OUTCOME_STATES = {_STRUCK: ExecutionState.CANCELLED, **{letter: state for state, letter in _OUTCOME_LETTERS.items()}}


def dumps_outcome(state: ExecutionState, error: str | None, value: bytes | None, *, struck: bool = False) -> bytes:
    """This gives how a run ended as bytes: a letter for the state (`s`: struck), the error's text as a netstring, `=` and the value."""
    text = b"" if error is None else error.encode("utf-8", "replace")
    return b"%b%d:%b,%b" % (_STRUCK if struck else _OUTCOME_LETTERS[state], len(text), text, b"" if value is None else b"=" + value)


def loads_outcome(blob: bytes) -> tuple[ExecutionState, str | None, bytes | None, bool]:
    """This gives back state, error, value and whether it was struck. Raises `PayloadError`."""
    try:
        state = _OUTCOME_STATES[blob[:1]]
        text, rest = _netstring(blob, 1)
    except (KeyError, ValueError) as exc:
        raise PayloadError(f"a stored outcome ({len(blob)} bytes) cannot be decoded: {exc}") from exc
    return state, text.decode("utf-8", "replace") or None, blob[rest + 1 :] if rest < len(blob) else None, blob.startswith(_STRUCK)


def peek_error(head: bytes) -> str | None:
    """This gives the error that a stored outcome tells of, from the beginning of it, as far as that goes. What cannot be read tells of none."""
    length, colon, text = head[1:].partition(b":")
    return text[: int(length)].decode("utf-8", "replace") or None if colon and length.isdigit() else None


def peek_struck(head: bytes) -> bool:
    """This says whether a stored outcome tells of a run that was struck."""
    return head.startswith(_STRUCK)


def dumps_trace(carrier: Mapping[str, str]) -> bytes:
    """This gives W3C trace context as bytes; empty for none."""
    return json.dumps(dict(carrier), separators=(",", ":")).encode() if carrier else b""


def loads_trace(trace: bytes) -> dict[str, str]:
    """This gives back trace context; what cannot be read is none, as the W3C specification asks of receivers."""
    if not trace:
        return {}
    try:
        carrier = json.loads(trace)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(carrier, dict):
        return {}
    return {str(name): str(value) for name, value in carrier.items()}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType] - JSON


def _netstring(message: bytes, position: int) -> tuple[bytes, int]:
    """One field, and where the next one begins. Raises `ValueError`."""
    colon = message.index(b":", position)
    start = colon + 1
    digits = message[position:colon]
    if not digits.isdigit():  # `int` would take a sign as well, and a field would end before it begins
        raise ValueError(f"no length at byte {position}")
    stop = start + int(digits)
    if message[stop : stop + 1] != b",":
        raise ValueError(f"no comma at byte {stop}")
    return message[start:stop], stop + 1


def loads_netstrings(message: bytes) -> list[bytes]:
    """This gives the fields of an event. Raises `PayloadError` on anything else."""
    fields: list[bytes] = []
    position, end = 0, len(message)
    try:
        while position < end:
            field, position = _netstring(message, position)
            fields.append(field)
    except ValueError as exc:
        raise PayloadError(f"an event ({end} bytes) cannot be decoded: {exc}") from exc
    return fields
