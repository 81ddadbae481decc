"""What a function's signature says, read once: which calls bind to it, which parameters are the caller's, how a call is printed.

Giving dependency parameters their values is `dependencies`' business; here they are only told from the caller's own.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache, partial
from typing import Any, get_args

from docket.annotations import Logged, metadata_of
from docket.errors import InvalidArguments

__all__ = ["CallShape", "cached_signatures", "compact_signature", "get_signature", "is_async", "is_dependency", "name_of", "shape_of"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def is_dependency(value: object) -> bool:
    """This says whether a parameter's default stands for something that a worker provides.

    Told by what such an object can do, since the class itself lives further up.
    """
    kind: type = type(value)
    return hasattr(kind, "bind_to_parameter") and hasattr(kind, "__aenter__")


def _is_provided(parameter: inspect.Parameter) -> bool:
    return is_dependency(parameter.default) or any(getattr(item, "fills_parameter", False) for item in metadata_of(parameter.annotation))


def is_async(function: Callable[..., Any]) -> bool:
    """This says whether calling the function gives a coroutine; also for partials and for objects with `async def __call__`."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004 - not whether, but how


def name_of(function: Callable[..., Any]) -> str:
    """This names a function in full, for messages: module and qualified name."""
    named = function
    while isinstance(named, partial):
        named = named.func
    owner = named if hasattr(named, "__qualname__") else type(named)
    return f"{owner.__module__}.{owner.__qualname__}"


_signatures: weakref.WeakKeyDictionary[Callable[..., Any], inspect.Signature] = weakref.WeakKeyDictionary()
_shapes: weakref.WeakKeyDictionary[Callable[..., Any], CallShape] = weakref.WeakKeyDictionary()


def get_signature(function: Callable[..., Any]) -> inspect.Signature:
    """This gives a function's signature with its annotations evaluated; one that cannot be (imported only under `TYPE_CHECKING`) stays as written."""
    try:
        return _signatures[function]
    except KeyError:
        signature = _signatures[function] = _read_signature(function)
        return signature
    except TypeError:  # not hashable, or without weak references
        return _read_signature(function)


def _read_signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # noqa: BLE001 - evaluating an annotation runs a user's expression, which may raise anything; each is then tried on its own
        return _read_leniently(function)


def _read_leniently(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # pragma: no cover - the default Python is older
        import annotationlib

        signature = inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    else:
        signature = inspect.signature(function)
    names: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    parameters = [parameter.replace(annotation=_evaluated(parameter.annotation, names)) for parameter in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=_evaluated(signature.return_annotation, names))


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)  # noqa: S307 - the source of a user's own function
    except Exception:  # noqa: BLE001 - as above: it stays as written
        return annotation


