"""Channels of slots (sharded pub/sub), on the one connection for messages: heard, lost, refused, and taken away by the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from docket._redis.backend import Backend
from docket.errors import ServerError
from tests._proxy import Proxy, running_proxy
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.redis._backends import Ear, opened


@pytest.fixture(autouse=True)
def not_before_redis_7(redis_server: RedisServer) -> None:
    """Before, there were none."""
    version: str = cast("Any", redis_server.client()).info("server")["redis_version"]
    if int(version.partition(".")[0]) < 7:
        pytest.skip(f"this is Redis {version}, which has no channels of slots")


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with running_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def link(proxy: Proxy) -> AsyncIterator[Backend]:
    """This reaches the server through the proxy."""
    async with opened(proxy.url) as backend:
        yield backend


async def test_a_channel_of_a_slot_is_another_than_the_one_of_the_same_name(link: Backend):
    of_slot, of_all = Ear(), Ear()
    assert await link.subscriber.add("c", of_slot, sharded=True)
    assert await link.subscriber.add("c", of_all)
    assert link.subscriber.listening == 2

    await link.call("SPUBLISH", "c", "one")
    await link.call("PUBLISH", "c", "two")
    await eventually(lambda: (of_slot.messages, of_all.messages) == ([b"one"], [b"two"]))
    await link.subscriber.remove("c", of_all)
    assert link.subscriber.hears("c")
    await link.subscriber.remove("c", of_slot, sharded=True)
    assert not link.subscriber.hears("c")

    async def unsubscribed() -> bool:
        return await link.call("PUBSUB", "SHARDNUMSUB", "c") == [b"c", 0]

    await eventually(unsubscribed)
    assert await link.subscriber.add("c", of_slot, sharded=True)  # what was left stands in nobody's way


async def test_after_a_loss_a_channel_of_a_slot_stands_again_too(link: Backend, proxy: Proxy):
    ear = Ear()
    await link.subscriber.add("c", ear, sharded=True)

    proxy.cut()
    await eventually(lambda: ear.interruptions == 1)
    assert await link.available(10)
    await link.call("SPUBLISH", "c", "one")

    await eventually(lambda: ear.messages == [b"one"])


def say(link: Backend, proxy: Proxy, reply: bytes) -> None:
    """This has the client read something on its connection for messages, as though the server had said it."""
    connection: Any = cast("Any", link.subscriber).connection
    port = connection._writer.get_extra_info("sockname")[1]
    [writer] = [writer for writer in proxy._writers if writer.get_extra_info("peername")[1] == port]  # pyright: ignore[reportPrivateUsage] - see above
    writer.write(reply)


TAKEN_AWAY = b"*3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n"
MOVED = b"-MOVED 7365 127.0.0.1:1\r\n"


async def test_a_channel_that_the_server_takes_away_is_asked_for_again_and_its_listeners_are_told_once_it_stands(link: Backend, proxy: Proxy):
    ear, other = Ear(), Ear()
    await link.subscriber.add("c", ear, sharded=True)
    await link.subscriber.add("other", other, sharded=True)
    accepted = proxy.accepted

    say(link, proxy, TAKEN_AWAY)

    await eventually(lambda: ear.interruptions == 1)
    await link.call("SPUBLISH", "c", "one")
    await link.call("SPUBLISH", "other", "two")
    await eventually(lambda: (ear.messages, other.messages) == ([b"one"], [b"two"]))
    assert (other.interruptions, proxy.accepted) == (0, accepted)


async def test_a_channel_that_the_server_takes_away_while_it_is_being_asked_for_is_not_asked_for_twice(link: Backend, proxy: Proxy):
    ear, other = Ear(), Ear()
    await link.subscriber.add("other", other)
    proxy.silent = True
    adding = asyncio.create_task(link.subscriber.add("c", ear, sharded=True))
    await asyncio.sleep(0)
    say(link, proxy, TAKEN_AWAY)
    proxy.silent = False

    assert await adding
    await link.call("SPUBLISH", "c", "one")
    await link.call("PUBLISH", "other", "two")
    await eventually(lambda: (ear.messages, other.messages) == ([b"one"], [b"two"]))
    assert (ear.interruptions, other.interruptions) == (0, 0)


async def test_whatever_the_server_says_of_a_channel_that_is_left_harms_nobody(link: Backend, proxy: Proxy):
    ear, other = Ear(), Ear()
    await link.subscriber.add("c", ear, sharded=True)
    await link.subscriber.add("other", other)
    proxy.silent = True
    await link.subscriber.remove("c", ear, sharded=True)
    say(link, proxy, MOVED)
    say(link, proxy, TAKEN_AWAY)
    proxy.silent = False

    assert await link.subscriber.add("c", ear, sharded=True)
    await link.call("SPUBLISH", "c", "one")
    await link.call("PUBLISH", "other", "two")
    await eventually(lambda: (ear.messages, other.messages) == ([b"one"], [b"two"]))
    assert (ear.interruptions, other.interruptions) == (0, 0)


async def test_one_server_that_says_a_slot_is_elsewhere_is_asked_again_later(link: Backend, proxy: Proxy):
    """Which is all that can be done where a URL names one server; a cluster's nodes are another matter."""
    ear, other = Ear(), Ear()
    await link.subscriber.add("other", other)
    proxy.silent = True
    adding = asyncio.create_task(link.subscriber.add("c", ear, sharded=True))
    await asyncio.sleep(0)
    say(link, proxy, MOVED)
    await eventually(lambda: not link.subscriber.connected)
    proxy.silent = False

    assert await adding
    await eventually(lambda: other.interruptions == 1)
    await link.call("SPUBLISH", "c", "one")
    await eventually(lambda: ear.messages == [b"one"])


async def test_who_may_not_listen_to_one_is_told_so_and_harms_nobody(redis_server: RedisServer):
    client: Any = redis_server.client()
    client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "resetchannels", "&mine")
    try:
        async with opened(redis_server.url.replace("127", "app:secret@127")) as link:
            ear = Ear()
            assert await link.subscriber.add("mine", ear, sharded=True)

            with pytest.raises(ServerError, match="channel"):
                await link.subscriber.add("theirs", Ear(), sharded=True)

            client.execute_command("SPUBLISH", "mine", "one")
            await eventually(lambda: ear.messages == [b"one"])
            assert (link.subscriber.listening, ear.interruptions) == (1, 0)
    finally:
        client.execute_command("ACL", "DELUSER", "app")
