"""Reading what is known of runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from docket._store import Store
from docket._store.records import Claimed, Order, Outcome, RunRecord
from docket.states import ExecutionState
from tests.store._work import INSTANCE, end, fetch, order, soon, start


async def test_of_a_key_that_was_never_used_nothing_is_known(store: Store):
    assert await store.inspection.load("k") is None
    assert await store.inspection.outcome("k", 1) is None


async def test_a_scheduled_run_is_read_whole(store: Store):
    when = await soon(store)
    await store.lifecycle.schedule(Order("k", "send", b"args", when, trace=b"t"))

    record = await store.inspection.load("k")

    assert record == RunRecord(
        key="k", state=ExecutionState.SCHEDULED, generation=1, delivery=0, function="send", payload=b"args", when_us=when, attempt=1, worker=None,
        started_us=None, completed_us=None, error=None, outcome=None, trace=b"t", crashes=0, progress_current=None, progress_total=100,
        progress_message=None, progress_us=None, successor=None,
    )  # fmt: skip


@pytest.mark.parametrize("payload", [b"args", b"x" * 100], ids=["small", "large"])
async def test_a_running_run_names_its_worker_and_has_begun_its_progress(store: Store, payload: bytes):
    claimed = await start(store, order(payload=payload))

    record = await store.inspection.load("k")

    assert record is not None
    assert (record.state, record.worker, record.started_us) == (ExecutionState.RUNNING, "w", claimed.started_us)
    assert (record.progress_current, record.delivery, record.payload) == (0, 1, payload)


@pytest.mark.parametrize("value", [None, b"v", b"v" * 100], ids=["none", "small", "large"])
@pytest.mark.parametrize("error", [None, "why", "w" * 100], ids=["no error", "short", "long"])
@pytest.mark.parametrize("payload", [b"args", b"x" * 100], ids=["small payload", "large payload"])
async def test_an_ended_run_is_read_with_its_outcome(store: Store, value: bytes | None, error: str | None, payload: bytes):
    claimed = await start(store, order(payload=payload))
    await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, error=error, value=value))

    record = await store.inspection.load("k")

    assert record is not None
    assert record.outcome == Outcome(ExecutionState.FAILED, error, value)
    assert (record.error, record.payload) == (error, payload)
    assert record.completed_us is not None


async def test_a_retry_tells_the_error_so_far_and_its_end_only_its_own(store: Store):
    claimed = await start(store)
    await store.lifecycle.settle(replace(end(claimed, ExecutionState.FAILED, error="first", again="retry"), attempt=2))
    record = await store.inspection.load("k")
    assert record is not None
    assert (record.error, record.outcome) == ("first", None)

    [again] = await store.lifecycle.claim(INSTANCE, await fetch(store))
    assert isinstance(again, Claimed)
    await store.lifecycle.settle(end(again))
    record = await store.inspection.load("k")

    assert record is not None
    assert (record.error, record.outcome) == (None, Outcome(ExecutionState.COMPLETED))
