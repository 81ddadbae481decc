"""A process whose clock is wrong, by an hour: nothing runs early, nothing is stranded, and leases are the server's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from docket import CurrentExecution, CurrentWorker, Docket, Execution, ExecutionState, Perpetual, Retry, Worker
from tests._waiting import eventually
from tests.worker._hands import SOON, lasts, record

pytestmark = pytest.mark.only_server("processes share it, and its clock counts")

LEASE = lasts(600)

# Every clock of the process that tells the time of day: docket's own modules and the libraries' take it from these.
ASTRAY = """
import asyncio, datetime, sys, time
from datetime import timedelta
from pathlib import Path

name, url, ahead, folder = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
real_time, real_time_ns, RealDatetime = time.time, time.time_ns, datetime.datetime

class WrongDatetime(RealDatetime):
    @classmethod
    def now(cls, tz=None):
        return RealDatetime.now(tz) + timedelta(seconds=ahead)

time.time = lambda: real_time() + ahead
time.time_ns = lambda: real_time_ns() + int(ahead * 1e9)
datetime.datetime = WrongDatetime

sys.path.insert(0, folder)
import tasks_of_the_test as tasks
from docket import Docket, Worker
from docket._clock import SYSTEM

assert abs(SYSTEM.now_us() / 1e6 - real_time() - ahead) < 60 and abs(SYSTEM.now().timestamp() - real_time() - ahead) < 60

async def work():
    async with Docket(name, url) as docket:
        for task in (tasks.noted, tasks.tried_twice, tasks.now_and_then, tasks.slow):
            docket.register(task)
        async with Worker(docket, name="astray", redelivery_timeout=timedelta(milliseconds=600)) as worker:
            await worker.run_forever()

async def produce():
    async with Docket(name, url) as docket:
        docket.register(tasks.noted)
        await docket.add(tasks.noted, key="now")()
        await docket.add(tasks.noted, key="soon", when=timedelta(milliseconds=300))()
        print("produced", flush=True)

asyncio.run(work() if sys.argv[5] == "work" else produce())
"""

TASKS = """
import asyncio
from datetime import timedelta
from docket import CurrentExecution, CurrentWorker, Execution, Perpetual, Retry, Worker

class OnceMore(Exception): ...

async def noted(worker: Worker = CurrentWorker()):
    return worker.name

async def tried_twice(retry: Retry = Retry(attempts=2, delay=timedelta(milliseconds=300)), worker: Worker = CurrentWorker()):
    if retry.attempt == 1:
        raise OnceMore
    return worker.name

async def now_and_then(execution: Execution = CurrentExecution(), perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=200))):
    return execution.key

async def slow(worker: Worker = CurrentWorker()):
    await asyncio.sleep(2)
    return worker.name
