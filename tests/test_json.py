"""JSON by annotation: what arrives is what was sent, and what would not arrive as it was is refused before it leaves."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import inspect
import json
import math
import pathlib
import sys
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union, cast

import pydantic
import pytest
import typing_extensions
from hypothesis import given, settings
from hypothesis import strategies as st

from docket._json import Mismatch, Unsupported, codec_of, from_text, to_text
from docket.errors import InvalidArguments, NotSerializable, PayloadError
from docket.serializers import JSON

T = TypeVar("T")
UTC = dt.timezone.utc
BERLIN = dt.timezone(dt.timedelta(hours=2))


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@dataclass
class Item:
    name: str
    price: decimal.Decimal
    tags: set[str] = field(default_factory=set[str])
    total: int = field(default=0, init=False)


@dataclass(frozen=True)
class Order:
    number: int
    items: list[Item]
    placed: dt.datetime
    parent: Order | None = None


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise LookupError("negative")


@dataclass
class Secretive:
    seed: InitVar[int]


@dataclass
class Lost:
    other: Elsewhere  # type: ignore[name-defined] # pyright: ignore[reportUndefinedVariable] # noqa: F821


class Point(NamedTuple):
    x: int
    y: float


class LostPoint(NamedTuple):
    x: Elsewhere  # type: ignore[name-defined] # pyright: ignore[reportUndefinedVariable] # noqa: F821


class Address(TypedDict):
    street: str
    number: typing_extensions.NotRequired[int]


class Model(pydantic.BaseModel):
    when: dt.datetime
    kind: Colour = Colour.RED
    amount: float = pydantic.Field(default=0.0, alias="Amount")


class OneWay(pydantic.BaseModel):
    number: int

    @pydantic.model_serializer
    def words(self) -> dict[str, str]:
        return {"number": "many"}


class Broken(pydantic.BaseModel):
    number: int

    @pydantic.model_serializer
    def words(self) -> dict[str, str]:
        raise LookupError("no words")


class Shout(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Plain:
    """JSON says nothing about it."""

    def __repr__(self) -> str:
        return "Plain()"


class Badly:
    def __repr__(self) -> str:
        raise RuntimeError

    __hash__ = object.__hash__


UserId = NewType("UserId", int)
Alias = typing_extensions.TypeAliasType("Alias", "list[int]")
RealAlias = typing_extensions.TypeAliasType("RealAlias", list[int])
Bound = TypeVar("Bound", bound=dt.date)

MOMENT = dt.datetime(2026, 3, 1, 12, 30, 0, 5, tzinfo=BERLIN)


def through(annotation: Any, value: Any) -> Any:
    codec = codec_of(annotation)
    return codec.decode(from_text(to_text(codec.encode(value))))


ROUND: list[tuple[Any, Any]] = [
    (str, "text \ud800 \u00e9"), (int, 10**30), (float, 1.5), (float, -0.0), (float, math.inf), (float, -math.inf), (bool, True), (None, None), (type(None), None),
    (int, True), (bytes, b"\x00\xff"), (dt.datetime, MOMENT), (dt.datetime, dt.datetime(2026, 1, 1)), (dt.date, dt.date(2026, 1, 1)), (dt.time, dt.time(1, 2, 3)),
    (dt.timedelta, dt.timedelta(days=-3, microseconds=1)), (dt.timedelta, dt.timedelta.max), (dt.timedelta, dt.timedelta.min), (dt.timedelta, dt.timedelta(0)),
    (uuid.UUID, uuid.UUID(int=5)), (decimal.Decimal, decimal.Decimal("1.10")), (pathlib.Path, pathlib.Path("a/b")),
    (pathlib.PurePosixPath, pathlib.PurePosixPath("/x")), (Colour, Colour.BLUE), (Level, Level.LOW), (Rights, Rights.READ | Rights.WRITE),
    (list, [1, "a", None, {"b": [1.5]}]), (dict, {"a": 1}), (tuple, (1, "a")), (set, {1, 2}), (frozenset, frozenset({"a"})),
    (list[dt.date], [dt.date(2026, 1, 1)]), (tuple[int, dt.date], (1, dt.date(2026, 1, 1))), (tuple[int, ...], (1, 2, 3)), (tuple[()], ()),
    (set[uuid.UUID], {uuid.UUID(int=1)}), (frozenset[int], frozenset({1})), (dict[str, dt.date], {"a": dt.date(2026, 1, 1)}),
    (dict[int, str], {1: "a", -2: "b"}), (dict[uuid.UUID, int], {uuid.UUID(int=1): 1}), (dict[float, int], {math.inf: 1, 1.5: 2}), (dict[tuple[int, int], int], {(1, 2): 3}),
    (Mapping[str, int], {"a": 1}), (Sequence[int], [1]), (Iterable[int], [1, 2]), (typing.List[int], [1]), (typing.Dict[str, int], {"a": 1}),  # noqa: UP006
    (Item, Item("pen", decimal.Decimal("1.50"), {"blue"})), (Order, Order(1, [Item("a", decimal.Decimal(1))], MOMENT, Order(0, [], MOMENT))),
    (Box[int], Box(3)), (Point, Point(1, 2.5)), (Address, {"street": "Main"}), (Address, {"street": "Main", "number": 5}),
    (Model, Model(when=MOMENT, kind=Colour.BLUE, Amount=2.5)), (Optional[int], None), (Optional[int], 5), (int | None, 5),  # noqa: UP045
    (Union[int, str], "5"), (int | str, 5), (int | float, 5.0), (int | float, 5), (float | str, "five"), (str | uuid.UUID, uuid.UUID(int=7)), (str | uuid.UUID, "seven"),  # noqa: UP007
    (bool | int, True), (int | bool, 0), (list[int] | dict[str, int], {"a": 1}), (str | None | Colour, None),
    (Literal["a", 1, True, b"x"], b"x"), (Literal[1] | None, None), (Literal["a", 1], 1), (Literal[1, True], True), (Literal[Colour.RED], Colour.RED),
    (Annotated[int, "positive"], 5), (UserId, 5), (RealAlias, [1, 2]), (Bound, dt.date(2026, 1, 1)), (T, [1]), (Any, {"a": [1]}), (object, "x"), (inspect.Parameter.empty, 1.5),
    ("Unknown", [1]), (typing.ForwardRef("Unknown"), "x"), (typing.Final[int], 3), (dict[Literal["a", "b"], int], {"a": 1}), (dict[str | None, int], {None: 1, "a": 2}),
    (LostPoint, LostPoint(1)),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), ROUND, ids=repr)
def test_what_is_sent_arrives(annotation: Any, value: Any):
    found = through(annotation, value)

    assert found == value
    assert type(found) is type(value)
    assert isinstance(value, Model) or str(found) == str(value)  # a model calls its time zone otherwise


def test_nan_arrives_as_nan():
    assert math.isnan(through(float, math.nan))


def test_subclasses_of_plain_classes_arrive_as_what_they_are_a_kind_of():
    assert through(str, Shout("quiet")) == "quiet"
    assert type(through(int, Level.LOW)) is int
    assert type(through(float, type("Metres", (float,), {})(1.5))) is float
    assert through(float, 3) == 3.0
    assert type(through(float, 3)) is float


def test_a_moment_keeps_its_offset_and_another_language_may_write_z():
    assert through(dt.datetime, MOMENT).utcoffset() == dt.timedelta(hours=2)
    assert codec_of(dt.datetime).decode("2026-01-01T00:00:00Z") == dt.datetime(2026, 1, 1, tzinfo=UTC)
    assert codec_of(dt.timedelta).decode("PT1H30M") == dt.timedelta(minutes=90)


def test_equal_annotations_are_not_taken_for_each_other():
    assert codec_of(Literal[1]).decode(1) == 1
    with pytest.raises(Mismatch):
        codec_of(Literal[True]).decode(1)


MISMATCHED: list[tuple[Any, Any]] = [
    (str, 5), (int, "5"), (int, 5.0), (float, "x"), (float, True), (float, 10**400), (float, 2**53 + 1), (bool, 1), (None, 0), (bytes, "x"), (bytes, bytearray(b"x")),
    (dt.datetime, dt.date(2026, 1, 1)), (dt.date, MOMENT), (dt.timedelta, 5), (uuid.UUID, "x"), (decimal.Decimal, 1.5), (pathlib.Path, "a"),
    (Colour, "RED"), (Rights, 1), (list[int], (1,)), (list[int], ["a"]), (tuple[int, str], (1,)), (tuple, [1]), (tuple[int, float], Point(1, 2.0)), (tuple[int, ...], Point(1, 2)),
    (set[int], frozenset({1})), (dict[str, int], {1: 1}), (dict[str, int], [1]), (Item, {"name": "pen"}), (Positive, type("Sub", (Positive,), {})(1)),
    (Address, {"street": 5}), (Address, {"number": 5}), (Address, {"street": "x", "city": "y"}), (Address, 5), (Model, {"when": "x"}), (Optional[int], "x"), (int | str, 1.5),  # noqa: UP045
    (Literal["a"], "b"), (Literal[1], True), (Point, (1, 2.0)),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), MISMATCHED, ids=repr)
def test_a_value_that_is_not_of_its_annotation_is_refused(annotation: Any, value: Any):
    with pytest.raises(Mismatch) as caught:
        codec_of(annotation).encode(value)
    assert not isinstance(caught.value, Unsupported)


UNSUPPORTED: list[tuple[Any, Any]] = [
    (Any, (1,)), (Any, MOMENT), (Any, math.nan), (Any, {1: 2}), (Any, [Level.LOW]), (dict, {"a": {1: 2}}), (list, [b"x"]), (Plain, Plain()), (list[Plain], [Plain()]),
    (Callable[[], None], print), (type[int], int), (str | pathlib.Path, "a"), (uuid.UUID | str, str(uuid.UUID(int=1))), (list[int] | set[int], {1}), (Plain | int, Plain()),
    (Secretive, Secretive(1)), (Lost, Lost(1)), (OneWay, OneWay(number=1)), (Broken, Broken(number=1)), (Model, Model(when=MOMENT, Amount=math.nan)),
    (collections.OrderedDict, collections.OrderedDict()), (complex, 1j), (bytearray, bytearray()),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), UNSUPPORTED, ids=repr)
def test_what_json_cannot_carry_is_refused(annotation: Any, value: Any):
    with pytest.raises(Unsupported):
        codec_of(annotation).encode(value)


def test_what_cannot_be_printed_is_named_by_its_class():
    with pytest.raises(Mismatch, match="at \\[<Badly>\\]: a Badly is not str"):
        codec_of(dict[str, int]).encode({Badly(): 1})


def test_an_alias_by_a_string_is_read_as_plain_json():
    assert through(Alias, [1]) == [1]


UNREADABLE: list[tuple[Any, Any]] = [
    (str, 5), (int, "5"), (float, "x"), (float, 10**400), (bool, 1), (None, 0), (bytes, "*"), (bytes, 5), (bytes, "\u00e9"), (dt.datetime, "x"), (dt.date, 5), (dt.time, "x"),
    (dt.timedelta, "P"), (dt.timedelta, "PT"), (dt.timedelta, "P1DT"), (dt.timedelta, "1"), (dt.timedelta, "P9999999999D"), (uuid.UUID, "x"), (decimal.Decimal, "x"), (Colour, "GREEN"),
    (Colour, 5), (Rights, 64), (Rights, "x"), (Literal["a"], "b"), (list[int], {}), (list[int], ["x"]), (tuple[int, str], [1]), (set, [[]]), (dict[str, int], []), (dict[str, int], {"a": "x"}),
    (dict[int, int], {"x": 1}), (dict[tuple[int, ...], int], {"5": 1}), (dict[list[int], int], {"[]": 1}), (Item, []), (Item, {"name": "pen"}), (Item, {"name": "p", "price": "1", "size": 1}),
    (Item, {"name": "p", "price": "1", "total": 1}), (Positive, {"number": -1}), (Address, {}), (Model, []), (Model, {"when": "x"}), (Plain, 1), (int | None, "x"), (Secretive, {}), (Lost, {}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "written"), UNREADABLE, ids=repr)
def test_what_the_annotation_cannot_be_made_of_is_refused(annotation: Any, written: Any):
    with pytest.raises(Mismatch):
        codec_of(annotation).decode(written)


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b"[Infinity]", b"1e999", b"\xff", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_json_is_refused(text: bytes):
    if sys.version_info < (3, 11) and text.startswith(b"1111"):  # pragma: no cover - where long numbers may be read
        return
    with pytest.raises(Mismatch):
        from_text(text)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("annotation", list({repr(annotation): annotation for annotation, _ in ROUND}.values()), ids=repr)
@settings(max_examples=25, deadline=None)
@given(written=anything)
def test_whatever_json_comes_only_our_error_comes_out(annotation: Any, written: Any):
    try:
        codec_of(annotation).decode(written)
    except Mismatch:
        pass


@pytest.mark.parametrize("annotation", [Any, list[float], dict[str, float | None], float | str | None, list[int | str | list[Any]]], ids=repr)
@settings(deadline=None)
@given(value=anything)
def test_what_is_taken_arrives_as_it_was(annotation: Any, value: Any):
    try:
        found = through(annotation, value)
    except Mismatch:
        return
    assert repr(_with_floats(found)) == repr(_with_floats(value))


def _with_floats(value: Any) -> Any:
    """This has every whole number as a float: 1 may arrive as 1.0, which equals it, and NaN equals nothing."""
    if isinstance(value, list):
        return [_with_floats(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _with_floats(each) for key, each in cast("dict[str, Any]", value).items()}
    return float(value) if type(value) is int and float(value) == value else value


# Calls


def registered(order: Order, note: str = "", *rest: int, urgent: bool = False, **more: dt.date) -> Point: ...  # type: ignore[empty-body]


CALL = ((Order(1, [], MOMENT), "x", 1, 2), {"urgent": True, "due": dt.date(2026, 1, 1)})


def test_a_call_arrives_by_the_annotations_of_its_function():
    data = JSON.dumps_call(*CALL, registered)

    assert JSON.loads_call(data, registered) == CALL
    assert json.loads(data) == [
        [{"number": 1, "items": [], "placed": "2026-03-01T12:30:00.000005+02:00", "parent": None}, "x", 1, 2],
        {"urgent": True, "due": "2026-01-01"},
    ]


def test_a_call_without_named_arguments_is_shorter():
    assert JSON.dumps_call((1, 2), {}, None) == b"[[1,2]]"
    assert JSON.loads_call(b"[[1,2]]", None) == ((1, 2), {})


def test_positional_only_parameters_leave_their_name_free():
    def function(number: int, /, **more: str) -> None: ...

    assert JSON.loads_call(JSON.dumps_call((1,), {"number": "x"}, function), function) == ((1,), {"number": "x"})


def test_what_no_parameter_takes_is_plain():
    def function(number: int) -> None: ...

    assert JSON.loads_call(b'[[1,[2]],{"x":"y"}]', function) == ((1, [2]), {"x": "y"})


def test_a_function_that_cannot_be_remembered_is_read_every_time():
    class Unhashable:
        __hash__ = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

        def __call__(self, day: dt.date) -> None: ...

    assert JSON.dumps_call((dt.date(2026, 1, 1),), {}, Unhashable()) == b'[["2026-01-01"]]'


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "words"),
    [
        ((5,), {}, InvalidArguments, "argument 'order' (annotated Order) cannot be sent as JSON: a int is not Order; pass what it is annotated with"),
        ((Order(1, [Item("a", 5)], MOMENT),), {}, InvalidArguments, "at items[0].price: a int is not Decimal"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        ((CALL[0][0], "x", 1, "two"), {}, InvalidArguments, "argument 'rest' (annotated int)"),
        ((CALL[0][0],), {"due": "soon"}, InvalidArguments, "argument 'due' (annotated date)"),
    ],
)
def test_an_argument_that_is_refused_is_named_with_its_annotation(args: Any, kwargs: Any, error: type[Exception], words: str):
    with pytest.raises(error) as caught:
        JSON.dumps_call(args, kwargs, registered)
    assert words in str(caught.value)


def test_by_an_unregistered_name_only_plain_json_is_taken():
    with pytest.raises(NotSerializable) as caught:
        JSON.dumps_call((1, MOMENT), {}, None)
    assert "argument 2 (not annotated) cannot be sent as JSON: a datetime is no plain JSON" in str(caught.value)
    assert "the task is not registered here" in str(caught.value)
    assert "pass an identifier to load it by" in str(caught.value)
    with pytest.raises(NotSerializable, match="argument 'badly'.*at \\[<Badly>\\]|is the key of a dict"):
        JSON.dumps_call((), {"badly": {Badly(): 1}}, None)


def test_what_holds_itself_is_refused():
    circle: list[Any] = []
    circle.append(circle)

    def annotated(value: list[Any]) -> None: ...

    for function in (None, annotated):
        with pytest.raises(NotSerializable, match="nested too deep, or holds itself"):
            JSON.dumps_call((circle,), {}, function)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before, numbers of any length were written")
def test_a_number_too_long_to_be_written_is_refused():
    with pytest.raises(NotSerializable, match="the arguments cannot be written as JSON"):
        JSON.dumps_call((10**5000,), {}, None)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[1]", b"[[],[]]", b"[[],{},{}]", b'[["x"]]', b'[[],{"order":1}]', b"[[" + b"[" * 90_000])
def test_what_is_no_call_of_it_is_a_payload_error(data: bytes):
    with pytest.raises(PayloadError):
        JSON.loads_call(data, registered)


def test_a_result_arrives_by_the_return_annotation():
    assert JSON.loads_result(JSON.dumps_result(Point(1, 2.0), registered), registered) == Point(1, 2.0)
    assert JSON.loads_result(JSON.dumps_result([1], None), None) == [1]
    with pytest.raises(NotSerializable, match=r"the result \(annotated Point\) cannot be written as JSON: a int is not Point"):
        JSON.dumps_result(1, registered)
    with pytest.raises(PayloadError, match="is not what the task is annotated to return"):
        JSON.loads_result(b"1", registered)
