"""From an annotation to its codec."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import sys
import types
import typing
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import typing_extensions

from docket._json.codec import Codec, Nothing, Plain, shown
from docket._json.composites import ArrayCodec, DictCodec, FieldsCodec, LiteralCodec, ModelCodec, TupleCodec, UnionCodec
from docket._json.scalars import scalar_codec

__all__ = ["codec_of"]

_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection, collections.abc.Iterable)
_SETS = (set, collections.abc.Set, collections.abc.MutableSet)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_OPEN = (Any, object, inspect.Parameter.empty)
_QUALIFIERS = (typing_extensions.NotRequired, typing_extensions.Required, typing_extensions.ReadOnly, typing.Final)
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
    if (scalar := scalar_codec(kind)) is not None:
        return scalar
    if _is_named_tuple(kind):
        return _named_tuple(kind)
    if _has_fields(kind):
        return FieldsCodec(kind, codec_of)
    if _is_model(kind):
        return ModelCodec(kind)
    return _collection(kind, kind, ()) or Nothing(kind)


def _has_fields(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or typing_extensions.is_typeddict(kind)


def _is_named_tuple(kind: Any) -> bool:
    return issubclass(kind, tuple) and hasattr(cast("Any", kind), "_fields")


def _named_tuple(kind: Any) -> Codec:
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - evaluating an annotation runs a user's expression
        hints = {}
    return TupleCodec(kind, [codec_of(hints.get(name, Any)) for name in kind._fields], kind)


def _is_model(kind: type) -> bool:
    """Whether it is a pydantic model; who has none has not imported pydantic."""
    base = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return isinstance(base, type) and issubclass(kind, base)


def _collection(annotation: Any, origin: Any, args: tuple[Any, ...]) -> Codec | None:
    inner = [codec_of(arg) for arg in args if arg is not ...]
    if origin in _LISTS:
        return ArrayCodec(annotation, inner[0] if inner else Plain(), list, (list, tuple) if origin is not list else (list,))
    if origin in _SETS or origin is frozenset:
        kind = frozenset if origin is frozenset else set
        return ArrayCodec(annotation, inner[0] if inner else Plain(), kind, (set, frozenset) if origin not in (set, frozenset) else (kind,))
    if origin is tuple:
        if not args or args[-1] is ...:
            return ArrayCodec(annotation, inner[0] if inner else Plain(), tuple, (tuple,))
        return TupleCodec(annotation, [] if args == ((),) else inner)
    if origin in _DICTS:
        return DictCodec(annotation, *(inner or (codec_of(str), Plain())))
    return None


def _codec_of_form(annotation: Any) -> Codec:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return UnionCodec(annotation, map(codec_of, args))
    if origin is Literal:
        return LiteralCodec(annotation, [(value, codec_of(type(value)).encode(value)) for value in args])
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
    return _collection(annotation, origin, args) or Nothing(annotation)
