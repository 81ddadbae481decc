"""One wire for commands, one connection per blocking reader."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis.credentials import UsernamePasswordCredentialProvider

from docket._clock import SYSTEM
from docket._redis import make_backend, server, wire
from docket._redis.backend import Backend
from docket.errors import InDoubt, NotEntered, RedisUnavailable, ServerError
from tests._proxy import Proxy, running_proxy
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.redis._backends import opened


@pytest.fixture
async def backend(proxy: Proxy) -> AsyncIterator[Backend]:
    """This reaches the server through the proxy."""
    async with opened(proxy.url) as backend:
        yield backend


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence counts as loss after a moment."""
    for module in (wire, server):
        monkeypatch.setattr(module, "RESPONSE_TIMEOUT", 0.1)


async def test_replies_come_to_those_who_asked(backend: Backend, proxy: Proxy):
    words = [f"word {number}" for number in range(500)]

    assert await asyncio.gather(*(backend.call("ECHO", word) for word in words)) == [word.encode() for word in words]
    assert proxy.connections == 1


async def test_an_error_is_for_its_own_caller(backend: Backend):
    good, bad, other = await asyncio.gather(backend.call("ECHO", "a"), backend.call("NONSENSE"), backend.call("ECHO", "b"), return_exceptions=True)

    assert (good, other) == (b"a", b"b")
    assert isinstance(bad, ServerError)


async def test_a_caller_that_was_cancelled_leaves_the_others_their_replies(backend: Backend):
    cancelled = asyncio.create_task(backend.call("ECHO", "a"))
    await asyncio.sleep(0)
    cancelled.cancel()

    assert await backend.call("ECHO", "b") == b"b"


