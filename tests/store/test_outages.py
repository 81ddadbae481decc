"""Replies that are lost, servers that are away, full, or have forgotten their scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from docket._clock import SYSTEM
from docket._store import Store, lifecycle
from docket._store.records import Applicant, Claimed, Order, Ordered, Requirement
from docket.errors import InDoubt, RedisUnavailable
from docket.states import ExecutionState
from tests._proxy import Proxy
from tests._servers import RedisServer
from tests._shards import only_shard
from tests._waiting import eventually
from tests.store._work import INSTANCE, claim, end, fetch, order, soon, start

MANY = b"EVALSHA"
LARGE = b"x" * 100


# A reply that is lost: the script ran, and the caller must not notice


@pytest.mark.parametrize("given", [order(), order(payload=LARGE), order(replace=True)], ids=["small", "large", "replacing"])
async def test_an_order_whose_reply_was_lost_is_answered_as_the_first_time(far_store: Store, proxy: Proxy, given: Order):
    proxy.lose_reply_to = MANY

    ordered = await far_store.lifecycle.schedule(given)

    assert proxy.lost == 1
    assert (ordered.created, ordered.generation, ordered.state) == (True, 1, ExecutionState.QUEUED)
    assert await far_store.delivery.depth() == (1, 0)


async def test_a_replacement_whose_reply_was_lost_replaces_once(far_store: Store, proxy: Proxy):
    await far_store.lifecycle.schedule(order())
    proxy.lose_reply_to = MANY

    ordered = await far_store.lifecycle.schedule(order(replace=True))

    assert (ordered.created, ordered.generation) == (True, 2)


async def test_many_orders_whose_reply_was_lost_are_answered_as_the_first_time(far_store: Store, proxy: Proxy):
    proxy.lose_reply_to = MANY

    answers = await far_store.lifecycle.schedule_many([order(f"k{number}") for number in range(250)])

    assert all(isinstance(answer, Ordered) and answer.created for answer in answers)
    assert await far_store.delivery.depth() == (250, 0)


async def test_a_claim_whose_reply_was_lost_is_answered_as_the_first_time(far_store: Store, proxy: Proxy):
    await far_store.lifecycle.schedule(order(payload=LARGE))
    deliveries = await fetch(far_store)
    proxy.lose_reply_to = MANY

    [claimed] = await claim(far_store, deliveries)

    assert proxy.lost == 1
    assert isinstance(claimed, Claimed)
    assert (claimed.run.delivery, claimed.payload) == (1, LARGE)


@pytest.mark.parametrize(
    ("again", "state"),
    [
        (None, ExecutionState.COMPLETED),
        ("end", ExecutionState.COMPLETED),
        ("next", ExecutionState.QUEUED),
        ("retry", ExecutionState.QUEUED),
        ("release", ExecutionState.QUEUED),
    ],
)
async def test_a_settlement_whose_reply_was_lost_is_answered_as_the_first_time(far_store: Store, proxy: Proxy, again: str | None, state: ExecutionState):
    claimed = await start(far_store)
    proxy.lose_reply_to = MANY

    assert await far_store.lifecycle.settle(end(claimed, again=again)) is state

    assert proxy.lost == 1
    assert await far_store.delivery.depth() == ((0, 0) if state is ExecutionState.COMPLETED else (1, 0))


async def test_with_no_time_to_live_a_settlement_whose_reply_was_lost_is_answered_too(docket_name: str, proxy: Proxy):
    store = await Store.open(docket_name, proxy.url, execution_ttl=timedelta(0), clock=SYSTEM)
    await store.delivery.ensure_group()
    claimed = await start(store)
    proxy.lose_reply_to = MANY

    assert await store.lifecycle.settle(end(claimed, ExecutionState.FAILED)) is ExecutionState.FAILED

    assert await store.inspection.load("k") is None
    await store.aclose()


async def test_with_no_time_to_live_a_settlement_that_never_left_finds_its_run_gone(docket_name: str, proxy: Proxy, url_of_the_server: str):
    store = await Store.open(docket_name, proxy.url, execution_ttl=timedelta(0), clock=SYSTEM)
    near = await Store.open(docket_name, url_of_the_server, execution_ttl=timedelta(0), clock=SYSTEM)
    await store.delivery.ensure_group()
    claimed = await start(store)
    await proxy.stop()
    await eventually(lambda: store.backend.connected_for() == 0)
    settling = asyncio.create_task(store.lifecycle.settle(end(claimed)))
    await near.lifecycle.cancel("k")
    await near.lifecycle.settle(end(claimed, ExecutionState.CANCELLED))

    await proxy.start()

    assert await settling is None
    await store.aclose()
    await near.aclose()


async def test_a_chain_whose_settlement_was_lost_more_than_once_goes_on_once(far_store: Store, proxy: Proxy):
    claimed = await start(far_store)
    when = await soon(far_store)
    proxy.lose_reply_to, proxy.lose_again = MANY, 2

    state = await far_store.lifecycle.settle(replace(end(claimed, again="next"), when_us=when))

    assert proxy.lost == 3
    assert state is ExecutionState.SCHEDULED
    assert await far_store.delivery.depth() == (0, 1)
    await far_store.lifecycle.cancel("k")


# When patience runs out


async def test_an_order_in_doubt_says_so_and_what_to_do(far_store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lifecycle, "SCHEDULE_PATIENCE", 0.2)
    proxy.lose_reply_to, proxy.refuse = MANY, True

    with pytest.raises(InDoubt, match="may have been carried out; repeating it with the same key is safe") as caught:
        await far_store.lifecycle.schedule(order())

    seen: list[BaseException | None] = []
    error: BaseException | None = caught.value
    while error is not None:  # an error that were its own cause would be followed for ever
        assert error not in seen
        seen.append(error)
        error = error.__cause__
    proxy.lose_reply_to, proxy.refuse = None, False
    assert await far_store.backend.available(10)
    assert (await far_store.lifecycle.schedule(order())).created is False


async def test_an_order_whose_only_reply_was_lost_is_in_doubt(far_store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lifecycle, "SCHEDULE_PATIENCE", 0.0)
    proxy.lose_reply_to = MANY

    with pytest.raises(InDoubt) as caught:
        await far_store.lifecycle.schedule(order())

    assert caught.value.__cause__ is None


async def test_doubt_outlives_what_comes_after_it(store: Store, monkeypatch: pytest.MonkeyPatch):
    """The first try may have been carried out, whatever the later ones say."""
    monkeypatch.setattr(lifecycle, "SCHEDULE_PATIENCE", 0.2)
    errors = [InDoubt("it was sent, and no answer came")]

    async def script(*_: object) -> None:
        raise errors.pop() if errors else RedisUnavailable("not now")

    monkeypatch.setattr(store.backend, "script", script)

    with pytest.raises(InDoubt, match="it was sent") as caught:
        await store.lifecycle.cancel("k")

    assert type(caught.value.__cause__) is RedisUnavailable


async def test_an_order_that_never_left_was_not_written(far_store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lifecycle, "SCHEDULE_PATIENCE", 0.2)
    await proxy.stop()
    await eventually(lambda: far_store.backend.connected_for() == 0)

    with pytest.raises(RedisUnavailable, match="Nothing was written") as caught:
        await far_store.lifecycle.schedule(order())
    many = await far_store.lifecycle.schedule_many([order("a"), order("b")])

    assert not isinstance(caught.value, InDoubt)
    assert [type(answer) for answer in many] == [RedisUnavailable, RedisUnavailable]
    with pytest.raises(RedisUnavailable):
        await far_store.lifecycle.cancel("k")
    await proxy.start()


@pytest.mark.parametrize("how", ["one by one", "at once"])
async def test_however_many_wait_together_nobody_learns_of_an_outage_later_than_one_would(
    docket_name: str, new_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, how: str
):
    monkeypatch.setattr(lifecycle, "SCHEDULE_PATIENCE", 0.5)
    server = new_server()
    store = await Store.open(docket_name, server.url, execution_ttl=timedelta(0), clock=SYSTEM)
    server.kill()
    await eventually(lambda: not store.backend.is_connected)
    orders = [order(f"k{number}") for number in range(4_000)]
    began = time.monotonic()

    if how == "at once":
        answers = await store.lifecycle.schedule_many(orders)
    else:
        answers = await asyncio.gather(*map(store.lifecycle.schedule, orders), return_exceptions=True)

    assert time.monotonic() - began < 4  # in turns, twenty batches would take ten seconds
    assert {type(answer) for answer in answers} == {RedisUnavailable}
    await store.aclose()


async def test_a_short_outage_is_not_noticed(far_store: Store, proxy: Proxy):
    await proxy.stop()
    await eventually(lambda: far_store.backend.connected_for() == 0)
    waiting = asyncio.create_task(far_store.lifecycle.schedule(order()))
    await asyncio.sleep(0)

    await proxy.start()

    assert (await waiting).created
    assert far_store.backend.connected_for() > 0


async def test_a_claim_that_is_no_longer_wanted_is_given_up(far_store: Store, proxy: Proxy):
    await far_store.lifecycle.schedule(order())
    deliveries = await fetch(far_store)
    await proxy.stop()
    await eventually(lambda: far_store.backend.connected_for() == 0)
    asked: list[bool] = []

    def wanted() -> bool:
        asked.append(True)
        return False

    claiming = asyncio.create_task(only_shard(far_store).lifecycle.claim(INSTANCE, deliveries, wanted))
    await proxy.start()

    with pytest.raises(RedisUnavailable):
        await claiming
    assert asked


async def test_reading_through_an_outage_is_unavailable_and_then_goes_on(far_store: Store, proxy: Proxy):
    reader = only_shard(far_store).delivery.reader()
    reading = asyncio.create_task(only_shard(far_store).delivery.read(reader, INSTANCE, 10, 10_000))
    await eventually(lambda: proxy.connections == 3)
    proxy.cut()

    with pytest.raises(RedisUnavailable):
        await reading
    await far_store.lifecycle.schedule(order())

    assert await only_shard(far_store).delivery.read(reader, INSTANCE, 10, 5000) or await only_shard(far_store).delivery.pending(INSTANCE)
    await reader.aclose()


async def test_a_feed_is_told_of_an_interruption_once_it_hears_again(far_store: Store, proxy: Proxy):
    async with far_store.events.feed("k") as feed:
        while await feed.get(0.05) is not None:
            pass
        proxy.cut()

        assert await feed.get(10) is None
        await far_store.lifecycle.schedule(order())
        event = await feed.get(10)
        assert event is not None


# Servers that forget, die, or are full


@pytest.mark.only_server("nobody can make the engine forget")
async def test_forgotten_scripts_are_sent_again(store: Store, redis_server: RedisServer):
    claimed = await start(store)
    redis_server.client().script_flush()

    assert await store.lifecycle.settle(end(claimed)) is ExecutionState.COMPLETED
    redis_server.client().script_flush()
    answers = await asyncio.gather(*(store.lifecycle.schedule(order(f"k{number}")) for number in range(300)))
    assert all(answer.created for answer in answers)


async def test_a_server_that_died_and_came_back_has_what_it_acknowledged(docket_name: str, new_server: Callable[..., RedisServer]):
    server = new_server("--appendonly", "yes", "--appendfsync", "always")
    store = await Store.open(docket_name, server.url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    await store.delivery.ensure_group()
    claimed = await start(store, order("running"))
    await store.lifecycle.schedule(order("queued"))

    server.kill()
    settling = asyncio.create_task(store.lifecycle.settle(end(claimed)))
    await asyncio.to_thread(server.start)

    assert await settling is ExecutionState.COMPLETED
    assert [delivery.key for delivery in await fetch(store)] == ["queued"]
    await store.aclose()


async def test_a_server_that_lost_everything_answers_that_it_knows_nothing(docket_name: str, new_server: Callable[..., RedisServer]):
    server = new_server()
    store = await Store.open(docket_name, server.url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    await store.delivery.ensure_group()
    claimed = await start(store)
    server.kill()
    await asyncio.to_thread(server.start)

    assert await store.lifecycle.settle(end(claimed)) in (None, ExecutionState.COMPLETED)
    assert (await store.lifecycle.schedule(order())).created
    await store.aclose()


class FullServer:
    """This is a server that has work and no memory left, with one run scheduled, one queued and two running."""

    def __init__(self, server: RedisServer, store: Store, running: list[Claimed]) -> None:
        self.server = server
        self.store = store
        self.running = running

    def command(self, *words: str) -> Any:
        client: Any = self.server.client()
        return client.execute_command(*words)

    def fill(self) -> None:
        self.command("CONFIG", "SET", "maxmemory", "1mb")


@pytest.fixture
async def full(docket_name: str, new_server: Callable[..., RedisServer]) -> Any:
    server = new_server()
    store = await Store.open(docket_name, server.url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    await store.delivery.ensure_group()
    await store.delivery.renew(INSTANCE, 60_000_000, [], first=True)
    await store.workers.heartbeat(INSTANCE, "w", ["send"], 60_000)
    running = [await start(store, order(key)) for key in ("one", "two")]
    await store.lifecycle.schedule(order("queued", LARGE))
    await store.lifecycle.schedule(order("later", when_us=await soon(store)))
    full = FullServer(server, store, running)
    full.fill()
    yield full
    await store.aclose()


async def test_a_full_server_refuses_new_work_in_bounded_time(full: FullServer):
    began = time.monotonic()

    with pytest.raises(RedisUnavailable, match="OOM|maxmemory") as caught:
        await full.store.lifecycle.schedule(order("new"))
    many = await full.store.lifecycle.schedule_many([order("new"), order("newer")])

    assert time.monotonic() - began < 10
    assert not isinstance(caught.value, InDoubt)
    assert [type(answer) for answer in many] == [RedisUnavailable, RedisUnavailable]
    assert await full.store.inspection.load("new") is None


async def test_a_full_server_can_drain(full: FullServer):
    store = full.store
    one, two = full.running

    assert await store.lifecycle.cancel("later") == (ExecutionState.SCHEDULED, 4)
    assert await store.lifecycle.cancel("one") == (ExecutionState.RUNNING, 1)
    assert await store.lifecycle.settle(end(one, ExecutionState.CANCELLED)) is ExecutionState.CANCELLED
    assert await store.lifecycle.settle(end(two, value=b"y" * 1000, again="retry")) is ExecutionState.QUEUED
    claimed = await claim(store, await fetch(store))
    assert [type(each) for each in claimed] == [Claimed, Claimed]
    for each in claimed:
        assert isinstance(each, Claimed)
        assert await store.lifecycle.settle(end(each, value=b"y" * 1000)) is ExecutionState.COMPLETED
    assert await store.delivery.depth() == (0, 0)


async def test_on_a_full_server_workers_stay_alive_and_dead_ones_are_found(full: FullServer):
    store = full.store
    held = [claimed.run for claimed in full.running]

    assert await store.delivery.renew(INSTANCE, 60_000_000, held) == ["held", "held"]
    assert await store.workers.heartbeat(INSTANCE, "w", None, 60_000)
    assert await store.delivery.renew("new~1", 60_000_000, [], first=True) == []
    assert await store.workers.heartbeat("new~1", "new", ["send"], 60_000)

    await store.delivery.renew(INSTANCE, -1, held)
    assert await only_shard(store).delivery.reclaim(INSTANCE, await only_shard(store).delivery.pending(INSTANCE)) == 2


async def test_what_becomes_due_on_a_full_server_is_moved(full: FullServer):
    full.command("CONFIG", "SET", "maxmemory", "0")
    full.command("ZADD", full.store.keys.queue, "1", "later")
    full.fill()

    moved, _, _ = await full.store.delivery.move_due(["later"])

    assert moved == 1


async def test_a_worker_can_start_on_a_full_server_to_drain_it(full: FullServer, docket_name: str):
    store = await Store.open(docket_name, full.server.url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)

    await store.delivery.ensure_group()

    assert [delivery.key for delivery in await fetch(store, instance="new~1")] == ["queued"]
    await store.aclose()


async def test_a_new_docket_cannot_begin_on_a_full_server(full: FullServer):
    with pytest.raises(RedisUnavailable, match="OOM|maxmemory"):
        await Store.open("another", full.server.url, execution_ttl=timedelta(minutes=1), clock=SYSTEM, shards=1)

    full.command("DEL", full.store.keys.stream)
    with pytest.raises(RedisUnavailable, match="OOM|maxmemory"):
        await full.store.delivery.ensure_group()


async def test_on_a_full_server_limits_let_work_through(full: FullServer):
    store = full.store
    one, two = full.running
    limits = (Requirement("cooldown", "f", "1"), Requirement("concurrency", "f", "1"))

    assert (await store.limits.admit(Applicant(one.run, one.message_id, limits, 60_000_000))).word == "admitted"
    await store.limits.hold([("f", one.run.generation)], 60_000_000)
    assert (await store.limits.admit(Applicant(two.run, two.message_id, limits[1:], 60_000_000))).word == "parked"
    await store.limits.hold([("f", one.run.generation)], -1)
    assert await only_shard(store).limits.sweep(2**53) == 1
    [queued, let_in] = await claim(store, await fetch(store))
    assert isinstance(queued, Claimed) and isinstance(let_in, Claimed)
    assert (await store.limits.admit(Applicant(let_in.run, let_in.message_id, limits[1:], 60_000_000))).word == "admitted"
    assert (await store.limits.admit(Applicant(queued.run, queued.message_id, limits[1:], 60_000_000))).word == "parked"
    await store.limits.hold([("f", let_in.run.generation)], -1)
    assert await only_shard(store).limits.sweep(2**53) == 1
    assert await store.delivery.contended() == 0
