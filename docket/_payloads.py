r"""The payloads of one docket: which serializer writes them, which are read, how large they may be, and how they are sealed.

A payload says itself what it is, by its first byte: `\x80` a pickle (as it always was), `\x01` JSON, `\x02` another serializer, whose name
follows, `\x03` a seal, with the payload behind it. The value of a failed run is an exception: pickled, or its description as JSON.
"""

from __future__ import annotations

import builtins
import inspect
from typing import TYPE_CHECKING, Any, cast

from docket._json import Mismatch, from_text, to_text
from docket._messages import dumps_call, dumps_exception, dumps_value, loads_call, loads_value
from docket._options import CLOUDPICKLE, JSON_NAME, check_accept, name_of
from docket._signatures import get_signature
from docket._signing import SEALED, Signer, unsealed
from docket.errors import DocketError, NotSerializable, PayloadError, PayloadRefused, PayloadTooLarge
from docket.serializers import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from docket._options import DocketOptions
    from docket.serializers import Serializer

__all__ = ["Payloads"]

_PICKLE = b"\x80"
_JSON = b"\x01"
_NAMED = b"\x02"
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

CALL = "payload"
RESULT = "result"
OUTCOME = "outcome"


class Payloads:
    """This reads and writes the payloads of one docket."""

    def __init__(self, options: DocketOptions) -> None:
        serializer = options.serializer
        self._own: Serializer | None = JSON if serializer == JSON_NAME else None if isinstance(serializer, str) else serializer
        """What writes; None: pickle."""
        self._limit = options.max_payload_bytes
        self._signer = Signer(options.name, options.key_bytes) if options.signing_keys else None
        self._requires = options.require_signatures
        self._accept(options.accept)

    def accepting(self, accept: Sequence[str | Serializer] | None) -> Payloads:
        """This gives the same, but for what is read; None: as here. Raises `InvalidOption` where that leaves out what is written here."""
        if accept is None:
            return self
        check_accept(accept, CLOUDPICKLE if self._own is None else self._own)
        other = object.__new__(Payloads)
        other.__dict__.update(self.__dict__)
        other._accept(accept)
        return other

    def _accept(self, accept: Sequence[str | Serializer] | None) -> None:
        own = [] if self._own is None else [self._own]
        known = {JSON_NAME: JSON, **{each.name: each for each in own}, **{each.name: each for each in accept or () if not isinstance(each, str)}}
        names = {CLOUDPICKLE, *known} if accept is None else {name_of(each) for each in accept}
        self._takes_pickles = CLOUDPICKLE in names
        self._readers: dict[str, Serializer] = {name: reader for name, reader in known.items() if name in names}

    # Calls

    def dumps_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], function: Callable[..., Any]) -> bytes:
        """This gives the arguments of a call as bytes, not sealed. Raises `NotSerializable`, `PayloadTooLarge` or `InvalidArguments`, which name the argument."""
        own = self._own
        payload = dumps_call(args, kwargs) if own is None else self._written(own, args, kwargs, function)
        if self._limit is not None and len(payload) > self._limit:
            raise PayloadTooLarge(self._too_large("the arguments take", len(payload)) + _largest(args, kwargs, _known(function)))
        return payload

    def _written(self, own: Serializer, args: tuple[Any, ...], kwargs: Mapping[str, Any], function: Callable[..., Any]) -> bytes:
        return self._marked(own, "the arguments", lambda: own.dumps_call(args, kwargs, _known(function)))

    def loads_call(self, payload: bytes, task: str, key: str, generation: int, function: Callable[..., Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """This gives the arguments of a call back. Raises `PayloadError`, whatever the bytes are, and `PayloadRefused` before it decodes."""
        if self._signer is None and self._takes_pickles and payload.startswith(_PICKLE):  # most of them
            return loads_call(payload)
        if self._signer is not None or payload.startswith(SEALED):
            payload = self._opened(CALL, task, key, generation, payload)
            if payload.startswith(_PICKLE) and self._takes_pickles:
                return loads_call(payload)
        reader, data = self._reader(payload, "the arguments")
        return self._read("the arguments", payload, lambda: reader.loads_call(data, _known(function)))

    @property
    def signs(self) -> bool:
        """This says whether what is written is sealed."""
        return self._signer is not None

    def sealing(self, task: str, key: str, payload: bytes) -> Callable[[int], bytes] | None:
        """This gives what seals the arguments of a run once its generation is known; None where nothing is sealed."""
        signer = self._signer
        if signer is None:
            return None
        return lambda generation: signer.seal(CALL, task, key, generation, payload)

    def resealing(self, task: str, key: str, generation: int, payload: bytes) -> Callable[[int], bytes] | None:
        """This gives what seals the arguments of one run for another, once the generation of that one is known. Raises `PayloadRefused`."""
        return None if self._signer is None else self.sealing(task, key, self._opened(CALL, task, key, generation, payload))

    # Results and failures

    def dumps_result(self, value: Any, function: Callable[..., Any], *, limited: bool) -> bytes:
        """This gives a result as bytes, not sealed; `limited`: it is to be kept in Redis. Raises `NotSerializable` or `PayloadTooLarge`."""
        own = self._own
        written = dumps_value(value) if own is None else self._marked(own, "the result", lambda: own.dumps_result(value, _known(function)))
        if limited and self._limit is not None and len(written) > self._limit:
            raise PayloadTooLarge(
                self._too_large("the result takes", len(written))
                + "Return an identifier of where it was put, or keep results elsewhere (Docket(result_storage=...))."
            )
        return written

    def loads_result(self, value: bytes, function: Callable[..., Any] | None) -> Any:
        """This gives a result back. Raises `PayloadError`, whatever the bytes are, and `PayloadRefused` before it decodes."""
        if value.startswith(_PICKLE) and self._takes_pickles:
            return loads_value(value)
        reader, data = self._reader(value, "the result")
        return self._read("the result", value, lambda: reader.loads_result(data, _known(function)))

    def dumps_exception(self, error: BaseException, traceback: str | None, *, limited: bool) -> bytes | None:
        """This gives a failure as bytes, not sealed: pickled, or described, as the docket's serializer has it; None where it cannot be, or is too large."""
        written = dumps_exception(error) if self._own is None else _described(error, traceback)
        return None if written is None or (limited and self._limit is not None and len(written) > self._limit) else written

    def loads_exception(self, value: bytes) -> tuple[Any, str | None]:
        """This gives a failure back, and the text of its traceback where it stands beside it. Raises `PayloadError`, and `PayloadRefused` before it decodes."""
        if value.startswith(_JSON):  # words only, whoever wrote them
            return _undescribed(value)
        if value.startswith(_PICKLE) and self._takes_pickles:
            return loads_value(value), None
        raise self._refusal(value, "the stored exception")

    def seal_result(self, task: str, key: str, generation: int, value: bytes) -> bytes:
        """This seals what is kept elsewhere than in Redis."""
        return value if self._signer is None else self._signer.seal(RESULT, task, key, generation, value)

    def open_result(self, task: str, key: str, generation: int, value: bytes) -> bytes:
        """This gives back what was kept elsewhere. Raises `PayloadRefused`."""
        return self._opened(RESULT, task, key, generation, value) if self._signer is not None or value.startswith(SEALED) else value

    def seal_outcome(self, task: str, key: str, generation: int, state: str, error: str | None, value: bytes | None) -> bytes | None:
        """This seals how a run ended: its state, its error and its value. What it gives stands in the value's place."""
        if self._signer is None:
            return value
        return self._signer.seal(OUTCOME, task, key, generation, b"" if value is None else b"=" + value, _told(state, error))

    def open_outcome(self, task: str, key: str, generation: int, state: str, error: str | None, value: bytes | None) -> bytes | None:
        """This gives back the value of a run that ended so. Raises `PayloadRefused` where the state, the error or the value is not what was sealed."""
        if value is None or not value.startswith(SEALED):
            if self._signer is None or not self._requires:
                return value
            value = b""
        inner = unsealed(value) if self._signer is None else self._signer.opened(OUTCOME, task, key, generation, value, _told(state, error))
        return inner[1:] if inner else None

    # What they share

    def _opened(self, kind: str, task: str, key: str, generation: int, payload: bytes) -> bytes:
        if self._signer is None:  # without keys nothing is proved by a seal, nor by there being none
            return unsealed(payload)
        if not self._requires and not payload.startswith(SEALED):
            return payload
        return self._signer.opened(kind, task, key, generation, payload)

    def _marked(self, own: Serializer, what: str, dump: Callable[[], Any]) -> bytes:
        try:
            data = dump()
        except DocketError:
            raise
        except Exception as exc:
            raise NotSerializable(f"{what} cannot be written by the serializer {own.name!r}: {type(exc).__name__}: {exc}") from exc
        if not isinstance(data, bytes):
            raise NotSerializable(f"{what} cannot be written: the serializer {own.name!r} gave a {type(data).__name__}, and should give bytes")
        if own is JSON:
            return _JSON + data
        name = own.name.encode()
        return _NAMED + bytes([len(name)]) + name + data

    def _reader(self, payload: bytes, what: str) -> tuple[Serializer, bytes]:
        """Who reads what is no pickle, and what they are given."""
        mark = payload[:1]
        if mark == _JSON and JSON_NAME in self._readers:
            return self._readers[JSON_NAME], payload[1:]
        if mark == _NAMED and (reader := self._readers.get(_name_of(payload))) is not None and reader is not JSON:
            return reader, payload[2 + payload[1] :]
        raise self._refusal(payload, what)

    def _refusal(self, payload: bytes, what: str) -> PayloadError:
        """The error for a payload that nobody here reads."""
        mark = payload[:1]
        if mark not in (_PICKLE, _JSON, _NAMED):
            return PayloadError(f"{what} ({len(payload)} bytes) cannot be decoded: neither a pickle, nor JSON, nor a payload that names its serializer")
        name = CLOUDPICKLE if mark == _PICKLE else JSON_NAME if mark == _JSON else _name_of(payload)
        accepted = [*([CLOUDPICKLE] if self._takes_pickles else []), *self._readers]
        return PayloadRefused(f"{what} ({len(payload)} bytes), written by {name!r}, cannot be taken: {_listed(accepted)} accepted here, so nothing was decoded")

    def _read(self, what: str, payload: bytes, load: Callable[[], Any]) -> Any:
        try:
            return load()
        except PayloadError as exc:
            raise PayloadError(f"{what} ({len(payload)} bytes) cannot be decoded: {exc}") from exc
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # a serializer of the user's, and whatever the classes that it makes may raise, SystemExit too
            raise PayloadError(f"{what} ({len(payload)} bytes) cannot be decoded: {type(exc).__name__}: {exc}") from exc

    def _too_large(self, what: str, size: int) -> str:
        return f"{what} {size:,} bytes, and may take {self._limit:,} (max_payload_bytes). "


def _largest(args: tuple[Any, ...], kwargs: Mapping[str, Any], function: Callable[..., Any] | None) -> str:
    if not args and not kwargs:
        return ""
    names = [] if function is None else [parameter.name for parameter in get_signature(function).parameters.values() if parameter.kind in _POSITIONAL]
    passed = [(repr(names[place]) if place < len(names) else str(place + 1), value) for place, value in enumerate(args)]
    passed += [(repr(name), value) for name, value in kwargs.items()]
    name, size = max(((name, _size(value)) for name, value in passed), key=lambda found: found[1])
    return (
        f"The largest is argument {name}, of about {size:,} bytes: put it where both sides can read it (an object store, a table, a file), "
        "and pass its identifier."
    )


def _known(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """A function, unless it stands for a task that is known by its name only, and whose annotations nobody can tell."""
    return None if getattr(function, "shape", function) is None else function


def _size(value: Any) -> int:
    try:
        return len(dumps_value(value))
    except NotSerializable:  # the serializer took it, so it is only its size that is not known
        return 0


def _name_of(payload: bytes) -> str:
    return payload[2 : 2 + payload[1]].decode("ascii", "replace") if len(payload) > 1 else ""


def _listed(names: Sequence[str]) -> str:
    return "nothing is" if not names else f"only {names[0]!r} is" if len(names) == 1 else f"only {', '.join(map(repr, names))} are"


def _told(state: str, error: str | None) -> str:
    return f"{state}: " + (error or "").encode("utf-8", "replace").decode()  # as it comes back from where it stands beside the value


# Failures as JSON


def _described(error: BaseException, traceback: str | None) -> bytes | None:
    kind = type(error)
    said = {"module": kind.__module__, "class": kind.__qualname__, "args": [_plain(arg) for arg in error.args], "traceback": traceback}
    try:
        return _JSON + to_text(said)
    except Mismatch:
        return None


def _plain(value: Any) -> Any:
    if type(value) in (str, int, bool, type(None)):
        return value
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a user's `__str__`
        return f"<{type(value).__qualname__}>"


def _undescribed(value: bytes) -> tuple[BaseException | None, str | None]:
    """A built-in exception is made anew from its arguments; of any other only the text is left, which stands beside it."""
    try:
        said = from_text(value[1:])
    except Mismatch as exc:
        raise PayloadError(f"the stored exception ({len(value)} bytes) cannot be decoded: {exc}") from exc
    if not isinstance(said, dict) or [type(said.get(name)) for name in ("module", "class", "args")] != [str, str, list]:  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType]
        raise PayloadError(f"the stored exception ({len(value)} bytes) cannot be decoded: it should have module, class and args")
    described = cast("dict[str, Any]", said)
    where = described.get("traceback")
    traceback = where if isinstance(where, str) else None
    kind = getattr(builtins, described["class"], None) if described["module"] == "builtins" else None
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return None, traceback
    try:
        return cast("Any", kind)(*described["args"]), traceback
    except Exception:  # noqa: BLE001 - made with other arguments than it shows (UnicodeDecodeError); the text says as much as can be said
        return None, traceback
