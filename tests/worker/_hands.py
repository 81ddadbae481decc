"""What the tests of a worker's duties work with: a crew whose worker does not run, a worker at work, and workers that died."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

from docket import Docket, Worker
from docket._clock import Clock
from docket._store.records import Claimed, Delivery
from docket._worker._crew import Crew
from docket._worker._report import Report
from tests._servers import RedisServer

__all__ = ["SOON", "MovedClock", "at_work", "claim", "command", "crew_of", "dead_worker", "fetch", "ignored", "lasts", "read_all", "record", "report_of"]

SOON = timedelta(seconds=20)
"""Far longer than anything here takes."""


class MovedClock(Clock):
    """This is the system's clock, some seconds ahead."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def now_us(self) -> int:
        return super().now_us() + int(self.ahead * 1e6)

    def now(self) -> Any:
        return super().now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def command(server: RedisServer, *words: str) -> Any:
    """This sends a command to a server past every docket."""
    return cast("Any", server.client()).execute_command(*words)


def ignored(*told: object) -> None:
    """This hears what nobody wants to know."""


def lasts(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=milliseconds)


def crew_of(docket: Docket, **options: Any) -> Crew:
    """This is what the duties of a worker share, without the worker's running."""
    worker = Worker(docket, **options)
    return Crew(worker, docket, worker.options)


def report_of(crew: Crew) -> Report:
    """This is what tells of a worker's runs, without the worker's running."""
    return Report(crew, crew.registry.functions.__contains__)


@asynccontextmanager
async def at_work(docket: Docket, **options: Any) -> AsyncGenerator[Worker, None]:
    """This is a worker that runs for as long as the block lasts."""
    async with Worker(docket, **options) as worker:
        running = asyncio.create_task(worker.run_forever())
        try:
            yield worker
        except BaseException:
            if worker._intake is not None:
                worker._intake._runs.stop_all("lost")  # so that a test that fails ends, whatever its bodies wait for
            raise
        finally:
            worker.stop()
            await running


async def fetch(docket: Docket, instance: str, count: int = 200) -> list[Delivery]:
    """This fetches entries as a worker instance would."""
    delivery = docket.store.delivery
    await delivery.ensure_group()
    reader = delivery.reader()
    try:
        return await delivery.read(reader, instance, count, 1)
    finally:
        await reader.aclose()


async def claim(docket: Docket, instance: str, entries: Sequence[Delivery] | None = None) -> list[Claimed]:
    """This fetches and claims entries as a worker instance would."""
    fetched = await fetch(docket, instance) if entries is None else entries
    return [answer for answer in await docket.store.lifecycle.claim(instance, fetched) if isinstance(answer, Claimed)]


async def dead_worker(docket: Docket, instance: str = "dead~1", *, lease: float = 0.0) -> str:
    """This is a worker that took out a lease (0: it has lapsed already) and was not heard of since."""
    await docket.store.delivery.ensure_group()
    await docket.store.delivery.renew(instance, int(lease * 1e6), [], first=True)
    return instance


async def read_all(docket: Docket) -> dict[str, list[Delivery]]:
    """This tells what is pending with whom."""
    delivery = docket.store.delivery
    return {consumer: entries for consumer in await delivery.consumers() if (entries := await delivery.pending(consumer))}


async def record(docket: Docket, key: str) -> Any:
    """This is the record of a key, which has to be there."""
    found = await docket.store.inspection.load(key)
    assert found is not None, f"there is no record of {key}"
    return found
