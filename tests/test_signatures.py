"""Which calls bind, told fast; how signatures and calls are printed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import Depends, Docket, Logged
from docket._signatures import CallShape, compact_signature, get_signature, name_of, shape_of
from docket.dependencies import CurrentDocket
from docket.errors import InvalidArguments


def nothing() -> None: ...
def one(a: int) -> None: ...
def some(a: int, b: int = 0) -> None: ...
def positional_only(a: int, /, b: int) -> None: ...
def keyword_only(a: int, *, b: int, c: int = 0) -> None: ...
def variadic(a: int, *rest: int, **more: int) -> None: ...
def optional_keyword(a: int = 0, *, b: int = 0) -> None: ...


functions: list[Callable[..., None]] = [nothing, one, some, positional_only, keyword_only, variadic, optional_keyword]


@given(st.sampled_from(functions), st.lists(st.integers(), max_size=3), st.dictionaries(st.sampled_from("abcd"), st.integers(), max_size=3))
def test_a_call_is_accepted_exactly_when_python_accepts_it(function: Callable[..., None], args: list[int], kwargs: dict[str, int]):
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(InvalidArguments):
            CallShape(function).check(function.__name__, tuple(args), kwargs)
    else:
        CallShape(function).check(function.__name__, tuple(args), kwargs)


def connect() -> str:
    return ""


def test_what_a_worker_fills_may_be_left_out_wherever_it_stands():
    def task(a: int, db: Annotated[str, Depends(connect)], b: int) -> None: ...

    shape = CallShape(task)

    assert shape.dependencies == {"db"}
    shape.check("task", (1,), {"b": 2})
    shape.check("task", (1, "db", 2), {})
    with pytest.raises(InvalidArguments, match="'b'"):
        shape.check("task", (1,), {})
    with pytest.raises(InvalidArguments, match="'b'"):
        shape.check("task", (1, 2), {})


def test_a_signature_is_printed_on_one_line():
    def task(a: int, b: str = "x", *rest: int, c: bool = True, docket: Docket = CurrentDocket(), **more: Any) -> None: ...

    assert compact_signature(get_signature(task)) == "a: int, b: str = 'x', *rest: int, c: bool = True, **more: Any, ..."
    assert compact_signature(inspect.signature(eval("lambda a, b=1: None"))) == "a, b = 1"


def test_a_printed_signature_leaves_metadata_out():
    def task(customer: Annotated[int, Logged], names: Annotated[list[str], Logged(length_only=True)] = []) -> None: ...  # noqa: B006 - never changed

    assert compact_signature(get_signature(task)) == "customer: int, names: list[str] = []"


def test_an_annotation_that_cannot_be_evaluated_hides_no_other():
    def task(a: Unknown, b: Annotated[int, "text", Logged]): ...  # type: ignore[name-defined]  # pyright: ignore  # noqa: F821, PGH003

    signature = get_signature(task)  # pyright: ignore[reportUnknownArgumentType]

    assert signature.parameters["a"].annotation == "Unknown"
    assert Logged.annotated_parameters(signature).keys() == {"b"}


def test_an_object_that_cannot_be_remembered_is_read_each_time():
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]  # pyright: ignore  # noqa: PGH003

        def __call__(self, a: int) -> None: ...

    class Slotted:
        __slots__ = ()

        def __call__(self, a: int) -> None: ...

    assert list(get_signature(Unhashable()).parameters) == ["a"]
    assert list(shape_of(Slotted()).signature.parameters) == ["a"]


def test_logged_values_are_printed_in_full_or_by_length():
    assert Logged().format([1, 2]) == "[1, 2]"
    short = Logged(length_only=True)
    assert [short.format(value) for value in ([1, 2], {1}, {1: 2}, (1,), "text", 5)] == ["[len 2]", "{len 1}", "{len 1}", "(len 1)", "[len 4]", "5"]
    assert repr(short) == "Logged(length_only=True)"


def test_what_a_call_passes_is_found_by_parameter():
    def task(a: int, /, b: int = 2, *rest: int, c: int = 3, docket: Docket = CurrentDocket(), **more: Any) -> None: ...

    def passed(parameter: str) -> tuple[Any, ...]:
        return shape_of(task).passed(parameter, (1,), {"c": 30, "x": 4, "a": 5})

    assert {parameter: passed(parameter) for parameter in ("a", "b", "rest", "c", "docket", "more", "x", "y")} == {
        "a": (1,), "b": (2,), "rest": (), "c": (30,), "docket": (), "more": (), "x": (4,), "y": (),
    }  # fmt: skip
    assert shape_of(task).passed("rest", (1, 2, 3, 4), {}) == (3, 4)
    assert shape_of(task).passed("a", (), {"a": 5}) == ()


def test_a_function_is_named_in_full():
    assert name_of(nothing).endswith("test_signatures.nothing")
    assert name_of(partial(one, 1)).endswith("test_signatures.one")
