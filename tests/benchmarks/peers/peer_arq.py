"""arq in burst mode: the same no-op tasks in and out. The clock stops when the worker has nothing left to do."""

import logging
import os
import time

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from support import CALLERS, NotAsExpected, Report, Settings, call_many, leave


async def nothing(ctx, number: int) -> None:
    """This is the task."""


async def main() -> None:
    logging.disable(logging.INFO)
    settings = Settings.from_environment()
    queue = f"bench{os.getpid()}"
    pool = await create_pool(RedisSettings.from_dsn(settings.url), default_queue_name=queue)
    adding = await call_many(lambda number: pool.enqueue_job("nothing", number), settings.n)
    concurrency = settings.concurrency or CALLERS
    worker = Worker([nothing], redis_pool=pool, queue_name=queue, burst=True, max_jobs=concurrency, handle_signals=False, poll_delay=0.05)
    started = time.perf_counter()
    await worker.async_run()
    draining = time.perf_counter() - started
    if worker.jobs_complete != settings.n:
        raise NotAsExpected(f"{worker.jobs_complete} of {settings.n} jobs completed")
    leave(Report({"add_per_second": settings.n / adding, "drain_per_second": settings.n / draining}))


if __name__ == "__main__":
    uvloop.run(main())
