"""One of three primaries is lost under load: what its replica had is run, and the other shards go on meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import redis

from docket import ConcurrencyLimit, Docket, Worker
from docket._keys import tags
from docket.errors import NotReplicated, RedisUnavailable
from tests._topologies import Cluster, Node
from tests._waiting import eventually

SHARDS = 6
AT_ONCE = 3


class Load:
    """These are producers that add for as long as they are wanted, one a shard, and what became of what they added."""

    def __init__(self, docket: Docket) -> None:
        self.docket = docket
        self.safe: set[str] = set()
        """What was acknowledged, and by a replica as well."""
        self.ran: list[str] = []
        self.under_way = self.most = 0
        self._wanted = True

    async def mark(self, name: str) -> None:
        self.ran.append(name)

    async def narrow(self, name: str) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.002)
        self.under_way -= 1
        self.ran.append(name)

    def stop(self) -> None:
        self._wanted = False

    async def produce(self, index: int) -> None:
        """Adds keys of one shard."""
        store, number = self.docket.store, 0
        while self._wanted:
            key = f"k{number}"
            number += 1
            if store.shard_of(key).index != index:
                continue
            while True:
                try:
                    await self.docket.add("narrow" if number % 3 == 0 else "mark", key=key)(key)
                    if await store.shards[index].backend.call("WAIT", 1, 100) >= 1:
                        self.safe.add(key)
                    break
                except RedisUnavailable:  # in doubt as well: the same key again
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.02)

    def ran_in(self, shards: set[int]) -> int:
        return sum(self.docket.store.shard_of(key).index in shards for key in self.ran)


def shards_of(name: str, cluster: Cluster, node: Node) -> set[int]:
    """The shards that a node has."""
    return {index for index, tag in enumerate(tags(name, SHARDS)) if cluster.primary_of(f"{{{tag}}}:") is node}


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_what_was_acknowledged_and_replicated_is_run_and_the_other_shards_go_on(docket_name: str, cluster: Cluster, how: str):
    async with Docket(docket_name, cluster.url, shards=SHARDS) as docket, Docket(docket_name, cluster.url) as other:
        load = Load(other)
        other.register(load.mark, names=["mark"])
        other.register(ConcurrencyLimit(AT_ONCE)(load.narrow), names=["narrow"])
        docket.register(load.mark, names=["mark"])
        docket.register(ConcurrencyLimit(AT_ONCE)(load.narrow), names=["narrow"])
        async with Worker(docket, redelivery_timeout=timedelta(seconds=5), concurrency=10) as worker:
            running: list[asyncio.Task[Any]] = [asyncio.create_task(worker.run_forever()), *(asyncio.create_task(load.produce(i)) for i in range(SHARDS))]
            try:
                await eventually(lambda: load.ran_in({*range(SHARDS)}) >= 5 * SHARDS)
                victim = cluster.primary_of(f"{{{tags(docket_name, SHARDS)[-1]}}}:")
                lost = shards_of(docket_name, cluster, victim)
                assert 0 < len(lost) < SHARDS
                kept = {*range(SHARDS)} - lost
                before = load.ran_in(kept)

                getattr(victim, how)()
                await eventually(lambda: load.ran_in(kept) >= before + 10)
                await eventually(lambda: _has_left(cluster, victim, docket_name), within=40)
                after = load.ran_in(lost)
                await eventually(lambda: load.ran_in(lost) >= after + 10, within=20)
                (victim.start if how == "kill" else victim.resume)()

                load.stop()
                await asyncio.gather(*running[1:])
                await eventually(lambda: load.safe <= set(load.ran), within=30)
                worker.stop()
                await running[0]
            finally:
                for task in running:
                    task.cancel()
                await asyncio.wait(running)

    assert len(load.safe) >= 5 * SHARDS
    assert load.most <= AT_ONCE


def _has_left(cluster: Cluster, victim: Node, name: str) -> bool:
    try:
        return cluster.primary_of(f"{{{tags(name, SHARDS)[-1]}}}:") is not victim
    except (redis.RedisError, OSError):  # whoever is asked may be the one that is lost
        return False


async def test_what_a_replica_has_to_confirm_is_confirmed_by_that_of_its_shard(docket_name: str, cluster: Cluster):
    async with Docket(docket_name, cluster.url, shards=SHARDS, durable_adds=1) as docket:
        for number in range(12):
            await docket.add("mark", key=f"k{number}")(number)
        assert (await docket.counts()).queued == 12

        lost = cluster.replica_of(cluster.primary_of(f"{{{tags(docket_name, SHARDS)[0]}}}:"))
        lost.pause()
        confirmed: dict[bool, set[int]] = {True: set(), False: set()}
        for number in range(12, 30):
            index = docket.store.shard_of(f"k{number}").index
            try:
                await docket.add("mark", key=f"k{number}")(number)
                confirmed[True].add(index)
            except NotReplicated:
                confirmed[False].add(index)
        lost.resume()

        assert confirmed[True] and confirmed[False]
        assert not confirmed[True] & confirmed[False]
        assert 0 in confirmed[False]
        assert (await docket.counts()).queued == 30
        await docket.clear()
