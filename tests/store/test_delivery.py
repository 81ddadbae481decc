"""How work reaches workers, and comes back from the dead."""

from __future__ import annotations

import asyncio

import pytest

from docket._store import Store
from docket._store.records import Claimed, Delivery, RunId
from docket._store.shard import Shard
from docket.errors import ServerError
from docket.states import ExecutionState
from tests._shards import nth, together
from tests._waiting import eventually
from tests.store._work import INSTANCE, claim, end, fetch, order, soon, start


async def test_a_group_is_made_once_and_delivers_what_came_before_it(store: Store):
    await store.lifecycle.schedule(order())

    await store.delivery.ensure_group()

    assert [delivery.key for delivery in await fetch(store)] == ["k"]


async def test_a_stream_that_is_none_is_an_error(store: Store, shard: Shard):
    await store.backend.call("DEL", shard.keys.stream)
    await store.backend.call("SET", shard.keys.stream, "no stream")

    with pytest.raises(ServerError, match="WRONGTYPE"):
        await store.delivery.ensure_group()
    with pytest.raises(ServerError, match="WRONGTYPE|NOGROUP"):
        await fetch(store)

    await store.backend.call("DEL", shard.keys.stream)


async def test_reading_waits_for_work(store: Store, shard: Shard):
    reader = shard.delivery.reader()
    reading = asyncio.create_task(shard.delivery.read(reader, INSTANCE, 10, 10_000))
    await store.lifecycle.schedule(order())

    [delivery] = await reading

    assert (delivery.key, delivery.generation) == ("k", nth(store, 1))
    await reader.aclose()


async def test_reading_gives_up_when_nothing_comes(store: Store):
    assert await fetch(store) == []


async def test_no_more_is_read_than_was_asked_for(store: Store):
    keys = together(store, "a", "b", "c")
    await store.lifecycle.schedule_many([order(key) for key in keys])

    first, second = await fetch(store, 2), await fetch(store, 2)

    assert [delivery.key for delivery in first + second] == keys


async def test_a_cancelled_read_loses_nothing(store: Store, shard: Shard):
    reader = shard.delivery.reader()
    reading = asyncio.create_task(shard.delivery.read(reader, INSTANCE, 10, 10_000))
    await asyncio.sleep(0)  # it has begun
    reading.cancel()
    await asyncio.wait([reading])
    await store.lifecycle.schedule(order())

    async def found() -> list[Delivery]:
        return await shard.delivery.read(reader, INSTANCE, 10, 1) or await shard.delivery.pending(INSTANCE)

    await eventually(found)

    assert [delivery.key for delivery in await shard.delivery.pending(INSTANCE)] == ["k"]
    await reader.aclose()


async def test_what_was_fetched_is_pending_until_it_is_settled(store: Store, shard: Shard):
    claimed = await start(store)

    assert await shard.delivery.pending(INSTANCE) == [Delivery(claimed.message_id, "k", nth(store, 1))]
    assert await shard.delivery.pending("another~1") == []

    await store.lifecycle.settle(end(claimed))
    assert await shard.delivery.pending(INSTANCE) == []


async def test_pending_entries_that_vanished_from_the_stream_are_acknowledged(store: Store, shard: Shard):
    claimed = await start(store)
    await store.backend.call("XDEL", shard.keys.stream, claimed.message_id)

    assert await shard.delivery.pending(INSTANCE) == []

    assert await store.backend.call("XPENDING", shard.keys.stream, shard.keys.group, "-", "+", 10, INSTANCE) == []
    await store.lifecycle.settle(end(claimed))


async def test_what_is_due_is_listed_and_moved(store: Store, shard: Shard):
    later = await soon(store)
    _, _, now = await store.delivery.move_due([])
    keys = together(store, "soon", "later")
    await store.lifecycle.schedule_many([order(keys[0], when_us=now + 20_000), order(keys[1], when_us=later)])

    async def moved() -> int:
        return (await store.delivery.move_due(await shard.delivery.due(later - 1)))[0]

    assert await shard.delivery.due(later - 1) == keys[:1]
    assert await shard.delivery.due(later) == keys
    await eventually(moved)

    count, wait, now = await store.delivery.move_due([])
    assert (count, wait) == (0, later - now)
    assert await store.delivery.depth() == (1, 1)


async def test_with_nothing_scheduled_there_is_no_next_moment(store: Store):
    count, wait, now = await store.delivery.move_due([])

    assert (count, wait) == (0, None)
    assert now > 0


