"""What the fundamentals can ask for besides the fixtures of `tests/conftest.py`, which every one of them uses.

`docket` is an entered docket, `worker` a worker of it that the test runs itself, and `running_worker` one that runs already.
Every test here runs on `memory://` and on a real server, unless it says why it cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from docket import Docket, Worker


@pytest.fixture
async def running_worker(docket: Docket) -> AsyncIterator[Worker]:
    """This is a worker that runs whatever is scheduled, until the test ends."""
    async with Worker(docket) as worker:
        others = asyncio.all_tasks()
        running = asyncio.create_task(worker.run_forever())
        yield worker
        worker.stop()
        await asyncio.wait([running], timeout=10)
        for left in asyncio.all_tasks() - others if not running.done() else ():
            left.cancel()  # the test failed, and left a body that waits for what never comes
