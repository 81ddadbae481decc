"""A worker in another event loop, in a thread of its own: one that goes on while the test's own loop is blocked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from docket import Docket, Worker

__all__ = ["worker_elsewhere"]


@contextmanager
def worker_elsewhere(docket_name: str, url: str, /, *functions: Callable[..., Any], **options: Any) -> Generator[None]:
    """This runs a worker for as long as the block lasts."""
    told, failures = threading.Event(), list[BaseException]()
    started = threading.Event()

    async def work() -> None:
        async with Docket(docket_name, url) as docket:
            for function in functions:
                docket.register(function)
            async with Worker(docket, schedule_automatic_tasks=False, **options) as worker:
                running = asyncio.create_task(worker.run_forever())
                while not worker.is_claiming():
                    await asyncio.sleep(0.005)
                started.set()
                while not told.is_set():
                    await asyncio.sleep(0.005)
                worker.stop()
                await running

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as exc:
            failures.append(exc)
            started.set()

    thread = threading.Thread(target=run, name="worker elsewhere")
    thread.start()
    try:
        assert started.wait(20)
        yield
    finally:
        told.set()
        thread.join(20)
    assert not thread.is_alive()
    if failures:
        raise failures[0]
