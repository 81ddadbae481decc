"""Reading what is known of runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from docket._clock import SYSTEM
from docket._store import Store
from docket._store.records import Applicant, Claimed, Counts, Order, Outcome, Requirement, RunRecord
from docket._store.shard import Shard
from docket.errors import ServerError
from docket.states import ExecutionState
from tests._shards import nth, together
from tests.store._interleaving import after_command
from tests.store._work import HOUR_US, claim, end, fetch, order, soon, start


async def test_of_a_key_that_was_never_used_nothing_is_known(store: Store):
    assert await store.inspection.load("k") is None
    assert await store.inspection.outcome("k", 1) is None


async def test_a_scheduled_run_is_read_whole(store: Store):
    when = await soon(store)
    await store.lifecycle.schedule(Order("k", "send", b"args", when, trace=b"t"))

    record = await store.inspection.load("k")

    assert record == RunRecord(
        key="k", state=ExecutionState.SCHEDULED, generation=nth(store, 1), delivery=0, function="send", payload=b"args", when_us=when, attempt=1, worker=None,
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

    [again] = await claim(store, await fetch(store))
    assert isinstance(again, Claimed)
    await store.lifecycle.settle(end(again))
    record = await store.inspection.load("k")

    assert record is not None
    assert (record.error, record.outcome) == (None, Outcome(ExecutionState.COMPLETED))


async def test_arguments_belong_to_the_run_that_is_told_also_when_it_moves_on_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch):
    await store.lifecycle.schedule(order(payload=b"x" * 100))

    async def is_replaced() -> None:
        await store.lifecycle.schedule(order(payload=b"y" * 100, replace=True))

    after_command(monkeypatch, store, "HGETALL", is_replaced)

    record = await store.inspection.load("k")

    assert record is not None
    assert (record.generation, record.payload) == (nth(store, 2), b"y" * 100)


async def test_an_outcome_belongs_to_the_run_that_is_told_also_when_it_ends_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch):
    claimed = await start(store, order(payload=b"x" * 100))

    async def ends() -> None:
        await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, error="why", value=b"v" * 100))

    after_command(monkeypatch, store, "HGETALL", ends)

    record = await store.inspection.load("k")

    assert record is not None
    assert (record.payload, record.outcome) == (b"x" * 100, Outcome(ExecutionState.FAILED, "why", b"v" * 100))


async def test_what_goes_while_it_is_read_is_not_known(store: Store, monkeypatch: pytest.MonkeyPatch):
    await store.lifecycle.schedule(order(payload=b"x" * 100))

    async def goes() -> None:
        await store.backend.call("DEL", store.keys.run("k"), store.keys.payload("k"))

    after_command(monkeypatch, store, "HGETALL", goes)

    assert await store.inspection.load("k") is None


# Counting


async def now_us(store: Store) -> int:
    return await soon(store) - HOUR_US


async def test_nothing_is_counted_before_anything_was_there(store: Store, docket_name: str, url: str):
    fresh = await Store.open(f"{docket_name}-fresh", url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)

    for each in (store, fresh):
        assert await each.inspection.counts(await now_us(each)) == Counts(0, 0, 0, 0, 0, 0, 0, 0)
    await fresh.aclose()


async def test_runs_are_counted_by_where_they_stand_and_how_they_ended(store: Store):
    await store.lifecycle.schedule_many([order(key) for key in together(store, *"abcdef")])
    claimed = await claim(store, await fetch(store))
    one_at_a_time = (Requirement("concurrency", "x", "1"),)
    for each in claimed[:3]:
        assert isinstance(each, Claimed)
        await store.limits.admit(Applicant(each.run, each.message_id, one_at_a_time, HOUR_US))
    completes, fails, is_tried_again = claimed[3:]
    assert isinstance(completes, Claimed) and isinstance(fails, Claimed) and isinstance(is_tried_again, Claimed)
    await store.lifecycle.settle(end(completes))
    await store.lifecycle.settle(end(fails, ExecutionState.FAILED))
    await store.lifecycle.settle(replace(end(is_tried_again, ExecutionState.FAILED, again="retry"), when_us=await soon(store)))
    now = await now_us(store)
    await store.lifecycle.schedule_many([order("g"), order("h"), order("late", when_us=now + HOUR_US), order("i", when_us=now + HOUR_US)])
    await store.lifecycle.cancel("i")
    await store.backend.call("ZADD", store.shard_of("late").keys.queue, now - 1, "late")

    counts = await store.inspection.counts(now)

    assert counts == Counts(scheduled=2, queued=2, running=1, waiting=2, completed=1, failed=1, cancelled=1, retried=1, overdue=1)
    assert counts.live == 7


async def test_a_broken_stream_is_not_counted_as_an_empty_one(store: Store, shard: Shard):
    await store.backend.call("DEL", shard.keys.stream)
    await store.backend.call("SET", shard.keys.stream, "no stream")

    with pytest.raises(ServerError):
        await store.inspection.counts(0)

    await store.backend.call("DEL", shard.keys.stream)


@pytest.mark.only_server("on memory there is one clock")
async def test_the_time_is_the_servers_and_it_is_not_asked_every_time(store: Store, monkeypatch: pytest.MonkeyPatch):
    before = await now_us(store)
    told = [await store.inspection.server_now_us()]

    async def is_not_asked() -> None:
        pytest.fail("it was asked again")

    after_command(monkeypatch, store, "TIME", is_not_asked)
    told.append(await store.inspection.server_now_us())

    assert before <= told[0] <= told[1] <= await now_us(store) + 1000
