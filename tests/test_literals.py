"""Literals: what goes over the wire comes back, and garbage is refused in words."""

from __future__ import annotations

import json
import math
import pickle
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket._literals import EnumMember, dumps_literal, from_tagged, loads_literal, parse_literal, parse_pair, path_of, plain_of
from docket.errors import InvalidOption, PayloadError

HERE = __name__


class Colour(Enum):
    RED = "red"
    BLUE = ("blue", 2)
    CRIMSON = "red"  # noqa: PIE796 - another name for RED


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Plan(str, Enum):
    FREE = "free"
    PAID = "paid"

    def __str__(self) -> str:
        return "a plan"


class Rate(float, Enum):
    HALF = 0.5

    def __float__(self) -> float:
        return 7.0


class Allowed(Flag):
    READ = 1
    WRITE = 2


class Mode(IntFlag):
    READ = 1
    WRITE = 2


AWARE = datetime(2030, 1, 31, 12, tzinfo=ZoneInfo("Europe/Berlin"))
SHOWN: list[tuple[object, str]] = [
    (5, '{"int":5}'),
    (True, '{"bool":true}'),
    (None, '{"none":null}'),
    (0.5, '{"float":"0.5"}'),
    (-math.inf, '{"float":"-inf"}'),
    ("fünf", '{"str":"f\\u00fcnf"}'),
    ("half a pair: \ud800", '{"str":"half a pair: \\ud800"}'),
    (Decimal("9.90"), '{"decimal":"9.90"}'),
    (datetime(2030, 1, 31, 12), '{"datetime":"2030-01-31T12:00:00"}'),
    (AWARE, '{"datetime":"2030-01-31T11:00:00+00:00"}'),
    (date(2030, 1, 31), '{"date":"2030-01-31"}'),
    (time(12, 30, 0, 5), '{"time":"12:30:00.000005"}'),
    (timedelta(seconds=-1, microseconds=5), '{"timedelta":-999995}'),
    (UUID(int=1), '{"uuid":"00000000-0000-0000-0000-000000000001"}'),
    ((1, "b"), '[{"int":1},{"str":"b"}]'),
]


@pytest.mark.parametrize(("value", "written"), SHOWN)
def test_a_literal_is_json_with_the_name_of_its_kind(value: object, written: str):
    assert dumps_literal(value) == written
    assert loads_literal(written) == value
    assert type(loads_literal(written)) is type(value)


zones: st.SearchStrategy[tzinfo] = st.timezones() | st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
here_or_nowhere: Any = st.none() | zones  # as `st.datetimes` has it by default, which its types do not say
within: Any = {"min_value": datetime(2, 1, 1), "max_value": datetime(9998, 12, 31)}
moments: st.SearchStrategy[datetime] = st.datetimes(**within, timezones=here_or_nowhere)
literals: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=50)
    | st.decimals(allow_nan=False)
    | moments
    | st.dates()
    | st.times(timezones=here_or_nowhere)
    | st.timedeltas()
    | st.uuids()
)


@given(literals)
def test_what_goes_over_the_wire_comes_back(value: object):
    written = dumps_literal(value)

    back = loads_literal(written)

    assert back == value
    assert type(back) is type(value)
    assert hash(back) is not None
    assert dumps_literal(back) == written
    assert json.loads(written) is not None


@given(st.tuples(literals, literals))
def test_a_pair_comes_back(pair: tuple[object, object]):
    assert loads_literal(dumps_literal(pair)) == pair


@given(st.datetimes(**within, timezones=st.just(timezone.utc)), zones)
def test_the_same_moment_is_the_same_text_wherever_it_was_taken(moment: datetime, zone: tzinfo):
    assert dumps_literal(moment.astimezone(zone)) == dumps_literal(moment)


# Members of an Enum


@pytest.mark.parametrize(
    ("member", "name", "plain"),
    [
        (Colour.RED, "RED", None),
        (Colour.CRIMSON, "RED", None),
        (Colour.BLUE, "BLUE", None),
        (Level.LOW, "LOW", 1),
        (Plan.PAID, "PAID", "paid"),
        (Rate.HALF, "HALF", 0.5),
        (Allowed.READ, "READ", None),
        (Mode.WRITE, "WRITE", 2),
    ],
)
def test_a_member_of_an_enum_travels_by_name_and_by_its_plain_value(member: Enum, name: str, plain: object):
    back = loads_literal(dumps_literal(member))

    assert back == EnumMember(path_of(type(member)), name, plain)  # pyright: ignore[reportArgumentType] - of each kind
    assert type(back.plain) is type(plain)
    assert back.names(member)
    assert dumps_literal(back) == dumps_literal(member)
    assert plain_of(member) == plain


