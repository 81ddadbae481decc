"""What is told of runs goes by channels of their shards, and in a cluster by the primary of the shard alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import pytest

from docket import Docket, ExecutionState, Worker
from docket._keys import Keys, slot_of, tags
from docket._store.inbox import Gap
from docket._store.moving import move
from docket._store.records import StateChange
from docket.errors import DocketError
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.redis._backends import Ear, opened
from tests.shards._cluster import Cluster, ask, running_cluster
from tests.worker._hands import at_work

LATER = timedelta(hours=1)


@pytest.fixture(autouse=True)
def not_before_redis_7(redis_server: RedisServer) -> None:
    """Before, there were no channels of slots."""
    version: str = cast("Any", redis_server.client()).info("server")["redis_version"]
    if int(version.partition(".")[0]) < 7:
        pytest.skip(f"this is Redis {version}, which has no channels of slots")


def recorded(server: RedisServer, name: str) -> bytes | None:
    """This is what stands in Redis of a docket's channels."""
    return ask(server, "HGET", Keys(name).meta, "channels")


def calls(server: RedisServer, command: str) -> int:
    """This is how often a command was called, by scripts or not."""
    stats: Any = cast("Any", server.client()).info("commandstats")
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]


@asynccontextmanager
async def hearing(docket: Docket) -> AsyncGenerator[list[Any]]:
    """This hears what happens to all tasks of a docket."""
    heard: list[Any] = []
    async with docket.store.events.stream() as stream:

        async def listen() -> None:
            while True:
                heard.append(await stream.get())

        listening = asyncio.create_task(listen())
        yield heard
        listening.cancel()
        await asyncio.wait([listening])


def ended(heard: list[Any]) -> set[str]:
    """These are the keys of which an end was heard."""
    return {each.key for each in heard if isinstance(each, StateChange) and each.state is ExecutionState.COMPLETED}


# Who has them


async def test_a_docket_that_is_divided_has_channels_in_each_shard_and_one_in_one_piece_does_not(redis_server: RedisServer):
    async with Docket("divided", redis_server.url, shards=4) as divided, Docket("whole", redis_server.url) as whole:
        async with Docket("divided", redis_server.url) as again:
            assert again.store.keys.own_channels

        assert divided.store.keys.own_channels
        assert not whole.store.keys.own_channels
    assert recorded(redis_server, "divided") == b"sharded"
    assert recorded(redis_server, "whole") is None


async def test_in_memory_there_are_none():
    async with Docket("divided", "memory://channels-of-shards", shards=4) as docket:
        assert not docket.store.keys.own_channels

        async with hearing(docket) as heard:
            for number in range(8):
                await docket.add("job", key=f"k{number}", when=LATER)()
            await eventually(lambda: len(heard) == 8)


async def test_one_in_one_piece_publishes_to_all_and_a_divided_one_to_its_shards(redis_server: RedisServer):
    async def both(docket: Docket) -> tuple[int, int]:
        async def job() -> None: ...

        docket.register(job)
        before = calls(redis_server, "publish"), calls(redis_server, "spublish")
        async with Worker(docket) as worker:
            await docket.add_many([docket.call(job)() for _ in range(20)])
            await worker.run_until_finished()
        return calls(redis_server, "publish") - before[0], calls(redis_server, "spublish") - before[1]

    async with Docket("whole", redis_server.url) as whole, Docket("divided", redis_server.url, shards=4) as divided:
        assert await both(whole) == (60, 0)
        assert await both(divided) == (0, 120)


@pytest.fixture
def without_them(redis_server: RedisServer) -> Any:
    """This is a URL for a user for whom the server is like one that knows no sharded pub/sub."""
    ask(redis_server, "ACL", "SETUSER", "old", "on", ">secret", "~*", "&*", "+@all", "-spublish", "-ssubscribe", "-sunsubscribe")
    yield redis_server.url.replace("127", "old:secret@127")
    ask(redis_server, "ACL", "DELUSER", "old")


async def test_where_the_server_cannot_messages_go_to_all_and_whoever_comes_later_goes_by_that(redis_server: RedisServer, without_them: str):
    async with Docket("old", without_them, shards=4) as old, Docket("old", redis_server.url, shards=4) as new:
        assert (old.store.keys.own_channels, new.store.keys.own_channels) == (False, False)
        async with hearing(old) as one, hearing(new) as other:
            for number in range(8):
                await (old if number % 2 else new).add("job", key=f"k{number}", when=LATER)()
            await eventually(lambda: len(one) == len(other) == 8)
    assert recorded(redis_server, "old") == b""


async def test_a_cluster_of_which_one_node_cannot_uses_none(cluster: Cluster):
    for number, node in enumerate(cluster.nodes):
        ask(node, "ACL", "SETUSER", "old", "on", ">secret", "~*", "&*", "+@all", *(["-spublish"] if number == 1 else []))
    try:
        async with Docket("orders", cluster.url.replace("://", "://old:secret@"), shards=6) as docket, Docket("orders", cluster.url) as other:
            assert not other.store.keys.own_channels
            async with hearing(docket) as heard:
                for number in range(12):
                    await other.add("job", key=f"k{number}", when=LATER)()
                await eventually(lambda: len(heard) == 12)
    finally:
        for node in cluster.nodes:
            ask(node, "ACL", "DELUSER", "old")


