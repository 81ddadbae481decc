"""One connection for messages, which comes back by itself, and whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from docket._redis import subscriber as messages
from docket._redis.backend import Backend
from docket.errors import ServerError
from tests._busy import busy
from tests._proxy import Proxy
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.redis._backends import Ear, opened


@pytest.fixture
async def link(proxy: Proxy) -> AsyncIterator[Backend]:
    """This reaches the server through the proxy."""
    async with opened(proxy.url) as backend:
        yield backend


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence counts as loss after a moment."""
    monkeypatch.setattr(messages, "RESPONSE_TIMEOUT", 0.1)
    monkeypatch.setattr(messages, "PING_INTERVAL", 0.1)


async def test_messages_reach_every_listener_of_their_channel_until_it_leaves(link: Backend):
    first, second, other = Ear(), Ear(), Ear()
    await link.subscriber.add("c", first)
    await link.subscriber.add("c", second)
    await link.subscriber.add("d", other)
    assert link.subscriber.connected

    await link.call("PUBLISH", "c", "one")
    await eventually(lambda: first.messages == second.messages == [b"one"])
    await link.subscriber.remove("c", first)
    await link.subscriber.remove("c", first)
    await link.call("PUBLISH", "c", "two")
    await eventually(lambda: second.messages == [b"one", b"two"])
    await link.subscriber.remove("c", second)
    await link.subscriber.remove("never", second)

    assert first.messages == [b"one"]
    assert other.messages == []

    async def unsubscribed() -> bool:
        return await link.call("PUBSUB", "NUMSUB", "c") == [b"c", 0]

    await eventually(unsubscribed)


async def test_after_a_loss_the_subscriptions_stand_again_before_listeners_are_told(link: Backend, proxy: Proxy):
    ear = Ear()
    await link.subscriber.add("c", ear)
    assert ear.interruptions == 0

    proxy.cut()
    await eventually(lambda: ear.interruptions == 1)
    assert await link.available(10)
    await link.call("PUBLISH", "c", "one")

    await eventually(lambda: ear.messages == [b"one"])