def test_a_member_is_told_by_class_and_name():
    red = EnumMember.of(Colour.RED)

    assert repr(red) == f"{HERE}.Colour.RED"
    assert red.is_of(Colour.BLUE)
    assert not red.names(Colour.BLUE)
    assert not red.is_of(Level.LOW)
    assert not red.is_of("red")
    assert not EnumMember(f"{HERE}.Other", "RED").names(Colour.RED)


def test_a_combination_of_flags_is_named_or_refused():
    both = Allowed.READ | Allowed.WRITE

    if sys.version_info >= (3, 11):
        assert EnumMember.of(both).names(both)
    else:
        with pytest.raises(InvalidOption, match="has no name of its own"):
            dumps_literal(both)


def test_decoding_imports_nothing(monkeypatch: pytest.MonkeyPatch):
    written = dumps_literal(Colour.RED)
    monkeypatch.setitem(sys.modules, HERE, None)  # importing it would raise

    assert loads_literal(written) == EnumMember(f"{HERE}.Colour", "RED")


# What is refused


class Text(str):
    __slots__ = ()


class Moment(datetime):
    pass


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"bytes", "a bytes"),
        ([1, 2], "a list"),
        ({"a": 1}, "a dict"),
        (1j, "a complex"),
        (Text("text"), f"a {HERE}.Text"),
        (Moment(2030, 1, 31), f"a {HERE}.Moment"),
        (object(), "a object"),
        (Colour, "a enum.EnumType" if sys.version_info >= (3, 11) else "a enum.EnumMeta"),
        ((1, [2]), "a list"),
        ((1, (2, 3)), "a tuple"),
    ],
)
def test_any_other_class_is_refused_by_name(value: object, named: str):
    with pytest.raises(InvalidOption, match=f"^{named} cannot be compared with across processes; give an int, float, Decimal, str, bool, None, date"):
        dumps_literal(value)


@pytest.mark.parametrize("value", [(), (1,), (1, 2, 3)])
def test_only_two_are_a_pair(value: tuple[int, ...]):
    with pytest.raises(InvalidOption, match=f"has {len(value)} values; give a pair: the lowest and the highest"):
        dumps_literal(value)


@pytest.mark.parametrize("value", [math.nan, Decimal("NaN"), Decimal("sNaN")])
def test_what_equals_nothing_is_refused(value: object):
    with pytest.raises(InvalidOption, match="is equal to nothing"):
        dumps_literal(value)


class Nowhere(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        raise RuntimeError("who knows")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (datetime(2030, 1, 31, tzinfo=Nowhere()), "this datetime cannot be written: who knows"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "this datetime cannot be written: date value out of range"),
        pytest.param(10**5000, "this value cannot be written: Exceeds the limit", id="a number without end"),
    ],
)
def test_what_cannot_be_written_is_refused(value: object, why: str):
    if isinstance(value, int) and not hasattr(sys, "get_int_max_str_digits"):
        pytest.skip("this Python writes numbers of any length")
    with pytest.raises(InvalidOption, match=why):
        dumps_literal(value)


GARBAGE = [
    b"",
    b"\xff",
    "5",
    "null",
    "{}",
    "[]",
    "[1]",
    '[{"int":1}]',
    '[{"int":1},{"int":2},{"int":3}]',
    '[{"int":1},[{"int":2},{"int":3}]]',
    '{"int":1,"str":"x"}',
    '{"int":true}',
    '{"int":"1"}',
    '{"int":1.0}',
    '{"int":NaN}',
    '{"bool":1}',
    '{"none":0}',
    '{"float":0.5}',
    '{"float":"nan"}',
    '{"float":"half"}',
    '{"str":5}',
    '{"decimal":"NaN"}',
    '{"decimal":"ten"}',
    '{"datetime":"yesterday"}',
    '{"datetime":5}',
    '{"date":"2030-02-31"}',
    '{"time":"25:00"}',
    '{"timedelta":"1"}',
    '{"timedelta":99999999999999999999999}',
    '{"uuid":"x"}',
    '{"uuid":5}',
    '{"pickle":"gASVCQAAAAAAAAB9lC4="}',
    '{"enum":5}',
    '{"enum":["a"]}',
    '{"enum":["a","b",{"int":1},5]}',
    '{"enum":[1,"b"]}',
    '{"enum":["a",2]}',
    '{"enum":["a","b",5]}',
    '{"enum":["a","b",{"bool":true}]}',
    '{"enum":["a","b",{"enum":["a","b"]}]}',
    "[" * 100_000,
    '{"int":' + "9" * 5000 + "}",
]


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_refused(text: str | bytes):
    if "9999" in str(text) and not hasattr(sys, "get_int_max_str_digits"):
        pytest.skip("this Python reads numbers of any length")
    with pytest.raises(PayloadError):
        loads_literal(text)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["int", "str", "float", "enum", "datetime", "time", "decimal", "timedelta", "uuid", "x"]), inner, max_size=2)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_any_bytes_raise_our_error_or_none(text: str | bytes):
    try:
        loads_literal(text)
    except PayloadError:
        pass


