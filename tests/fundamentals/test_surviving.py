"""Surviving: workers die and servers go away, and what was acknowledged is run all the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from docket import CurrentExecution, Docket, Execution, TaskKey, Worker
from tests._servers import RedisServer
from tests._waiting import eventually

SECOND = timedelta(seconds=1)

# What the other process runs: it works until it is killed in the middle of its first task.
DOOMED = """
import asyncio, os, signal, sys
from datetime import timedelta
from docket import Docket, TaskKey, Worker

async def job(key: str = TaskKey()) -> None:
    await docket.add("job", key=key)()  # asks for a successor, and does not live to see it
    os.kill(os.getpid(), signal.SIGKILL)

docket = Docket(sys.argv[1], sys.argv[2])
docket.register(job)

async def main():
    async with docket, Worker(docket, redelivery_timeout=timedelta(seconds=1)) as worker:
        await worker.run_forever()

asyncio.run(main())
"""


@pytest.mark.only_server("another process shares no memory with this one")
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
async def test_the_task_of_a_worker_that_died_is_run_by_another(docket: Docket):
    runs: list[tuple[bool, str]] = []

    @docket.task
    async def job(execution: Execution = CurrentExecution(), key: str = TaskKey()) -> str:
        runs.append((execution.redelivered, key))
        return "done"

    execution = await job.options(key="k").schedule()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", DOOMED, docket.name, docket.url]
    died = await asyncio.to_thread(subprocess.run, command, env=environment, check=False, timeout=30)
    assert died.returncode == -9

    async with Worker(docket, redelivery_timeout=SECOND) as worker:
        await worker.run_until_finished()

    assert runs == [(True, "k")]  # once more, and without the successor that the dead attempt asked for
    assert await execution.get_result() == "done"


async def test_a_task_that_takes_longer_than_the_lease_keeps_it(docket: Docket):
    runs: list[str] = []

    @docket.task
    async def slow() -> None:
        runs.append("slow")
        await asyncio.sleep(1.5)

    await slow.schedule()
    lease = timedelta(milliseconds=500)
    async with Worker(docket, redelivery_timeout=lease) as one, Worker(docket, redelivery_timeout=lease) as other:
        await asyncio.gather(one.run_until_finished(), other.run_until_finished())

    assert runs == ["slow"]


@pytest.mark.only_server("an engine in memory does not go away")
async def test_a_worker_waits_for_a_server_that_went_away_and_goes_on(docket_name: str, new_server: Callable[..., RedisServer]):
    server = new_server("--appendonly", "yes", "--appendfsync", "always")
    ran: list[int] = []

    async with Docket(docket_name, server.url) as docket, Worker(docket, reconnection_delay=timedelta(milliseconds=50)) as worker:

        @docket.task
        async def job(number: int) -> int:
            ran.append(number)
            return number

        running = asyncio.create_task(worker.run_forever())
        await (await job.schedule(1)).get_result()
        later = await job.schedule(2, when=timedelta(milliseconds=300))

        await asyncio.to_thread(server.kill)
        await asyncio.sleep(0.5)
        assert not running.done()
        await asyncio.to_thread(server.start)

        await eventually(lambda: ran == [1, 2])
        assert await later.get_result() == 2
        assert await (await job.schedule(3)).get_result() == 3
        worker.stop()
        await running
