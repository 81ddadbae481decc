"""How a worker stops: nothing is cut short and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from datetime import timedelta

import anyio
import pytest

from docket import Docket, ExecutionState, Worker
from tests._waiting import eventually
from tests.worker._hands import SOON, lasts, read_all, record


class Long:
    """A task that lasts until it is let go."""

    def __init__(self, docket: Docket) -> None:
        self.begun: list[int] = []
        self.go = asyncio.Event()
        self.ended: list[int] = []

        async def long(number: int) -> int:
            self.begun.append(number)
            await self.go.wait()
            self.ended.append(number)
            return number

        self.task = long
        docket.register(long)


@pytest.fixture
async def long(docket: Docket) -> Long:
    return Long(docket)


async def test_one_that_is_cancelled_stops_fetching_and_what_runs_is_finished_as_it_is_left(docket: Docket, long: Long, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.worker")
    asked = await docket.add(long.task)(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: long.begun == [1])

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        left = await docket.add(long.task, key="left")(2)
        assert long.ended == []
        asyncio.get_running_loop().call_later(0.05, long.go.set)

    assert long.ended == [1]
    assert await asked.get_result(timeout=timedelta(seconds=1)) == 1
    assert long.begun == [1]
    assert (await record(docket, "left")).state is ExecutionState.QUEUED
    assert "Shutdown requested, finishing 1 active tasks..." in caplog.messages
    assert await read_all(docket) == {}

    async with Worker(docket) as another:
        await another.run_until_finished()
    assert await left.get_result(timeout=SOON) == 2


async def test_one_in_a_cancelled_scope_of_anyio_does_the_same(docket: Docket, long: Long):
    asked = await docket.add(long.task)(1)
    async with Worker(docket) as worker:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run_forever)
                await eventually(lambda: long.begun == [1])
                scope.cancel()
        assert long.ended == []
        long.go.set()

    assert await asked.get_result(timeout=timedelta(seconds=1)) == 1


async def test_stop_ends_the_run_after_what_is_running(docket: Docket, long: Long):
    asked = await docket.add(long.task)(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: long.begun == [1])

        worker.stop()
        worker.stop()
        done, _ = await asyncio.wait([running], timeout=0.05)
        assert not done
        long.go.set()
        await running

        assert await asked.get_result(timeout=SOON) == 1


async def test_stopped_before_it_began_it_does_nothing(docket: Docket, long: Long):
    await docket.add(long.task, key="k")(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await asyncio.sleep(0)
        worker.stop()
        await running

    assert long.begun == []
    await docket.cancel("k")


async def test_a_run_cancelled_before_it_began_leaves_nothing_behind(docket: Docket):
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await asyncio.sleep(0)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    assert await docket.store.delivery.leased() == set()


async def test_a_run_after_a_cancelled_one_waits_for_what_that_left(docket: Docket, long: Long):
    first = await docket.add(long.task)(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: long.begun == [1])
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

        second = await docket.add(long.task)(2)
        again = asyncio.create_task(worker.run_until_finished())
        done, _ = await asyncio.wait([again], timeout=0.05)
        assert not done and long.begun == [1]
        long.go.set()
        await again

        assert [await one.get_result(timeout=SOON) for one in (first, second)] == [1, 2]


async def test_leases_are_kept_while_it_finishes_what_runs(docket: Docket, long: Long):
    lease = lasts(400)
    asked = await docket.add(long.task)(1)
    async with Worker(docket, redelivery_timeout=lease) as leaving, Worker(docket, redelivery_timeout=lease) as staying:
        first = asyncio.create_task(leaving.run_forever())
        await eventually(lambda: long.begun == [1])
        second = asyncio.create_task(staying.run_forever())
        leaving.stop()

        await asyncio.wait([first], timeout=3 * lease.total_seconds())
        assert long.begun == [1]
        long.go.set()
        await first
        staying.stop()
        await second

    assert await asked.get_result(timeout=SOON) == 1
    assert long.begun == [1]


async def test_what_is_cancelled_while_it_finishes_is_cancelled(docket: Docket, long: Long):
    await docket.add(long.task, key="k")(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: long.begun == [1])
        worker.stop()

        await docket.cancel("k")
        await asyncio.wait_for(running, 10)

    assert (await record(docket, "k")).state is ExecutionState.CANCELLED


async def test_threads_are_waited_for(docket: Docket):
    begun, release = threading.Event(), threading.Event()

    def blocks() -> str:
        begun.set()
        release.wait(10)
        return "whole"

    asked = await docket.add(blocks)()
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(begun.is_set)
        running.cancel()
        asyncio.get_running_loop().call_later(0.05, release.set)

    assert await asked.get_result(timeout=timedelta(seconds=1)) == "whole"


async def test_nothing_is_lost_however_often_workers_come_and_go(docket: Docket):
    ran: list[int] = []

    async def noted(number: int) -> None:
        await asyncio.sleep(0.001)
        ran.append(number)

    await docket.add_many(docket.call(noted)(number) for number in range(300))
    for _ in range(15):
        async with Worker(docket, concurrency=5, schedule_automatic_tasks=False) as worker:
            running = asyncio.create_task(worker.run_forever())
            before = len(ran)
            await eventually(lambda before=before: len(ran) > before)
            running.cancel()
    async with Worker(docket, concurrency=50) as worker:
        await worker.run_until_finished()

    assert sorted(ran) == list(range(300))


def test_a_loop_that_is_torn_down_settles_nothing_and_the_work_is_given_to_another(docket_name: str, caplog: pytest.LogCaptureFixture):
    url = f"memory://{docket_name}"
    begun = threading.Event()

    async def long() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def begin() -> None:
        async with contextlib.AsyncExitStack() as kept:
            docket = await kept.enter_async_context(Docket(docket_name, url))
            worker = await kept.enter_async_context(Worker(docket))
            await docket.add(long, key="k")()
            beside.append(asyncio.create_task(worker.run_forever()))
            await eventually(begun.is_set)
            kept.pop_all()  # as in a process that ends without leaving anything

    async def look() -> ExecutionState:
        async with Docket(docket_name, url) as docket:
            return (await record(docket, "k")).state

    beside: list[asyncio.Task[None]] = []
    asyncio.run(begin())

    assert asyncio.run(look()) in {ExecutionState.RUNNING, ExecutionState.QUEUED}
    if sys.version_info >= (3, 11):  # before, nobody can tell a loop that ends from a body that cancels itself: settling is tried, and fails
        assert "Settling" not in caplog.text


async def test_a_worker_says_goodbye(docket: Docket):
    async with Worker(docket) as worker:
        await worker.run_until_finished()

        assert await docket.store.delivery.leased() == set()
        assert await docket.store.workers.live(since_us=0) == []