async def test_who_subscribes_during_an_outage_hears_afterwards(link: Backend, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    tried: list[int] = []

    def backoff(attempt: int) -> float:
        tried.append(attempt)
        return 0.01

    monkeypatch.setattr(messages, "backoff", backoff)
    await link.subscriber.add("c", Ear())
    await proxy.stop()
    await eventually(lambda: not link.subscriber.connected)
    ear = Ear()
    adding = asyncio.create_task(link.subscriber.add("d", ear))
    await eventually(lambda: tried[-1:] > [2])
    await proxy.start()
    await adding

    assert await link.available(10)
    await link.call("PUBLISH", "d", "one")
    await eventually(lambda: ear.messages == [b"one"])


async def test_when_all_have_left_a_new_connection_subscribes_to_nothing(link: Backend, proxy: Proxy):
    ear = Ear()
    await link.subscriber.add("c", ear)
    await link.subscriber.remove("c", ear)
    before = proxy.accepted
    proxy.cut()

    await eventually(lambda: proxy.accepted == before + 2 and link.subscriber.connected)
    await link.subscriber.add("c", ear)

    assert await link.available(10)
    await link.call("PUBLISH", "c", "one")
    await eventually(lambda: ear.messages == [b"one"])


@pytest.mark.usefixtures("quick")
async def test_a_silent_connection_for_messages_is_asked_for_a_sign_of_life(link: Backend, proxy: Proxy):
    ear = Ear()
    await link.subscriber.add("c", ear)
    before = proxy.accepted
    await asyncio.sleep(0.35)  # several intervals, each with its answer
    assert proxy.accepted == before

    proxy.silent = True
    await eventually(lambda: not link.subscriber.connected)
    proxy.silent = False

    await eventually(lambda: ear.interruptions >= 1)


async def test_a_subscription_that_is_confirmed_after_its_listener_left_stops_nobody(link: Backend):
    other = Ear()
    await link.subscriber.add("other", other)
    adding = asyncio.create_task(link.subscriber.add("c", Ear()))
    await asyncio.sleep(0)
    adding.cancel()
    await asyncio.wait([adding])

    await link.call("PUBLISH", "other", "one")

    await eventually(lambda: other.messages == [b"one"])


async def test_however_often_a_connection_is_lost_the_next_comes_soon(link: Backend, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    waited: list[int] = []

    def backoff(attempt: int) -> float:
        waited.append(attempt)
        return 0.001

    monkeypatch.setattr(messages, "backoff", backoff)
    ear = Ear()
    await link.subscriber.add("c", ear)

    for losses in range(1, 4):
        proxy.cut()
        await eventually(lambda losses=losses: ear.interruptions == losses)

    assert waited == [0, 0, 0]


async def test_a_subscription_that_cannot_be_sent_is_sent_later(link: Backend, monkeypatch: pytest.MonkeyPatch):
    await link.subscriber.add("c", Ear())
    connection: Any = getattr(link.subscriber, "_connection")  # noqa: B009 - the server's own

    async def broken(*args: object, **kwargs: object) -> None:
        connection._writer.transport.abort()
        raise OSError("broken pipe")

    monkeypatch.setattr(connection, "send_packed_command", broken)
    ear = Ear()

    await link.subscriber.add("d", ear)

    await link.call("PUBLISH", "d", "one")
    await eventually(lambda: ear.messages == [b"one"])


# All channels that begin alike


async def test_a_prefix_is_heard_whatever_stands_behind_it_and_each_message_once(link: Backend):
    ear, single = Ear(), Ear()
    assert await link.subscriber.add("{n}:state:", ear, prefix=True)
    assert await link.subscriber.add("{n}:state:a", single)
    assert link.subscriber.listening == 2

    for channel in ("{n}:state:a", "{n}:state:", "{n}:stat", "{n}:state", "x{n}:state:a", "{n}:state:b:c"):
        await link.call("PUBLISH", channel, channel)

    await eventually(lambda: len(ear.messages) == 3)
    assert ear.messages == [b"{n}:state:a", b"{n}:state:", b"{n}:state:b:c"]
    assert single.messages == [b"{n}:state:a"]
    await link.subscriber.remove("{n}:state:", ear, prefix=True)

    async def unsubscribed() -> bool:
        return await link.call("PUBSUB", "NUMPAT") == 0

    await eventually(unsubscribed)


@pytest.mark.parametrize("name", ["a*c", "a?c", "a[b]c", "a\\c", "a^c", "a[^b-d]c", "\\*"])
async def test_what_patterns_give_a_meaning_to_means_itself(link: Backend, name: str):
    ear = Ear()
    await link.subscriber.add(f"{{{name}}}:", ear, prefix=True)

    for other in ("abc", "a", "aXXc", "axc", "\\x"):
        await link.call("PUBLISH", f"{{{other}}}:k", "not for us")
    await link.call("PUBLISH", f"{{{name}}}:k", "for us")

    await eventually(lambda: ear.messages)
    assert ear.messages == [b"for us"]


async def test_after_a_loss_a_prefix_stands_again_too(link: Backend, proxy: Proxy):
    ear = Ear()
    await link.subscriber.add("c", ear, prefix=True)

    proxy.cut()
    await eventually(lambda: ear.interruptions == 1)
    assert await link.available(10)
    await link.call("PUBLISH", "cd", "one")

    await eventually(lambda: ear.messages == [b"one"])


# What goes wrong


class Deaf(Ear):
    """This fails over every message."""

    def on_message(self, message: bytes) -> None:
        raise RuntimeError("what is this?")


async def test_a_listener_that_fails_has_missed_it_and_the_others_hear(link: Backend, caplog: pytest.LogCaptureFixture):
    deaf, ear = Deaf(), Ear()
    await link.subscriber.add("c", deaf)
    await link.subscriber.add("c", ear)

    await link.call("PUBLISH", "c", "one")
    await eventually(lambda: ear.messages == [b"one"])
    await link.call("PUBLISH", "c", "two")
    await eventually(lambda: ear.messages == [b"one", b"two"])

    assert (deaf.interruptions, ear.interruptions) == (2, 0)
    assert caplog.text.count("could not be taken, and counts as missed") == 2
    assert "what is this?" in caplog.text


@pytest.fixture
def restricted(redis_server: RedisServer) -> Any:
    """This is a user who may listen to the channel `mine` alone, and to what begins with `ours`."""
    client: Any = redis_server.client()
    client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "resetchannels", "&mine", "&ours*")
    yield client
    client.execute_command("ACL", "DELUSER", "app")


@pytest.mark.parametrize("prefix", [False, True])
async def test_who_may_not_listen_is_told_so_and_harms_nobody(redis_server: RedisServer, restricted: Any, prefix: bool, caplog: pytest.LogCaptureFixture):
    async with opened(redis_server.url.replace("127", "app:secret@127")) as link:
        ear = Ear()
        assert await link.subscriber.add("mine", ear)

        with pytest.raises(ServerError, match="channel"):
            await link.subscriber.add("theirs", Ear(), prefix=prefix)
        assert await link.subscriber.add("ours", ear, prefix=True)

        restricted.execute_command("PUBLISH", "mine", "one")
        restricted.execute_command("PUBLISH", "ours:too", "two")
        await eventually(lambda: ear.messages == [b"one", b"two"])
        assert link.subscriber.listening == 2
        assert ear.interruptions == 0
        assert caplog.text == ""


async def test_who_may_not_listen_any_more_is_told_of_in_the_log(redis_server: RedisServer, restricted: Any, caplog: pytest.LogCaptureFixture):
    async with opened(redis_server.url.replace("127", "app:secret@127")) as link:
        ear = Ear()
        await link.subscriber.add("mine", ear)

        restricted.execute_command("ACL", "SETUSER", "app", "resetchannels")  # which ends the connection, too

        await eventually(lambda: "Messages of mine cannot be listened to" in caplog.text)
        with pytest.raises(ServerError):
            await link.subscriber.add("mine", Ear())
        assert ear.interruptions == 0


@pytest.mark.usefixtures("quick")
async def test_a_subscription_that_is_late_interrupts_once_it_stands(link: Backend, proxy: Proxy):
    await link.subscriber.add("c", Ear())
    ear = Ear()
    proxy.silent = True

    assert not await link.subscriber.add("d", ear)
    assert ear.interruptions == 0

    proxy.silent = False
    await eventually(lambda: ear.interruptions == 1)
    assert await link.available(10)
    await link.call("PUBLISH", "d", "one")
    await eventually(lambda: ear.messages == [b"one"])


def subscribed(server: RedisServer) -> int:
    """How often that server has been asked for the messages of a channel."""
    client: Any = server.client()
    return client.info("commandstats").get("cmdstat_subscribe", {}).get("calls", 0)


async def test_a_channel_that_is_left_and_entered_at_once_stands_when_its_own_subscription_is_confirmed(link: Backend, proxy: Proxy, redis_server: RedisServer):
    first, second = Ear(), Ear()
    await link.subscriber.add("other", first)
    before = subscribed(redis_server)
    proxy.silent = True
    leaving = asyncio.create_task(link.subscriber.add("c", first))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    entering = asyncio.create_task(link.subscriber.add("c", second))
    await eventually(lambda: subscribed(redis_server) == before + 2)
    assert not entering.done()
    proxy.silent = False

    assert await entering
    await link.call("PUBLISH", "c", "one")
    await eventually(lambda: second.messages == [b"one"])
    assert first.messages == []


async def test_what_was_meant_for_one_who_has_left_is_not_for_the_next(link: Backend, proxy: Proxy, redis_server: RedisServer):
    first, second = Ear(), Ear()
    await link.subscriber.add("c", first)
    assert link.subscriber.hears("c")
    proxy.silent = True
    redis_server.client().publish("c", "old")  # pyright: ignore[reportUnknownMemberType] - partly typed
    await link.subscriber.remove("c", first)
    assert not link.subscriber.hears("c")
    before = subscribed(redis_server)
    entering = asyncio.create_task(link.subscriber.add("c", second))
    await eventually(lambda: subscribed(redis_server) == before + 1)
    proxy.silent = False

    assert await entering
    assert await link.available(10)
    await link.call("PUBLISH", "c", "new")
    await eventually(lambda: second.messages)
    assert (first.messages, second.messages) == ([], [b"new"])


async def test_an_answer_to_nothing_breaks_the_connection(link: Backend, proxy: Proxy):
    ear = Ear()
    await link.subscriber.add("c", ear)

    for writer in proxy._writers:  # pyright: ignore[reportPrivateUsage] - what no server does
        writer.write(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:9\r\n")

    await eventually(lambda: ear.interruptions == 1)


async def test_nothing_is_sent_over_a_connection_that_has_gone(link: Backend, caplog: pytest.LogCaptureFixture):
    await link.subscriber.add("c", Ear())
    connection: Any = getattr(link.subscriber, "_connection")  # noqa: B009 - the server's own
    await connection.disconnect(nowait=True)
    ear = Ear()

    assert await link.subscriber.add("d", ear)

    await link.call("PUBLISH", "d", "one")
    await eventually(lambda: ear.messages == [b"one"])


async def test_a_server_that_takes_no_subscriptions_now_is_asked_again_with_growing_pauses(
    new_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
):
    """It runs somebody's script that does not end."""
    server = new_server("--lua-time-limit", "10")
    waited: list[int] = []

    def backoff(attempt: int) -> float:
        waited.append(attempt)
        return 0.01

    monkeypatch.setattr(messages, "backoff", backoff)
    first, second = Ear(), Ear()
    async with opened(server.url) as link:
        assert await link.subscriber.add("first", first)
        async with busy(server):
            adding = asyncio.create_task(link.subscriber.add("second", second))
            await eventually(lambda: waited[-1:] >= [2])
            assert not adding.done()
        assert await adding
        assert waited[:3] == [0, 1, 2]  # the first time, it had answered on that connection before
        assert first.interruptions == 1
        await link.call("PUBLISH", "first", "one")
        await link.call("PUBLISH", "second", "two")
        await eventually(lambda: (first.messages, second.messages) == ([b"one"], [b"two"]))
