"""Runs a great many tasks through one worker: does its memory stay flat, and what is left in Redis once they are forgotten?"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

from probe import Probe
from subjects import working
from support import NotAsExpected, Report, Settings, run_measure

from docket import Docket, Retry

TTL = timedelta(seconds=2)
CHUNK = 5_000
WARM_UP_SHARE = 10
LOOKS = 20
LARGE, FAILING = 100, 1_000
"""Every so manyth task has a large argument and gives a large result; every so manyth fails once."""
FORGET_SECONDS = 120
STALL_SECONDS = 60
KEYS_OF_A_DOCKET = 8
"""At most so many keys a docket with one worker has, whatever has run."""
MEGABYTE = 1 << 20


class Count:
    """This is how many tasks have ended well; nothing else is kept of them, for memory is what is measured."""

    done = 0


async def job(number: int, ballast: str, retry: Retry = Retry(attempts=2)) -> str | None:
    """This is the task."""
    if number % FAILING == 0 and retry.attempt == 1:
        raise ValueError(number)
    Count.done += 1
    return ballast or None


def resident() -> int:
    """This returns the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def run_all(docket: Docket, n: int) -> list[int]:
    """This feeds the worker, never more than two chunks ahead, and looks at this process's memory every so often."""
    looks: list[int] = []
    for start in range(0, n, CHUNK):
        chunk = range(start, min(start + CHUNK, n))
        await docket.add_many(docket.call(job, key=f"job-{number}")(number, "x" * 200 if number % LARGE == 0 else "") for number in chunk)
        await until_done(chunk.stop - CHUNK)
        if len(looks) < LOOKS * Count.done // n:
            looks.append(resident())
    await until_done(n)
    return [*looks, resident()]


async def until_done(count: int) -> None:
    """This waits until so many tasks have ended well; a worker that no longer gets on ends the measure."""
    progressed, seen = time.monotonic(), Count.done
    while Count.done < count:
        await asyncio.sleep(0.01)
        if Count.done > seen:
            progressed, seen = time.monotonic(), Count.done
        if time.monotonic() - progressed > STALL_SECONDS:
            msg = f"{Count.done} of {count} tasks ran, and then none for {STALL_SECONDS} s"
            raise NotAsExpected(msg)


async def measure(settings: Settings) -> Report:
    """This runs n tasks, whose ends are kept for two seconds, and waits until all is forgotten."""
    async with (
        Probe(settings.url) as probe,
        Docket(f"bench-lasting-{os.getpid()}", settings.url, execution_ttl=TTL, dead_letter_retention=timedelta(0)) as docket,
    ):
        docket.register(job)
        async with working(docket, settings):
            await run_all(docket, min(CHUNK, settings.n))  # connections, scripts, buffers
            await _forgotten(probe)
            before = await probe.used_memory()
            Count.done = 0
            began = time.perf_counter()
            looks = await run_all(docket, settings.n)
            took = time.perf_counter() - began
            await _forgotten(probe)
            after, keys = await probe.used_memory(), await probe.keys()
            [shard] = docket.store.shards
            entries, consumers = await shard.backend.call("XLEN", shard.keys.stream), await shard.delivery.consumers()
    settled = looks[len(looks) // WARM_UP_SHARE]
    return Report(
        {
            "worker_growth_mb": (looks[-1] - settled) / MEGABYTE,
            "worker_mb": looks[-1] / MEGABYTE,
            "redis_growth_kb": (after - before) / 1024,
            "keys_left": len(keys),
            "entries_left": entries,
            "consumers": len(consumers),
            "per_second": settings.n / took,
        },
        {
            "worker": f"{settings.n:,} tasks; MB: " + " ".join(f"{look / MEGABYTE:.1f}" for look in looks),
            "left": ", ".join(sorted(key.rpartition("}:")[2] for key in keys)),
        },
    )


async def _forgotten(probe: Probe) -> None:
    """This waits until nothing is left that expires of itself within a minute, but what says that the worker lives."""
    give_up = time.monotonic() + FORGET_SECONDS
    while len(await probe.keys()) > KEYS_OF_A_DOCKET:
        if time.monotonic() > give_up:
            msg = f"{len(await probe.keys())} keys are still there {FORGET_SECONDS} s after their time"
            raise NotAsExpected(msg)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    run_measure(measure)
