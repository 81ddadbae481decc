"""A cluster: slots that move while a docket is at work, and who is asked where they are."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from docket import Docket, Worker
from docket.errors import InvalidURL, RedisUnavailable, ServerError
from tests._topologies import Cluster, Node, slot_of
from tests._waiting import eventually
from tests.topologies._work import backend_of, listening, patiently

BACKENDS = ("cluster",)


def move(cluster: Cluster, docket_name: str) -> tuple[Node, Node]:
    """This moves a docket's slot to another primary, keys and all, and tells only the two."""
    source = cluster.primary_of(f"{{{docket_name}}}:")
    target = next(node for node in cluster.primaries() if node is not source)
    slot = str(slot_of(docket_name))
    names = cluster.identity(source), cluster.identity(target)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, "100"):
        source.ask("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", names[1])
    return source, target


@pytest.fixture
async def at_work(docket: Docket) -> AsyncIterator[Worker]:
    async with Worker(docket, redelivery_timeout=timedelta(seconds=2)) as worker:
        running = asyncio.create_task(worker.run_forever())
        yield worker
        worker.stop()
        await running


async def test_work_goes_on_while_its_slot_moves(docket: Docket, cluster: Cluster, at_work: Worker, backend: str):
    ran: set[int] = set()
    added: set[int] = set()
    go, begun = asyncio.Event(), asyncio.Event()

    async def mark(number: int) -> int:
        ran.add(number)
        return number

    async def long() -> str:
        begun.set()
        await go.wait()
        return "kept"

    async def produce() -> None:
        for number in itertools.count():
            await patiently(partial(docket.add(mark, key=f"k-{number}"), number))
            added.add(number)
            await asyncio.sleep(0.002)

    async def survives_a_move() -> None:
        before = len(added)
        source, target = await asyncio.to_thread(move, cluster, docket.name)
        moved_at = time.monotonic()
        await eventually(lambda: len(added) > before + 50 and len(ran) > before + 50)
        assert time.monotonic() - moved_at < 8
        await eventually(lambda: _leads_to(docket, target))
        assert source.ask("CLUSTER", "COUNTKEYSINSLOT", str(slot_of(docket.name))) == 0

    docket.register(mark)
    docket.register(long)
    async with listening(docket) as heard:
        lasting = await docket.add(long)()
        await begun.wait()
        producing = asyncio.create_task(produce())
        await eventually(lambda: len(ran) > 50)

        await survives_a_move()
        await survives_a_move()

        producing.cancel()
        await asyncio.wait([producing])
        await eventually(lambda: added <= ran)
        go.set()
        assert await asyncio.wait_for(lasting.get_result(), 10) == "kept"
        last = await docket.add(mark, key="last")(-1)
        assert await last.get_result() == -1
        await eventually(lambda: "last" in heard)


def _leads_to(docket: Docket, node: Node) -> bool:
    """Whether everything that a docket and its workers hold leads there, and nothing to where they were."""
    backend = backend_of(docket)
    lines = [backend._wire, backend.subscriber, *backend._readers]
    return all(line.connection is not None and line.connection.port == node.port for line in lines)


async def test_an_idle_worker_follows_its_slot(docket: Docket, cluster: Cluster, at_work: Worker, backend: str):
    """A blocked read is answered MOVED, or is answered never; messages come from any node."""

    @docket.task
    async def word() -> str:
        return "a"

    link = backend_of(docket)
    await eventually(lambda: link.subscriber.connection is not None and any(reader.connection for reader in link._readers))
    _, target = await asyncio.to_thread(move, cluster, docket.name)

    execution = await patiently(word.schedule)
    assert await asyncio.wait_for(execution.get_result(), 8) == "a"
    await eventually(lambda: _leads_to(docket, target))


async def test_while_a_slot_is_between_two_nodes_nothing_is_written_by_half(docket: Docket, cluster: Cluster, backend: str):
    @docket.task
    async def word() -> str:
        return "a"

    await word.schedule(key="there")
    source = cluster.primary_of(docket.prefix + ":")
    target = next(node for node in cluster.primaries() if node is not source)
    slot = str(slot_of(docket.name))
    names = cluster.identity(source), cluster.identity(target)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
    half = f"{{{docket.name}}}:stream"
    source.ask("MIGRATE", "127.0.0.1", str(target.port), half, "0", "5000")
    before = source.ask("CLUSTER", "COUNTKEYSINSLOT", slot)

    with pytest.raises(RedisUnavailable, match="TRYAGAIN|ASK"):
        await docket.add(word, key="new")()

    assert source.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == before
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, "100"):
        source.ask("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", names[1])
    await patiently(docket.add(word, key="new"))
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    assert {each.key async for each in docket.executions(state="completed")} == {"there", "new"}


async def test_a_slot_that_nobody_has_is_an_outage_that_says_so(docket: Docket, cluster: Cluster, backend: str):
    slot = str(slot_of("nobody"))
    for node in cluster.nodes:
        with contextlib.suppress(Exception):
            node.ask("CLUSTER", "DELSLOTS", slot)
    try:
        with pytest.raises(RedisUnavailable, match=f"no node of the cluster has slot {slot}|CLUSTERDOWN"):
            async with Docket("nobody", cluster.url):
                pytest.fail("it got in")
    finally:
        cluster.primaries()[0].ask("CLUSTER", "ADDSLOTS", slot)
        cluster.heal()


async def test_a_server_that_is_no_cluster_says_so(redis_server: Any, docket_name: str):
    with pytest.raises((ServerError, RedisUnavailable), match="cluster support disabled"):
        async with Docket(docket_name, redis_server.url.replace("redis:", "redis+cluster:").removesuffix("/0")):
            pytest.fail("it got in")


async def test_one_node_that_is_known_leads_to_the_others(cluster: Cluster, docket_name: str):
    for node in cluster.nodes[:4]:
        async with Docket(docket_name, f"redis+cluster://127.0.0.1:{node.port}") as docket:
            assert (await docket.counts()).queued == 0


async def test_a_plain_url_to_a_node_works_while_the_slot_is_there(cluster: Cluster, docket_name: str):
    home = cluster.primary_of(f"{{{docket_name}}}:")
    other = next(node for node in cluster.primaries() if node is not home)

    async with Docket(docket_name, home.url) as docket:
        assert (await docket.counts()).queued == 0
    with pytest.raises(RedisUnavailable, match=r"MOVED.* It is part of a cluster: connect with redis\+cluster://"):
        async with Docket(docket_name, other.url):
            pytest.fail("it got in")


async def test_a_database_is_refused(cluster: Cluster):
    for url in (cluster.url + "/3", cluster.url + "?db=3"):
        with pytest.raises(InvalidURL, match="a cluster has only 0"):
            async with Docket(url=url):
                pytest.fail("it got in")
