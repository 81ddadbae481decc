"""Where results are kept, and how failures come back."""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import Any

import pytest

from docket import Docket, Execution, ExecutionCancelled, ExecutionState
from docket._messages import dumps_exception, dumps_value
from docket._results import fetch_result, remember_traceback, result_of, store_result
from docket._store.records import Outcome


async def job() -> Any: ...


def of(docket: Docket, generation: int = 1) -> Execution[Any]:
    """This is a run of `job` under the key `k`."""
    return Execution(docket, job, (), {}, "k", None, 1, generation=generation)


class Storage:
    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.ttl: float | None = None

    async def put(self, key: str, value: dict[str, Any], *, collection: str | None = None, ttl: float | None = None) -> None:
        self.kept[f"{collection}/{key}"] = value
        self.ttl = ttl

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return self.kept.get(f"{collection}/{key}")


async def test_a_result_is_kept_where_the_docket_keeps_results():
    storage = Storage()
    docket = Docket("orders", result_storage=storage, execution_ttl=timedelta(minutes=1))

    stands_in = await store_result(of(docket, 5), b"\x80value")

    assert stands_in != b"\x80value"
    assert list(storage.kept) == ["{orders}:results/k:5"]
    assert storage.ttl == 60
    assert await fetch_result(of(docket, 5), stands_in) == b"\x80value"
    storage.kept.clear()
    assert await fetch_result(of(docket, 5), stands_in) is None
    assert await fetch_result(of(Docket("orders"), 5), stands_in) is None


async def test_without_such_a_place_it_stays_as_it_is():
    docket = Docket()

    assert await store_result(of(docket, 5), b"value") == b"value"
    assert await store_result(of(docket, 5), None) is None
    assert await fetch_result(of(docket, 5), b"value") == b"value"


async def test_a_result_comes_back():
    docket = Docket()

    assert await result_of(of(docket), Outcome(ExecutionState.COMPLETED, None, dumps_value([1, 2]))) == [1, 2]
    assert await result_of(of(docket), Outcome(ExecutionState.COMPLETED)) is None


async def test_a_failure_is_raised_again_and_shows_where_it_was_raised():
    try:
        raise ValueError("bad")  # here it was raised
    except ValueError as exc:
        remember_traceback(exc)
        dumped = dumps_exception(exc)

    with pytest.raises(ValueError, match="bad") as caught:
        await result_of(of(Docket()), Outcome(ExecutionState.FAILED, "ValueError: bad", dumped))
    assert "here it was raised" in "".join(traceback.format_exception(caught.value))


async def test_an_exception_that_takes_no_notes_is_raised_without():
    class Stubborn(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    remember_traceback(Stubborn())


@pytest.mark.parametrize("value", [None, b"rubbish", dumps_value("no exception"), dumps_value(ValueError("bad"))])
async def test_a_failure_that_cannot_be_read_is_told_in_words(value: bytes | None):
    with pytest.raises(Exception, match="bad") as caught:
        await result_of(of(Docket()), Outcome(ExecutionState.FAILED, "ValueError: bad", value))
    assert caught.value.__cause__ is None


async def test_a_cancellation_says_why_if_it_is_known():
    with pytest.raises(ExecutionCancelled, match="Execution k was cancelled: struck"):
        await result_of(of(Docket()), Outcome(ExecutionState.CANCELLED, "struck"))
