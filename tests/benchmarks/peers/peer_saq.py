"""SAQ: the same no-op tasks in and out. The clock stops after the last job is finished in Redis."""

import asyncio
import logging
import os
import time

import uvloop
from saq import Queue, Worker
from support import CALLERS, Report, Settings, call_many, leave, wait_while

done = 0


async def nothing(ctx, *, number: int) -> None:
    """This is the task."""


async def main() -> None:
    logging.disable(logging.INFO)
    settings = Settings.from_environment()
    queue = Queue.from_url(settings.url, name=f"bench{os.getpid()}")
    await queue.connect()
    adding = await call_many(lambda number: queue.enqueue("nothing", number=number), settings.n)
    all_done = asyncio.Event()

    async def count(ctx) -> None:
        global done
        done += 1
        if done == settings.n:
            all_done.set()

    worker = Worker(queue, functions=[nothing], concurrency=settings.concurrency or CALLERS, after_process=count, dequeue_timeout=1)
    started = time.perf_counter()
    working = asyncio.create_task(worker.start())
    await wait_while(working, all_done)
    draining = time.perf_counter() - started
    leave(Report({"add_per_second": settings.n / adding, "drain_per_second": settings.n / draining}))


if __name__ == "__main__":
    uvloop.run(main())