async def test_moving_it_finds_out_anew(redis_server: RedisServer, without_them: str):
    async with Docket("old", without_them, shards=2):
        pass

    await move("old", redis_server.url, 3)
    assert recorded(redis_server, "old") == b"sharded"
    async with Docket("old", redis_server.url, shards=3) as docket:
        assert docket.store.keys.own_channels
    await move("old", without_them, 2)
    assert recorded(redis_server, "old") == b""
    await move("old", redis_server.url, 1)
    assert recorded(redis_server, "old") == b""
    async with Docket("old", redis_server.url) as docket:
        assert not docket.store.keys.own_channels


# On a cluster


def bus(cluster: Cluster) -> int:
    """This is how many messages were published from node to node so far."""
    told = "".join(ask(node, "CLUSTER", "INFO").decode() for node in cluster.nodes)
    return sum(int(line.partition(":")[2]) for line in told.splitlines() if line.startswith("cluster_stats_messages_publish") and "_sent" in line)


def listeners(node: RedisServer) -> int:
    """This is how many connections of a node listen."""
    return len(ask(node, "CLIENT", "LIST", "TYPE", "PUBSUB").splitlines())


async def test_an_event_comes_from_every_shard_and_no_other_node_carries_it(cluster: Cluster):
    async with Docket("orders", cluster.url, shards=6) as docket:

        @docket.task
        async def job() -> None: ...

        async with hearing(docket) as heard, Worker(docket) as worker:
            ask(cluster.nodes[0], "PUBLISH", "to", "all")
            before = bus(cluster)
            assert before
            executions = await docket.add_many(docket.call(job, key=f"k{number}")() for number in range(120))
            await worker.run_until_finished()
            for execution in executions[:20]:
                await execution.get_result()

            await eventually(lambda: len(ended(heard)) == 120)
            assert bus(cluster) == before
        assert {docket.store.shard_of(key).index for key in ended(heard)} == set(range(6))
        assert not [each for each in heard if isinstance(each, Gap)]
        assert len(heard) == 360
        ask(cluster.nodes[0], "PUBLISH", "to", "all")
        assert bus(cluster) == before + 2


