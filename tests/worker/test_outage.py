"""Redis goes away and comes back: the worker waits, reconnects and goes on."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta

import pytest

from docket import Docket, ExecutionState, Worker
from docket._worker._intake import Intake
from docket._worker._leases import Leases
from docket._worker._runs import Running, Runs
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.conftest import SHARDS
from tests.worker._hands import SOON, Long, at_work, claim, command, crew_of, dead_worker, fetch, intake_of, is_reading, lasts, leased, record, report_of

UNAVAILABLE = "Redis is unavailable, retrying in"
QUICKLY = lasts(50)


@pytest.fixture
def server(new_server: Callable[..., RedisServer]) -> RedisServer:
    """A server that keeps every write through a kill."""
    return new_server("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
async def docket(docket_name: str, server: RedisServer) -> AsyncGenerator[Docket, None]:
    async with Docket(docket_name, server.url, shards=SHARDS) as docket:
        yield docket


async def test_a_worker_waits_reconnects_and_goes_on(docket: Docket, server: RedisServer, long: Long, caplog: pytest.LogCaptureFixture):
    running = await docket.add(long.task)("running")
    later = await docket.add(long.task, when=lasts(700))("later")
    async with at_work(docket, reconnection_delay=QUICKLY):
        await eventually(lambda: long.begun == ["running"])

        server.kill()
        await eventually(lambda: UNAVAILABLE in caplog.text)
        long.go.set()
        server.start()
        after = await docket.add(long.task)("after")

        assert [await one.get_result(timeout=SOON) for one in (running, later, after)] == ["running", "later", "after"]
    assert sorted(long.begun) == ["after", "later", "running"]
    assert f"{UNAVAILABLE} 0:00:00.050000..." in caplog.messages


async def test_so_does_one_that_runs_until_finished(docket: Docket, server: RedisServer, caplog: pytest.LogCaptureFixture):
    async def five() -> int:
        return 5

    asked = await docket.add(five, when=lasts(1500))()
    async with Worker(docket, reconnection_delay=QUICKLY) as worker:
        running = asyncio.create_task(worker.run_until_finished())
        await eventually(worker.is_claiming)
        for _ in range(3):
            server.kill()
            await eventually(lambda: not worker.is_claiming())
            server.start()
            await eventually(lambda: worker.is_claiming() or running.done())
        await asyncio.wait_for(running, 20)

    assert await asked.get_result(timeout=SOON) == 5


async def test_an_outage_as_it_looks_whether_all_is_done_is_waited_out(docket: Docket, server: RedisServer):
    looks = 0

    async def finished() -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            server.kill()
        try:
            await docket.store.delivery.depth()
        finally:
            if looks == 1:
                server.start()
        return True

    async def perform(running: Running, runs: Runs) -> None: ...

    await docket.store.delivery.ensure_group()
    crew = crew_of(docket, reconnection_delay=QUICKLY)
    intake = Intake(crew, Runs(10, perform), report_of(crew), finished)

    await asyncio.wait_for(intake.run(), 20)

    assert looks == 2


async def test_one_that_starts_during_an_outage_waits_for_its_end(docket: Docket, server: RedisServer, caplog: pytest.LogCaptureFixture):
    async def five() -> int:
        return 5

    server.kill()
    async with at_work(docket, reconnection_delay=QUICKLY):
        await eventually(lambda: UNAVAILABLE in caplog.text)
        server.start()
        asked = await docket.add(five)()

        assert await asked.get_result(timeout=SOON) == 5


async def test_told_to_stop_it_waits_no_more(docket: Docket, server: RedisServer, caplog: pytest.LogCaptureFixture):
    server.kill()
    async with Worker(docket, reconnection_delay=timedelta(hours=1)) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: UNAVAILABLE in caplog.text)

        worker.stop()
        await asyncio.wait_for(running, 10)


async def test_stopped_during_an_outage_it_leaves_and_what_it_could_not_settle_is_run_again(
    docket: Docket, docket_name: str, server: RedisServer, long: Long, caplog: pytest.LogCaptureFixture
):
    asked = await docket.add(long.task)("once")
    async with Docket(docket_name, server.url) as leaving:
        leaving.register(long.task)
        async with Worker(leaving, reconnection_delay=QUICKLY, cleanup_timeout=lasts(100), redelivery_timeout=lasts(400)) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: long.begun == ["once"])
            server.kill()
            await eventually(lambda: UNAVAILABLE in caplog.text)
            long.go.set()
            worker.stop()
            await asyncio.wait_for(running, 20)

    assert "Redis is away, so what had finished here could not be settled" in caplog.text
    assert "Could not say goodbye" in caplog.text
    assert "Could not give back what was fetched last" in caplog.text

    server.start()
    await eventually(lambda: docket.store.backend.available(1))
    async with at_work(docket, redelivery_timeout=lasts(400)):
        assert await asked.get_result(timeout=SOON) == "once"
    assert long.begun == ["once", "once"]


async def test_what_had_ended_during_an_outage_is_settled_after_it(docket: Docket, server: RedisServer, long: Long, caplog: pytest.LogCaptureFixture):
    asked = await docket.add(long.task)("once")
    async with at_work(docket, reconnection_delay=QUICKLY):
        await eventually(lambda: long.begun == ["once"])
        server.kill()
        await eventually(lambda: UNAVAILABLE in caplog.text)
        long.go.set()
        await asyncio.sleep(0.05)
        server.start()
        await eventually(lambda: docket.store.backend.available(1))

        assert await asked.get_result(timeout=SOON) == "once"
    assert long.begun == ["once"]


async def test_an_outage_longer_than_a_lease_takes_no_work_from_those_who_live(docket_name: str, docket: Docket, server: RedisServer, long: Long):
    lease = lasts(2000)  # longer than anybody takes to connect again
    async with Docket(docket_name, server.url) as other:
        other.register(long.task)
        asked = [await docket.add(long.task)(name) for name in ("a", "b")]
        async with (
            at_work(docket, concurrency=1, redelivery_timeout=lease, reconnection_delay=QUICKLY),
            at_work(other, concurrency=1, redelivery_timeout=lease, reconnection_delay=QUICKLY),
        ):
            await eventually(lambda: len(long.begun) == 2)
            server.kill()
            await asyncio.sleep(1.5 * lease.total_seconds())
            server.start()
            await eventually(lambda: docket.store.backend.available(1))
            await asyncio.sleep(1.5 * lease.total_seconds())

            long.go.set()
            assert [await one.get_result(timeout=SOON) for one in asked] == ["a", "b"]
    assert sorted(long.begun) == ["a", "b"]


async def test_after_an_outage_nothing_is_taken_from_anybody_for_the_length_of_a_lease(docket: Docket, server: RedisServer, long: Long):
    lease = lasts(1000)
    asked = await docket.add(long.task)("left")
    dead = await dead_worker(docket)
    await claim(docket, dead)
    async with at_work(docket, redelivery_timeout=lease, reconnection_delay=QUICKLY):
        server.kill()
        await eventually(lambda: not docket.store.backend.connected_for())
        server.start()
        await eventually(lambda: docket.store.backend.available(1))
        back_at = asyncio.get_running_loop().time() - docket.store.backend.connected_for()

        await eventually(lambda: long.begun)
        assert asyncio.get_running_loop().time() - back_at >= lease.total_seconds()
        long.go.set()
        assert await asked.get_result(timeout=SOON) == "left"


async def test_connections_that_break_lose_nothing_and_repeat_nothing(docket: Docket, server: RedisServer):
    ran: list[int] = []

    async def noted(number: int) -> None:
        ran.append(number)

    docket.register(noted)
    async with at_work(docket, reconnection_delay=QUICKLY) as worker:
        for number in range(10):
            await eventually(worker.is_claiming)
            adding = [asyncio.ensure_future(docket.add(noted, key=f"{number}.{more}")(10 * number + more)) for more in range(10)]
            await asyncio.sleep(0.001 * number)
            for kind in ("normal", "pubsub"):
                command(server, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            await asyncio.gather(*adding)
        await eventually(lambda: len(ran) >= 100)
        await eventually(lambda: worker._intake is not None and worker._intake._runs.idle)
    async with Worker(docket) as worker:
        await worker.run_until_finished()

    assert sorted(ran) == list(range(100))


async def test_entries_whose_read_broke_are_found_again(docket: Docket, server: RedisServer):
    async def five() -> int:
        return 5

    async with at_work(docket, reconnection_delay=QUICKLY) as worker:
        await eventually(worker.is_claiming)
        await eventually(lambda: is_reading(worker))
        [instance] = await leased(docket)
        assert worker._intake is not None
        worker._intake._runs._reserved = 10  # so that it does not read for a moment
        worker._intake.interrupt()
        asked = await docket.add(five)()
        await fetch(docket, instance)  # the reply that the worker never gets
        connected_for = docket.store.backend.connected_for
        before = connected_for()
        command(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        worker._intake._runs.release(10)
        await eventually(lambda: 0 < connected_for() < before)

        assert await asked.get_result(timeout=SOON) == 5


async def test_a_claim_that_is_no_longer_wanted_is_not_tried_for_ever(docket: Docket, server: RedisServer, caplog: pytest.LogCaptureFixture):
    async def five() -> int:
        return 5

    async def perform(running: Running, runs: Runs) -> None: ...

    asked = await docket.add(five, key="k")()
    crew, runs = crew_of(docket), Runs(10, perform)
    intake = intake_of(crew, runs)
    await Leases(crew, runs, intake.interrupt).start()
    found = await fetch(docket, crew.instance)
    runs.reserve(1)
    server.kill()
    intake.stop()

    await asyncio.wait_for(intake._claim(crew.instance, found), 20)

    assert "Claiming 1 entries failed; they are looked for again" in caplog.text
    assert runs.idle
    server.start()
    await eventually(lambda: docket.store.backend.available(1))
    await intake.run()  # which leaves, and gives back what it has
    assert (await record(docket, "k")).state is ExecutionState.QUEUED
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    assert await asked.get_result(timeout=SOON) == 5


async def test_services_go_on_after_an_outage(docket: Docket, server: RedisServer, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.worker")
    async with at_work(docket, name="worker-1", reconnection_delay=QUICKLY, redelivery_timeout=lasts(400)) as worker:
        await eventually(worker.is_claiming)
        server.kill()
        await asyncio.sleep(0.3)
        server.start()
        await eventually(worker.is_claiming)
        back_us = docket.clock.now_us()

        async def beats_again() -> bool:
            return any(one.last_seen_us > back_us for one in await docket.store.workers.live(since_us=0))

        await eventually(beats_again)
        assert await leased(docket)
