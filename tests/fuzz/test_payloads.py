"""Whatever bytes stand where a call, a result, a failure, an end or a trace should stand: they are read, or refused in words of ours."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from typing_extensions import TypedDict

from docket._messages import loads_outcome, loads_trace, peek_error, peek_struck
from docket._options import DocketOptions
from docket._payloads import Payloads
from docket.errors import DocketError, PayloadError, PayloadRefused
from docket.states import TERMINAL
from tests._examples import examples
from tests.fuzz._damage import LONG_NUMBERS, anything, as_json, damaged, joined, json_texts, json_values, nested, pickles

pytestmark = pytest.mark.usefixtures("bounded_memory")


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Item:
    name: str
    price: Decimal = Decimal(1)
    parts: list[Item] = field(default_factory=cast("Any", list))


class Place(NamedTuple):
    name: str
    value: int


class Sized(TypedDict):
    value: int


class Model(BaseModel):
    name: str
    value: int = 0
    parent: Model | None = None


ANNOTATIONS: tuple[Any, ...] = (
    int, float, str, bytes, bool, None, Any, object, date, datetime, time, timedelta, UUID, Decimal, Path, Colour, Rights, Item, Place, Sized, Model,
    list[int], list[Item], tuple[int, ...], tuple[int, str], set[int], frozenset[str], dict[str, int], dict[int, Decimal], dict[Place, list[Model]],
    Optional[datetime], int | str | None, date | datetime | Decimal, Literal["a", 1], list[Item | Model],  # noqa: UP045 - a form of its own
)  # fmt: skip


def taking(annotation: Any) -> Callable[..., Any]:
    def task(value: Any, *rest: Any, **named: Any) -> Any: ...

    task.__annotations__ = {"value": annotation, "rest": annotation, "named": annotation, "return": annotation}
    return task


TASKS = [taking(annotation) for annotation in ANNOTATIONS]


def payloads(**options: Any) -> Payloads:
    return Payloads(DocketOptions(name="d", url="memory://d", **options))


PICKLE, JSON = payloads(), payloads(serializer="json", accept=("json",))
KEY, OTHER_KEY = "a signing key 00", "another key 1111"
SIGNED = payloads(signing_keys=[KEY], serializer="json")
ROTATED = payloads(signing_keys=[OTHER_KEY, KEY], serializer="json")
READERS = (PICKLE, JSON, SIGNED, payloads(signing_keys=[KEY], require_signatures=False), payloads(serializer="json"))

marks = st.sampled_from([b"\x80", b"\x01", b"\x02\x04json", b"\x02\x05other", b"\x02\xff", b"\x03", b""]) | st.binary(max_size=3)
marked = st.builds(joined, marks, anything)


def answered(read: Callable[[], Any]) -> Any:
    """This reads, and takes the errors that are ours for an answer. One that stands for a want of memory is none."""
    try:
        return read()
    except PayloadError as exc:
        cause: BaseException | None = exc
        while cause is not None:
            assert not isinstance(cause, MemoryError)
            cause = cause.__cause__
        return exc


@examples(300)
@given(pickles | damaged(pickles) | st.builds(joined, st.just(b"\x80\x05"), st.binary(max_size=100)))
def test_a_pickle_that_is_none_of_a_call_is_refused(data: bytes):
    try:
        args, kwargs = PICKLE.loads_call(data, "task", "k", 1, TASKS[0])
    except PayloadError:
        return
    assert isinstance(args, tuple)
    assert isinstance(kwargs, dict)


@examples(300)
@given(st.sampled_from(READERS), st.sampled_from(TASKS), marked)
def test_whatever_marks_a_payload_it_is_read_or_refused(reader: Payloads, task: Callable[..., Any], data: bytes):
    answered(lambda: reader.loads_call(data, "task", "k", 1, task))
    answered(lambda: reader.loads_result(data, task))
    answered(lambda: reader.loads_exception(data))
    answered(lambda: reader.open_outcome("task", "k", 1, "completed", None, data))


@examples(600)
@given(st.sampled_from(TASKS), st.lists(json_values(), max_size=2), st.none() | st.dictionaries(st.sampled_from(["value", "x"]), json_values(), max_size=2))
def test_json_gives_what_the_task_is_annotated_with_or_is_refused(task: Callable[..., Any], args: list[Any], kwargs: dict[str, Any] | None):
    data = b"\x01" + as_json([args] if kwargs is None else [args, kwargs])

    found = answered(lambda: JSON.loads_call(data, "task", "k", 1, task))

    if isinstance(found, tuple):
        positional, named = cast("tuple[Any, Any]", found)
        try:
            again = JSON.dumps_call(positional, named, task)
        except DocketError:  # read by one member of a union, it may look like another's
            return
        # Sets are written in whatever order they are in
        assert sorted(JSON.dumps_call(*JSON.loads_call(again, "task", "k", 1, task), task)) == sorted(again)


@examples(300)
@given(st.sampled_from(TASKS), damaged(json_texts) | nested | anything)
def test_a_text_that_is_no_json_is_refused(task: Callable[..., Any], text: bytes):
    answered(lambda: JSON.loads_call(b"\x01" + text, "task", "k", 1, task))
    answered(lambda: JSON.loads_call(b"\x01[[" + text + b"]]", "task", "k", 1, task))
    answered(lambda: JSON.loads_result(b"\x01" + text, task))
    answered(lambda: JSON.loads_exception(b"\x01" + text))


@examples(200)
@given(st.fixed_dictionaries({"module": json_values() | st.just("builtins"), "class": st.sampled_from(["ValueError", "SystemExit", "UnicodeDecodeError", "open", "OSError"]) | json_values(), "args": json_values(), "traceback": json_values()}))  # fmt: skip
def test_a_described_failure_becomes_an_exception_of_python_or_words(said: dict[str, Any]):
    found = answered(lambda: JSON.loads_exception(b"\x01" + as_json(said)))

    if isinstance(found, tuple):
        error, traceback = cast("tuple[Any, Any]", found)
        assert error is None or isinstance(error, Exception)
        assert traceback is None or isinstance(traceback, str)


# Seals

words = st.sampled_from(["task", "other", "k", "k:1", "", "\x03", "1"]) | st.text(max_size=4)
runs = st.tuples(words, words, st.integers(1, 3))


@examples(300)
@given(runs, runs, st.binary(max_size=40), st.sampled_from(["call", "result", "outcome"]), st.data())
def test_a_seal_is_good_for_one_thing_of_one_run_and_nothing_else(run: Any, other: Any, data: bytes, kind: str, given: st.DataObject):
    written = _sealed(kind, SIGNED, run, data)
    assert _opened(kind, SIGNED, run, written) == data
    assert _opened(kind, ROTATED, run, written) == data

    tampered = given.draw(damaged(st.just(written)))
    reader = given.draw(st.sampled_from([SIGNED, ROTATED]))
    as_kind = given.draw(st.sampled_from(["call", "result", "outcome"]))
    as_run = given.draw(st.sampled_from([run, other]))
    if (tampered, as_kind, as_run) != (written, kind, run):
        with pytest.raises(PayloadRefused):
            _opened(as_kind, reader, as_run, tampered)
    for stranger in (payloads(signing_keys=[OTHER_KEY]), Payloads(DocketOptions(name="e", url="memory://e", signing_keys=[KEY]))):
        with pytest.raises(PayloadRefused):
            _opened(kind, stranger, run, written)


def _sealed(kind: str, by: Payloads, run: tuple[str, str, int], data: bytes) -> bytes:
    task, key, generation = run
    if kind == "call":
        seal = by.sealing(task, key, data)
        assert seal is not None
        return seal(generation)
    if kind == "result":
        return by.seal_result(task, key, generation, data)
    outcome = by.seal_outcome(task, key, generation, "completed", None, data)
    assert outcome is not None
    return outcome


def _opened(kind: str, by: Payloads, run: tuple[str, str, int], data: bytes) -> bytes | None:
    task, key, generation = run
    if kind == "call":
        seal = by.resealing(task, key, generation, data)
        assert seal is not None
        return seal(0)[33:]
    if kind == "result":
        return by.open_result(task, key, generation, data)
    return by.open_outcome(task, key, generation, "completed", None, data)


# What stands beside payloads

lengths = st.binary(max_size=4) | st.integers(0, 30).map(as_json) | LONG_NUMBERS
outcomes = st.builds(joined, st.sampled_from([b"c", b"f", b"x", b"s", b"?"]), lengths, st.just(b":"), st.binary(max_size=30))


@examples(300)
@given(outcomes | damaged(outcomes) | st.just(b"c3:abc,=value") | anything)
def test_how_a_run_ended_is_read_or_refused(blob: bytes):
    found = answered(lambda: loads_outcome(blob))

    assert isinstance(found, PayloadError) or found[0] in TERMINAL
    told = peek_error(blob[:200])
    assert told is None or told
    assert peek_struck(blob) == blob.startswith(b"s")


@examples(200)
@given(anything)
def test_a_trace_that_cannot_be_read_is_none(trace: bytes):
    assert all(isinstance(word, str) for pair in loads_trace(trace).items() for word in pair)
