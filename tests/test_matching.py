"""Which calls a strike means."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import Docket, Execution, Perpetual
from docket._instructions import Operator, Strike
from docket._literals import EnumMember
from docket._matching import Matcher, Unlike, holds
from docket._task import NamedTask

EQ, NE, GT, GE, LT, LE, BETWEEN = Operator
UNLIKE = "unlike"
HOME = Docket(url="memory://matching")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Plan(str, Enum):
    FREE = "free"
    PAID = "paid"


class Money:
    """This is a class of a user's that compares itself with numbers."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return self.amount == (other.amount if isinstance(other, Money) else other)

    __hash__ = None  # pyright: ignore[reportAssignmentType] - there are such classes

    def __gt__(self, other: int) -> bool:
        return self.amount > other


class Text(str):
    __slots__ = ()


NOON, NAIVE_NOON = datetime(2030, 1, 31, 12, tzinfo=timezone.utc), datetime(2030, 1, 31, 12)
DAY = date(2030, 1, 31)
RED, LOW, PAID = EnumMember.of(Colour.RED), EnumMember.of(Level.LOW), EnumMember.of(Plan.PAID)

CASES: list[tuple[object, Operator, object, bool | str]] = [
    # Numbers among each other
    (5, EQ, 5, True),
    (5, EQ, 6, False),
    (5, NE, 5, False),
    (5, NE, 6, True),
    (5.0, EQ, 5, True),
    (Decimal(5), EQ, 5, True),
    (Fraction(5), EQ, 5, True),
    (Fraction(1, 3), NE, 5, True),
    (True, EQ, 1, True),
    (5, GT, 4, True),
    (5, GT, 5, False),
    (5, GE, 5, True),
    (5, LT, 6, True),
    (5, LT, 5, False),
    (5, LE, 5, True),
    (5, LE, 4, False),
    (5, GT, Decimal("4.5"), True),
    (math.nan, EQ, 5, False),
    (math.nan, NE, 5, True),
    (math.nan, GT, 5, False),
    # Both ends of a range are in it
    (1, BETWEEN, (1, 5), True),
    (5, BETWEEN, (1, 5), True),
    (3.5, BETWEEN, (1, 5), True),
    (0, BETWEEN, (1, 5), False),
    (6, BETWEEN, (1, 5), False),
    ("b", BETWEEN, ("a", "c"), True),
    ("b", BETWEEN, (1, 5), UNLIKE),
    # Texts
    ("a", EQ, "a", True),
    ("a", NE, "b", True),
    ("b", GT, "a", True),
    (Text("a"), EQ, "a", True),
    (Text("a"), EQ, "b", False),
    # Everything can be compared with None for equality, and nothing for order
    (None, EQ, None, True),
    (5, EQ, None, False),
    (5, NE, None, True),
    (None, EQ, 5, False),
    (None, NE, 5, True),
    (None, GT, 5, UNLIKE),
    (None, BETWEEN, (1, 5), UNLIKE),
    # Unlike types are neither equal nor unequal
    (5, EQ, "5", UNLIKE),
    (5, NE, "5", UNLIKE),
    ("5", EQ, 5, UNLIKE),
    ("5", NE, 5, UNLIKE),
    ("5", GT, 5, UNLIKE),
    ([5], NE, 5, UNLIKE),
    (b"a", NE, "a", UNLIKE),
    (UUID(int=1), EQ, str(UUID(int=1)), UNLIKE),
    (UUID(int=1), EQ, UUID(int=1), True),
    (UUID(int=1), NE, UUID(int=2), True),
    # Dates
    (NOON, EQ, NOON.astimezone(timezone(timedelta(hours=5))), True),
    (NOON, NE, NOON, False),
    (NOON, GT, NOON - timedelta(hours=1), True),
    (NOON, BETWEEN, (NOON, NOON), True),
    (NOON, EQ, NAIVE_NOON, UNLIKE),
    (NOON, NE, NAIVE_NOON, UNLIKE),
    (NOON, LT, NAIVE_NOON, UNLIKE),
    (NAIVE_NOON, NE, NAIVE_NOON + timedelta(1), True),
    (NOON, NE, DAY, UNLIKE),
    (DAY, NE, NOON, UNLIKE),
    (DAY, LT, NOON, UNLIKE),
    (DAY, EQ, DAY, True),
    (DAY, NE, date(2030, 1, 1), True),
    (time(12), EQ, time(12), True),
    (time(12), NE, time(13), True),
    (time(12), NE, time(12, tzinfo=timezone.utc), UNLIKE),
    (timedelta(1), GT, timedelta(hours=23), True),
    (timedelta(1), NE, 86400, UNLIKE),
    # Members of an Enum, by class and name
    (Colour.RED, EQ, RED, True),
    (Colour.BLUE, EQ, RED, False),
    (Colour.BLUE, NE, RED, True),
    (Colour.RED, NE, RED, False),
    (None, EQ, RED, False),
    (None, NE, RED, True),
    ("red", EQ, RED, UNLIKE),
    (Colour.RED, EQ, "red", UNLIKE),
    (Level.LOW, EQ, RED, UNLIKE),
    # and those that are also numbers or texts by their plain value too
    (Level.LOW, EQ, LOW, True),
    (Level.HIGH, EQ, LOW, False),
    (1, EQ, LOW, True),
    (2, NE, LOW, True),
    (Level.LOW, EQ, 1, True),
    ("1", EQ, LOW, UNLIKE),
    (Level.HIGH, GT, LOW, True),
    (Level.LOW, GT, LOW, False),
    (5, BETWEEN, (LOW, EnumMember.of(Level.HIGH)), False),
    (2, BETWEEN, (LOW, EnumMember.of(Level.HIGH)), True),
    (Plan.PAID, EQ, PAID, True),
    (Plan.FREE, NE, PAID, True),
    ("paid", EQ, PAID, True),
    (Plan.PAID, EQ, "paid", True),
    (Plan.FREE, EQ, "paid", False),
    # A class of the user's own
    (Money(5), EQ, 5, True),
    (Money(5), NE, 6, True),
    (Money(5), GT, 4, True),
    (Money(5), LT, 6, UNLIKE),
]


