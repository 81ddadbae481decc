"""What the tests of a worker's duties work with: a crew whose worker does not run, a worker at work, and workers that died."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

from docket import Docket, Worker
from docket._clock import Clock
from docket._store.records import Claimed, Delivery
from docket._worker._crew import Crew
from docket._worker._intake import Intake
from docket._worker._intakes import Intakes, ShardIntake, Slots
from docket._worker._report import Report
from docket._worker._runs import Runs
from tests._servers import RedisServer

__all__ = [
    "SOON",
    "Long",
    "MovedClock",
    "at_work",
    "bereave",
    "claim",
    "command",
    "crew_of",
    "dead_worker",
    "expiry",
    "fetch",
    "ignored",
    "intake_of",
    "is_reading",
    "lasts",
    "leased",
    "read_all",
    "record",
    "report_of",
    "take_over",
]

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


def intake_of(crew: Crew, runs: Runs, finished: Callable[[], Awaitable[bool]] | None = None) -> Intake:
    """This is what reads the shard of the key `k`, and of those that `together` makes, without the worker's running."""
    shard, report = crew.store.shard_of("k"), report_of(crew)
    return Intake(crew, runs, report, finished) if len(crew.store.shards) == 1 else ShardIntake(crew, runs, report, finished, shard, Slots(runs))


def is_reading(worker: Worker) -> bool:
    """This says whether a worker reads now, in each of its shards."""
    intake = worker._intake
    if intake is None:
        return False
    return all(one._reading is not None for one in (intake._all if isinstance(intake, Intakes) else [intake]))


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


class Long:
    """This is a task that lasts until it is let go."""

    def __init__(self, docket: Docket) -> None:
        self.begun: list[Any] = []
        self.go = asyncio.Event()
        self.ended: list[Any] = []

        async def long(name: Any) -> Any:
            self.begun.append(name)
            await self.go.wait()
            self.ended.append(name)
            return name

        self.task = long
        docket.register(long)


async def fetch(docket: Docket, instance: str, count: int = 200) -> list[Delivery]:
    """This fetches entries as a worker instance would."""
    found: list[Delivery] = []
    for shard in docket.store.shards:
        await shard.delivery.ensure_group()
        reader = shard.delivery.reader()
        try:
            found += await shard.delivery.read(reader, instance, count - len(found), 1) if len(found) < count else []
        finally:
            await reader.aclose()
    return found


async def claim(docket: Docket, instance: str, entries: Sequence[Delivery] | None = None) -> list[Claimed]:
    """This fetches and claims entries as a worker instance would."""
    fetched = await fetch(docket, instance) if entries is None else entries
    claimed: list[Claimed] = []
    for shard in docket.store.shards:
        those = [entry for entry in fetched if docket.store.shard_of(entry.key) is shard]
        claimed += [answer for answer in await shard.lifecycle.claim(instance, those) if isinstance(answer, Claimed)] if those else []
    return claimed


async def dead_worker(docket: Docket, instance: str = "dead~1", *, lease: float = 0.0) -> str:
    """This is a worker that took out a lease (0: it has lapsed already) and was not heard of since."""
    await docket.store.delivery.ensure_group()
    await docket.store.delivery.renew(instance, int(lease * 1e6), [], first=True)
    return instance


async def leased(docket: Docket) -> set[str]:
    """This names the instances that have a lease, in whichever shard."""
    return {instance for shard in docket.store.shards for instance in await shard.delivery.leased()}


async def expiry(docket: Docket, instance: str) -> float:
    """This is when the lease of an instance lapses, in the shard in which it does so first; 0 when it has none there."""
    async with docket.redis() as redis:
        return min([float(await redis.execute_command("ZSCORE", shard.keys.leases, instance) or 0) for shard in docket.store.shards])


async def take_over(docket: Docket, instance: str, *, own: bool = False) -> int | None:
    """This takes back what is pending with an instance, as others do, or (own) as it does by itself, in every shard.

    It answers how many will run again; None when its lease stands.
    """
    taken = [await shard.delivery.reclaim(instance, await shard.delivery.pending(instance), own=own) for shard in docket.store.shards]
    return None if None in taken else sum(number or 0 for number in taken)


async def bereave(docket: Docket, instance: str) -> None:
    """This takes its lease from an instance, and nothing that it holds, as others do who find nothing pending with it."""
    for shard in docket.store.shards:
        assert await shard.delivery.reclaim(instance, []) is not None


async def read_all(docket: Docket) -> dict[str, list[Delivery]]:
    """This tells what is pending with whom."""
    found: dict[str, list[Delivery]] = {}
    for shard in docket.store.shards:
        for consumer in await shard.delivery.consumers():
            if entries := await shard.delivery.pending(consumer):
                found.setdefault(consumer, []).extend(entries)
    return found


async def record(docket: Docket, key: str) -> Any:
    """This is the record of a key, which has to be there."""
    found = await docket.store.inspection.load(key)
    assert found is not None, f"there is no record of {key}"
    return found
