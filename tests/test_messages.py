"""To bytes and back."""

from __future__ import annotations

import datetime as dt
import decimal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Self

from docket._messages import (
    dumps_call,
    dumps_exception,
    dumps_outcome,
    dumps_trace,
    dumps_value,
    loads_call,
    loads_netstrings,
    loads_outcome,
    loads_trace,
    loads_value,
    peek_struck,
)  # fmt: skip
from docket.errors import NotSerializable, PayloadError
from docket.states import TERMINAL, ExecutionState

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.datetimes(timezones=st.just(dt.timezone.utc)) | st.decimals(allow_nan=False)
    | st.uuids() | st.timedeltas(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)  # fmt: skip


@dataclass
class Order:
    """This is importable everywhere."""

    number: int


class Unpicklable:
    """This refuses to travel."""

    def __reduce__(self) -> Any:
        raise RuntimeError("I stay here")


class Awkward:
    """This cannot be compared, nor hashed, and travels all the same."""

    __hash__ = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare me")


class NeedsTwo(Exception):
    """This travels, and does not arrive."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


# Calls


@given(st.lists(plain), st.dictionaries(st.text(), plain))
def test_calls_come_back_as_they_were(args: list[Any], kwargs: dict[str, Any]):
    assert loads_call(dumps_call(tuple(args), kwargs)) == (tuple(args), kwargs)


@pytest.mark.parametrize(
    "value",
    [
        Order(3), cast("Any", OrderedDict(a=1)), {1, 2}, frozenset({1}), bytearray(b"x"), 1 + 2j, uuid.UUID(int=5), decimal.Decimal("1.5"), dt.date(2026, 1, 2), dt.time(3, 4),
        dt.timezone(dt.timedelta(hours=2)), Path("/tmp"), ExecutionState.QUEUED, Order, len, range(3), slice(1, 2), ...,
    ],
    ids=repr,
)  # fmt: skip
def test_values_of_every_kind_come_back_equal(value: Any):
    assert loads_call(dumps_call((value,), {"named": value})) == ((value,), {"named": value})
    assert loads_value(dumps_value(value)) == value


def test_functions_made_on_the_spot_travel():
    factor = 3

    def times(number: int) -> int:
        return number * factor

    (function,), _ = loads_call(dumps_call((times,), {}))

    assert function(4) == 12


def test_objects_are_never_compared():
    (found,), _ = loads_call(dumps_call((Awkward(),), {}))

    assert type(found) is Awkward


def test_classes_of_main_travel_to_another_process(tmp_path: Path):
    script = tmp_path / "producer.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from dataclasses import dataclass
        from docket._messages import dumps_call

        @dataclass
        class Point:
            x: int

        sys.stdout.write(dumps_call((Point(3), [Point(4)]), {"named": Point(5)}).hex())
        """)
    )
    payload = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent, env={"PYTHONPATH": "."}
    ).stdout

    (point, [inner]), kwargs = loads_call(bytes.fromhex(payload))

    assert (point.x, inner.x, kwargs["named"].x) == (3, 4, 5)


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((1, Unpicklable()), {}, "argument 2 (a Unpicklable) cannot be pickled: I stay here"),
        ((1,), {"lock": threading.Lock()}, "argument 'lock' (a lock) cannot be pickled"),
        ((), {"deep": [{"er": Unpicklable()}]}, "argument 'deep' (a list) cannot be pickled"),
        ((), {Unpicklable(): 1}, "the arguments cannot be pickled together"),
    ],
)
def test_what_cannot_be_pickled_is_named(args: tuple[Any, ...], kwargs: dict[str, Any], named: str):
    with pytest.raises(NotSerializable) as caught:
        dumps_call(args, kwargs)

    assert named in str(caught.value)
    assert caught.value.__cause__ is not None


@given(st.binary())
def test_calls_that_cannot_be_decoded_are_payload_errors(garbage: bytes):
    with pytest.raises(PayloadError):
        loads_call(garbage)


@pytest.mark.parametrize("value", [1, (1, 2, 3), ([], {}), ((), []), ((), None), "ab", {1: 2}])
def test_payloads_that_are_no_call_are_payload_errors(value: Any):
    with pytest.raises(PayloadError):
        loads_call(dumps_value(value))


# Results and exceptions


def test_a_result_that_cannot_be_pickled_is_named():
    with pytest.raises(NotSerializable, match=r"the result \(a Unpicklable\) cannot be pickled: I stay here"):
        dumps_value(Unpicklable())