@pytest.mark.parametrize(
    ("argument", "operator", "value", "held"),
    CASES,
    ids=[f"{a!r} {o} {v!r}" if not isinstance(a, Money) else f"{a.amount} {o} {v!r} of money" for a, o, v, _ in CASES],
)
def test_a_comparison(argument: object, operator: Operator, value: object, held: bool | str):
    if held == UNLIKE:
        with pytest.raises(Unlike):
            holds(operator, argument, value)
    else:
        assert holds(operator, argument, value) is held


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Execution[Any]:
    return Execution(HOME, function, args, kwargs, "k", None, 1, function_name="send")


async def send(customer: Any, /, region: Any = "eu", *more: Any, note: Any = None, **others: Any) -> None: ...


def of(*strikes: Strike) -> Matcher:
    matcher = Matcher()
    for strike in strikes:
        matcher.add(strike)
    return matcher


def means(matcher: Matcher, *args: Any, **kwargs: Any) -> bool:
    return matcher.meaning(call(send, *args, **kwargs)) is not None


# The one that is found


def test_a_strike_of_a_function_means_every_call_of_it_and_none_of_others():
    strike = Strike("send")

    assert of(strike).meaning(call(send, 5)) is strike
    assert of(Strike("other")).meaning(call(send, 5)) is None
    assert of(Strike()).meaning(call(send, 5)) == Strike()


@pytest.mark.parametrize(
    ("parameter", "value", "args", "kwargs", "meant"),
    [
        ("customer", 5, (5,), {}, True),
        ("customer", 5, (6,), {}, False),
        ("customer", 5, (6,), {"customer": 5}, False),  # the first is positional only, and this one among the others
        ("region", "us", (1, "us"), {}, True),
        ("region", "us", (1,), {"region": "us"}, True),
        ("region", "eu", (1,), {}, True),  # by default
        ("region", "eu", (1, "us"), {}, False),
        ("note", "x", (1,), {"note": "x"}, True),
        ("note", None, (1,), {}, True),
        ("more", 3, (1, "eu", 2, 3), {}, True),
        ("more", 4, (1, "eu", 2, 3), {}, False),
        ("more", 4, (1,), {}, False),
        ("colour", "red", (1,), {"colour": "red"}, True),
        ("colour", None, (1,), {}, False),
        ("others", "x", (1,), {"colour": "x"}, False),
        ("others", "x", (1,), {"others": "x"}, True),
    ],
)
def test_parameters_are_found_by_name_however_they_are_passed(parameter: str, value: object, args: tuple[Any, ...], kwargs: dict[str, Any], meant: bool):
    assert means(of(Strike("send", parameter, EQ, value)), *args, **kwargs) is meant
    assert means(of(Strike(None, parameter, EQ, value)), *args, **kwargs) is meant