@given(json_values)
def test_any_json_raises_our_error_or_none(found: object):
    try:
        back = from_tagged(found)
    except PayloadError:
        return
    assert dumps_literal(back)


def test_a_pickle_is_no_literal():
    with pytest.raises(PayloadError):
        loads_literal(pickle.dumps(5))


# On the command line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("int:5", 5),
        ("int:-5", -5),
        ("int:1_000", 1000),
        ("float:0.5", 0.5),
        ("float:1e3", 1000.0),
        ("bool:true", True),
        ("bool:No", False),
        ("bool:1", True),
        ("none:", None),
        ("str:int:5", "int:5"),
        ("str:", ""),
        ("decimal:9.90", Decimal("9.90")),
        ("date:2030-01-31", date(2030, 1, 31)),
        ("datetime:2030-01-31T12:00", datetime(2030, 1, 31, 12)),
        ("datetime:2030-01-31T12:00:00Z", datetime(2030, 1, 31, 12, tzinfo=timezone.utc)),
        ("datetime:2030-01-31T12:00:00+01:00", datetime(2030, 1, 31, 11, tzinfo=timezone.utc)),
        ("time:12:30", time(12, 30)),
        ("timedelta:30", timedelta(seconds=30)),
        ("timedelta:250ms", timedelta(milliseconds=250)),
        ("timedelta:-5m", timedelta(minutes=-5)),
        ("duration:1:30", timedelta(seconds=90)),
        ("datetime.timedelta:30", timedelta(seconds=30)),
        ("datetime.datetime:2030-01-31", datetime(2030, 1, 31)),
        ("datetime.date:2030-01-31", date(2030, 1, 31)),
        ("decimal.Decimal:1", Decimal(1)),
        ("builtins.int:5", 5),
        ("uuid:00000000-0000-0000-0000-000000000001", UUID(int=1)),
        ("uuid.UUID:00000000000000000000000000000001", UUID(int=1)),
        ("docket._literals.UUID:00000000000000000000000000000001", UUID(int=1)),  # under another name
        ("five", "five"),
        ("", ""),
        ("true", "true"),
        ("a:b", "a:b"),
        ("https://example.com", "https://example.com"),
        ("two words: text", "two words: text"),
        (".x:1", ".x:1"),
        ("http.HTTPStatus:NOT_FOUND", 404),
        ("http.HTTPStatus:404", 404),
    ],
)
def test_what_is_typed_is_read(text: str, value: object):
    assert parse_literal(text) == value


@given(literals.filter(lambda value: not isinstance(value, (type(None), bool, timedelta))))
def test_whatever_is_written_as_text_is_read_as_the_same(value: Any):
    [(kind, written)] = json.loads(dumps_literal(value)).items()

    read = parse_literal(f"{kind}:{written}")
    if isinstance(value, datetime) and value.tzinfo is not None:  # one that the clock skips equals none of another zone, and is that instant all the same
        read, value = read.timestamp(), value.timestamp()
    assert read == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("int:five", "'int:five' asks for an int, and 'five' is none; write int:5, or str:int:five for a string"),
        ("int:", "asks for an int, and '' is none"),
        ("int:" + "9" * 5000, "asks for an int"),
        ("float:x", "asks for a float, and 'x' is none; write float:0.5"),
        ("float:nan", "nan is equal to nothing"),
        ("bool:maybe", "asks for a bool, and 'maybe' is none; write bool:true"),
        ("none:5", "asks for a none, and '5' is none; write none:"),
        ("decimal:ten", "asks for a decimal, and 'ten' is none; write decimal:9.99"),
        ("date:2030-02-31", "asks for a date, and '2030-02-31' is none; write date:2030-01-31"),
        ("datetime:now", "write datetime:2030-01-31T12:00:00Z"),
        ("time:noon", "write time:12:00"),
        ("timedelta:soon", "'soon' is not a duration; write 250ms, 5s"),
        ("timedelta:999999999999d", "longer than a duration can be"),
        ("uuid:5", "write uuid:6ba7b810"),
        ("docket.nowhere.Class:x", "names a class that cannot be had: .*no 'nowhere' in module 'docket'.*write str:docket.nowhere.Class:x for a string"),
        ("no_such_module.Class:x", "there is no module 'no_such_module'"),
        ("example.com:8080", "there is no module 'example'.*write str:example.com:8080 for a string"),
        ("http.HTTPStatsu:404", "no 'HTTPStatsu' in module 'http'; did you mean 'HTTPStatus'"),
        ("http.HTTPStatus:TEAPOT", "asks for a member 'TEAPOT' of http.HTTPStatus, which has none of that name or value"),
        ("pathlib.Path:x", "asks for a pathlib.Path, which cannot be compared with across processes; give an int"),
        ("os.sep:x", "asks for a os.sep, which cannot be compared"),
    ],
)
def test_what_cannot_be_read_is_refused_with_advice(text: str, why: str):
    if "9999" in text and "int" in text and not hasattr(sys, "get_int_max_str_digits"):
        pytest.skip("this Python reads numbers of any length")
    with pytest.raises(InvalidOption, match=why):
        parse_literal(text)


