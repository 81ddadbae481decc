"""Whatever stands where a strike should stand, on the list or in a message: it is read or left out, and comparing with it stops nothing."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import Docket, StrikeList
from docket._instructions import LONGEST, Operator, Strike
from docket._literals import dumps_literal, loads_literal, parse_literal, parse_pair
from docket._redis.memory import MemoryBackend
from docket.errors import InvalidOption, PayloadError
from tests._examples import examples
from tests.fuzz._damage import LONG_NUMBERS, anything, damaged, json_values, nested

pytestmark = pytest.mark.usefixtures("bounded_memory")


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class Contrary:
    """This cannot be compared with anything, nor hashed."""

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __lt__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError


WRITTEN = st.sampled_from(["5", "1e999999", "-0", "NaN", "sNaN", "Infinity", "2030-01-31", "2030-01-31T12:00:00Z", "0001-01-01T00:00:00+14:00", "12:00", "x", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"]) | LONG_NUMBERS.map(bytes.decode)  # fmt: skip
TAGS = st.sampled_from(["none", "bool", "int", "float", "str", "decimal", "datetime", "date", "time", "timedelta", "uuid", "enum", "complex"])


def _tagged(tag: str, written: Any) -> Any:
    return {tag: written}


def _member(path: str, name: str, plain: Any) -> Any:
    return {"enum": [path, name, plain]}


def _instruction(function: Any, parameter: Any, operator: str, value: Any) -> bytes:
    return json.dumps({"function": function, "parameter": parameter, "operator": operator, "value": value}).encode()


literals: st.SearchStrategy[Any] = st.recursive(
    st.builds(_tagged, TAGS, WRITTEN | st.integers() | st.integers(-(10**25), 10**25) | st.none() | st.booleans() | json_values()),
    lambda inner: st.lists(inner, max_size=3) | st.builds(_member, WRITTEN, WRITTEN, inner),
    max_leaves=3,
)
OPERATORS = st.sampled_from([each.value for each in Operator]) | st.sampled_from(["", "=", "in"])
NAMES = st.sampled_from(["task", "p", None, "", 5])
instructions = st.builds(
    _instruction,
    NAMES, NAMES, OPERATORS, literals,
)  # fmt: skip
plain: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-3, 10) | st.floats(allow_nan=False, width=16) | st.decimals(-3, 10, places=1) | st.sampled_from(["", "5", "p"]) | st.sampled_from([Colour.RED, Level.LOW])
    | st.datetimes(datetime(2030, 1, 30), datetime(2030, 2, 1), timezones=cast("Any", st.none() | st.just(timezone.utc))) | st.dates(date(2030, 1, 30), date(2030, 2, 1)) | st.times() | st.timedeltas() | st.uuids()
)  # fmt: skip


@st.composite
def sound(draw: st.DrawFn) -> bytes:
    """This gives instructions as they should be, in any spelling that JSON allows."""
    function, operator, value = draw(st.sampled_from(["task", None])), draw(st.sampled_from(Operator)), draw(plain)
    parameter = draw(st.sampled_from(["p", "q", None]))
    try:
        strike = (
            Strike(function) if parameter is None else Strike(function, parameter, operator, (value, draw(plain)) if operator is Operator.BETWEEN else value)
        )
    except InvalidOption:
        strike = Strike(function, "p", Operator.EQUAL, value)
    return draw(st.sampled_from([strike.field, strike.field, json.dumps(json.loads(strike.field), indent=1).encode()]))


fields = sound() | instructions | damaged(instructions | sound()) | nested | anything

ARGUMENTS: tuple[Any, ...] = (
    None, True, 0, 5, 10**400, -0.5, math.nan, math.inf, "5", "", b"5", Decimal(5), Decimal("sNaN"), Decimal("1e999999"), date(2030, 1, 31), datetime(2030, 1, 31),
    datetime(2030, 1, 31, tzinfo=timezone.utc), time(12), time(12, tzinfo=timezone.utc), timedelta(seconds=5), UUID(int=5), Colour.RED, Level.LOW, [1], {}, (1, 2), Contrary(), object(),
)  # fmt: skip


@examples(500)
@given(fields)
def test_an_instruction_is_read_or_refused(field: bytes):
    try:
        strike = Strike.read(field)
    except PayloadError:
        return
    except InvalidOption as exc:
        pytest.fail(f"what was read is not refused as a payload: {exc}")
    assert len(strike.field) <= LONGEST
    assert Strike.read(strike.field) == strike
    strike.call_repr()
    json.dumps(strike.labels())


@examples(400)
@given(st.lists(sound() | fields, min_size=1, max_size=4), st.lists(st.sampled_from(range(len(ARGUMENTS))), min_size=1, max_size=4))
def test_whatever_is_struck_a_call_is_struck_or_not(struck: list[bytes], arguments: list[int]):
    docket = Docket("d", "memory://d")

    @docket.task
    def task(p: Any) -> None: ...

    strikes = StrikeList()
    strikes.on_strikes(struck, ())

    for argument in [ARGUMENTS[place] for place in arguments]:  # hypothesis would compare the values themselves, and some cannot be
        assert strikes.is_stricken({"p": argument}) in {True, False}
        assert strikes.is_stricken(_execution(docket, task, argument)) in {True, False}
    strikes.on_strikes((), struck)
    assert not strikes.instructions
    assert not strikes.in_effect


def _execution(docket: Docket, task: Any, argument: Any) -> Any:
    from docket.execution import Execution  # late: to be read where it is made

    return Execution(docket, task.__wrapped__, (argument,), {}, "k", None, 1, function_name="task")


versions = st.sampled_from([b"0", b"1", b"-1", b"x", b"", b"1_0", b"9" * 30]) | LONG_NUMBERS


@examples(200)
@given(st.lists(st.tuples(versions, versions, st.sampled_from([b"strike", b"restore", b"other"]), fields) | st.lists(fields, max_size=5), max_size=4))
def test_a_message_of_a_strike_is_taken_or_read_up_on(messages: list[Any]):
    async def heard() -> None:
        async with Docket("d", "memory://fuzz-strikes") as docket:
            assert isinstance(docket.store.backend, MemoryBackend)
            for message in messages:
                docket.store.strikes.on_message(b"".join([b"%d:%b," % (len(field), field) for field in message]))
                docket.store.strikes.on_message(b"".join(message))
            await docket.strike_list.wait_for_strikes_loaded()

    asyncio.run(heard())


# Literals


@examples(300)
@given(literals.map(json.dumps).map(str.encode) | nested | anything)
def test_a_literal_is_read_or_refused(text: bytes):
    try:
        value = loads_literal(text)
    except PayloadError:
        return
    try:
        written = dumps_literal(value)
    except InvalidOption:  # a moment on the first day of the calendar, in a zone that is ahead of it
        return
    assert loads_literal(written) == value


typed = st.builds("{}:{}".format, TAGS | st.sampled_from(["enum.Enum", "no.such.module", "a..b", "docket.states.ExecutionState"]), WRITTEN | st.text(max_size=8))  # fmt: skip


@examples(300)
@given(typed | st.builds("{}..{}".format, typed, typed | WRITTEN) | st.text(max_size=12))
def test_what_is_typed_as_a_literal_is_taken_or_refused(text: str):
    for read in (parse_literal, parse_pair):
        try:
            read(text)
        except InvalidOption:
            pass