async def test_what_was_on_the_wire_is_in_doubt_and_the_wire_comes_back(backend: Backend, proxy: Proxy, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.redis")
    proxy.silent = True
    asked = [asyncio.create_task(backend.call("ECHO", "a")) for _ in range(3)]
    await asyncio.sleep(0.02)
    asked[0].cancel()
    proxy.cut()
    proxy.silent = False

    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert [type(answer) for answer in answers] == [asyncio.CancelledError, InDoubt, InDoubt]
    assert await backend.available(10)
    assert await backend.call("ECHO", "b") == b"b"
    assert backend.connected_for() >= 0
    assert "Connected to Redis" in caplog.text


async def test_while_there_is_no_connection_nothing_is_written(backend: Backend, proxy: Proxy, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.redis")
    await proxy.stop()
    await eventually(lambda: backend.connected_for() == 0)

    assert not backend.is_connected
    assert not await backend.available(0.2)
    with pytest.raises(RedisUnavailable, match="Nothing was written") as caught:
        await backend.call("ECHO", "a")
    assert not isinstance(caught.value, InDoubt)

    await proxy.start()
    assert await backend.available(10)
    assert await backend.call("ECHO", "a") == b"a"
    assert caplog.text.count("Redis is unavailable, trying again") == 1


async def test_a_server_that_says_nothing_more_is_lost(backend: Backend, proxy: Proxy):
    proxy.half_close()

    await eventually(lambda: proxy.accepted > 1)

    assert await backend.available(10)
    assert await backend.call("ECHO", "a") == b"a"


@pytest.mark.usefixtures("quick")
async def test_a_server_that_stays_silent_is_lost(backend: Backend, proxy: Proxy):
    assert await backend.call("ECHO", "a") == b"a"
    proxy.silent = True

    with pytest.raises(InDoubt, match="no answer for 0.1 seconds"):
        await backend.call("ECHO", "b")

    proxy.silent = False
    assert await backend.available(10)
    assert await backend.call("ECHO", "c") == b"c"


@pytest.mark.usefixtures("quick")
async def test_a_server_that_answers_is_not_lost_for_being_asked_much(backend: Backend, proxy: Proxy):
    for _ in range(30):
        await backend.call("ECHO", "a")
        await asyncio.sleep(0.01)

    assert proxy.accepted == 1


async def test_a_look_that_comes_before_the_time_is_up_looks_again_later(backend: Backend, proxy: Proxy):
    proxy.silent = True
    asked = asyncio.create_task(backend.call("ECHO", "a"))
    await asyncio.sleep(0)

    cast("Any", backend)._wire._check_silence()

    proxy.silent = False
    assert await asked == b"a"
    assert proxy.accepted == 1


@pytest.mark.usefixtures("quick")
async def test_a_server_that_stays_silent_when_connected_to_is_unavailable(redis_server: RedisServer):
    async with running_proxy(redis_server.port) as proxy:
        proxy.silent = True
        backend = make_backend(proxy.url, clock=SYSTEM)

        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            await backend.open()

        await eventually(lambda: proxy.connections == 0)


async def test_a_connection_that_breaks_while_scripts_are_loaded_is_unavailable(redis_server: RedisServer):
    async with running_proxy(redis_server.port) as proxy:
        proxy.lose_request_with = b"LOAD"
        backend = make_backend(proxy.url, clock=SYSTEM)

        with pytest.raises(RedisUnavailable):
            await backend.open()


@pytest.mark.parametrize("stage", [b"CLIENT", b"LOAD"], ids=["connecting", "loading scripts"])
async def test_who_is_cancelled_while_connecting_leaves_no_connection(redis_server: RedisServer, stage: bytes):
    async with running_proxy(redis_server.port) as proxy:
        proxy.silent_from = stage
        backend = make_backend(proxy.url + "?client_name=me", clock=SYSTEM)
        opening = asyncio.create_task(backend.open())
        await eventually(lambda: proxy.silent)
        opening.cancel()
        await asyncio.wait([opening])
        proxy.silent, proxy.silent_from = False, None

        await eventually(lambda: proxy.connections == 0)


async def test_a_reply_nobody_asked_for_breaks_the_connection(backend: Backend, proxy: Proxy):
    for writer in proxy._writers:  # pyright: ignore[reportPrivateUsage] - what no server does
        writer.write(b"+SURPRISE\r\n")

    await eventually(lambda: proxy.accepted > 1)

    assert await backend.available(10)
    assert await backend.call("ECHO", "a") == b"a"


async def test_a_wire_that_was_left_answers_everybody(proxy: Proxy):
    async with opened(proxy.url) as backend:
        proxy.silent = True
        asked = asyncio.create_task(backend.call("ECHO", "a"))
        await asyncio.sleep(0)

    with pytest.raises(InDoubt, match="the docket was left"):
        await asked
    with pytest.raises(NotEntered):
        await backend.call("ECHO", "a")
    assert not await backend.available(10)


async def test_credentials_come_from_a_provider(redis_server: RedisServer):
    redis_server.client().execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")  # pyright: ignore[reportUnknownMemberType]
    try:
        async with opened(redis_server.url, credential_provider=UsernamePasswordCredentialProvider("app", "secret")) as backend:
            assert await backend.call("ACL", "WHOAMI") == b"app"
    finally:
        redis_server.client().execute_command("ACL", "DELUSER", "app")  # pyright: ignore[reportUnknownMemberType]


# Readers


async def blocked(backend: Backend) -> bool:
    return b"blocked_clients:1" in await backend.call("INFO", "clients")


async def test_a_reader_has_one_connection_of_its_own(backend: Backend, proxy: Proxy):
    reader = backend.reader()
    await reader.aclose()
    assert proxy.connections == 1

    for _ in range(3):
        assert await reader.call("BLPOP", "nothing", "0.01", timeout=0.01) is None
    with pytest.raises(ServerError):
        await reader.call("NONSENSE", timeout=0)

    assert proxy.accepted == 2
    await reader.aclose()
    await eventually(lambda: proxy.connections == 1)


async def test_a_cancelled_read_leaves_its_connection_behind(backend: Backend, proxy: Proxy):
    reader = backend.reader()
    reading = asyncio.create_task(reader.call("BLPOP", "list", "10", timeout=10))
    await eventually(lambda: blocked(backend))
    reading.cancel()
    await asyncio.wait([reading])

    assert await reader.call("BLPOP", "other", "0.01", timeout=0.01) is None

    assert proxy.accepted == 3
    await reader.aclose()


@pytest.mark.usefixtures("quick")
async def test_a_read_that_stays_silent_is_unavailable(backend: Backend, proxy: Proxy):
    reader = backend.reader()
    await reader.call("PING", timeout=0)
    proxy.silent = True

    with pytest.raises(RedisUnavailable):
        await reader.call("PING", timeout=0)

    proxy.silent = False
    assert await reader.call("PING", timeout=0) == b"PONG"
    await reader.aclose()


async def test_dropping_a_connection_that_cannot_be_closed_stops_nobody(caplog: pytest.LogCaptureFixture):
    class Broken:
        async def disconnect(self, *, nowait: bool) -> None:
            raise OSError("it will not close")

    with caplog.at_level(logging.DEBUG, "docket.redis"):
        await wire.drop(Broken())  # pyright: ignore[reportArgumentType] - as much of a connection as `drop` needs

    assert "Closing a connection to Redis failed" in caplog.text


def test_waits_grow_with_each_failure_up_to_a_ceiling():
    assert 0.025 <= wire.backoff(0) <= 0.05
    assert 0.1 <= wire.backoff(2) <= 0.2
    assert 2.5 <= wire.backoff(100) <= 5.0
    assert wire.backoff(100, 1.0) <= 1.0
