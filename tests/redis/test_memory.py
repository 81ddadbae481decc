"""The in-process engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from docket._clock import SYSTEM
from docket._keys import Keys
from docket._redis import make_backend
from docket._store import Store
from docket._store.base import as_dict
from docket._store.records import Order, StateChange
from docket.errors import ServerError
from docket.states import ExecutionState
from tests._shards import only_shard
from tests._waiting import eventually
from tests.redis._backends import Ear


@asynccontextmanager
async def opened(name: str) -> AsyncGenerator[Store]:
    store = await Store.open(name, f"memory://{name}", execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    try:
        yield store
    finally:
        await store.aclose()


def in_a_thread(main: Any) -> threading.Thread:
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    return thread


async def test_one_name_is_one_engine_and_another_is_another(docket_name: str):
    async with opened(docket_name) as first, opened(docket_name) as second, opened(docket_name + "2") as other:
        await first.lifecycle.schedule(Order("k", "f", b""))

        assert await second.inspection.load("k") is not None
        assert await other.backend.call("EXISTS", first.keys.run("k")) == 0


async def test_the_engine_outlives_its_dockets(docket_name: str):
    async with opened(docket_name) as store:
        await store.lifecycle.schedule(Order("k", "f", b""))

    async with opened(docket_name) as store:
        assert await store.inspection.load("k") is not None


async def test_threads_and_event_loops_share_an_engine_and_hear_each_other(docket_name: str):
    async def elsewhere() -> None:
        async with opened(docket_name) as store:
            await store.lifecycle.schedule(Order("k", "f", b""))

    async with opened(docket_name) as store, store.events.feed("k") as feed:
        thread = in_a_thread(elsewhere)
        event = await feed.get(10)

        assert isinstance(event, StateChange)
        assert event.state is ExecutionState.QUEUED
        assert await store.inspection.load("k") is not None
        await asyncio.to_thread(thread.join)


async def test_a_loop_that_was_closed_while_it_listened_stops_nobody(docket_name: str):
    backend = make_backend(f"memory://{docket_name}", clock=SYSTEM)
    channel = Keys(docket_name).state("k")
    heard: list[bytes] = []

    class Ear:
        def on_message(self, message: bytes) -> None:
            heard.append(message)

        def on_interruption(self) -> None: ...

    async def elsewhere() -> None:
        await backend.subscriber.add(channel, Ear())

    await asyncio.to_thread(in_a_thread(elsewhere).join)

    async with opened(docket_name) as store, store.events.feed("k") as feed:
        assert (await store.lifecycle.schedule(Order("k", "f", b""))).created
        assert await feed.get(10) is not None
        await store.lifecycle.cancel("k")
        assert await feed.get(10) is not None

    assert heard == []


async def test_all_channels_that_begin_alike_are_heard_in_every_loop(docket_name: str):
    async def elsewhere() -> None:
        async with opened(docket_name) as store:
            await store.lifecycle.schedule(Order("b", "f", b""))

    async with opened(docket_name) as store:
        ear, nobody = Ear(), Ear()
        subscriber = store.backend.subscriber
        before = subscriber.listening
        await subscriber.add(store.keys.state(""), ear, prefix=True)
        await subscriber.add(store.keys.state("*"), nobody, prefix=True)
        await store.lifecycle.schedule(Order("a", "f", b""))
        await asyncio.to_thread(in_a_thread(elsewhere).join)
        await eventually(lambda: len(ear.messages) == 2)
        await subscriber.remove(store.keys.state(""), ear, prefix=True)
        await subscriber.remove(store.keys.state("*"), nobody, prefix=True)
        await store.lifecycle.cancel("a")

        assert len(ear.messages) == 2
        assert nobody.messages == []
        assert subscriber.listening == before


async def test_a_listener_that_fails_has_missed_it_and_the_script_is_done(docket_name: str, caplog: pytest.LogCaptureFixture):
    class Deaf(Ear):
        def on_message(self, message: bytes) -> None:
            raise RuntimeError("what is this?")

    async with opened(docket_name) as store:
        deaf, ear = Deaf(), Ear()
        await store.backend.subscriber.add(store.keys.state("k"), deaf)
        await store.backend.subscriber.add(store.keys.state("k"), ear)

        assert (await store.lifecycle.schedule(Order("k", "f", b""))).created

        assert (deaf.interruptions, len(ear.messages)) == (1, 1)
        assert "what is this?" in caplog.text


async def test_a_refused_command_is_our_error(docket_name: str):
    async with opened(docket_name) as store:
        await store.backend.call("SET", "text", "x")

        with pytest.raises(ServerError, match="WRONGTYPE"):
            await store.backend.call("HGET", "text", "field")
        with pytest.raises(ServerError):
            await store.backend.script("open", ["text"], (store.keys.state(""), 1))
        with pytest.raises(ServerError):
            await only_shard(store).delivery.read(store.backend.reader(), "w~1", 1, 1)


async def test_the_engine_is_always_there(docket_name: str):
    backend = make_backend(f"memory://{docket_name}", clock=SYSTEM)
    await backend.open()

    assert await backend.available(0)
    assert backend.is_connected
    assert backend.subscriber.connected
    assert backend.services() == ()
    await eventually(lambda: backend.connected_for() > 0)


async def test_a_second_group_of_that_name_is_refused_as_a_server_would(docket_name: str):
    async with opened(docket_name) as store:
        await store.delivery.ensure_group()

        with pytest.raises(ServerError, match="BUSYGROUP"):
            await store.backend.call("XGROUP", "CREATE", store.keys.stream, store.keys.group, "0", "MKSTREAM")


async def test_a_read_that_does_not_block_gives_what_is_there(docket_name: str):
    async with opened(docket_name) as store:
        await store.delivery.ensure_group()
        read = ("XREADGROUP", "GROUP", store.keys.group, "w~1", "COUNT", 1, "STREAMS", store.keys.stream, ">")

        assert await store.backend.call(*read) is None
        await store.lifecycle.schedule(Order("k", "f", b""))

        [[stream, [[_, flat]]]] = await store.backend.call(*read)
        assert stream == store.keys.stream.encode()
        assert as_dict(flat) == {b"key": b"k", b"generation": b"1"}
