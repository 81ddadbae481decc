"""Values made of others: literals and unions, lists, sets, tuples, dicts, and classes with fields. They are given the codecs of their parts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast, get_origin, get_type_hints

import typing_extensions

from docket._json.codec import Codec, Mismatch, Unsupported, brief, listed, shown, within
from docket._json.text import from_text, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["ArrayCodec", "DictCodec", "FieldsCodec", "LiteralCodec", "ModelCodec", "TupleCodec", "UnionCodec"]


class LiteralCodec(Codec):
    """A few known values, each as it is written."""

    def __init__(self, annotation: Any, values: Sequence[tuple[Any, Any]]) -> None:
        super().__init__(annotation)
        self._values = values
        self.is_text = all(type(written) is str for _, written in values)

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


class UnionCodec(Codec):
    """The first member that can read what was written is the one that does; what another member would read is refused."""

    def __init__(self, annotation: Any, members: Iterable[Codec]) -> None:
        super().__init__(annotation)
        self._members = sorted(members, key=lambda member: member.breadth)
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


class ArrayCodec(Codec):
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
        return [within(f"[{index}]", encode, item) for index, item in enumerate(value)]

    def decode(self, written: Any, /) -> Any:
        assert self.kind is not None
        if type(written) is not list:
            raise self.refuse(written)
        decode = self._item.decode
        try:
            return self.kind(within(f"[{index}]", decode, item) for index, item in enumerate(cast("list[Any]", written)))
        except TypeError as exc:  # what is in a set can be hashed
            raise Mismatch(str(exc)) from exc


class TupleCodec(Codec):
    """Tuples of a fixed length, named ones among them."""

    breadth = 5

    def __init__(self, annotation: Any, items: Sequence[Codec], kind: type = tuple) -> None:
        super().__init__(annotation)
        self.kind = kind
        self._items = items

    def encode(self, value: Any, /) -> Any:
        if not isinstance(value, cast("type", self.kind)) or len(value) != len(self._items) or (self.kind is tuple and hasattr(value, "_fields")):
            raise self.refuse(value)
        return [within(f"[{index}]", item.encode, each) for index, (item, each) in enumerate(zip(self._items, value, strict=True))]

    def decode(self, written: Any, /) -> Any:
        if type(written) is not list or len(cast("list[Any]", written)) != len(self._items):
            raise self.refuse(written)
        found = [within(f"[{index}]", item.decode, each) for index, (item, each) in enumerate(zip(self._items, cast("list[Any]", written), strict=True))]
        return tuple(found) if self.kind is tuple else cast("Any", self.kind)(*found)


class DictCodec(Codec):
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
            at = f"[{brief(key)}]"
            written = within(at, self._key.encode, key)
            found[written if self._key.is_text else to_text(written).decode("utf-8", "surrogatepass")] = within(at, self._item.encode, item)
        return found

    def decode(self, written: Any, /) -> Any:
        if type(written) is not dict:
            raise self.refuse(written)
        found: dict[Any, Any] = {}
        for key, item in cast("dict[str, Any]", written).items():
            at = f"[{brief(key)}]"
            read = within(at, self._key.decode, key if self._key.is_text else from_text(key.encode("utf-8", "surrogatepass")))
            try:
                found[read] = within(at, self._item.decode, item)
            except TypeError as exc:
                raise Mismatch(str(exc)) from exc
        return found


class FieldsCodec(Codec):
    """Dataclasses and typed dicts: an object with the fields that have a value. The fields are looked up when they are first needed: a class may hold itself."""

    breadth = 5

    def __init__(self, kind: type, codec_of: Callable[[Any], Codec]) -> None:
        super().__init__(kind)
        self.kind = kind
        self._codec_of = codec_of
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
                optional = {name for name, hint in hints.items() if get_origin(hint) is typing_extensions.NotRequired}
                required = {name for name, hint in hints.items() if get_origin(hint) is typing_extensions.Required}
                self._required, names = (self.annotation.__required_keys__ | required) - optional, list(hints)  # which knows nothing of words in strings
            self._codecs = {name: self._codec_of(hints[name]) for name in names}
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
            return {name: within(f".{name}", codec.encode, getattr(value, name)) for name, codec in codecs.items()}
        if type(value) is not dict:
            raise self.refuse(value)
        found = cast("dict[str, Any]", value)
        self._check_names(found)
        return {name: within(f"[{name!r}]", codecs[name].encode, item) for name, item in found.items()}

    def decode(self, written: Any, /) -> Any:
        codecs = self.codecs
        if type(written) is not dict:
            raise self.refuse(written)
        found = cast("dict[str, Any]", written)
        self._check_names(found)
        values = {name: within(f".{name}", codecs[name].decode, item) for name, item in found.items()}
        if not self._is_dataclass:
            return values
        try:
            return self.annotation(**values)
        except Exception as exc:  # a user's `__post_init__` may raise anything
            raise Mismatch(f"{shown(self.annotation)} cannot be made of it: {type(exc).__name__}: {exc}") from exc

    def _check_names(self, found: Mapping[str, Any]) -> None:
        if strange := found.keys() - self.codecs.keys():
            raise Mismatch(f"{shown(self.annotation)} has no {listed(strange)}")
        if missing := self._required - found.keys():
            raise Mismatch(f"{shown(self.annotation)} needs {listed(missing)}")


class ModelCodec(Codec):
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