@given(st.binary())
def test_values_that_cannot_be_decoded_are_payload_errors(garbage: bytes):
    with pytest.raises(PayloadError):
        loads_value(b"\xff" + garbage)


def test_exceptions_come_back_with_their_class_and_arguments():
    dumped = dumps_exception(ValueError("no", 3))
    assert dumped is not None

    found = loads_value(dumped)

    assert type(found) is ValueError
    assert found.args == ("no", 3)


def test_exceptions_that_are_made_of_other_arguments_than_they_show_come_back_too():
    error = NeedsTwo(1, 2)
    vars(error)["seen"] = True
    dumped = dumps_exception(error)
    assert dumped is not None

    found = loads_value(dumped)

    assert type(found) is NeedsTwo
    assert (found.args, vars(found)) == (error.args, vars(error))


class PickyAboutItsMaking(Exception):
    def __new__(cls, *args: object, made: bool = False) -> Self:
        if not made:
            raise ValueError("made otherwise")
        return super().__new__(cls, *args)

    def __init__(self, *args: object, made: bool = False) -> None: ...


@pytest.mark.parametrize("error", [PickyAboutItsMaking(made=True), ValueError(Unpicklable())], ids=["does not arrive", "does not leave"])
def test_exceptions_that_do_not_make_the_journey_are_none(error: Exception):
    assert dumps_exception(error) is None


# Outcomes


@given(st.sampled_from(sorted(TERMINAL, key=str)), st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.none() | st.binary())
def test_outcomes_come_back_as_they_were(state: ExecutionState, error: str | None, value: bytes | None):
    assert loads_outcome(dumps_outcome(state, error, value)) == (state, error, value, False)


def test_an_error_that_utf8_cannot_write_loses_only_what_it_must():
    assert loads_outcome(dumps_outcome(ExecutionState.FAILED, "no \udc80", None)) == (ExecutionState.FAILED, "no ?", None, False)


def test_that_it_was_struck_comes_back():
    blob = dumps_outcome(ExecutionState.CANCELLED, "struck by f(*)", None, struck=True)

    assert loads_outcome(blob) == (ExecutionState.CANCELLED, "struck by f(*)", None, True)
    assert peek_struck(blob[:1])
    assert not peek_struck(dumps_outcome(ExecutionState.CANCELLED, None, None))


@given(st.binary())
def test_outcomes_that_cannot_be_decoded_are_payload_errors(garbage: bytes):
    with pytest.raises(PayloadError):
        loads_outcome(b"?" + garbage)


@pytest.mark.parametrize("garbage", [b"", b"c", b"c:", b"cx:,", b"c-1:,", b"c5:ab,", b"c2:abc"])
def test_outcomes_of_a_wrong_shape_are_payload_errors(garbage: bytes):
    with pytest.raises(PayloadError):
        loads_outcome(garbage)


# Trace context


@given(st.dictionaries(st.text(), st.text()))
def test_trace_context_comes_back_as_it_was(carrier: dict[str, str]):
    assert loads_trace(dumps_trace(carrier)) == carrier


def test_no_trace_context_is_no_bytes():
    assert dumps_trace({}) == b""


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"3", b"\xff\xff", b'"text"', b"[" * 100_000])
def test_trace_context_that_cannot_be_read_is_none(garbage: bytes):
    assert loads_trace(garbage) == {}


# Events


@given(st.lists(st.binary()))
def test_netstrings_come_back_as_they_were(fields: list[bytes]):
    assert loads_netstrings(b"".join(b"%d:%b," % (len(field), field) for field in fields)) == fields


@given(st.text("0123456789:,-+_ ab").map(str.encode))
def test_netstrings_that_cannot_be_read_are_payload_errors_or_what_they_say(garbage: bytes):
    try:
        fields = loads_netstrings(garbage)
    except PayloadError:
        return
    assert sum(len(field) for field in fields) <= len(garbage)


@pytest.mark.parametrize("garbage", [b"3", b"3:", b"3:ab,", b"3:abc", b":,", b"x:,", b"0:,-4:", b"-1:,", b"+1:a,", b"1_0:0123456789,"])
def test_netstrings_of_a_wrong_shape_are_payload_errors(garbage: bytes):
    with pytest.raises(PayloadError, match="cannot be decoded"):
        loads_netstrings(garbage)