async def test_connections_for_messages_are_one_to_each_primary_where_somebody_listens_however_many_do(cluster: Cluster):
    def there() -> list[int]:
        return [listeners(node) for node in cluster.nodes]

    async with Docket("orders", cluster.url, shards=6) as docket:
        home = cluster.nodes.index(cluster.owner("orders"))
        await eventually(lambda: sum(there()) == 1)  # to what is struck
        assert there()[home] == 1
        executions = [await docket.add("job", key=f"k{number}", when=LATER)() for number in range(60)]

        waiting = [asyncio.create_task(execution.get_result()) for execution in executions]
        await eventually(lambda: docket.store.backend.subscriber.listening == 1 + len(waiting))
        async with hearing(docket):
            assert there() == [1, 1, 1]
        await docket.clear()
        await asyncio.gather(*waiting, return_exceptions=True)  # they were cancelled

        await eventually(lambda: docket.store.backend.subscriber.listening == 1)
        await eventually(lambda: sum(there()) == 1)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads a record again because it has been quiet for a while."""
    monkeypatch.setattr("docket._store.events.REREAD_EVERY", 3600.0)


@pytest.mark.usefixtures("trusting")
async def test_who_waits_while_a_slot_moves_gets_the_end_and_who_hears_all_is_told_of_the_gap(cluster: Cluster):
    async with Docket("orders", cluster.url, shards=3) as docket:
        go = asyncio.Event()

        @docket.task
        async def job(number: int) -> int:
            await go.wait()
            return number

        tag = tags("orders", 3)[0]
        home = cluster.owner(tag)
        other = next(node for node in cluster.nodes if node is not home)
        async with at_work(docket, concurrency=40), hearing(docket) as heard:
            executions = [await docket.add(job, key=f"k{number}")(number) for number in range(30)]
            waiting = [asyncio.create_task(execution.get_result()) for execution in executions]
            await eventually(lambda: len([each for each in heard if isinstance(each, StateChange) and each.state is ExecutionState.RUNNING]) == 30)
            await eventually(lambda: docket.store.backend.subscriber.listening >= 3 + 30)

            await asyncio.to_thread(cluster.migrate, tag, other)
            try:
                await eventually(lambda: [each for each in heard if isinstance(each, Gap)])
                go.set()

                assert await asyncio.wait_for(asyncio.gather(*waiting), 20) == list(range(30))
                await eventually(lambda: ended(heard) == {execution.key for execution in executions})
                assert len([each for each in heard if isinstance(each, Gap)]) == 1
            finally:
                await asyncio.to_thread(cluster.migrate, tag, home)


@pytest.mark.usefixtures("trusting")
async def test_a_slot_that_moves_there_and_back_at_once_is_followed(cluster: Cluster):
    async with Docket("orders", cluster.url, shards=3) as docket:
        tag = tags("orders", 3)[2]
        home = cluster.owner(tag)
        key = next(f"k{number}" for number in range(100) if docket.store.shard_of(f"k{number}").index == 2)
        execution = await docket.add("job", key=key, when=LATER)()
        async with docket.store.events.feed(key) as feed:
            for node in (next(node for node in cluster.nodes if node is not home), home):
                await asyncio.to_thread(cluster.migrate, tag, node)
                assert await feed.get(20) is None
            await execution.cancel()

            assert isinstance(change := await feed.get(20), StateChange)
            assert change.state is ExecutionState.CANCELLED


async def test_a_slot_that_nobody_is_known_to_have_is_listened_to_once_somebody_has(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("docket._redis.subscriber.RESPONSE_TIMEOUT", 0.05)
    keys = [shard.prefix for shard in Keys("orders", 3).shards]
    async with opened(cluster.url, keys=keys) as link:
        ear, channel = Ear(), keys[1] + "c"
        slot = slot_of(tags("orders", 3)[1])
        places: dict[int, Any] = cast("Any", link)._map.owners
        place = places.pop(slot)

        assert not await link.subscriber.add(channel, ear, sharded=True)
        assert not link.at(channel).subscriber.connected  # to where messages for all come, nobody listens
        places[slot] = place
        cast("Any", link)._rearrange()

        await eventually(lambda: ear.interruptions == 1)
        await link.at(channel).call("SPUBLISH", channel, "one")
        await eventually(lambda: ear.messages == [b"one"])
        assert link.subscriber.hears(channel)
        await link.subscriber.remove(channel, ear, sharded=True)
        assert not link.subscriber.hears(channel)
        places.pop(slot)
        cast("Any", link)._rearrange()  # nobody listens there, and so nothing need follow
        places[slot] = place
        cast("Any", link)._rearrange()
        assert await link.subscriber.add(channel, ear, sharded=True)


async def test_a_wrong_word_of_where_a_slot_is_is_set_right_by_the_node_and_listeners_are_told(cluster: Cluster):
    keys = [shard.prefix for shard in Keys("orders", 3).shards]
    async with opened(cluster.url, keys=keys) as link:
        ear, of_all, channel = Ear(), Ear(), keys[0] + "c"
        assert await link.subscriber.add(channel, ear, sharded=True)
        assert await link.subscriber.add("c", of_all)  # where the first key is
        places: dict[int, Any] = cast("Any", link)._map.owners
        slots = [slot_of(tag) for tag in tags("orders", 3)]
        right = places[slots[0]]

        places[slots[0]] = places[slots[1]]
        cast("Any", link)._rearrange()

        await eventually(lambda: ear.interruptions and of_all.interruptions and places[slots[0]] == right)
        await eventually(lambda: link.subscriber.connected)
        await link.at(channel).call("SPUBLISH", channel, "one")
        await link.at(channel).call("PUBLISH", "c", "two")
        await eventually(lambda: (ear.messages, of_all.messages) == ([b"one"], [b"two"]))


@pytest.mark.usefixtures("trusting")
async def test_the_channels_of_the_docket_as_a_whole_follow_its_slot(cluster: Cluster):
    tag = "orders"
    home = cluster.owner(tag)
    async with Docket(tag, cluster.url, shards=3) as docket, Docket(tag, cluster.url) as other:
        await eventually(lambda: docket.store.backend.subscriber.connected)
        await asyncio.to_thread(cluster.migrate, tag, next(node for node in cluster.nodes if node is not home))
        try:

            async def struck() -> bool:
                try:
                    return await other.strike("job")
                except DocketError:
                    return False

            await eventually(struck)
            await eventually(lambda: docket.store.strikes.version == other.store.strikes.version)
            await eventually(lambda: docket.store.backend.subscriber.connected)
            await other.restore("job")
            await eventually(lambda: docket.store.strikes.version == other.store.strikes.version)
            await eventually(lambda: listeners(cluster.owner(tag)) == 2)
        finally:
            await asyncio.to_thread(cluster.migrate, tag, home)


@pytest.mark.usefixtures("trusting")
async def test_who_waits_while_a_replica_takes_over_gets_the_end():
    with running_cluster(replicas=1) as cluster:
        async with Docket("orders", cluster.url, shards=3) as docket:
            go = asyncio.Event()

            @docket.task
            async def job(number: int) -> int:
                await go.wait()
                return number

            async with at_work(docket, concurrency=40):
                executions = [await docket.add(job, key=f"k{number}")(number) for number in range(30)]
                waiting = [asyncio.create_task(execution.get_result()) for execution in executions]
                await eventually(lambda: docket.store.backend.subscriber.listening >= 30)

                cluster.owner(tags("orders", 3)[1]).kill()
                go.set()

                assert await asyncio.wait_for(asyncio.gather(*waiting), 40) == list(range(30))
