"""What commands look at in tests: a worker, and a docket with something of everything in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from docket import Docket, Progress, Worker

__all__ = ["HOUR", "Stage", "working"]

HOUR = timedelta(hours=1)


@asynccontextmanager
async def working(docket: Docket, name: str = "Jim") -> AsyncGenerator[None]:
    """A worker of the docket runs meanwhile."""
    async with Worker(docket, name=name) as worker:
        others = asyncio.all_tasks()
        running = asyncio.create_task(worker.run_forever())
        try:
            yield
        finally:
            worker.stop()
            await asyncio.wait([running], timeout=10)
            for left in asyncio.all_tasks() - others if not running.done() else ():
                left.cancel()  # the test failed, and left a body that waits for what never comes


class Stage:
    """A task that runs until told to go on, one that fails, and what is due later."""

    def __init__(self, docket: Docket) -> None:
        self.docket = docket
        self.go_on = asyncio.Event()

        @docket.task
        async def reports(progress: Progress = Progress()) -> None:
            await progress.set_total(4)
            await progress.set_message("Counting sheep")
            await progress.increment()
            await self.go_on.wait()

        @docket.task
        async def fails() -> None:
            raise ValueError("Ouch!")

    async def fill(self) -> None:
        await self.docket.add("reports", key="sheep")()
        await self.docket.add("fails", key="broken")()
        await self.docket.add("trace", key="later", when=HOUR)("never")
        await self.docket.strike("sleep", "seconds", ">", 100)

    async def clear(self) -> None:
        self.go_on.set()
        await self.docket.restore("sleep", "seconds", ">", 100)
        await self.docket.cancel("later")
