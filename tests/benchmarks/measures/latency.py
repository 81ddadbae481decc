"""Adds a task to an idle worker, again and again, and takes the time until its body starts."""

from __future__ import annotations

import asyncio
import time

from subjects import new_docket, working
from support import Report, Settings, percentile, run_measure

WARM_UP = 20
PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 30

started_at = 0.0
started = asyncio.Event()


async def mark() -> None:
    """This is the task; it notes when it started."""
    global started_at
    started_at = time.perf_counter()
    started.set()


async def measure(settings: Settings) -> Report:
    """This measures the milliseconds from the call of `add` to the first line of the body, one task at a time."""
    latencies: list[float] = []
    async with new_docket(settings, "latency") as docket:
        docket.register(mark)
        async with working(docket, settings):
            await asyncio.sleep(1)
            for _ in range(WARM_UP + settings.n):
                started.clear()
                asked = time.perf_counter()
                await docket.add(mark)()
                await asyncio.wait_for(started.wait(), PATIENCE_SECONDS)
                latencies.append(1000 * (started_at - asked))
                await asyncio.sleep(PAUSE_SECONDS)
    measured = latencies[WARM_UP:]
    return Report({"p50_ms": percentile(measured, 0.5), "p99_ms": percentile(measured, 0.99), "max_ms": max(measured)})


if __name__ == "__main__":
    run_measure(measure)
