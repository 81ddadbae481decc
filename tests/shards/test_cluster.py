"""A divided docket on a cluster of three primaries."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from redis.exceptions import ReadOnlyError

from docket import ConcurrencyLimit, Docket, Worker
from docket._clock import SYSTEM
from docket._keys import Keys, slot_of, tags
from docket._redis import make_backend
from docket._redis.cluster import ClusterBackend
from docket.errors import RedisUnavailable
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.shards._cluster import Cluster, ask, running_cluster
from tests.worker._hands import at_work


async def test_every_primary_has_its_part_of_the_work(cluster: Cluster):
    ran: list[int] = []
    async with Docket("orders", cluster.url, shards=6) as docket:

        @docket.task
        async def job(number: int) -> int:
            ran.append(number)
            return number

        executions = await docket.add_many(docket.call(job)(number) for number in range(120))
        async with Worker(docket) as worker:
            await worker.run_until_finished()

        assert sorted(ran) == list(range(120))
        assert [await execution.get_result() for execution in executions] == list(range(120))
        counts = await docket.counts()
        assert (counts.completed, counts.live) == (120, 0)
        assert len([each async for each in docket.executions()]) == 120
    kept = [len(cast("list[Any]", cast("Any", node.client()).execute_command("KEYS", "*:runs:*"))) for node in cluster.nodes]
    assert sum(kept) == 120 and min(kept) > 20


async def test_limits_strikes_and_cancellations_reach_all_of_it(cluster: Cluster):
    at_once, most = 0, 0
    async with Docket("orders", cluster.url, shards=6) as docket:

        @docket.task
        @ConcurrencyLimit(2)
        async def job(number: int) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.002)
            at_once -= 1

        for number in range(40):
            await docket.add(job, key=f"k{number}")(number)
        await docket.strike(job, "number", "==", 7)
        await docket.cancel("k8")
        async with Worker(docket, concurrency=10) as worker:
            await asyncio.wait_for(worker.run_until_finished(), 30)

        assert most == 2
        counts = await docket.counts()
        assert (counts.completed, counts.cancelled, counts.waiting) == (38, 2, 0)


async def test_a_slot_that_moves_takes_its_shard_along(cluster: Cluster):
    ran: set[int] = set()
    async with Docket("orders", cluster.url, shards=3) as docket:

        @docket.task
        async def job(number: int) -> None:
            ran.add(number)

        tag = tags("orders", 3)[0]
        home = cluster.owner(tag)
        async with at_work(docket):
            for number in range(20):
                await docket.add(job, key=f"k{number}")(number)
            cluster.migrate(tag, next(node for node in cluster.nodes if node is not home))
            try:
                for number in range(20, 60):
                    await docket.add(job, key=f"k{number}")(number)

                await eventually(lambda: len(ran) == 60, within=20)
            finally:
                cluster.migrate(tag, home)


async def test_a_replica_that_takes_over_is_followed():
    ran: set[int] = set()
    with running_cluster(replicas=1) as cluster:
        async with Docket("orders", cluster.url, shards=6) as docket:

            @docket.task
            async def job(number: int) -> None:
                ran.add(number)

            async with at_work(docket):
                for number in range(30):
                    await docket.add(job, key=f"k{number}")(number)
                await eventually(lambda: len(ran) == 30)

                cluster.owner(tags("orders", 6)[0]).kill()
                added: set[int] = set()
                for number in range(30, 90):
                    try:
                        await docket.add(job, key=f"k{number}")(number)
                        added.add(number)
                    except RedisUnavailable:  # it takes longer than a caller is kept waiting
                        continue

                assert len(added) > 30
                await eventually(lambda: added <= ran)


async def test_connections_are_as_many_as_there_are_primaries_and_shards(cluster: Cluster):
    async with Docket("orders", cluster.url, shards=6) as docket, at_work(docket):
        await eventually(lambda: docket.store.backend.subscriber.connected)
        await eventually(lambda: _connections(cluster) >= 3 + 1 + 6)

        # commands, messages, blocking reads, who has which slots; and for the thread that keeps leases, commands and who has which slots
        assert _connections(cluster) <= (3 + 1 + 6 + 1) + (3 + 1)


def _connections(cluster: Cluster) -> int:
    """How many of them there are, without the tests' own and those of the nodes among each other."""
    return sum(len(cast("list[Any]", cast("Any", node.client()).client_list(_type="normal"))) - 1 for node in cluster.nodes) + sum(
        len(cast("list[Any]", cast("Any", node.client()).client_list(_type="pubsub"))) for node in cluster.nodes
    )


@pytest.mark.parametrize("number", range(3))  # one of them is the last to be connected to
async def test_where_one_primary_refuses_us_nothing_is_left_connected_to_the_others(cluster: Cluster, number: int):
    refusing = cluster.nodes[number]
    client: Any = refusing.client()
    client.config_set("maxclients", 1)
    try:
        with pytest.raises(RedisUnavailable):
            async with Docket("orders", cluster.url, shards=6):
                pytest.fail("it got in")

        others = [node for node in cluster.nodes if node is not refusing]
        await eventually(lambda: all(_clients(node) == 0 for node in others))
    finally:
        client.config_set("maxclients", 10_000)


async def test_a_slot_that_nobody_has_is_said_and_waited_for(cluster: Cluster):
    keys = Keys("orders", 3)
    lost = keys.shards[1].prefix
    tag = tags("orders", 3)[1]
    owner, slot = cluster.owner(tag), slot_of(tag)
    for node in cluster.nodes:
        ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        ask(node, "CLUSTER", "DELSLOTS", slot)
    backend = make_backend(cluster.url, keys=[keys.prefix, *(shard.prefix for shard in keys.shards)], clock=SYSTEM)
    await backend.open()
    services = [asyncio.create_task(service()) for service in backend.services()]
    part = backend.at(lost)
    try:
        assert await backend.call("PING") == b"PONG"
        with pytest.raises(RedisUnavailable, match="no node of the cluster has slot"):
            await part.call("GET", lost)
        with pytest.raises(RedisUnavailable, match="no node of the cluster has slot"):
            await part.reader().call("BLPOP", lost, 1, timeout=1)
        assert (part.is_connected, part.connected_for(), await part.available(0.05)) == (False, 0.0, False)
        cast("ClusterBackend", backend).hint(ReadOnlyError("READONLY it says, and not who has it"))
        waiting = asyncio.create_task(part.available(20))
        await asyncio.sleep(0)  # it waits now

        ask(owner, "CLUSTER", "ADDSLOTS", slot)

        assert await waiting
        assert await part.call("GET", lost) is None
    finally:
        for node in cluster.nodes:
            ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
        for service in services:
            service.cancel()
        await asyncio.wait(services)
        await backend.aclose()
        cluster.heal()


def _clients(node: RedisServer) -> int:
    """How many connections a node has, besides the tests' own."""
    return len(cast("list[Any]", cast("Any", node.client()).client_list(_type="normal"))) - 1
