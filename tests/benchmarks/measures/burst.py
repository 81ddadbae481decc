"""Schedules tasks for the same instant and takes the time from that instant until all of them are done."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone

from subjects import new_docket, new_worker
from support import NotAsExpected, Report, Settings, call_many, run_measure

LEAD = timedelta(seconds=4)

ended: dict[int, float] = {}


async def mark(number: int) -> None:
    """This is the task; it notes when it ended."""
    ended[number] = time.time()


async def measure(settings: Settings) -> Report:
    """This measures the seconds until the worker says that all are done, and until the last body ended."""
    async with new_docket(settings, "burst") as docket:
        docket.register(mark)
        due = datetime.now(timezone.utc) + LEAD

        async def add(number: int) -> None:
            await docket.add(mark, when=due)(number)

        await call_many(add, settings.n)
        async with new_worker(docket, settings) as worker:
            finishing = asyncio.create_task(worker.run_until_finished(), name="benchmarked worker")
            await asyncio.sleep(0)
            if datetime.now(timezone.utc) > due:
                msg = f"scheduling took longer than {LEAD}"
                raise NotAsExpected(msg)
            await finishing
            finished = time.time()
    if len(ended) != settings.n:
        msg = f"{len(ended)} of {settings.n} tasks ran"
        raise NotAsExpected(msg)
    return Report({"settled_seconds": finished - due.timestamp(), "bodies_seconds": max(ended.values()) - due.timestamp()})


if __name__ == "__main__":
    run_measure(measure)
