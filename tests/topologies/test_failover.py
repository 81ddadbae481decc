"""The server that a docket lives on is lost under load, in a cluster and under sentinels: whatever was acknowledged and replicated is run, and in seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Literal

import pytest
import redis

from docket import Docket, Worker
from docket._worker._leases import Leases
from docket.errors import DocketError, RedisUnavailable
from tests._topologies import Cluster, Node, Trio
from tests._waiting import eventually
from tests.topologies._work import backend_of, listening, patiently

BACKENDS = ("cluster", "sentinel")

SECONDS = 6.0
"""For a new server to be followed; whoever waited for a silent one would wait for 10 s."""

How = Literal["kill", "pause", "switch"]


class Home:
    """This is where a docket lives, and what may happen to that."""

    def __init__(self, topology: Cluster | Trio, docket_name: str) -> None:
        self.topology = topology
        self._key = f"{{{docket_name}}}:"

    @property
    def url(self) -> str:
        return self.topology.url

    def server(self) -> Node:
        """This is the server that has the docket now."""
        return self.topology.primary_of(self._key) if isinstance(self.topology, Cluster) else self.topology.master()

    def has_left(self, server: Node) -> bool:
        """This says whether the docket lives elsewhere by now."""
        try:
            return self.server() is not server
        except (redis.RedisError, OSError):
            return False

    async def lose(self, server: Node, how: How) -> None:
        """This has another server take over."""
        if how != "switch":
            getattr(server, how)()
        elif isinstance(self.topology, Cluster):
            self.topology.replica_of(server).ask("CLUSTER", "FAILOVER")
        else:
            await asyncio.to_thread(self.topology.switch, self.topology.sentinels[0])


@pytest.fixture
def home(backend: str, docket_name: str, request: pytest.FixtureRequest) -> Home:
    """This is the cluster, or the master with its sentinels."""
    return Home(request.getfixturevalue("cluster" if backend == "cluster" else "trio"), docket_name)


class Load:
    """This is a producer that adds for as long as it is wanted, and what became of what it added."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.safe: set[str] = set()
        """What was acknowledged, and by a replica as well."""
        self.ran: dict[str, float] = {}
        """When each last ran."""
        self.refused: list[DocketError] = []
        self._wanted = True

    def stop(self) -> None:
        self._wanted = False

    async def produce(self, docket: Docket, word: str) -> None:
        number = 0
        while self._wanted:
            key = f"{word}-{number}"
            try:
                await docket.add(self.mark, key=key)(key)
                self.acknowledged.add(key)
                if await backend_of(docket).call("WAIT", 1, 100) >= 1:
                    self.safe.add(key)
            except RedisUnavailable as exc:  # in doubt as well: the same key again
                self.refused.append(exc)
                await asyncio.sleep(0.02)
                continue
            number += 1
            await asyncio.sleep(0.005)

    async def mark(self, key: str) -> None:
        self.ran[key] = time.monotonic()

    def count(self) -> int:
        return len(self.ran)