def test_what_a_worker_fills_in_is_not_compared():
    async def beat(perpetual: Perpetual = Perpetual()) -> None: ...

    assert of(Strike("send", "perpetual", EQ, None)).meaning(call(beat)) is None
    assert of(Strike("send", "perpetual", NE, None)).meaning(call(beat)) is None


def test_of_a_task_known_by_name_only_what_is_passed_by_name_is_compared():
    stranger: Any = NamedTask("send", HOME)
    strike = Strike("send", "customer", EQ, 5)

    assert of(strike).meaning(call(stranger, customer=5)) is strike
    assert of(strike).meaning(call(stranger, 5)) is None
    assert of(Strike("send", "args", EQ, 5)).meaning(call(stranger, 5)) is None
    assert of(Strike("send")).meaning(call(stranger, 5)) == Strike("send")


def test_arguments_that_cannot_be_decoded_are_not_compared():
    execution = call(send)
    execution._args, execution._payload = None, b"no pickle"  # pyright: ignore[reportPrivateUsage] - as one that was read has them

    assert of(Strike("send", "customer", NE, 5)).meaning(execution) is None
    assert of(Strike("send")).meaning(execution) == Strike("send")


def test_arguments_alone_are_meant_by_strikes_of_all_functions():
    matcher = of(Strike("send", "customer", EQ, 5), Strike(None, "customer", EQ, 6))

    assert matcher.meaning_all_with({"customer": 6}) == Strike(None, "customer", EQ, 6)
    assert matcher.meaning_all_with({"customer": 5}) is None
    assert matcher.meaning_all_with({}) is None
    assert of(Strike("send")).meaning_all_with({"customer": 5}) is None
    assert of(Strike()).meaning_all_with({}) == Strike()


def test_what_was_removed_means_nothing_and_what_is_left_still_does():
    strikes = [
        Strike("send", "customer", EQ, 1),
        Strike("send", "customer", EQ, True),
        Strike("send", "customer", EQ, "a"),
        Strike("send", "customer", GT, 100),
        Strike("send", "region", EQ, "us"),
        Strike("send"),
        Strike(None, "customer", EQ, 2),
        Strike(),
    ]
    matcher = of(*strikes)

    for strike in reversed(strikes[1:]):
        matcher.remove(strike)

    assert [means(matcher, argument) for argument in (1, True, "a", 101, 2)] == [True, True, False, False, False]
    matcher.remove(strikes[0])
    assert not means(matcher, 1)
    assert matcher._functions == {}  # pyright: ignore[reportPrivateUsage] - so that a task pays nothing for what was


plain: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, 1.0, 0.5, Decimal(1), Decimal("0.5"), Decimal("sNaN"), math.nan])
    | st.sampled_from(["", "1", "a"])
    | st.sampled_from([NOON, NOON.astimezone(timezone(timedelta(hours=5))), NAIVE_NOON, DAY, time(12), time(12, tzinfo=timezone.utc), timedelta(1)])
    | st.sampled_from([UUID(int=1), UUID(int=2)])
    | st.sampled_from([Colour.RED, Level.LOW, Plan.PAID, "paid"])
)
values = plain.filter(lambda value: value == value and repr(value) != "Decimal('sNaN')" if not isinstance(value, Decimal) else not value.is_nan())


def on_customer(operator: Operator, value: object) -> Strike:
    return Strike("send", "customer", operator, value)


strikes = st.builds(on_customer, st.sampled_from([EQ, EQ, EQ, NE]), values)


def naively(strikes: list[Strike], argument: object) -> bool:
    def means(strike: Strike) -> bool:
        try:
            return holds(strike.operator, argument, strike.value)
        except (Unlike, ArithmeticError):
            return False

    return any(means(strike) for strike in strikes)