"""


async def noted(worker: Worker = CurrentWorker()) -> str:
    return worker.name


async def tried_twice(retry: Retry = Retry(attempts=2, delay=lasts(300)), worker: Worker = CurrentWorker()) -> str:
    raise NotImplementedError


async def now_and_then(execution: Execution[str] = CurrentExecution(), perpetual: Perpetual = Perpetual(every=lasts(200))) -> str:
    raise NotImplementedError


async def slow(worker: Worker = CurrentWorker()) -> str:
    raise NotImplementedError


@asynccontextmanager
async def astray(docket: Docket, url: str, folder: Path, ahead: float, what: str) -> AsyncGenerator[Path, None]:
    """This is a process whose clock is so many seconds ahead."""
    (folder / "tasks_of_the_test.py").write_text(TASKS)
    (folder / "astray.py").write_text(ASTRAY)
    output = folder / "output"
    command = [sys.executable, str(folder / "astray.py"), docket.name, url, str(ahead), str(folder), what]
    with output.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
    try:
        yield output
    finally:
        process.kill()
        process.wait()
        assert "Error" not in output.read_text(), output.read_text()


async def _names(docket: Docket) -> list[str]:
    return [worker.name for worker in await docket.workers()]


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0], ids=["behind", "ahead"])
class TestAWorker:
    async def test_it_runs_nothing_early_and_strands_nothing(self, docket: Docket, url: str, tmp_path: Path, ahead: float):
        async with astray(docket, url, tmp_path, ahead, "work"):
            ready = await docket.add(noted)()
            due = datetime.now(timezone.utc) + lasts(700)
            soon = await docket.add(noted, key="soon", when=due)()
            later = await docket.add(noted, key="later", when=timedelta(minutes=30))()
            again = await docket.add(tried_twice, key="again")()

            assert await ready.get_result(timeout=SOON) == "astray"
            assert await soon.get_result(timeout=SOON) == "astray"
            assert await again.get_result(timeout=SOON) == "astray"

            run, retried = await record(docket, "soon"), await record(docket, "again")
            assert run.started_us >= run.when_us == int(due.timestamp() * 1e6)
            assert 0 <= retried.started_us - retried.when_us < 10_000_000
            await later.sync()
            assert later.state is ExecutionState.SCHEDULED
        await docket.cancel("later")

    async def test_a_chain_keeps_its_rhythm(self, docket: Docket, url: str, tmp_path: Path, ahead: float):
        await docket.add(now_and_then, key="chain")()
        async with astray(docket, url, tmp_path, ahead, "work"):
            moments: list[int] = []

            async def is_next() -> bool:
                run = await docket.store.inspection.load("chain")
                if run is not None and run.when_us not in moments:
                    moments.append(run.when_us)
                return len(moments) == 5

            await eventually(is_next)
        assert moments == sorted(moments)
        assert moments[-1] - moments[0] < 20_000_000
        await docket.cancel("chain")

    async def test_its_lease_is_good_beside_others_and_so_is_theirs(self, docket: Docket, url: str, tmp_path: Path, ahead: float):
        asked = await docket.add(slow, key="slow")()
        async with astray(docket, url, tmp_path, ahead, "work"):
            await asked.sync()

            async def runs() -> bool:
                await asked.sync()
                return asked.state is ExecutionState.RUNNING

            await eventually(runs)
            docket.register(noted)
            async with Worker(docket, name="right", redelivery_timeout=LEASE) as worker:
                running = asyncio.create_task(worker.run_forever())

                async def both_seen() -> bool:
                    return sorted(await _names(docket)) == ["astray", "right"]

                await eventually(both_seen)  # heartbeats are by the server's clock, too
                assert await asked.get_result(timeout=SOON) == "astray"
                worker.stop()
                await running
            assert (await record(docket, "slow")).crashes == 0

    async def test_what_it_held_is_taken_over_when_it_dies(self, docket_name: str, docket: Docket, url: str, tmp_path: Path, ahead: float):
        asked = await docket.add(slow, key="slow")()

        async def runs() -> bool:
            await asked.sync()
            return asked.state is ExecutionState.RUNNING

        async with astray(docket, url, tmp_path, ahead, "work"):
            await eventually(runs)

        async def slow_here() -> str:
            return "here"

        async with Docket(docket_name, url) as other, Worker(other, redelivery_timeout=LEASE) as worker:
            other.register(slow_here, names=["slow"])
            running = asyncio.create_task(worker.run_forever())
            assert await asked.get_result(timeout=SOON) == "here"
            worker.stop()
            await running


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0], ids=["behind", "ahead"])
class TestAProducer:
    async def test_what_is_for_now_runs_now_and_what_is_for_later_is_off_by_no_more_than_its_clock(
        self, docket: Docket, url: str, tmp_path: Path, ahead: float
    ):
        async with astray(docket, url, tmp_path, ahead, "produce") as output:
            await eventually(lambda: "produced" in output.read_text())
        soon = await record(docket, "soon")
        docket.register(noted)
        async with Worker(docket, name="right") as worker:
            running = asyncio.create_task(worker.run_forever())

            async def is_done() -> bool:
                return (await record(docket, "now")).state is ExecutionState.COMPLETED

            await eventually(is_done)
            worker.stop()
            await running
        assert abs(soon.when_us - docket.clock.now_us() - ahead * 1e6) < 60_000_000
        await docket.cancel("soon")
