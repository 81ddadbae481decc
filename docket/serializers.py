"""How calls and results become bytes: `"cloudpickle"` (any Python object), `"json"` (by annotation), or an object of your own.

`docs/payloads.md` tells which to take. What a payload is wrapped in (its mark, its seal, its size limit) is `_payloads`' business.
"""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any, Protocol, cast

from docket._json import Codec, Mismatch, Plain, Unsupported, codec_of, from_text, shown, to_text
from docket._signatures import get_signature
from docket.errors import InvalidArguments, NotSerializable, PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["JSON", "JSONSerializer", "Serializer"]

_UNKNOWN = "the task is not registered here, so there is no annotation"
_WAYS_OUT = "annotate it with a type that JSON can carry (docs/payloads.md lists them), pass an identifier to load it by, or take another serializer"


class Serializer(Protocol):
    """This turns calls and results into bytes and back, for one docket: `Docket(serializer=...)`.

    Whatever one of the methods raises becomes `NotSerializable` or `PayloadError`, unless it is one of docket's errors already.
    `function` is the function of the task; None where the task is not known in this process.
    """

    @property
    def name(self) -> str:
        """This stands in every payload, and tells readers who wrote it: letters, digits, `-`, `_`, `.`, at most 32."""
        ...

    def dumps_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], function: Callable[..., Any] | None) -> bytes:
        """This gives the arguments of a call as bytes."""
        ...

    def loads_call(self, data: bytes, function: Callable[..., Any] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """This gives the arguments of a call back."""
        ...

    def dumps_result(self, value: Any, function: Callable[..., Any] | None) -> bytes:
        """This gives a result as bytes."""
        ...

    def loads_result(self, data: bytes, function: Callable[..., Any] | None) -> Any:
        """This gives a result back."""
        ...


class JSONSerializer:
    """This writes JSON by the annotations of a task's parameters and its return annotation; a call is `[[args...], {kwargs...}]`.

    By what is not annotated, and by the name of a task that is not registered here, it takes plain JSON: str, int, float, bool,
    None, list, and dict with str keys. A value that is not of its annotation raises `InvalidArguments`, one that JSON cannot carry
    `NotSerializable`.
    """

    name = "json"

    def __init__(self) -> None:
        self._shapes: weakref.WeakKeyDictionary[Callable[..., Any], _Shape] = weakref.WeakKeyDictionary()

    def dumps_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], function: Callable[..., Any] | None) -> bytes:
        """This gives the arguments of a call as JSON."""
        shape = self._shape(function)
        written: list[Any] = [[shape.encoded(place, value) for place, value in zip(shape.places(len(args)), args, strict=True)]]
        if kwargs:
            written.append({name: shape.encoded(shape.named(name), value) for name, value in kwargs.items()})
        try:
            return to_text(written)
        except Mismatch as exc:
            raise NotSerializable(f"the arguments cannot be written as JSON: {exc}; {_WAYS_OUT}") from exc

    def loads_call(self, data: bytes, function: Callable[..., Any] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """This gives the arguments of a call back, by the annotations of this process."""
        shape = self._shape(function)
        written = _parsed(data)
        parts = cast("list[Any]", written) if type(written) is list else []
        if [type(part) for part in parts] not in ([list], [list, dict]):
            raise PayloadError("the arguments should be [[args...], {kwargs...}]")
        positional: list[Any] = parts[0]
        named: dict[str, Any] = parts[1] if len(parts) > 1 else {}
        return (
            tuple([shape.decoded(place, value) for place, value in zip(shape.places(len(positional)), positional, strict=True)]),
            {name: shape.decoded(shape.named(name), value) for name, value in named.items()},
        )

    def dumps_result(self, value: Any, function: Callable[..., Any] | None) -> bytes:
        """This gives a result as JSON."""
        codec = self._shape(function).result
        try:
            return to_text(codec.encode(value))
        except Mismatch as exc:
            raise NotSerializable(f"the result ({_annotated(codec)}) cannot be written as JSON: {exc}; {_WAYS_OUT}") from exc

    def loads_result(self, data: bytes, function: Callable[..., Any] | None) -> Any:
        """This gives a result back, by the return annotation in this process."""
        codec = self._shape(function).result
        try:
            return codec.decode(_parsed(data))
        except Mismatch as exc:
            raise PayloadError(f"the result is not what the task is annotated to return ({_annotated(codec)}): {exc}") from exc

    def _shape(self, function: Callable[..., Any] | None) -> _Shape:
        if function is None:
            return _NO_SHAPE
        try:
            return self._shapes[function]
        except KeyError:
            shape = self._shapes[function] = _Shape(get_signature(function))
            return shape
        except TypeError:  # not hashable, or without weak references
            return _Shape(get_signature(function))


class _Place:
    """One parameter as a call fills it: how it is called in messages, and its codec."""

    __slots__ = ("codec", "name")

    def __init__(self, name: str, codec: Codec) -> None:
        self.name = name
        self.codec = codec


class _Shape:
    """The codecs of one function's parameters and of its result."""

    def __init__(self, signature: inspect.Signature | None) -> None:
        self._positional: list[_Place] = []
        self._named: dict[str, _Place] = {}
        self._rest: _Place | None = None
        self._rest_named: _Place | None = None
        self._unknown = Plain(inspect.Parameter.empty, _UNKNOWN if signature is None else "no parameter takes it")
        self.result = self._unknown if signature is None else codec_of(signature.return_annotation)
        for parameter in () if signature is None else signature.parameters.values():
            place = _Place(repr(parameter.name), codec_of(parameter.annotation))
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = place
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._rest_named = place
            else:
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self._positional.append(place)
                if parameter.kind is not parameter.POSITIONAL_ONLY:
                    self._named[parameter.name] = place

    def places(self, count: int) -> Iterator[_Place]:
        """This gives the parameters that so many positional arguments fill."""
        yield from self._positional[:count]
        for position in range(len(self._positional), count):
            yield self._rest or _Place(str(position + 1), self._unknown)

    def named(self, name: str) -> _Place:
        """This gives the parameter that a keyword argument fills."""
        place = self._named.get(name)
        if place is not None:
            return place
        return _Place(repr(name), self._unknown if self._rest_named is None else self._rest_named.codec)

    def encoded(self, place: _Place, value: Any) -> Any:
        """This writes an argument. Raises `InvalidArguments` or `NotSerializable`."""
        try:
            return place.codec.encode(value)
        except Unsupported as exc:
            raise NotSerializable(f"argument {place.name} ({_annotated(place.codec)}) cannot be sent as JSON: {exc}; {_WAYS_OUT}") from exc
        except Mismatch as exc:
            raise InvalidArguments(
                f"argument {place.name} ({_annotated(place.codec)}) cannot be sent as JSON: {exc}; pass what it is annotated with, or change the annotation"
            ) from exc
        except RecursionError as exc:
            raise NotSerializable(f"argument {place.name} ({_annotated(place.codec)}) cannot be sent as JSON: it is nested too deep, or holds itself") from exc

    def decoded(self, place: _Place, written: Any) -> Any:
        """This reads an argument. Raises `PayloadError`."""
        try:
            return place.codec.decode(written)
        except (Mismatch, RecursionError) as exc:
            raise PayloadError(f"argument {place.name} ({_annotated(place.codec)}) cannot be read: {exc}") from exc


def _annotated(codec: Codec) -> str:
    return "not annotated" if codec.annotation is inspect.Parameter.empty else f"annotated {shown(codec.annotation)}"


def _parsed(data: bytes) -> Any:
    try:
        return from_text(data)
    except Mismatch as exc:
        raise PayloadError(f"it is no JSON: {exc}") from exc


_NO_SHAPE = _Shape(None)

JSON = JSONSerializer()
"""What `serializer="json"` stands for."""
