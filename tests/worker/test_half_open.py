"""Connections on which nothing comes any more, and which nobody has closed: a firewall forgot them, a host went down. Nothing waits for them without an end."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from docket import Docket, ExecutionState
from docket._redis import server, subscriber, wire
from docket._worker import _intake
from docket.errors import RedisUnavailable
from tests._proxy import Proxy
from tests._waiting import eventually
from tests.worker._hands import SOON, at_work, lasts, record

pytestmark = pytest.mark.only_server("a connection")

SILENCE = 0.3


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence counts as loss after a moment."""
    for module in (server, subscriber, wire):
        monkeypatch.setattr(module, "RESPONSE_TIMEOUT", SILENCE)
    monkeypatch.setattr(subscriber, "PING_INTERVAL", SILENCE)
    monkeypatch.setattr(_intake, "BLOCK_MS", int(SILENCE * 1000))


@pytest.fixture
async def far(proxy: Proxy, docket_name: str) -> AsyncGenerator[Docket, None]:
    """This is the docket, through the proxy."""
    async with Docket(docket_name, proxy.url) as docket:
        yield docket


async def test_a_worker_makes_every_connection_again_and_nothing_is_lost_or_run_twice(docket: Docket, far: Docket, proxy: Proxy):
    begun: list[str] = []
    go = asyncio.Event()

    async def long(name: str) -> str:
        begun.append(name)
        await go.wait()
        return name

    far.register(long)
    running = await docket.add(long)("running")
    later = await docket.add(long, when=lasts(600), key="later")("later")
    async with at_work(far, redelivery_timeout=lasts(4000), reconnection_delay=lasts(50)) as worker:
        await eventually(lambda: begun == ["running"])
        await eventually(lambda: worker._keeper is not None and worker._keeper._renewal)
        await eventually(lambda: proxy.connections >= 4)  # for commands, to wait for entries, for messages, for the lease
        accepted = proxy.accepted

        proxy.strand()
        given_away = await docket.add(long)("to the stranded")  # the server hands it to the connection that is no longer heard
        await eventually(lambda: not worker.is_claiming())
        go.set()

        assert [await each.get_result(timeout=SOON) for each in (running, later, given_away)] == ["running", "later", "to the stranded"]
        await eventually(lambda: proxy.accepted >= accepted + 4)
        await eventually(worker.is_claiming)
    assert sorted(begun) == ["later", "running", "to the stranded"]
    assert (await record(docket, "later")).state is ExecutionState.COMPLETED


async def test_what_is_cancelled_is_heard_of_over_the_new_connection(docket: Docket, far: Docket, proxy: Proxy):
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    far.register(endless)
    asked = await docket.add(endless, key="k")()
    async with at_work(far, reconnection_delay=lasts(50)):
        await asyncio.wait_for(begun.wait(), 20)
        await eventually(lambda: far.store.backend.subscriber.connected)

        proxy.strand()
        await eventually(lambda: not far.store.backend.subscriber.connected)
        await eventually(lambda: far.store.backend.subscriber.connected)
        await docket.cancel("k")

        async def has_ended() -> bool:
            await asked.sync()
            return asked.state is ExecutionState.CANCELLED

        await eventually(has_ended)


async def test_a_caller_is_told_in_bounded_time_and_the_next_call_goes_through(far: Docket, proxy: Proxy):
    async def five() -> int:
        return 5

    proxy.strand()
    with pytest.raises(RedisUnavailable, match="no answer for 0.3 seconds"):
        await asyncio.wait_for(far.store.backend.call("PING"), 10)

    asked = await asyncio.wait_for(far.add(five)(), 10)
    async with at_work(far):
        assert await asked.get_result(timeout=SOON) == 5
