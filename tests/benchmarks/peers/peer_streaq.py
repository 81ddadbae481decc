"""streaq in burst mode: the same no-op tasks in and out. The clock stops when the worker has nothing left to do."""

import logging
import os
import time

import uvloop
from streaq import Worker
from support import CALLERS, NotAsExpected, Report, Settings, call_many, leave

settings = Settings.from_environment()
worker = Worker(redis_url=settings.url, concurrency=settings.concurrency or CALLERS, queue_name=f"bench{os.getpid()}", handle_signals=False)
worker.burst = True


@worker.task
async def nothing(number: int) -> None:
    """This is the task."""


async def main() -> None:
    logging.disable(logging.INFO)

    async def add(number: int) -> None:
        await nothing.enqueue(number)

    async with worker:
        adding = await call_many(add, settings.n)
    started = time.perf_counter()
    await worker.run_async()
    draining = time.perf_counter() - started
    if worker.counters["completed"] != settings.n:
        raise NotAsExpected(f"{dict(worker.counters)}, not {settings.n} completed")
    leave(Report({"add_per_second": settings.n / adding, "drain_per_second": settings.n / draining}))


if __name__ == "__main__":
    uvloop.run(main())