kinds = st.sampled_from(["int", "float", "datetime", "date", "time", "timedelta", "uuid", "decimal", "bool", "none"])


@given(st.text(max_size=30) | st.tuples(kinds, st.text(max_size=20)).map(":".join))
def test_whatever_is_typed_raises_our_error_or_none(text: str):
    try:
        parse_literal(text)
    except InvalidOption as exc:
        refused = str(exc)
    else:
        return
    assert repr(text) in refused


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This is a module of a user's, in a package."""
    package = tmp_path / "shop_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "orders.py").write_text("from enum import Enum\nclass Order:\n    class Status(Enum):\n        OPEN = 'open'\n        PAID = 2\n")
    (package / "broken.py").write_text("raise RuntimeError('on purpose')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield "shop_of_a_test.orders"
    for name in [name for name in sys.modules if name.startswith("shop_of_a_test")]:
        del sys.modules[name]


@pytest.mark.parametrize(("written", "name"), [("OPEN", "OPEN"), ("open", "OPEN"), ("2", "PAID"), ("PAID", "PAID")])
def test_a_member_is_found_by_name_and_then_by_value(module: str, written: str, name: str):
    found = parse_literal(f"{module}.Order.Status:{written}")

    assert isinstance(found, Enum)
    assert dumps_literal(found) == f'{{"enum":["{module}.Order.Status","{name}"]}}'


def test_a_member_that_is_not_there_is_refused_with_the_one_that_was_meant(module: str):
    with pytest.raises(InvalidOption, match="did you mean 'PAID'"):
        parse_literal(f"{module}.Order.Status:PIAD")


def test_a_module_that_breaks_says_why(module: str):
    with pytest.raises(InvalidOption, match=r"importing it raised RuntimeError: on purpose"):
        parse_literal("shop_of_a_test.broken.Status:OPEN")
    with pytest.raises(InvalidOption, match=r"importing it raised RuntimeError: on purpose"):
        parse_literal("shop_of_a_test.broken.Status.Inner:OPEN")


# Ranges


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("int:1..int:5", (1, 5)),
        ("int:1..5", (1, 5)),
        ("a..b", ("a", "b")),
        ("str:a..b", ("a", "b")),
        ("str:a..int:5", ("a", 5)),
        ("date:2030-01-01..2030-01-31", (date(2030, 1, 1), date(2030, 1, 31))),
        ("datetime:2030-01-01T00:00..2030-01-31T12:30", (datetime(2030, 1, 1), datetime(2030, 1, 31, 12, 30))),
        ("float:0.5..1.5", (0.5, 1.5)),
        ("http.HTTPStatus:400..499", (400, 499)),
        ("http.HTTPStatus:400..http.HTTPStatus:499", (400, 499)),
    ],
)
def test_a_range_is_read(text: str, pair: tuple[object, object]):
    if "HTTPStatus" in text:
        text, pair = text.replace("499", "404"), (400, 404)

    assert parse_pair(text) == pair


@pytest.mark.parametrize("text", ["", "int:5", "..", "1..", "..5", "1-5"])
def test_what_is_no_range_is_refused(text: str):
    with pytest.raises(InvalidOption, match=r"is not a range; write the lowest and the highest with two dots between them, such as int:1..5"):
        parse_pair(text)
