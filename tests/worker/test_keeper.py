"""Leases and places are kept from a thread: a task that blocks the event loop is run once, unless it blocks for too long."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from docket import ConcurrencyLimit, CurrentWorker, Docket, ExecutionState, Worker
from docket._clock import Clock
from docket._redis import wire
from docket._worker import _pulse
from docket._worker._keeper import Keeper
from docket._worker._runs import Runs
from docket.errors import RedisUnavailable
from docket.testing import MovableClock
from tests._proxy import Proxy
from tests._shards import only_shard
from tests._waiting import eventually
from tests.worker._elsewhere import worker_elsewhere
from tests.worker._hands import SOON, at_work, crew_of, dead_worker, expiry, lasts, record

LEASE = lasts(400)


async def nothing(*args: object) -> None: ...


@pytest.fixture
def nervous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has workers speak of a standstill after a tenth of a second."""
    monkeypatch.setattr(_pulse, "INTERVAL", 0.02)
    monkeypatch.setattr(_pulse, "NOTABLE", 0.1)


def block(until: threading.Event) -> None:
    assert until.wait(20)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("docket leases")]


@asynccontextmanager
async def keeping(docket: Docket, instance: str = "w~1", **options: Any) -> AsyncGenerator[tuple[Keeper, list[str]]]:
    """This is a keeper at work, without the worker that would have it; and what it says of losses."""
    crew = crew_of(docket, redelivery_timeout=LEASE, **options)
    losses: list[str] = []
    keeper = Keeper(crew, Runs(10, nothing))
    keeper.start(lambda: losses.append("lost"))
    try:
        await dead_worker(docket, instance, lease=LEASE.total_seconds())
        keeper.keep(instance)
        yield keeper, losses
    finally:
        await keeper.stop()
        await docket.store.workers.depart(instance)