@asynccontextmanager
async def under_load(docket: Docket) -> AsyncGenerator[Load]:
    """This has a producer and a worker at work, each with connections of its own, until everything that is safe has run."""
    load = Load()
    docket.register(load.mark, names=["mark"])
    async with Docket(docket.name, docket.url) as other, Worker(docket, redelivery_timeout=timedelta(seconds=5), concurrency=5) as worker:
        other.register(load.mark, names=["mark"])
        tasks = [asyncio.create_task(worker.run_forever()), asyncio.create_task(load.produce(other, "far"))]
        try:
            await eventually(lambda: load.count() >= 20)
            yield load
            load.stop()
            await tasks[1]
            await eventually(lambda: load.safe <= load.ran.keys())
            worker.stop()
            await tasks[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def goes_on(load: Load) -> None:
    """This waits until what was added after now has run."""
    before = set(load.acknowledged)
    await eventually(lambda: (load.acknowledged - before) & load.ran.keys())


@pytest.mark.parametrize("how", ["kill", "pause", "switch"])
async def test_what_was_acknowledged_and_replicated_is_run_and_work_goes_on_in_seconds(docket: Docket, home: Home, how: How):
    async with under_load(docket) as load:
        old = home.server()

        await home.lose(old, how)
        await eventually(lambda: home.has_left(old), within=40)
        begun = time.monotonic()
        await goes_on(load)

        assert time.monotonic() - begun < SECONDS
        if how == "pause":
            old.resume()
        elif how == "kill":
            old.start()
        await goes_on(load)
        await eventually(old.is_replica, within=40)
        await goes_on(load)
        await eventually(lambda: len(load.safe) >= 20)


@pytest.mark.parametrize("how", ["pause", "switch"])
async def test_who_waits_or_listens_hears_of_what_runs_afterwards(docket: Docket, home: Home, how: How):
    go = asyncio.Event()

    async def word(text: str, gate: bool = False) -> str:
        if gate:
            await go.wait()
        return text

    docket.register(word)
    async with listening(docket) as heard, Worker(docket, redelivery_timeout=timedelta(seconds=5)) as worker:
        running = asyncio.create_task(worker.run_forever())
        waited_for = await docket.add(word, key="before")("a", gate=True)
        waiting = asyncio.create_task(waited_for.get_result())
        await eventually(lambda: "before" in heard)
        assert await backend_of(docket).call("WAIT", 1, 30_000) == 1
        old = home.server()

        await home.lose(old, how)
        await eventually(lambda: home.has_left(old), within=40)
        go.set()

        assert await asyncio.wait_for(waiting, SECONDS) == "a"
        after = await patiently(partial(docket.add(word, key="after"), "b"))
        assert await asyncio.wait_for(after.get_result(), SECONDS) == "b"

        async def hears() -> bool:  # messages are lost until the subscription stands on the new server
            await patiently(partial(docket.add(word, key="again"), "c"))
            return "again" in heard

        await eventually(hears)
        worker.stop()
        await running


async def test_a_lease_is_kept_by_its_thread_alone_also_on_the_new_server(docket: Docket, home: Home, monkeypatch: pytest.MonkeyPatch):
    begun: list[str] = []
    go = asyncio.Event()

    async def long() -> None:
        begun.append("once")
        await go.wait()

    async def never_in_the_loop(self: Leases) -> float:
        return 60.0

    docket.register(long)
    lease = timedelta(seconds=2)
    async with Worker(docket, name="one", redelivery_timeout=lease) as one, Worker(docket, name="two", redelivery_timeout=lease) as two:
        execution = await docket.add(long)()
        monkeypatch.setattr(Leases, "tick", never_in_the_loop)
        running = [asyncio.create_task(each.run_forever()) for each in (one, two)]
        await eventually(lambda: begun)
        old = home.server()

        await home.lose(old, "pause")
        await eventually(lambda: home.has_left(old), within=40)
        back = time.monotonic()
        while time.monotonic() < back + 3 * lease.total_seconds():  # time for a lease to lapse and be taken over, if nobody kept it
            await asyncio.sleep(0.1)

        assert begun == ["once"]
        go.set()
        await asyncio.wait_for(execution.get_result(), SECONDS)
        for each in (one, two):
            each.stop()
        await asyncio.gather(*running)
    assert begun == ["once"]


async def test_while_nobody_says_where_the_server_is_the_error_says_so_and_then_it_is_found_again(docket: Docket, home: Home):
    @docket.task
    async def word() -> str:
        return "a"

    topology = home.topology
    asked = topology.nodes if isinstance(topology, Cluster) else [*topology.sentinels, *topology.servers]
    for node in asked:
        node.kill()
    backend = backend_of(docket)
    await eventually(lambda: not backend.is_connected)

    with pytest.raises(RedisUnavailable, match="cannot be reached"):
        await backend.call("PING")
    with pytest.raises(RedisUnavailable, match="Nothing was written. Is the server running, and is the URL right"):
        async with Docket(docket.name, docket.url):
            pytest.fail("it got in")

    await asyncio.to_thread(topology.heal)
    execution = await patiently(word.schedule)
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    assert await execution.get_result() == "a"
