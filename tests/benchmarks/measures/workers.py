"""Drains with one worker process, and with more and more of them on the same docket: what they do together, and what each of them costs while nothing is to be done."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from typing import Any, cast

import redis.asyncio
import uvloop
from subjects import new_docket
from support import NotAsExpected, Report, Settings, run_measure

from docket import Docket, Worker

NUMBERS = (1, 2, 5, 10, 20, 50)
IDLE_SECONDS = 3


async def nothing(number: int) -> None:
    """This is the task."""


async def processor_seconds(client: Any) -> float:
    """This is what the server has used of its main thread."""
    info = await client.info("cpu")
    return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])


async def commands(client: Any) -> int:
    """This counts the commands the server has run, those inside scripts among them."""
    return sum(each["calls"] for each in (await client.info("commandstats")).values())


async def measure(settings: Settings) -> Report:
    """This measures tasks per second, the server's microseconds per task, and an idle docket's commands per second and worker."""
    client: Any = cast("Any", redis.asyncio.Redis).from_url(settings.url)
    values: dict[str, float] = {}
    async with new_docket(settings, "workers") as docket:
        docket.register(nothing)
        for number in NUMBERS:
            processes = [await asyncio.create_subprocess_exec(sys.executable, __file__, docket.name, env=os.environ.copy()) for _ in range(number)]
            await until(lambda number=number: ready(docket, number))
            before_idle = await commands(client)
            await asyncio.sleep(IDLE_SECONDS)
            values[f"idle_commands_per_worker_{number}"] = (await commands(client) - before_idle) / IDLE_SECONDS / number
            before, done = await processor_seconds(client), (await docket.counts()).completed
            began = time.perf_counter()
            await docket.add_many([docket.call(nothing)(each) for each in range(settings.n)])
            await until(lambda done=done: finished(docket, done + settings.n))
            values[f"per_second_{number}"] = settings.n / (time.perf_counter() - began)
            values[f"server_us_per_task_{number}"] = (await processor_seconds(client) - before) * 1e6 / settings.n
            for process in processes:
                process.terminate()
            for process in processes:
                await process.wait()
    return Report(
        values, {"of": f"{settings.n:,} tasks, added by one process while the workers run; every process shares the machine's {os.cpu_count()} cores"}
    )


async def ready(docket: Docket, number: int) -> bool:
    """This says whether so many workers are there, and no more."""
    return len(await docket.workers()) == number


async def finished(docket: Docket, completed: int) -> bool:
    """This says whether so many have been completed."""
    return (await docket.counts()).completed >= completed


async def until(holds: Any, seconds: float = 120) -> None:
    """This waits until something holds."""
    deadline = time.perf_counter() + seconds
    while not await holds():
        if time.perf_counter() > deadline:
            msg = "the workers did not come, or did not finish"
            raise NotAsExpected(msg)
        await asyncio.sleep(0.02)


async def work(settings: Settings, name: str) -> None:
    """This is one worker process."""
    docket = Docket(name=name, url=settings.url)
    docket.register(nothing)
    async with docket, Worker(docket, concurrency=settings.concurrency or 10, name=f"worker-{os.getpid()}") as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run_forever()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        logging.disable(logging.INFO)
        uvloop.run(work(Settings.from_environment(), sys.argv[1]))
    else:
        run_measure(measure)
