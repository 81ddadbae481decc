"""Who is at work."""

from __future__ import annotations

from docket._store import Store
from docket._store.records import Announcement


async def test_a_worker_is_listed_with_the_tasks_it_knows(store: Store):
    _, _, before = await store.delivery.move_due([])

    assert await store.workers.heartbeat("w~1", "w", ["b", "a"], 60_000)

    [found] = await store.workers.live(since_us=0)
    assert found == Announcement("w~1", "w", found.last_seen_us, frozenset({"a", "b"}))
    assert found.last_seen_us >= before


async def test_tasks_are_said_once(store: Store):
    assert not await store.workers.heartbeat("w~1", "w", None, 60_000)
    assert await store.workers.live(since_us=0) == [Announcement("w~1", "", (await store.workers.live(since_us=0))[0].last_seen_us, frozenset())]

    await store.workers.heartbeat("w~1", "w", ["a"], 60_000)
    assert await store.workers.heartbeat("w~1", "w", None, 60_000)

    [found] = await store.workers.live(since_us=0)
    assert found.tasks == {"a"}


async def test_those_not_heard_of_since_are_not_live(store: Store):
    await store.workers.heartbeat("w~1", "w", [], 60_000)
    [found] = await store.workers.live(since_us=0)

    assert await store.workers.live(since_us=found.last_seen_us + 1) == []


async def test_one_who_departed_is_on_no_list(store: Store):
    await store.workers.heartbeat("w~1", "w", ["a"], 60_000)
    await store.delivery.renew("w~1", 60_000_000, [], first=True)

    await store.workers.depart("w~1")
    await store.workers.depart("w~1")

    assert await store.workers.live(since_us=0) == []
    assert [await shard.delivery.leased() for shard in store.shards] == [set()] * len(store.shards)
