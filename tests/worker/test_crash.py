"""A worker that dies has its tasks run by another."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from docket import CurrentExecution, Docket, Execution, ExecutionState, Worker
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.worker._hands import SOON, lasts, record

pytestmark = pytest.mark.only_server("processes share it")

LEASE = lasts(400)

DOOMED = """
import asyncio, sys, time
from datetime import timedelta
from docket import Docket, Worker

async def waits(name): print("begun", name, flush=True); await asyncio.Event().wait()
async def blocks(name): print("begun", name, flush=True); time.sleep(3600)

async def main(name, url):
    async with Docket(name, url) as docket:
        docket.register(waits)
        docket.register(blocks)
        async with Worker(docket, name="doomed", redelivery_timeout=timedelta(milliseconds=400)) as worker:
            await worker.run_forever()

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def doomed(docket: Docket, url: str, tmp_path: Path, *, begins: int) -> AsyncGenerator[subprocess.Popen[bytes], None]:
    """A worker in a process of its own that has begun so many tasks."""
    (tmp_path / "doomed.py").write_text(DOOMED)
    output = tmp_path / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen([sys.executable, str(tmp_path / "doomed.py"), docket.name, url], stdout=sink, stderr=subprocess.STDOUT)
    try:
        await eventually(lambda: output.read_text().count("begun") == begins or process.poll() is not None)
        assert process.poll() is None, output.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


async def test_what_it_ran_is_run_by_another_after_the_redelivery_timeout(docket: Docket, redis_server: RedisServer, tmp_path: Path):
    ran: list[tuple[str, bool]] = []

    async def waits(name: str, run: Execution[Any] = CurrentExecution()) -> str:
        ran.append((name, run.redelivered))
        return name

    asked = [await docket.add("waits", key=name)(name) for name in "abc"]
    async with doomed(docket, redis_server.url, tmp_path, begins=3) as process:
        docket.register(waits)
        async with Worker(docket, redelivery_timeout=LEASE) as worker:
            running = asyncio.create_task(worker.run_until_finished())
            await asyncio.sleep(2 * LEASE.total_seconds())
            assert ran == []  # as long as it lives
            assert {(await record(docket, name)).worker for name in "abc"} == {"doomed"}

            process.send_signal(signal.SIGKILL)
            died = time.monotonic()
            await running
            took = time.monotonic() - died

    assert sorted(ran) == [("a", True), ("b", True), ("c", True)]
    assert [await one.get_result(timeout=SOON) for one in asked] == ["a", "b", "c"]
    assert {(await record(docket, name)).crashes for name in "abc"} == {1}
    assert took < 10


async def test_so_is_what_a_stuck_process_held_as_it_was_killed(docket: Docket, redis_server: RedisServer, tmp_path: Path):
    async def blocks(name: str) -> str:
        return name

    async def waits(name: str) -> str:
        return name

    held = await docket.add("waits")("held")
    async with doomed(docket, redis_server.url, tmp_path, begins=1) as process:
        stuck = await docket.add("blocks")("stuck")

        async def begun() -> bool:
            return (await record(docket, stuck.key)).state is ExecutionState.RUNNING

        await eventually(begun)
        process.send_signal(signal.SIGKILL)
        process.wait()
    docket.register(blocks)
    docket.register(waits)
    async with Worker(docket, redelivery_timeout=LEASE) as worker:
        await worker.run_until_finished()

    assert await held.get_result(timeout=SOON) == "held"
    assert await stuck.get_result(timeout=SOON) == "stuck"


async def test_a_cancelled_run_of_the_dead_ends_cancelled(docket: Docket, redis_server: RedisServer, tmp_path: Path):
    await docket.add("blocks", key="k")("stuck")
    async with doomed(docket, redis_server.url, tmp_path, begins=1) as process:
        await docket.cancel("k")
        process.send_signal(signal.SIGKILL)
        process.wait()

    async def blocks(name: str) -> str:
        return name

    docket.register(blocks)
    async with Worker(docket, redelivery_timeout=LEASE) as worker:
        await worker.run_until_finished()

    assert (await record(docket, "k")).state is ExecutionState.CANCELLED