class CallShape:
    """This knows which calls bind to one function's signature, and says so in a few hundred nanoseconds."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.signature = get_signature(function)
        parameters = self.signature.parameters.values()
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        self.dependencies = frozenset(p.name for p in parameters if _is_provided(p))
        """The parameters that a worker fills."""
        self._positional = {p.name: index for index, p in enumerate(positional)}
        self._named = {p.name for p in parameters if p.kind in _NAMED}
        self._required = {p.name: index for index, p in enumerate(positional) if self._is_required(p)}
        self._required_named = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY and self._is_required(p)]
        self._most = len(positional)
        # When keywords are required, every call takes the longer way.
        self._least = self._most + 1 if self._required_named else 1 + max(self._required.values(), default=-1)
        self.reserved = tuple(name for name in ("key", "when") if name in self._named - self.dependencies)
        """Parameters of the caller's own whose names `schedule` takes for itself."""

    def _is_required(self, parameter: inspect.Parameter) -> bool:
        return parameter.default is parameter.empty and parameter.name not in self.dependencies

    def accepts(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """This says whether the call surely binds. False means only: ask `check`, which knows every rule."""
        given = len(args)
        if not kwargs:
            return self._least <= given <= self._most
        if given > self._most:
            return False
        positional, named = self._positional, self._named
        for name in kwargs:
            if name not in named or positional.get(name, given) < given:
                return False
        return all(index < given or name in kwargs for name, index in self._required.items()) and all(name in kwargs for name in self._required_named)

    def check(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """This raises `InvalidArguments` when the call does not bind."""
        if self.accepts(args, kwargs):
            return
        try:
            self._binding.bind(*args, **kwargs)
        except TypeError as exc:
            raise InvalidArguments(f"{name}({compact_signature(self.signature)}) cannot be called like that: {exc}") from None

    def missing_dependencies(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
        """This names the parameters that a worker would fill and that a direct call has left out, in order."""
        given = len(args)
        return [name for name in self.signature.parameters if name in self.dependencies and name not in kwargs and self._positional.get(name, given) >= given]

    def passed(self, parameter: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """This gives what a call passes for a parameter, or its default: one value, each of a `*args`, or none where a worker fills it in."""
        declared = self.signature.parameters.get(parameter)
        if declared is None or declared.kind is inspect.Parameter.VAR_KEYWORD:  # one of the `**kwargs`, if it is there at all
            return (kwargs[parameter],) if parameter in kwargs else ()
        if declared.kind is inspect.Parameter.VAR_POSITIONAL:
            return args[self._most :]
        position = self._positional.get(parameter, len(args))
        if position < len(args):
            return (args[position],)
        if parameter in kwargs and declared.kind is not inspect.Parameter.POSITIONAL_ONLY:
            return (kwargs[parameter],)
        return () if declared.default is declared.empty or parameter in self.dependencies else (declared.default,)

    def call_repr(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """This prints a call's arguments for a log line: those annotated `Logged` with their values, the others as `...`."""
        if not self._logged:
            return _hidden(len(args), tuple(kwargs))
        logged, variadic = self._logged, self._variadic
        names = [*self._positional][: len(args)]
        names += [variadic.get(inspect.Parameter.VAR_POSITIONAL, "")] * (len(args) - len(names))
        shown = [logged[name].format(value) if name in logged else "..." for name, value in zip(names, args)]  # noqa: B905 - of one length
        for name, value in kwargs.items():
            declared = name if name in self._named else variadic.get(inspect.Parameter.VAR_KEYWORD, "")
            shown.append(f"{name}={logged[declared].format(value) if declared in logged else '...'}")
        return ", ".join(shown)

    @cached_property
    def _binding(self) -> inspect.Signature:
        """The signature as callers see it: what a worker fills may be left out, wherever it stands."""
        parameters = [p.replace(default=None) if p.name in self.dependencies and p.default is p.empty else p for p in self.signature.parameters.values()]
        return inspect.Signature(parameters, __validate_parameters__=False)

    @cached_property
    def _logged(self) -> Mapping[str, Logged]:
        return Logged.annotated_parameters(self.signature)

    @cached_property
    def _variadic(self) -> dict[Any, str]:
        return {p.kind: p.name for p in self.signature.parameters.values() if p.kind not in (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)}


@lru_cache(maxsize=1024)
def _hidden(given: int, names: tuple[str, ...]) -> str:
    """A call none of whose values is shown."""
    return ", ".join(["..."] * given + [f"{name}=..." for name in names])


def shape_of(function: Callable[..., Any]) -> CallShape:
    """This gives a function's shape, made once."""
    try:
        return _shapes[function]
    except KeyError:
        shape = _shapes[function] = CallShape(function)
        return shape
    except TypeError:  # not hashable, or without weak references
        return CallShape(function)


def cached_signatures() -> int:
    """This gives how many functions' shapes are kept."""
    return len(_shapes)


def compact_signature(signature: inspect.Signature) -> str:
    """This prints a signature on one line: the caller's parameters with annotations (less their metadata) and defaults, `...` for what a worker fills."""
    shown: list[str] = []
    provided = False
    for parameter in signature.parameters.values():
        if _is_provided(parameter):
            provided = True
            continue
        text = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not parameter.empty:
            annotation = parameter.annotation
            text += f": {inspect.formatannotation(get_args(annotation)[0] if metadata_of(annotation) else annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {parameter.default!r}"
        shown.append(text)
    return ", ".join([*shown, "..."] if provided else shown)
