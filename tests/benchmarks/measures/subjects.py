"""The docket package under measurement: the one of this repository, or the published one in an environment of its own.

Both are measured by the same scripts, which therefore keep to the API that the two have in common.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from support import Settings

from docket import Docket, Worker


def new_docket(settings: Settings, purpose: str) -> Docket:
    """This makes a docket with default options (so with state tracking) under a name of its own."""
    return Docket(name=f"bench-{purpose}-{os.getpid()}", url=settings.url)


def new_worker(docket: Docket, settings: Settings) -> Worker:
    """This makes a worker with default options, but for the concurrency where one is asked for."""
    return Worker(docket) if settings.concurrency is None else Worker(docket, concurrency=settings.concurrency)


@asynccontextmanager
async def working(docket: Docket, settings: Settings) -> AsyncGenerator[None]:
    """This has a worker run in the background for the length of the block."""
    async with new_worker(docket, settings) as worker:
        running = asyncio.create_task(worker.run_forever(), name="benchmarked worker")
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
