"""Cancelling everything that has not begun."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from docket._clock import SYSTEM
from docket._redis.batcher import BATCH_ITEMS
from docket._store import Store
from docket._store.records import Applicant, Claimed, Delivery, Requirement
from docket._store.shard import Shard
from docket.states import ExecutionState
from tests._proxy import Proxy
from tests._shards import together
from tests.store._interleaving import after_command
from tests.store._work import HOUR_US, INSTANCE, claim, end, fetch, order, soon, start

MINUTE_US = 60_000_000
ONE_AT_A_TIME = (Requirement("concurrency", "x", "1"),)


async def states(store: Store, *keys: str) -> set[str]:
    """This is how the runs of these keys stand."""
    records = [await store.inspection.load(key) for key in keys]
    return {record.state.value for record in records if record is not None}


async def work(store: Store, count: int = 100) -> dict[str, Claimed]:
    """This begins what is ready: runs by their keys."""
    answers = await claim(store, await fetch(store, count))
    return {answer.run.key: answer for answer in answers if isinstance(answer, Claimed)}


async def test_where_nothing_waits_nothing_is_cleared(store: Store, docket_name: str, url: str):
    assert await store.clearing.clear() == 0

    fresh = await Store.open(f"{docket_name}-fresh", url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    assert await fresh.clearing.clear() == 0
    await fresh.aclose()


@pytest.mark.parametrize("count", [1, BATCH_ITEMS, 5 * BATCH_ITEMS + 1])
@pytest.mark.parametrize("when", ["queued", "scheduled"])
async def test_all_of_it_is_cancelled_however_much_it_is(store: Store, count: int, when: str):
    later = await soon(store) if when == "scheduled" else None
    await store.lifecycle.schedule_many([order(f"k{number}", when_us=later) for number in range(count)])

    assert await store.clearing.clear() == count

    assert await store.delivery.depth() == (0, 0)
    assert await states(store, *(f"k{number}" for number in range(0, count, 97))) == {"cancelled"}


async def test_runs_in_every_place_are_cancelled_and_those_that_have_begun_go_on(store: Store):
    await store.lifecycle.schedule_many([order("running"), order("parked")])
    begun = await work(store)
    running = begun["running"]
    for claimed, word in ((running, "admitted"), (begun["parked"], "parked")):
        admission = await store.limits.admit(Applicant(claimed.run, claimed.message_id, ONE_AT_A_TIME, MINUTE_US))
        assert admission.word == word
    await store.lifecycle.schedule_many([order("first"), order("limited")])
    begun = await work(store)
    for claimed in (begun["first"], begun["limited"]):
        await store.limits.admit(Applicant(claimed.run, claimed.message_id, (Requirement("rate", "y", "1", str(HOUR_US)),), MINUTE_US))
    await store.lifecycle.schedule_many([order("fetched"), order("retried"), order("scheduled", when_us=await soon(store))])
    [retried] = await claim(store, [entry for entry in await fetch(store) if entry.key == "retried"])
    assert isinstance(retried, Claimed)
    await store.lifecycle.settle(replace(end(retried, ExecutionState.FAILED, again="retry"), when_us=await soon(store)))
    await store.lifecycle.schedule(order("ready"))

    assert await store.clearing.clear() == 6

    assert await states(store, "parked", "limited", "fetched", "retried", "scheduled", "ready") == {"cancelled"}
    assert await states(store, "running", "first") == {"running"}
    assert await store.lifecycle.settle(end(running)) is ExecutionState.COMPLETED
    assert await store.delivery.contended() == 0


async def test_an_entry_that_was_fetched_is_left_to_be_refused(store: Store, shard: Shard):
    await store.lifecycle.schedule(order())
    fetched = await fetch(store)

    assert await store.clearing.clear() == 1

    assert await shard.delivery.pending(INSTANCE) == fetched
    [answer] = await claim(store, fetched)
    assert not isinstance(answer, Claimed)
    assert await store.delivery.depth() == (0, 0)


# Safe beside workers


@pytest.mark.parametrize("listing", ["XRANGE", "XINFO"])
async def test_what_is_claimed_between_listing_and_clearing_goes_on(store: Store, shard: Shard, listing: str, monkeypatch: pytest.MonkeyPatch):
    await store.lifecycle.schedule_many([order(key) for key in together(store, "a", "b")])
    taken: list[Claimed] = []

    async def one_begins() -> None:
        taken.extend((await work(store, 1)).values())

    after_command(monkeypatch, store, listing, one_begins, about=shard.keys.stream)

    assert await store.clearing.clear() == 1

    [claimed] = taken
    assert await states(store, claimed.run.key) == {"running"}
    assert await store.lifecycle.settle(end(claimed)) is ExecutionState.COMPLETED
    assert await store.delivery.depth() == (0, 0)


async def test_what_is_fetched_between_listing_and_clearing_is_refused(store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch):
    await store.lifecycle.schedule(order())
    fetched: list[Delivery] = []

    async def a_worker_reads() -> None:
        fetched.extend(await fetch(store))

    after_command(monkeypatch, store, "XINFO", a_worker_reads, about=shard.keys.stream)

    assert await store.clearing.clear() == 1

    [answer] = await claim(store, fetched)
    assert not isinstance(answer, Claimed)
    assert await shard.delivery.pending(INSTANCE) == []


async def test_what_becomes_due_between_listing_and_clearing_is_found_in_the_stream(store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch):
    await store.lifecycle.schedule(order(when_us=await soon(store)))

    async def becomes_due() -> None:
        await shard.backend.call("ZADD", shard.keys.queue, 1, "k")
        await store.delivery.move_due(["k"])

    after_command(monkeypatch, store, "ZRANGE", becomes_due, about=shard.keys.queue)

    assert await store.clearing.clear() == 1

    assert await states(store, "k") == {"cancelled"}
    assert await store.delivery.depth() == (0, 0)


async def test_what_moves_back_behind_its_back_is_found_when_it_looks_again(store: Store, monkeypatch: pytest.MonkeyPatch):
    claimed = await start(store, order("a"))
    await store.lifecycle.schedule(order("b"))

    async def waits_for_its_retry() -> None:
        await store.lifecycle.settle(replace(end(claimed, ExecutionState.FAILED, again="retry"), when_us=await soon(store)))

    after_command(monkeypatch, store, "XRANGE", waits_for_its_retry)

    assert await store.clearing.clear() == 2

    assert await states(store, "a", "b") == {"cancelled"}


async def test_what_is_scheduled_meanwhile_stays_however_much_it_is(store: Store, monkeypatch: pytest.MonkeyPatch):
    await store.lifecycle.schedule(order("old", when_us=await soon(store)))

    async def produce() -> None:
        await store.lifecycle.schedule_many([order(f"n{number}", when_us=1 if number % 2 else None) for number in range(300)])
        await store.lifecycle.schedule_many([order(f"l{number}", when_us=await soon(store)) for number in range(300)])

    after_command(monkeypatch, store, "HGET", produce)

    assert await store.clearing.clear() == 1

    assert await store.delivery.depth() == (300, 300)
    assert await store.clearing.clear() == 600


async def test_who_waits_for_a_place_that_frees_while_the_line_is_cleared_is_cancelled_too(store: Store, monkeypatch: pytest.MonkeyPatch):
    await store.lifecycle.schedule_many([order(key) for key in "abcd"])
    claimed = await work(store)
    for each in (claimed[key] for key in "abcd"):
        await store.limits.admit(Applicant(each.run, each.message_id, ONE_AT_A_TIME, MINUTE_US))

    async def place_frees() -> None:
        await store.lifecycle.settle(replace(end(claimed["a"]), limit="x"))

    after_command(monkeypatch, store, "ZRANGEBYSCORE", place_frees)

    assert await store.clearing.clear() == 3

    assert await states(store, "b", "c", "d") == {"cancelled"}
    assert await fetch(store) == []
    assert await store.delivery.depth() == (0, 0)
    assert await store.delivery.contended() == 0
    holders, waiters, most = store.keys.concurrency("x")
    assert await store.backend.call("ZCARD", holders) == 0
    assert [await store.backend.call("EXISTS", key) for key in (waiters, most)] == [0, 0]


async def test_two_may_clear_at_once_and_each_run_counts_once(store: Store):
    await store.lifecycle.schedule_many([order(f"k{number}") for number in range(1000)])
    await store.lifecycle.schedule_many([order(f"l{number}", when_us=await soon(store)) for number in range(1000)])

    cleared = await asyncio.gather(store.clearing.clear(), store.clearing.clear())

    assert sum(cleared) == 2000
    assert await store.delivery.depth() == (0, 0)


async def test_a_reply_that_was_lost_does_not_spoil_the_count(far_store: Store, proxy: Proxy):
    await far_store.lifecycle.schedule_many([order(f"k{number}") for number in range(300)])
    proxy.lose_reply_to = b"EVALSHA"

    assert await far_store.clearing.clear() == 300

    assert proxy.lost == 1


async def test_a_bad_record_is_passed_over(store: Store):
    later = await soon(store)
    await store.lifecycle.schedule_many([order(key, when_us=later) for key in "abc"])
    await store.backend.call("DEL", store.keys.run("b"))
    await store.backend.call("SET", store.keys.run("b"), "no record")

    assert await store.clearing.clear() == 2

    await store.backend.call("DEL", store.keys.run("b"))
