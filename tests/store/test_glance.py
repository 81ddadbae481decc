"""Cheap looks at a docket: what runs longest, who runs how much, what waits longest, what failed last."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from docket._clock import SYSTEM
from docket._store import Store
from docket._store.records import Beat, Claimed, Failure
from docket._store.shard import Shard
from docket.errors import ServerError
from docket.states import ExecutionState
from tests.store._work import HOUR_US, INSTANCE, end, fetch, order, soon, start


async def fail(store: Store, claimed: Claimed, error: str = "Ouch!", *, again: str | None = None) -> None:
    failure = json.dumps({"worker": "w", "error": error}).encode()
    await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, error=error, again=again, failure=failure))


async def test_what_runs_is_listed_longest_first(store: Store):
    await start(store, order("one"))
    two = await start(store, order("two"))
    await start(store, order("three"))
    await store.progress.update("two", two.run, add=3, total=7, message="Counting")

    one, second, three = await store.glance.underway(10)

    assert [one.key, second.key, three.key] == ["one", "two", "three"]
    assert (one.function, one.worker, one.attempt, one.progress) == ("send", "w", 1, None)
    assert (second.started_us, second.progress is not None) == (two.started_us, True)
    assert second.progress is not None
    assert (second.progress.current, second.progress.total, second.progress.message) == (3, 7, "Counting")
    assert [run.key for run in await store.glance.underway(2)] == ["one", "two"]


async def test_a_message_alone_is_progress_too(store: Store):
    claimed = await start(store)
    await store.progress.update("k", claimed.run, message="Begun")

    [run] = await store.glance.underway(10)

    assert run.progress is not None and (run.progress.current, run.progress.total) == (0, 100)


async def test_what_does_not_run_is_not_listed(store: Store):
    await start(store, order("replaced"))
    await store.lifecycle.schedule(order("replaced", replace=True, when_us=await soon(store)))
    await start(store, order("ended"))
    await store.lifecycle.schedule(order("ready"))

    assert [run.key for run in await store.glance.underway(10)] == ["ended"]


async def test_the_oldest_that_is_ready_tells_how_long_work_waits(store: Store):
    assert await store.glance.ready_since_us() is None

    before = await soon(store) - HOUR_US
    await store.lifecycle.schedule(order("first"))
    since = await store.glance.ready_since_us()
    await store.lifecycle.schedule(order("second"))

    assert since is not None and since >= before - 1000  # whole milliseconds
    assert await store.glance.ready_since_us() == since
    await fetch(store, 1)
    later = await store.glance.ready_since_us()
    assert later is not None and later >= since
    await fetch(store, 1)
    assert await store.glance.ready_since_us() is None


async def test_the_first_of_the_schedule_tells_when_something_is_due(store: Store):
    assert await store.glance.next_due_us() is None

    due = await soon(store)
    await store.lifecycle.schedule(order("later", when_us=due + 1))
    await store.lifecycle.schedule(order("sooner", when_us=due))

    assert await store.glance.next_due_us() == due


async def test_who_holds_how_many(store: Store):
    assert await store.glance.held() == {}

    await start(store, order("one"))
    await store.lifecycle.schedule(order("two"))
    await store.lifecycle.schedule(order("three"))
    await fetch(store, 2, "other~2")

    assert await store.glance.held() == {INSTANCE: 1, "other~2": 2}


async def test_before_the_first_worker_nobody_holds_anything(docket_name: str, url: str):
    store = await Store.open(docket_name, url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    try:
        assert await store.glance.held() == {}
    finally:
        await store.aclose()


@pytest.mark.leaves_keys("a key of another kind stands in the stream's place")
@pytest.mark.only_server("the engine in the process answers otherwise")
async def test_another_refusal_is_not_taken_for_nothing(store: Store, shard: Shard):
    await shard.backend.call("DEL", shard.keys.stream)
    await shard.backend.call("SET", shard.keys.stream, "no stream")

    with pytest.raises(ServerError, match="WRONGTYPE"):
        await store.glance.held()


async def test_signs_of_life_are_listed_by_name(store: Store):
    await store.workers.heartbeat("b~1", "b", ["y", "x"], 60_000)
    await store.workers.heartbeat("a~2", "a", ["x"], 60_000)
    [one, other] = await store.glance.beats(0)

    assert (one, other) == (Beat("a", "a~2", one.seen_us), Beat("b", "b~1", other.seen_us))
    assert await store.glance.tasks_of("b~1") == {"x", "y"}
    assert await store.glance.tasks_of("gone~1") == frozenset()
    assert await store.glance.beats(max(one.seen_us, other.seen_us) + 1) == []


async def test_the_last_failures_come_last_first(store: Store):
    assert await store.glance.failures(10) == []

    first = await start(store, order("first"))
    await fail(store, first, "Ouch!")
    await fail(store, await start(store, order("second")), "öÖ" * 200)

    second, one = await store.glance.failures(10)
    assert one == Failure("first", "send", "w", 1, one.when_us, "Ouch!")
    assert one.when_us >= first.started_us
    assert (second.key, second.error is not None and second.error.startswith("öÖ")) == ("second", True)
    assert second.error is not None and len(second.error) == 200
    assert [failure.key for failure in await store.glance.failures(1)] == ["second"]


async def test_a_link_of_a_chain_that_failed_is_among_them_and_a_retry_is_not(store: Store):
    tried, link, fine = await start(store, order("tried")), await start(store, order("link")), await start(store, order("fine"))
    await fail(store, tried, again="retry")
    await fail(store, link, again="next")
    await store.lifecycle.settle(end(fine))

    assert [failure.key for failure in await store.glance.failures(10)] == ["link"]


async def test_what_is_run_again_or_thrown_away_is_no_failure_any_more(store: Store):
    gone = await start(store, order("gone"))
    await fail(store, gone)
    await store.letters.discard([str(gone.run.generation)])

    assert await store.glance.failures(10) == []


async def test_of_a_failure_that_somebody_else_has_written_is_told_what_there_is(store: Store):
    await store.lifecycle.settle(end(await start(store), ExecutionState.FAILED, failure=b"no JSON"))

    [failure] = await store.glance.failures(10)
    assert (failure.key, failure.worker, failure.error) == ("k", None, None)


async def test_none_is_told_of_where_no_dead_letters_are_kept(docket_name: str, url: str):
    store = await Store.open(docket_name, url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    await store.delivery.ensure_group()
    try:
        await fail(store, await start(store))
        assert await store.glance.failures(10) == []
    finally:
        await store.aclose()
