"""What a strike says, and how it is written."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket._instructions import LONGEST, Operator, Restore, Strike, StrikeInstruction
from docket._literals import EnumMember
from docket.errors import InvalidOption, PayloadError


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


COLOUR = f"{__name__}.Colour"


@pytest.mark.parametrize(
    ("strike", "printed", "labels"),
    [
        (
            Strike("send", "p", Operator.EQUAL, 1),
            "send(p == 1)",
            {"docket.task": "send", "docket.parameter": "p", "docket.operator": "==", "docket.value": "1"},
        ),
        (Strike("send"), "send(*)", {"docket.task": "send"}),
        (Strike(None, "p", Operator.NOT_EQUAL, "a"), "*(p != 'a')", {"docket.parameter": "p", "docket.operator": "!=", "docket.value": "'a'"}),
        (Strike(), "*(*)", {}),
        (Strike("send", "p", Operator.BETWEEN, (1, 5)), "send(p between (1, 5))", None),
        (Strike("send", "p", Operator.EQUAL, Colour.RED), f"send(p == {COLOUR}.RED)", None),
        (Strike("send", "p"), "send(p == None)", None),
    ],
)
def test_an_instruction_prints_as_the_calls_it_means(strike: Strike, printed: str, labels: dict[str, str] | None):
    assert strike.call_repr() == printed
    if labels is not None:
        assert strike.labels() == labels


def test_what_is_to_be_done_is_the_instructions_class():
    assert (Strike.direction, Restore.direction, StrikeInstruction.direction) == ("strike", "restore", "")
    assert Strike("send").field == Restore("send").field
    assert Strike("send") != Restore("send")
    assert len({Strike("send"), Strike("send"), Restore("send")}) == 2
    assert Strike("send") != "send"


def test_one_that_says_the_same_is_equal_and_one_with_an_equal_value_of_another_kind_is_not():
    assert Strike("send", "p", Operator.EQUAL, 1) == Strike("send", "p", "==", 1)  # pyright: ignore[reportArgumentType] - as it may come from outside
    assert Strike("send", "p", Operator.EQUAL, 1) != Strike("send", "p", Operator.EQUAL, True)
    assert Strike("send", "p", Operator.EQUAL, 1) != Strike("send", "p", Operator.EQUAL, 1.0)


def test_a_moment_is_the_same_in_every_zone():
    noon = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)

    assert Strike("send", "p", Operator.LESS_THAN, noon) == Strike("send", "p", Operator.LESS_THAN, noon.astimezone(timezone(timedelta(hours=5))))


def test_a_member_of_an_enum_is_held_by_name():
    strike = Strike("send", "p", Operator.EQUAL, Colour.RED)

    assert strike.value == EnumMember(COLOUR, "RED")
    assert strike == Strike("send", "p", Operator.EQUAL, EnumMember(COLOUR, "RED"))


def test_a_list_of_two_is_a_pair():
    assert Strike("send", "p", Operator.BETWEEN, [1, 5]) == Strike("send", "p", Operator.BETWEEN, (1, 5))


def test_an_instruction_is_written_in_one_way():
    strike = Strike("send", "p", Operator.BETWEEN, (1, 2.5))

    assert strike.field == b'{"function":"send","operator":"between","parameter":"p","value":[{"int":1},{"float":"2.5"}]}'
    assert Strike().field == b'{"function":null,"operator":"==","parameter":null,"value":{"none":null}}'


VALUES: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.uuids() | st.timedeltas()


@given(st.none() | st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.sampled_from([Operator.EQUAL, Operator.NOT_EQUAL]), VALUES)
def test_what_is_written_comes_back(function: str | None, parameter: str, operator: Operator, value: Any):
    strike = Strike(function, parameter, operator, value)

    back = Strike.read(strike.field)

    assert back == strike
    assert (back.function, back.parameter, back.operator, back.value) == (function, parameter, operator, value)
    assert isinstance(Restore.read(strike.field), Restore)


@pytest.mark.parametrize("operator", Operator)
def test_every_operator_may_be_given_as_it_is_written(operator: Operator):
    value: Any = (1, 5) if operator is Operator.BETWEEN else 1

    strike = Strike("send", "p", operator.value, value)  # pyright: ignore[reportArgumentType] - as it may come from outside

    assert strike.operator is operator
    assert str(operator) == operator.value
    assert Strike.read(strike.field) == strike


REFUSED: list[tuple[tuple[Any, ...], str]] = [
    (("",), "function is ''; give its name, or None for all functions"),
    ((5,), "function is 5"),
    (("send", ""), "parameter is ''; give its name, or None for every call"),
    (("send", 5), "parameter is 5"),
    (("send", "p", "=", 1), "operator is '='; give one of ==, !=, >, >=, <, <=, between"),
    (("send", "p", [], 1), r"operator is \[\]"),
    (("send", None, "==", 5), "what is to be == 5\\? Name the parameter, or leave operator and value out"),
    (("send", None, ">", None), "what is to be > None\\?"),
    (("send", "p", "==", b"x"), "a bytes cannot be compared with across processes"),
    (("send", "p", "==", object), "a type cannot be compared with"),
    (("send", "p", "==", math.nan), "is equal to nothing"),
    (("send", "p", "==", (1, 2)), "== takes one value, and a pair was given; between takes one"),
    (("send", "p", "between", 1), "between takes a pair, the lowest and the highest, and the value is 1"),
    (("send", "p", "between", (1, 2, 3)), "has 3 values"),
    (("send", "p", "between", (5, 1)), "nothing is between 5 and 1; give the lowest first"),
    (("send", "p", "between", (Level.HIGH, Level.LOW)), "nothing is between"),
    (("send", "p", "between", (1, "5")), "between asks for an order, and there is none here"),
    (("send", "p", ">", None), "> asks for an order, and there is none here"),
    (("send", "p", ">=", Colour.RED), ">= asks for an order"),
    (("send", "p", "<", EnumMember(COLOUR, "RED")), "< asks for an order"),
    (("send", "p", "==", "x" * LONGEST), f"takes {LONGEST + 70} bytes, and may take {LONGEST}; give a shorter value"),
    (("send", "p", "==", 10**5000), "this instruction cannot be written"),
]


@pytest.mark.parametrize(("given_", "why"), REFUSED, ids=[f"{given_[:3]}" for given_, _ in REFUSED])
def test_what_can_never_strike_is_refused(given_: tuple[Any, ...], why: str):
    with pytest.raises(InvalidOption, match=why):
        Strike(*given_)


def test_members_with_a_plain_value_have_an_order():
    assert Strike("send", "p", Operator.BETWEEN, (Level.LOW, Level.HIGH)).value == (EnumMember.of(Level.LOW), EnumMember.of(Level.HIGH))


def said(**changes: object) -> bytes:
    return json.dumps({"function": "f", "operator": "==", "parameter": "p", "value": {"int": 1}, **changes}).encode()


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"\xff",
        b"5",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"function":"f"}',
        said(more=1),
        said(function=5),
        said(parameter=""),
        said(operator="~="),
        said(operator={}),
        said(value={"colour": "red"}),
        said(value=5),
        said(value=[{"int": 1}, {"int": 2}]),
    ],
    ids=lambda field: field[:30].decode(errors="replace"),
)
def test_a_field_that_cannot_be_read_is_our_error(field: bytes):
    with pytest.raises(PayloadError, match="cannot be decoded"):
        Strike.read(field)


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_any_bytes_raise_our_error_or_none(field: bytes):
    try:
        Strike.read(field)
    except PayloadError:
        pass
