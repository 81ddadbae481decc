"""Running: workers, how long they run, and how they stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from docket import Docket, ExecutionState, Perpetual, TaskKey, Worker
from docket.errors import InvalidOption, NotEntered
from tests._waiting import eventually

AT_ONCE = timedelta(0)
SOON = timedelta(milliseconds=100)
LATER = timedelta(hours=1)


class TestRunForever:
    async def test_it_runs_what_comes_until_it_is_told_to_stop(self, docket: Docket, worker: Worker):
        @docket.task
        async def job(number: int) -> int:
            return number

        running = asyncio.create_task(worker.run_forever())
        results = [await (await job.schedule(number)).get_result() for number in range(3)]
        assert not running.done()
        worker.stop()
        await running

        assert results == [0, 1, 2]

    async def test_stopping_lets_what_runs_finish_and_starts_nothing_new(self, docket: Docket, worker: Worker):
        started, finish = asyncio.Event(), asyncio.Event()

        @docket.task
        async def job() -> str:
            started.set()
            await finish.wait()
            return "done"

        first = await job.schedule()
        running = asyncio.create_task(worker.run_forever())
        await started.wait()
        worker.stop()
        second = await job.schedule()
        finish.set()
        await running

        assert await first.get_result() == "done"
        await second.sync()
        assert second.state is ExecutionState.QUEUED
        await docket.cancel(second.key)

    async def test_cancelling_it_lets_what_runs_finish_and_loses_nothing(self, docket: Docket):
        ran: list[int] = []

        @docket.task
        async def job(number: int) -> None:
            await asyncio.sleep(0.02)
            ran.append(number)

        await docket.add_many(job.call(number) for number in range(30))
        async with Worker(docket, concurrency=5) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: len(ran) > 5)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        finished_by_the_first = len(ran)
        async with Worker(docket) as another:
            await another.run_until_finished()

        assert 5 < finished_by_the_first < 30
        assert Counter(ran) == Counter(range(30))

    async def test_leaving_the_worker_waits_for_what_runs(self, docket: Docket):
        told: list[str] = []
        started = asyncio.Event()

        @docket.task
        async def job() -> None:
            started.set()
            await asyncio.sleep(0.1)
            told.append("finished")

        await job.schedule()
        async with Worker(docket) as worker:
            running = asyncio.create_task(worker.run_forever())
            await started.wait()
            assert told == []
        await running

        assert told == ["finished"]


class TestRunUntilFinished:
    async def test_with_nothing_to_do_it_returns_at_once(self, worker: Worker):
        await asyncio.wait_for(worker.run_until_finished(), 5)

    async def test_it_waits_for_future_work_and_for_what_work_schedules(self, docket: Docket, worker: Worker):
        ran: list[str] = []

        @docket.task
        async def first() -> None:
            ran.append("first")
            await second.schedule(when=SOON)

        @docket.task
        async def second() -> None:
            ran.append("second")

        await first.schedule(when=SOON)
        await worker.run_until_finished()

        assert ran == ["first", "second"]

    async def test_it_waits_for_what_another_worker_runs(self, docket: Docket):
        told: list[str] = []
        started, finish = asyncio.Event(), asyncio.Event()

        @docket.task
        async def job() -> None:
            started.set()
            await finish.wait()
            told.append("finished")

        await job.schedule()
        async with Worker(docket) as one, Worker(docket) as other:
            running = asyncio.create_task(one.run_forever())
            await started.wait()
            waiting = asyncio.create_task(other.run_until_finished())
            await asyncio.sleep(0.1)
            assert not waiting.done()
            finish.set()
            await waiting
            one.stop()
            await running

        assert told == ["finished"]

    async def test_work_it_does_not_know_keeps_it_not_and_is_named_in_one_line(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.INFO)

        @docket.task
        async def known() -> str:
            return "done"

        strangers = [await docket.add("stranger")(), await docket.add("another", when=LATER)()]
        execution = await known.schedule()
        await asyncio.wait_for(worker.run_until_finished(), 10)

        assert await execution.get_result() == "done"
        lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Finished")]
        assert lines == ["Finished; tasks left for workers that know them: another, stranger"]
        for stranger in strangers:
            await stranger.sync()
            assert stranger.state in (ExecutionState.SCHEDULED, ExecutionState.QUEUED)
            await docket.cancel(stranger.key)

    async def test_it_can_be_used_again(self, docket: Docket, worker: Worker):
        @docket.task
        async def job(number: int) -> int:
            return number

        for number in range(3):
            execution = await job.schedule(number)
            await worker.run_until_finished()
            assert await execution.get_result() == number


class TestRunAtMost:
    async def test_each_key_runs_so_often_and_the_rest_to_its_end(self, docket: Docket, worker: Worker):
        ran: Counter[str] = Counter()

        @docket.task
        @Perpetual(every=AT_ONCE)
        async def beat(name: str) -> None:
            ran[name] += 1

        @docket.task
        async def once() -> None:
            ran["once"] += 1

        await beat.schedule("a", key="a")
        await beat.schedule("b", key="b")
        await once.schedule(when=SOON)
        await worker.run_at_most({"a": 2, "b": 4})

        assert ran == {"a": 2, "b": 4, "once": 1}

    async def test_it_ends_the_chain(self, docket: Docket, worker: Worker):
        ran: list[str] = []

        @docket.task
        @Perpetual(every=AT_ONCE)
        async def beat(key: str = TaskKey()) -> None:
            ran.append(key)

        await beat.options(key="k").schedule()
        await worker.run_at_most({"k": 1})
        await worker.run_until_finished()

        assert ran == ["k"]
        found = await docket.get_execution("k")
        assert found is not None
        assert found.state is ExecutionState.COMPLETED

    async def test_zero_times_is_not_at_all(self, docket: Docket, worker: Worker):
        ran: list[str] = []

        @docket.task
        async def job() -> None:
            ran.append("job")

        await job.schedule(key="k")
        await worker.run_at_most({"k": 0})

        assert ran == []


class TestConcurrency:
    async def test_a_worker_runs_so_many_at_a_time(self, docket: Docket):
        now, most = 0, 0

        @docket.task
        async def job() -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.02)
            now -= 1

        await docket.add_many(job.call() for _ in range(20))
        async with Worker(docket, concurrency=4) as worker:
            await worker.run_until_finished()

        assert most == 4

    async def test_plain_functions_run_side_by_side_too(self, docket: Docket):
        together = threading.Barrier(4, timeout=20)

        @docket.task
        def job() -> int:
            return together.wait()

        executions = await docket.add_many(job.call() for _ in range(4))
        async with Worker(docket, concurrency=4) as worker:
            await worker.run_until_finished()

        assert sorted([await execution.get_result() for execution in executions]) == [0, 1, 2, 3]

    async def test_workers_share_the_work_and_each_task_runs_once(self, docket: Docket):
        ran: Counter[int] = Counter()

        @docket.task
        async def job(number: int) -> None:
            ran[number] += 1
            await asyncio.sleep(0.001)

        await docket.add_many(job.call(number) for number in range(200))
        async with Worker(docket, name="one", concurrency=5) as one, Worker(docket, name="two", concurrency=5) as two:
            await asyncio.gather(one.run_until_finished(), two.run_until_finished())

        assert ran == Counter(range(200))

    async def test_a_task_starts_within_milliseconds_whatever_the_intervals_are(self, docket: Docket):
        @docket.task
        async def job() -> float:
            return time.monotonic()

        async with Worker(docket, minimum_check_interval=timedelta(seconds=30), scheduling_resolution=timedelta(seconds=30)) as worker:
            running = asyncio.create_task(worker.run_forever())
            await (await job.schedule()).get_result()
            asked = time.monotonic()
            at_once = await (await job.schedule()).get_result() - asked
            asked = time.monotonic()
            later = await (await job.schedule(when=SOON)).get_result() - asked
            worker.stop()
            await running

        assert at_once < 2
        assert SOON.total_seconds() <= later < 2


@pytest.fixture
def tasks_module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """This is an importable module."""
    module = ModuleType("the_shops_tasks")
    monkeypatch.setitem(sys.modules, "the_shops_tasks", module)
    return module


class TestWorkerRun:
    async def test_it_makes_docket_and_worker_by_itself(self, docket: Docket, tasks_module: Any):
        async def send(customer_id: int) -> int:
            return customer_id

        tasks_module.collection = [send]
        execution = await docket.add("send")(1)

        await Worker.run(docket.name, docket.url, tasks=["the_shops_tasks:collection"], until_finished=True)

        assert await execution.get_result() == 1

    async def test_it_takes_a_docket_with_its_name_its_url_and_its_tasks(self, docket: Docket, tasks_module: Any):
        @docket.task
        async def send(customer_id: int) -> int:
            return customer_id

        tasks_module.docket = docket
        execution = await send.schedule(1)

        await Worker.run(tasks=["the_shops_tasks:docket"], until_finished=True)

        assert await execution.get_result() == 1

    async def test_it_takes_the_settings_of_docket_and_worker(self, docket: Docket):
        execution = await docket.add("trace", key="k")("hello")

        await Worker.run(docket.name, docket.url, name="worker-1", concurrency=2, execution_ttl=timedelta(0), until_finished=True)

        assert await docket.get_execution("k") is None
        assert execution.key == "k"

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_a_signal_drains_it(self, docket: Docket, tasks_module: Any, number: signal.Signals):
        before = signal.getsignal(number)
        started, finish = asyncio.Event(), asyncio.Event()

        @docket.task
        async def job() -> str:
            started.set()
            await finish.wait()
            return "finished"

        tasks_module.docket = docket
        running = asyncio.create_task(Worker.run(tasks=["the_shops_tasks:docket"]))
        first = await job.schedule()
        await eventually(started.is_set)

        os.kill(os.getpid(), number)
        await asyncio.sleep(0.05)
        assert not running.done()
        finish.set()
        await running

        assert await first.get_result() == "finished"
        assert signal.getsignal(number) == before

    async def test_the_other_ways_to_run_install_no_handlers(self, docket: Docket, worker: Worker):
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        seen: list[Any] = []

        @docket.task
        async def look() -> None:
            seen.extend(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT))

        await look.schedule()
        await worker.run_until_finished()

        assert seen == before


async def test_a_worker_runs_inside_its_block_only(docket: Docket):
    worker = Worker(docket)

    with pytest.raises(NotEntered, match="async with Worker"):
        await worker.run_until_finished()


def test_options_are_checked_when_a_worker_is_made(docket_name: str):
    docket = Docket(docket_name, f"memory://{docket_name}")

    with pytest.raises(InvalidOption, match="concurrency is 0"):
        Worker(docket, concurrency=0)
    with pytest.raises(ValueError, match="message_batch is 0"):
        Worker(docket, message_batch=0)