@given(st.lists(strikes, unique=True, max_size=8), plain)
def test_looking_up_finds_what_comparing_with_each_would(strikes: list[Strike], argument: object):
    assert means(of(*strikes), argument) is naively(strikes, argument)


# What cannot be compared


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """This gives the warnings so far, and takes them away."""
    caplog.set_level(logging.INFO, "docket.strikelist")

    def taken() -> list[str]:
        said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        caplog.clear()
        return said

    return taken


@pytest.mark.parametrize("operator", [EQ, NE, GT])
def test_unlike_types_are_not_struck_and_that_is_said_once(operator: Operator, warnings: Callable[[], list[str]]):
    matcher = of(Strike("send", "customer", operator, "5"))

    assert not means(matcher, 5)
    assert not means(matcher, 5)
    assert not means(matcher, 7.5)

    assert warnings() == [
        f"What is passed, of the class int, cannot be compared with the value of strike \"send(customer {operator} '5')\", so it is not struck"
    ]


def test_each_strike_warns_for_itself_and_anew_once_it_is_made_anew(warnings: Callable[[], list[str]]):
    one, other = Strike("send", "customer", GT, "5"), Strike("send", "customer", NE, "7")
    matcher = of(one, other)

    assert not means(matcher, 5)
    assert len(warnings()) == 2

    matcher.remove(one)
    matcher.add(one)
    assert not means(matcher, 5)
    assert len(warnings()) == 1


def test_of_many_that_are_looked_up_one_line_speaks_for_all(warnings: Callable[[], list[str]]):
    matcher = of(*(Strike("send", "customer", EQ, str(number)) for number in range(1000)), Strike("send", "customer", EQ, None))

    for _ in range(2):
        assert not means(matcher, 5)

    [said] = warnings()
    assert "\"send(customer == '0')\"" in said
    assert said.endswith("so it is not struck; the same goes for 999 more strikes of this parameter")
    assert not means(matcher, ["a list"])
    assert len(warnings()) == 999  # one by one, as nothing is known of such a class


def test_none_is_compared_with_everything_without_a_word(warnings: Callable[[], list[str]]):
    matcher = of(Strike("send", "customer", EQ, "5"), Strike("send", "customer", EQ, None), Strike("send", "region", EQ, 5))

    assert means(matcher, None)
    assert not means(of(Strike("send", "customer", EQ, "5")), None)
    assert not means(of(Strike("send", "customer", EQ, None)), 5)
    assert warnings() == []


class Unruly:
    """This is a class of a user's whose comparisons fail."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        raise self.error

    def __hash__(self) -> int:
        raise self.error

    __gt__ = __eq__


@pytest.mark.parametrize("error", [RuntimeError("on purpose"), ZeroDivisionError()])
@pytest.mark.parametrize("operator", [EQ, NE, GT])
def test_a_comparison_of_the_users_that_fails_stops_nothing(
    operator: Operator, error: Exception, warnings: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
):
    matcher = of(Strike("send", "customer", operator, 5), Strike("send", "region", EQ, "us"))

    assert not means(matcher, Unruly(error))
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert means(matcher, Unruly(error), "us")

    [said] = warnings()
    assert said == f"Comparing what is passed, of the class Unruly, with the value of strike 'send(customer {operator} 5)' failed, so it is not struck"


class Several(list[Any]):
    """This is like the arrays whose comparison gives no single answer."""

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None

    def __bool__(self) -> bool:
        raise ValueError("the truth of several is ambiguous")


def test_a_comparison_without_a_single_answer_stops_nothing(warnings: Callable[[], list[str]]):
    assert not means(of(Strike("send", "customer", NE, 5)), Several())
    assert len(warnings()) == 1


class Nowhere(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        raise RuntimeError("who knows")


@pytest.mark.parametrize("argument", [datetime(2030, 1, 31, tzinfo=Nowhere()), Decimal("sNaN")])
def test_a_value_that_cannot_even_be_looked_up_stops_nothing(argument: object, warnings: Callable[[], list[str]]):
    matcher = of(Strike("send", "customer", EQ, NOON), Strike("send", "customer", EQ, 5), Strike("send", "customer", EQ, "x"))

    assert not means(matcher, argument)
    assert warnings()
