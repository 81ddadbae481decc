"""What a task costs the server while more and more others wait: processor time per task with 10^3 to 10^6 of them in the stream, and as many in the schedule."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import redis.asyncio
from subjects import new_docket, new_worker
from support import NotAsExpected, Report, Settings, call_many, run_measure

from docket import Docket

TASKS = 5_000
CHUNK = 10_000

ran = 0


async def nothing(number: int) -> None:
    """This is the task; it counts its runs."""
    global ran
    ran += 1


async def grow(docket: Docket, start: int, end: int) -> None:
    """This adds work to the back of what waits: half of it ready, half of it due in a day."""
    later = datetime.now(timezone.utc) + timedelta(days=1)
    for first in range(start, end, CHUNK):
        numbers = range(first, min(first + CHUNK, end))
        await docket.add_many(docket.call(nothing, when=later if number % 2 else None)(number) for number in numbers)


async def processor_seconds(client: Any) -> float:
    """This is what the server has used of its main thread."""
    info = await client.info("cpu")
    return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])


async def measure(settings: Settings) -> Report:
    """This measures microseconds of the server's processor per added and per drained task, at each size of the backlog."""
    client: Any = cast("Any", redis.asyncio.Redis).from_url(settings.url)
    values: dict[str, float] = {}
    async with new_docket(settings, "growth") as docket:
        docket.register(nothing)

        async def add(number: int) -> None:
            await docket.add(nothing)(number)

        size, waiting = 1_000, 0
        while size <= settings.n:
            await grow(docket, waiting, size)
            waiting = size
            before = await processor_seconds(client)
            await call_many(add, TASKS)
            added = await processor_seconds(client)
            await drain(docket, settings, TASKS)
            drained = await processor_seconds(client)
            values[f"add_us_at_{size}"] = (added - before) * 1e6 / TASKS
            values[f"drain_us_at_{size}"] = (drained - added) * 1e6 / TASKS
            size *= 10
    smallest, largest = min(1_000, settings.n), size // 10
    for what in ("add", "drain"):
        values[f"{what}_growth"] = values[f"{what}_us_at_{largest}"] / values[f"{what}_us_at_{smallest}"]
    return Report(values, {"of": f"{TASKS:,} tasks at a time; {largest:,} waited at the end, half of them ready"})


async def drain(docket: Docket, settings: Settings, tasks: int) -> None:
    """This runs as many tasks as were just added, whichever, so that as many wait as before."""
    done_before = ran
    async with new_worker(docket, settings) as worker:
        running = asyncio.create_task(worker.run_forever())
        while not running.done() and ran - done_before < tasks:
            await asyncio.sleep(0.001)
        worker.stop()
        await running
    if ran - done_before < tasks:
        msg = f"only {ran - done_before} of {tasks} tasks ran"
        raise NotAsExpected(msg)


if __name__ == "__main__":
    run_measure(measure)
