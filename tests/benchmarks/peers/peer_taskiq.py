"""taskiq with taskiq-redis, streams and a result backend: the same no-op tasks in and out.

The clock stops when the last result is saved; the last few acknowledgements may still be under way, which is in taskiq's favour.
"""

import asyncio
import logging
import os
import time

import uvloop
from support import CALLERS, Report, Settings, call_many, leave, wait_while
from taskiq import TaskiqMiddleware
from taskiq.receiver import Receiver
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

settings = Settings.from_environment()
concurrency = settings.concurrency or CALLERS
results = RedisAsyncResultBackend(settings.url, result_ex_time=900)
broker = RedisStreamBroker(settings.url, queue_name=f"bench{os.getpid()}", xread_count=concurrency).with_result_backend(results)


@broker.task
async def nothing(number: int) -> None:
    """This is the task."""


class Count(TaskiqMiddleware):
    """This tells when all results are saved."""

    def __init__(self, all_done: asyncio.Event) -> None:
        super().__init__()
        self.all_done = all_done
        self.done = 0

    async def post_save(self, message, result) -> None:
        self.done += 1
        if self.done == settings.n:
            self.all_done.set()


async def main() -> None:
    logging.disable(logging.INFO)
    broker.is_worker_process = True
    await broker.startup()
    adding = await call_many(nothing.kiq, settings.n)
    all_done = asyncio.Event()
    broker.add_middlewares(Count(all_done))
    receiver = Receiver(broker, max_async_tasks=concurrency, max_prefetch=concurrency)
    started = time.perf_counter()
    working = asyncio.create_task(receiver.listen(asyncio.Event()))
    await wait_while(working, all_done)
    draining = time.perf_counter() - started
    leave(Report({"add_per_second": settings.n / adding, "drain_per_second": settings.n / draining}))


if __name__ == "__main__":
    uvloop.run(main())
