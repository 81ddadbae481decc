"""Whether a strike means a call: comparing what the call passes, and finding the strike among many. What is then done is others' business."""

from __future__ import annotations

import logging
import operator as operators
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from numbers import Number
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from docket._instructions import Operator, Strike
from docket._literals import EnumMember
from docket._signatures import shape_of
from docket._task import NamedTask
from docket.errors import PayloadError

if TYPE_CHECKING:
    from docket.execution import Execution

__all__ = ["Matcher", "Unlike", "holds"]

logger = logging.getLogger("docket.strikelist")

_ORDERS: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.GREATER_THAN: operators.gt,
    Operator.GREATER_THAN_OR_EQUAL: operators.ge,
    Operator.LESS_THAN: operators.lt,
    Operator.LESS_THAN_OR_EQUAL: operators.le,
}


_UNLIKE = "What is passed, of the class %s, cannot be compared with the value of strike %r, so it is not struck"
_FAILED = "Comparing what is passed, of the class %s, with the value of strike %r failed, so it is not struck"


class Unlike(Exception):
    """These two cannot be compared: a number with a text, a moment with a time zone and one without."""


def holds(operator: Operator, argument: Any, value: Any) -> bool:
    """This says whether an argument compares so with a strike's value. Raises `Unlike`, and whatever a user's own comparison raises.

    `==` and `!=` compare everything with None; with anything else they ask for like types, as the others do: a number typed as a
    text is not to strike every call for being unequal.
    """
    if operator is Operator.EQUAL:
        return _is_equal(argument, value)
    if operator is Operator.NOT_EQUAL:
        return not _is_equal(argument, value)
    if operator is Operator.BETWEEN:
        low, high = value
        return _is_ordered(operators.ge, argument, low) and _is_ordered(operators.le, argument, high)
    return _is_ordered(_ORDERS[operator], argument, value)


def _is_ordered(order: Callable[[Any, Any], Any], argument: Any, value: Any) -> bool:
    try:
        return bool(order(argument, value.plain if isinstance(value, EnumMember) else value))
    except TypeError as exc:
        raise Unlike from exc


def _is_equal(argument: Any, value: Any) -> bool:
    if isinstance(value, EnumMember):
        if value.is_of(argument):
            return value.names(argument)
        if argument is None:
            return False
        if value.plain is None:
            raise Unlike
        value = value.plain
    if argument == value:
        return True
    if not _are_alike(argument, value):
        raise Unlike
    return False


def _are_alike(argument: Any, value: Any) -> bool:
    """Of two that are not equal: whether they could have been."""
    if argument is None or value is None or (isinstance(argument, Number) and isinstance(value, Number)):
        return True
    own = cast("type[Any]", type(value))
    if own is datetime or own is time:
        return isinstance(argument, own) and (argument.utcoffset() is None) == (value.utcoffset() is None)
    if own is date:
        return isinstance(argument, date) and not isinstance(argument, datetime)
    if isinstance(argument, own):
        return True
    # A class of the user's own that knows how to compare itself with such values says so
    return cast("Any", type(argument)).__eq__(argument, value) is not NotImplemented


_NOTHING = "None"
_KINDS: dict[Any, str] = {
    **dict.fromkeys((bool, int, float, Decimal), "number"), str: "str", type(None): _NOTHING, UUID: "UUID", timedelta: "timedelta", date: "date",
}  # fmt: skip


def _kind_of(value: Any) -> str | None:
    """Which values one of a built-in class can be equal to; None for other classes, which may be equal to anything."""
    own = cast("type[Any]", type(value))
    if own is datetime or own is time:
        return f"{own.__name__} {'without' if value.utcoffset() is None else 'with'} a time zone"
    return _KINDS.get(own)


