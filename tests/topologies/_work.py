"""What the tests of the topologies share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from docket import Docket, Worker
from docket.errors import RedisUnavailable

__all__ = ["backend_of", "listening", "patiently", "works"]

T = TypeVar("T")


def backend_of(docket: Docket) -> Any:
    """This sends commands over the docket's own connection."""
    return cast("Any", docket.store).backend


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """This tries until Redis is there."""
    while True:
        try:
            return await attempt()
        except RedisUnavailable:
            await asyncio.sleep(0.02)


async def works(docket: Docket) -> None:
    """This fails unless a task of the docket runs."""

    async def word() -> str:
        return "a"

    docket.register(word)
    execution = await docket.add(word)()
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    assert await execution.get_result() == "a"


@asynccontextmanager
async def listening(docket: Docket) -> AsyncGenerator[list[str]]:
    """This listens to all that happens; it gives the keys of what it has heard."""
    heard: list[str] = []
    ready = asyncio.Event()

    async def listen() -> None:
        async for event in docket.events(ready=ready):
            heard.extend([event["key"]] if event["type"] != "interruption" else [])

    task = asyncio.create_task(listen())
    await ready.wait()
    try:
        yield heard
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