class TestABlockedLoop:
    @pytest.mark.usefixtures("nervous")
    async def test_a_task_that_blocks_for_longer_than_its_lease_is_run_once_and_named_with_its_stack(
        self, docket: Docket, docket_name: str, url: str, caplog: pytest.LogCaptureFixture
    ):
        begun: list[str] = []

        def inside() -> None:
            time.sleep(3 * LEASE.total_seconds())  # blocks the event loop: that is the point

        async def blocks() -> str:
            begun.append("blocks")
            inside()
            return "once"

        async def waits() -> None:
            await asyncio.sleep(0.05)

        docket.register(blocks)
        await docket.add(waits)()
        asked = await docket.add(blocks, key="k")()
        async with at_work(docket, redelivery_timeout=LEASE):
            with worker_elsewhere(docket_name, url, blocks, waits, redelivery_timeout=LEASE):
                assert await asked.get_result(timeout=SOON) == "once"
                await eventually(lambda: "Task blocks{k} let go of the event loop after 1." in caplog.text)

        assert begun == ["blocks"]
        said = [line for line in caplog.messages if line.startswith("Task blocks{k} has been blocking the event loop for ")]
        assert 1 <= len(said) <= 4  # after 0.1 s, 0.2 s, 0.4 s and 0.8 s, unless the machine is too busy for that
        assert "in blocks\n    inside()" in said[0]
        assert said[0].endswith("time.sleep(3 * LEASE.total_seconds())  # blocks the event loop: that is the point")
        assert "asyncio" not in said[0].partition("It is here:")[2]
        [record] = [record for record in caplog.records if record.getMessage() == said[0]]
        assert record.__dict__["docket.key"] == "k"

    async def test_it_keeps_its_place_under_a_limit(self, docket: Docket, docket_name: str, url: str):
        running, most = 0, 0

        async def limited(blocking: bool, limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if blocking:
                time.sleep(3 * LEASE.total_seconds())
            running -= 1

        docket.register(limited)
        async with at_work(docket, redelivery_timeout=LEASE):
            first = await docket.add(limited)(True)
            await first.get_result(timeout=SOON)  # so that what follows is not held up by the first connection
            first = await docket.add(limited)(True)
            with worker_elsewhere(docket_name, url, limited, redelivery_timeout=LEASE):
                second = await docket.add(limited)(False)
                await first.get_result(timeout=SOON)
                await second.get_result(timeout=SOON)

        assert most == 1

    async def test_past_the_stall_limit_another_worker_takes_it_over_and_the_first_settles_nothing(
        self, docket: Docket, docket_name: str, url: str, caplog: pytest.LogCaptureFixture
    ):
        taken_over = threading.Event()
        begun: list[str] = []

        async def blocks(worker: Worker = CurrentWorker()) -> str:
            begun.append(worker.name)
            if len(begun) == 1:
                block(taken_over)
                await asyncio.sleep(0)
            taken_over.set()
            return worker.name

        options: dict[str, Any] = {"redelivery_timeout": timedelta(seconds=2), "stall_limit": lasts(200)}
        docket.register(blocks)
        async with at_work(docket, name="here", **options):
            with worker_elsewhere(docket_name, url, blocks, name="elsewhere", **options):  # whichever takes it is blocked, until the other has run it
                asked = await docket.add(blocks, key="k")()
                result = await asked.get_result(timeout=SOON)
                stuck, other = begun
                restarted = f"lapsed and its work was taken over; stopping it here and starting again as {stuck}~"
                await eventually(lambda: restarted in caplog.text)

        assert {stuck, other} == {"here", "elsewhere"}
        ended = await record(docket, "k")
        assert (result, ended.state, ended.worker, ended.crashes) == (other, ExecutionState.COMPLETED, other, 1)
        assert f"The event loop has stood still for more than 0:00:00.200000 (the stall limit), so the lease of {stuck}~" in caplog.text
        assert "other workers take over the 1 task(s) it runs" in caplog.text

    @pytest.mark.usefixtures("nervous")
    async def test_a_worker_whose_loop_is_blocked_is_not_ready(self, docket: Docket, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("docket.worker.NOTABLE", 0.1)
        heard: list[str | None] = []

        async with at_work(docket) as worker:

            async def blocks() -> None:
                time.sleep(0.3)
                heard.append(worker.not_ready())

            asked = await docket.add(blocks)()
            await asked.get_result(timeout=SOON)
            await eventually(worker.is_claiming)

        assert heard[0] is not None and heard[0].startswith("the event loop has been blocked for 0.")


class TestTheThread:
    async def test_it_renews_while_the_loop_does_nothing(self, docket: Docket):
        async with keeping(docket):
            before = await expiry(docket, "w~1")
            await asyncio.sleep(0)
            time.sleep(1.5 * LEASE.total_seconds())

            assert await expiry(docket, "w~1") >= before + LEASE.total_seconds() * 1e6

    async def test_it_comes_and_goes_with_its_worker(self, docket: Docket):
        async with Worker(docket, name="mine") as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(worker.is_claiming)
            assert "docket leases mine" in threads()
            worker.stop()
            await running
            assert "docket leases mine" not in threads()

    async def test_one_that_never_started_need_not_be_stopped(self, docket: Docket):
        await Keeper(crew_of(docket), Runs(1, nothing)).stop()

    async def test_a_lease_that_was_taken_is_not_taken_back(self, docket: Docket):
        async with keeping(docket) as (_, losses):
            await docket.store.workers.depart("w~1")

            await eventually(lambda: losses)
            await asyncio.sleep(LEASE.total_seconds())

            assert losses == ["lost"]
            assert await expiry(docket, "w~1") == 0

    async def test_past_the_stall_limit_it_lets_go_at_once(self, docket: Docket, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(_pulse, "INTERVAL", 0.02)
        async with keeping(docket, stall_limit=lasts(100)) as (keeper, losses):
            await eventually(lambda: keeper._renewal)
            time.sleep(0.3)
            assert losses == []  # the loop has yet to hear of it
            await eventually(lambda: losses)

            assert await expiry(docket, "w~1") == 0

    async def test_nothing_is_kept_before_there_is_a_lease(self, docket: Docket):
        crew = crew_of(docket, redelivery_timeout=lasts(40))
        losses: list[str] = []
        keeper = Keeper(crew, Runs(10, nothing))
        keeper.start(lambda: losses.append("lost"))
        await eventually(lambda: keeper._renewal)
        await asyncio.sleep(0.05)
        await keeper.stop()

        assert losses == []

    def test_it_does_not_outlive_its_event_loop(self, docket_name: str):
        async def begin() -> None:
            docket = Docket(docket_name, f"memory://{docket_name}")
            await docket.__aenter__()
            keeper = Keeper(crew_of(docket, name="mine"), Runs(1, nothing))
            keeper.start(nothing)
            assert "docket leases mine" in threads()  # as in a process whose loop ends without its worker being left

        asyncio.run(begin())

        deadline = time.monotonic() + 20
        while "docket leases mine" in threads():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    async def test_a_bug_in_it_is_logged_and_the_loop_goes_on_renewing(self, docket: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
        def fail(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("docket._worker._standstill.Standstill.look", fail)

        async with at_work(docket) as worker:
            await eventually(worker.is_claiming)
            await eventually(lambda: "The thread that keeps the worker's lease has failed" in caplog.text)

    @pytest.mark.only_memory("on a server nobody can move the clock")
    @pytest.mark.parametrize("ticking", [True, False])
    async def test_a_clock_that_jumps_takes_no_lease_away(self, docket_name: str, ticking: bool, url: str):
        clock: Clock = MovableClock(ticking=ticking)
        async with Docket(docket_name, url, clock=clock) as docket:
            async with keeping(docket) as (_, losses):
                clock.advance(days=3)
                time.sleep(1.5 * LEASE.total_seconds())
                assert await only_shard(docket.store).delivery.lapsed(clock.now_us()) == []
                clock.advance(days=3)
                await asyncio.sleep(LEASE.total_seconds())
                assert await only_shard(docket.store).delivery.lapsed(clock.now_us()) == []
            assert losses == []


@pytest.fixture
async def through(proxy: Proxy, docket_name: str) -> AsyncIterator[Docket]:
    """This is the docket, through the proxy."""
    async with Docket(docket_name, proxy.url) as docket:
        yield docket


@pytest.mark.only_server("an outage")
class TestAnOutage:
    async def test_one_at_the_start_is_waited_out(self, docket: Docket, through: Docket, proxy: Proxy):
        proxy.refuse = True  # for the connection that is still to be made
        async with keeping(through) as (keeper, _):
            accepted = proxy.accepted
            await eventually(lambda: proxy.accepted >= accepted + 3)
            assert keeper._renewal is None
            proxy.refuse = False
            await eventually(lambda: keeper._renewal)
            since = await expiry(docket, "w~1")

            async def is_renewed() -> bool:
                return await expiry(docket, "w~1") > since

            await eventually(is_renewed)

    async def test_one_in_between_is_waited_out_and_the_lease_renewed_soon_after(
        self, docket: Docket, through: Docket, proxy: Proxy, caplog: pytest.LogCaptureFixture
    ):
        async with keeping(through) as (keeper, losses):
            await eventually(lambda: keeper._renewal)
            await proxy.stop()
            await asyncio.sleep(LEASE.total_seconds() / 2)
            since = await expiry(docket, "w~1")
            await proxy.start()

            async def is_renewed() -> bool:
                return await expiry(docket, "w~1") > since

            await eventually(is_renewed)
            assert losses == []
            await eventually(lambda: through.store.backend.is_connected)
        assert caplog.text.count("Redis is unavailable, trying again until it is back") == 1  # which the docket's own connection says

    async def test_a_connection_on_which_nothing_comes_any_more_is_made_again(
        self, docket: Docket, through: Docket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(wire, "RESPONSE_TIMEOUT", 0.1)
        async with keeping(through) as (keeper, losses):
            await eventually(lambda: keeper._renewal)
            proxy.strand()
            since = await expiry(docket, "w~1")

            async def is_renewed() -> bool:
                return await expiry(docket, "w~1") > since

            await eventually(is_renewed)
            assert losses == []
            with pytest.raises(RedisUnavailable):
                await through.store.backend.call("PING")  # over the docket's own, which is stranded as well
            await eventually(lambda: through.store.backend.is_connected)

    async def test_a_loop_that_comes_back_before_its_lease_could_be_let_go_keeps_it(
        self, docket: Docket, through: Docket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        monkeypatch.setattr(_pulse, "INTERVAL", 0.02)
        proxy.refuse = True  # as in an outage; and while the loop is blocked, the proxy, which lives there, is deaf
        async with keeping(through, stall_limit=lasts(100)) as (keeper, losses):
            time.sleep(0.3)
            assert "stall limit" in caplog.text
            await asyncio.sleep(0.05)
            proxy.refuse = False
            await eventually(lambda: keeper._renewal)
            await asyncio.sleep(LEASE.total_seconds())

            assert losses == []
            assert await expiry(docket, "w~1") > 0

    async def test_it_stops_at_once_whatever_it_is_at(self, docket: Docket, through: Docket, proxy: Proxy):
        async with keeping(through) as (keeper, _):
            await eventually(lambda: keeper._renewal)
            proxy.silent = True
            await asyncio.sleep(LEASE.total_seconds() / 2)  # a renewal is under way
            began = time.monotonic()
            await keeper.stop()
            proxy.silent = False

        assert time.monotonic() - began < 2

    async def test_it_takes_one_connection_and_no_more(self, through: Docket, proxy: Proxy):
        await eventually(lambda: through.store.backend.subscriber.connected)  # the docket's own second connection, which is made a little later
        before = proxy.accepted
        async with keeping(through) as (keeper, _):
            await eventually(lambda: keeper._renewal)
            await asyncio.sleep(LEASE.total_seconds())

            assert proxy.accepted == before + 1