class _OnParameter:
    """These strikes compare one parameter: those that say what it equals are looked up, the others asked one by one."""

    def __init__(self) -> None:
        self._equal: dict[str, dict[Any, list[Strike]]] = {}
        self._others: dict[Strike, None] = {}
        self._warned: set[Strike] = set()
        self._compared: set[str] = set()
        """Kinds of arguments whose meeting with the other kinds has been looked into."""

    def __bool__(self) -> bool:
        return bool(self._equal or self._others)

    def __iter__(self) -> Iterator[Strike]:
        for group in self._equal.values():
            for strikes in group.values():
                yield from strikes
        yield from self._others

    def add(self, strike: Strike) -> None:
        kind = _kind_of(strike.value) if strike.operator is Operator.EQUAL else None
        if kind is None:
            self._others[strike] = None
        else:
            self._equal.setdefault(kind, {}).setdefault(strike.value, []).append(strike)
            self._compared.clear()

    def remove(self, strike: Strike) -> None:
        self._warned.discard(strike)
        if strike in self._others:
            del self._others[strike]
            return
        kind = cast("str", _kind_of(strike.value))
        group = self._equal[kind]
        group[strike.value].remove(strike)
        if not group[strike.value]:
            del group[strike.value]
        if not group:
            del self._equal[kind]

    def meaning(self, argument: Any) -> Strike | None:
        """This finds a strike that means what is passed."""
        try:
            kind = _kind_of(argument)
            found = self._equal.get(kind or "", {}).get(argument) if kind else None
        except Exception:  # noqa: BLE001 - a time zone of the user's own, a number that cannot be hashed: comparing says what is wrong
            kind = found = None
        if found:
            return found[0]
        if kind is None:
            return self._among(self, argument)
        if kind not in self._compared:
            self._compared.add(kind)
            self._warn_of_other_kinds(kind, argument)
        return self._among(self._others, argument)

    def _among(self, strikes: Iterable[Strike], argument: Any) -> Strike | None:
        for strike in strikes:
            try:
                if holds(strike.operator, argument, strike.value):
                    return strike
            except Unlike:
                self._warn(strike, _UNLIKE, argument)
            except Exception as exc:  # noqa: BLE001 - the comparison is the user's: the task is run, and the log says why
                self._warn(strike, _FAILED, argument, exc)
        return None

    def _warn_of_other_kinds(self, kind: str, argument: Any) -> None:
        if kind == _NOTHING:
            return
        for other, group in self._equal.items():
            if other not in {kind, _NOTHING}:
                first, *more = (strike for strikes in group.values() for strike in strikes)
                self._warn(first, f"{_UNLIKE}; the same goes for {len(more)} more strikes of this parameter" if more else _UNLIKE, argument)

    def _warn(self, strike: Strike, words: str, argument: Any, exc: Exception | None = None) -> None:
        """Once a strike, not once a call."""
        if strike not in self._warned:
            self._warned.add(strike)
            logger.warning(words, type(argument).__qualname__, strike.call_repr(), exc_info=exc, extra=strike.labels())


class _OnFunction:
    """These strikes name one function, or all."""

    def __init__(self) -> None:
        self.whole: Strike | None = None
        self.parameters: dict[str, _OnParameter] = {}

    def __bool__(self) -> bool:
        return self.whole is not None or bool(self.parameters)

    def add(self, strike: Strike) -> None:
        if strike.parameter is None:
            self.whole = strike
        else:
            self.parameters.setdefault(strike.parameter, _OnParameter()).add(strike)

    def remove(self, strike: Strike) -> None:
        if strike.parameter is None:
            self.whole = None
            return
        on_parameter = self.parameters[strike.parameter]
        on_parameter.remove(strike)
        if not on_parameter:
            del self.parameters[strike.parameter]

    def meaning(self, passed: Callable[[str], Iterable[Any]]) -> Strike | None:
        if self.whole is not None:
            return self.whole
        for parameter, on_parameter in self.parameters.items():
            for argument in passed(parameter):
                if (strike := on_parameter.meaning(argument)) is not None:
                    return strike
        return None


class Matcher:
    """This finds the strike that means a call, by the name of its task and then by its parameters."""

    def __init__(self) -> None:
        self._functions: dict[str | None, _OnFunction] = {}

    def add(self, strike: Strike) -> None:
        """This takes in a strike; one that is there already is not to come again."""
        self._functions.setdefault(strike.function, _OnFunction()).add(strike)

    def remove(self, strike: Strike) -> None:
        """This gives up a strike that was taken in."""
        on_function = self._functions[strike.function]
        on_function.remove(strike)
        if not on_function:
            del self._functions[strike.function]

    def meaning(self, execution: Execution[Any]) -> Strike | None:
        """This finds a strike that means a run."""
        for function in (execution.function_name, None):
            on_function = self._functions.get(function)
            if on_function is None:
                continue
            strike = on_function.whole or on_function.meaning(_passed_by(execution))
            if strike is not None:
                return strike
        return None

    def meaning_all_with(self, arguments: Mapping[str, Any]) -> Strike | None:
        """This finds a strike of all functions that means a call with these arguments, by parameter."""
        on_all = self._functions.get(None)
        return None if on_all is None else on_all.meaning(lambda parameter: (arguments[parameter],) if parameter in arguments else ())


def _passed_by(execution: Execution[Any]) -> Callable[[str], Iterable[Any]]:
    try:
        args, kwargs = execution.args, execution.kwargs
    except PayloadError:  # of a run that was read and whose payload is none; that will be seen when it runs
        return _nothing
    function = execution.function
    if type(function) is NamedTask:  # whose signature is not known here: its worker knows what stands in which place
        return lambda parameter: (kwargs[parameter],) if parameter in kwargs else ()
    passed = shape_of(function).passed
    return lambda parameter: passed(parameter, args, kwargs)


def _nothing(parameter: str) -> Iterable[Any]:
    """Gives what a call passes that cannot be read."""
    return ()
