"""What the connections of a backend do when their server is not the one any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import pytest

from docket._clock import SYSTEM
from docket._redis import server
from docket._redis.backend import OpenableBackend
from docket._redis.connector import Connector
from docket._redis.server import ServerBackend
from docket._redis.whereabouts import Fixed, Host
from docket.errors import RedisUnavailable
from tests._proxy import Proxy, running_proxy
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.redis._backends import Ear, opened

MOVED = ("EVAL", "return redis.error_reply('MOVED 1 127.0.0.1:1')", 0)


@pytest.fixture
async def other(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with running_proxy(redis_server.port) as proxy:
        yield proxy


class Told(Fixed):
    """This says what the test has it say."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.found: Callable[[Host], None] = lambda _: None
        self.doubted = 0

    async def find(self) -> Mapping[str, Any]:
        return {"host": "127.0.0.1", "port": self.port}

    def doubt(self) -> None:
        self.doubted += 1

    async def watch(self, on_found: Callable[[Host], None]) -> None:
        self.found = on_found
        await asyncio.Event().wait()

    def moves_to(self, port: int) -> None:
        self.port = port
        self.found(("127.0.0.1", port))


async def test_a_server_that_is_not_the_one_any_more_answers_what_it_was_asked_before_and_no_more(proxy: Proxy, redis_server: RedisServer):
    async with opened(proxy.url) as backend:
        moved = asyncio.create_task(backend.call(*MOVED))
        before = asyncio.create_task(backend.call("BLPOP", "list", "5"))
        with pytest.raises(RedisUnavailable, match="MOVED"):
            await moved

        with pytest.raises(RedisUnavailable, match="Nothing was written"):
            await backend.call("ECHO", "a")

        assert not before.done()
        redis_server.client().lpush("list", "b")
        assert await before == [b"list", b"b"]
        await eventually(lambda: proxy.accepted == 2)
        assert await backend.available(10)
        assert await backend.call("ECHO", "a") == b"a"


async def test_a_reader_that_is_told_the_server_is_elsewhere_connects_anew(proxy: Proxy):
    async with opened(proxy.url) as backend:
        reader = backend.reader()
        with pytest.raises(RedisUnavailable, match="MOVED"):
            await reader.call(*MOVED, timeout=0)

        assert await reader.call("ECHO", "a", timeout=0) == b"a"
        assert proxy.accepted == 3
        await reader.aclose()


def told_backend(proxy: Proxy) -> tuple[Told, ServerBackend]:
    where = Told(proxy.port)
    return where, ServerBackend(Connector(proxy.url, proxy.url), where, SYSTEM)


async def serve(backend: OpenableBackend) -> list[asyncio.Task[None]]:
    await backend.open()
    return [asyncio.create_task(service()) for service in backend.services()]


async def end(services: list[asyncio.Task[None]], backend: OpenableBackend) -> None:
    for service in services:
        service.cancel()
    await asyncio.wait(services)
    await backend.aclose()


async def test_every_connection_follows(proxy: Proxy, other: Proxy, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.redis")
    where, backend = told_backend(proxy)
    services = await serve(backend)
    ear = Ear()
    await backend.subscriber.add("c", ear)
    idle, busy = backend.reader(), backend.reader()
    await idle.call("PING", timeout=0)
    reading = asyncio.create_task(busy.call("BLPOP", "nothing", "20", timeout=20))
    await eventually(lambda: busy.connection is not None)  # one that is still on its way simply goes elsewhere

    where.moves_to(proxy.port)
    assert proxy.connections == 4
    where.moves_to(other.port)

    with pytest.raises(RedisUnavailable, match=f"the server is now at 127.0.0.1:{other.port}"):
        await reading
    assert await idle.call("ECHO", "a", timeout=0) == b"a"
    assert await backend.available(10)
    assert await backend.call("ECHO", "b") == b"b"
    await eventually(lambda: ear.interruptions == 1)
    await eventually(lambda: (proxy.connections, other.connections) == (0, 3))
    assert caplog.text.count("Following") == 1
    await idle.aclose()
    await end(services, backend)


async def test_who_is_connecting_to_a_server_that_is_left_connects_to_the_next(proxy: Proxy, other: Proxy):
    proxy.silent = True
    where = Told(proxy.port)
    backend = ServerBackend(Connector(proxy.url + "?client_name=me", "shown"), where, SYSTEM)
    opening = asyncio.create_task(serve(backend))
    await eventually(lambda: proxy.connections == 1)

    where.moves_to(proxy.port)
    assert proxy.connections == 1
    where.moves_to(other.port)

    services = await opening
    assert await backend.call("ECHO", "a") == b"a"
    assert (proxy.connections, other.connections) == (0, 1)
    await end(services, backend)


async def test_a_connection_that_nobody_serves_yet_is_left_alone(proxy: Proxy, other: Proxy):
    where, backend = told_backend(proxy)
    await backend.open()
    cast("Any", backend)._follow(("127.0.0.1", other.port))
    services = [asyncio.create_task(service()) for service in backend.services()]

    assert await backend.call("ECHO", "a") == b"a"
    assert where.doubted == 0
    await end(services, backend)


async def test_a_place_where_no_server_is_is_doubted(proxy: Proxy):
    where, backend = told_backend(proxy)
    where.port = 1

    with pytest.raises(RedisUnavailable, match="127.0.0.1:1"):
        await backend.open()
    assert where.doubted == 1


async def test_what_is_to_be_durable_waits_for_a_connection_as_long_as_for_replicas(proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "REPLICATION_MS", 10)
    _, backend = told_backend(proxy)
    await backend.open()

    with pytest.raises(RedisUnavailable, match="not connected yet"):
        await backend.durably(1, "number", [], [], ("PING",))
    services = [asyncio.create_task(service()) for service in backend.services()]
    assert await backend.call("ECHO", "a") == b"a"
    await end(services, backend)
