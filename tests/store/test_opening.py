"""Opening and leaving a store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from docket._clock import SYSTEM
from docket._store import LAYOUT, Store
from docket.errors import InDoubt, LayoutMismatch, NotEntered, RedisUnavailable, ServerError, ServerTooOld
from tests._proxy import Proxy
from tests._servers import RedisServer
from tests._shards import only_shard
from tests._waiting import eventually
from tests.store._work import INSTANCE, fetch, order


async def open_store(name: str, url: str) -> Store:
    return await Store.open(name, url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)


async def test_a_newer_layout_is_refused_with_advice(docket_name: str, store: Store, url: str):
    await store.backend.call("HSET", store.keys.meta, "layout", LAYOUT + 1)

    with pytest.raises(LayoutMismatch, match=rf"layout {LAYOUT + 1}.*up to {LAYOUT}.*[Uu]pgrade"):
        await open_store(docket_name, url)


@pytest.mark.parametrize("waiting", [("XADD", "stream", "*", "key", "k", "function", "f"), ("ZADD", "queue", 1, "k")], ids=lambda command: command[0])
async def test_work_of_another_system_under_the_same_keys_is_left_alone(docket_name: str, store: Store, url: str, waiting: tuple[str, ...]):
    """pydocket puts its keys in the same place on a cluster; a worker of ours would end that work FAILED, as it cannot decode it."""
    command, key, *rest = waiting
    await store.backend.call("DEL", store.keys.meta)
    await store.backend.call(command, getattr(store.keys, key), *rest)

    if store.is_memory:  # where no other program can have been
        await (await open_store(docket_name, url)).aclose()
    else:
        with pytest.raises(LayoutMismatch, match="did not write.*another name"):
            await open_store(docket_name, url)
        assert await store.backend.call("HLEN", store.keys.meta) == 0


async def test_an_older_or_equal_layout_is_taken(docket_name: str, store: Store, url: str):
    await store.backend.call("HSET", store.keys.meta, "layout", 0)

    await (await open_store(docket_name, url)).aclose()

    assert await store.backend.call("HGET", store.keys.meta, "layout") == b"0"


async def test_an_unreachable_server_is_an_error_that_masks_credentials():
    with pytest.raises(RedisUnavailable, match="Nothing was written") as caught:
        await open_store("orders", "redis://user:secret@127.0.0.1:1/0")

    assert not isinstance(caught.value, InDoubt)
    assert "secret" not in str(caught.value)


async def test_a_server_that_refuses_the_password_is_an_error(new_server: Callable[..., RedisServer]):
    server = new_server()
    server.client().execute_command("CONFIG", "SET", "requirepass", "right")  # pyright: ignore[reportUnknownMemberType]
    try:
        with pytest.raises(RedisUnavailable, match="WRONGPASS|invalid username-password") as caught:
            await open_store("orders", f"redis://:wrong@127.0.0.1:{server.port}/0")
        with pytest.raises(RedisUnavailable, match="[Aa]uthentication required"):
            await open_store("orders", server.url)

        await (await open_store("orders", f"redis://:right@127.0.0.1:{server.port}/0")).aclose()
    finally:
        server.kill()

    assert "wrong" not in str(caught.value).replace("WRONGPASS", "")


@pytest.mark.parametrize(("policy", "warned"), [("allkeys-lru", True), ("noeviction", False), ("volatile-ttl", False)])
async def test_an_eviction_policy_that_takes_live_work_is_warned_of(
    docket_name: str, new_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture, policy: str, warned: bool
):
    server = new_server("--maxmemory-policy", policy)

    with caplog.at_level(logging.WARNING, "docket.redis"):
        await (await open_store(docket_name, server.url)).aclose()

    assert (f"maxmemory_policy:{policy}" in caplog.text) is warned


async def test_a_server_that_is_too_old_is_refused_with_both_versions(docket_name: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("docket._store.OLDEST_SERVER", (99, 5))

    with pytest.raises(ServerTooOld, match=r"this server is Redis \d+\.\d+\.\d+, and docket needs Redis 99\.5 or newer, or any Valkey"):
        await open_store(docket_name, redis_server.url)


async def test_a_user_without_the_dangerous_commands_may_open_a_docket(docket_name: str, new_server: Callable[..., RedisServer]):
    server = new_server()
    client = server.client()
    client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-@dangerous")  # pyright: ignore[reportUnknownMemberType]

    store = await open_store(docket_name, f"redis://app:secret@127.0.0.1:{server.port}/0")

    assert (await store.lifecycle.schedule(order())).created
    await store.aclose()


async def test_a_user_who_may_run_no_scripts_cannot_open_a_docket(docket_name: str, new_server: Callable[..., RedisServer]):
    server = new_server()
    client = server.client()
    client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-script", "-eval")  # pyright: ignore[reportUnknownMemberType]

    with pytest.raises(ServerError, match="loading the script"):
        await open_store(docket_name, f"redis://app:secret@127.0.0.1:{server.port}/0")


async def test_leaving_takes_no_time_and_may_be_done_twice(docket_name: str, url: str):
    store = await open_store(docket_name, url)
    async with store.events.feed("k"):
        began = time.monotonic()
        await store.aclose()
        await store.aclose()

    assert time.monotonic() - began < 0.5


@pytest.mark.only_server("there are no connections in memory")
async def test_leaving_closes_every_connection(far_store: Store, proxy: Proxy):
    async with far_store.events.feed("k"):
        assert proxy.connections == 2
    await far_store.aclose()

    await eventually(lambda: proxy.connections == 0)


async def test_whatever_waits_when_a_store_is_left_learns_so(far_store: Store, proxy: Proxy):
    """A server that does not answer, or is away, must not keep a caller of a store that was left."""
    await far_store.lifecycle.schedule(order())
    deliveries = await fetch(far_store)
    proxy.silent = True
    waiting: list[asyncio.Task[Any]] = [
        asyncio.create_task(far_store.lifecycle.schedule(order())),
        asyncio.create_task(only_shard(far_store).lifecycle.claim(INSTANCE, deliveries)),
        asyncio.create_task(far_store.lifecycle.cancel("k")),
        asyncio.create_task(only_shard(far_store).delivery.leased()),
    ]
    await asyncio.sleep(0.05)  # they are on the wire; if not, the test is only weaker

    await far_store.aclose()
    answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 2)

    assert [type(answer) for answer in answers] == [NotEntered, NotEntered, InDoubt, InDoubt]
    with pytest.raises(NotEntered):
        await only_shard(far_store).delivery.leased()
    assert not await far_store.backend.available(10)
