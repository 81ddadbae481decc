"""Keeping leases and places through a connection of their own."""

from __future__ import annotations

import asyncio
import threading

from docket import Docket
from tests.worker._hands import dead_worker


async def expiry(docket: Docket, instance: str) -> float | None:
    async with docket.redis() as redis:
        scores = [await redis.execute_command("ZSCORE", shard.keys.leases, instance) for shard in docket.store.shards]
        return None if None in scores else min(map(float, scores))


async def test_a_lease_is_renewed_until_it_is_lost(docket: Docket):
    await dead_worker(docket, "w~1", lease=10)
    before = await expiry(docket, "w~1")

    async with docket.store.leases() as store:
        assert await store.available(1)
        assert await store.renew("w~1", 20_000_000)
        after = await expiry(docket, "w~1")
        assert before is not None and after is not None and after >= before + 9_000_000

        await docket.store.workers.depart("w~1")
        assert not await store.renew("w~1", 20_000_000)
    assert await expiry(docket, "w~1") is None


async def test_it_is_let_go_at_once_and_for_ever(docket: Docket):
    await dead_worker(docket, "w~1", lease=10)
    await docket.store.workers.heartbeat("w~1", "w", ["task"], 10_000)

    async with docket.store.leases() as store:
        await store.let_go("w~1")

        assert not await store.renew("w~1", 20_000_000)
    assert await docket.store.workers.live(since_us=0) == []


async def test_it_works_in_another_event_loop(docket: Docket):
    await dead_worker(docket, "w~1", lease=10)
    before = await expiry(docket, "w~1")
    kept: list[bool] = []
    leases = docket.store.leases()

    async def keep() -> None:
        async with leases as store:
            kept.append(await store.renew("w~1", 20_000_000))
            await store.hold([("limit", 1)], 20_000_000)

    thread = threading.Thread(target=lambda: asyncio.run(keep()))
    thread.start()
    thread.join()  # with this loop blocked all the while

    after = await expiry(docket, "w~1")
    assert kept == [True]
    assert before is not None and after is not None and after > before
    await docket.store.workers.depart("w~1")