async def test_a_lease_is_begun_kept_and_lost(store: Store, shard: Shard):
    claimed = await start(store)

    assert await store.delivery.renew(INSTANCE, 60_000_000, [claimed.run]) is None
    assert await store.delivery.renew(INSTANCE, 60_000_000, [claimed.run], first=True) == ["held"]
    assert await store.delivery.renew(INSTANCE, 60_000_000, []) == []
    assert await shard.delivery.leased() == {INSTANCE}


async def test_what_became_of_more_than_two_hundred_runs_is_told_in_order(store: Store):
    claimed = await start(store)
    held = [RunId(f"none-{number}", 1, 1) for number in range(450)]
    held[300] = claimed.run

    words = await store.delivery.renew(INSTANCE, 60_000_000, held, first=True)

    assert words is not None
    assert [number for number, word in enumerate(words) if word == "held"] == [300]
    assert len(words) == 450


async def test_a_dead_instance_is_named_and_its_work_taken_back(store: Store, shard: Shard):
    claimed = await start(store)
    _, _, now = await store.delivery.move_due([])
    await store.delivery.renew(INSTANCE, 60_000_000, [claimed.run], first=True)
    assert await shard.delivery.reclaim(INSTANCE, await shard.delivery.pending(INSTANCE)) is None
    await store.delivery.renew(INSTANCE, -1, [claimed.run])

    assert await shard.delivery.lapsed(now + 60_000_000) == [INSTANCE]
    assert await shard.delivery.reclaim(INSTANCE, await shard.delivery.pending(INSTANCE)) == 1
    assert await store.delivery.renew(INSTANCE, 60_000_000, [claimed.run]) is None

    [again] = await claim(store, await fetch(store, instance="w~2"), "w~2")
    assert isinstance(again, Claimed)
    assert (again.run.delivery, again.crashes) == (3, 1)
    assert await store.lifecycle.settle(end(claimed)) is None


async def test_an_instance_gives_back_what_it_does_not_run(store: Store, shard: Shard):
    await store.lifecycle.schedule(order())

    assert await shard.delivery.reclaim(INSTANCE, await fetch(store), own=True) == 1

    assert [delivery.key for delivery in await fetch(store, instance="w~2")] == ["k"]


async def test_a_consumer_is_forgotten_only_when_it_holds_nothing(store: Store, shard: Shard):
    claimed = await start(store)
    assert await shard.delivery.consumers() == [INSTANCE]

    await shard.delivery.forget_consumer(INSTANCE)
    assert len(await shard.delivery.pending(INSTANCE)) == 1

    await store.lifecycle.settle(end(claimed))
    await shard.delivery.forget_consumer(INSTANCE)
    assert await shard.delivery.consumers() == []


async def test_work_for_a_set_of_tasks_is_found_wherever_it_is(store: Store):
    assert await store.delivery.work_for({"send"}) == (False, set())

    await store.lifecycle.schedule(order())
    assert await store.delivery.work_for({"send"}) == (True, set())
    assert await store.delivery.work_for({"other"}) == (False, {"send"})

    await store.lifecycle.schedule(order(when_us=await soon(store), replace=True))
    assert await store.delivery.work_for({"send"}) == (True, set())
    await store.lifecycle.cancel("k")


async def test_work_is_found_beyond_the_first_page(store: Store):
    when = await soon(store)
    await store.lifecycle.schedule_many([order(f"now-{number}") for number in range(250)])
    await store.lifecycle.schedule_many([order(f"later-{number}", when_us=when) for number in range(250)])

    assert await store.delivery.work_for({"other"}) == (False, {"send"})

    await store.backend.call("HSET", store.keys.run("now-249"), "function", "other")
    assert await store.delivery.work_for({"other"}) == (True, {"send"})


async def test_what_is_queued_as_no_entry_of_ours_is_refused(store: Store):
    await store.backend.call("XADD", store.shard_of("").keys.stream, "*", "something", "else")

    deliveries = await fetch(store)

    assert [(delivery.key, delivery.generation) for delivery in deliveries] == [("", 0)]
    [refused] = await claim(store, deliveries)
    assert not isinstance(refused, Claimed)
    assert await store.delivery.depth() == (0, 0)


async def test_the_ended_are_not_work(store: Store):
    claimed = await start(store)
    await store.lifecycle.settle(end(claimed, ExecutionState.FAILED))

    assert await store.delivery.depth() == (0, 0)
