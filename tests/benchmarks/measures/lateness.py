"""Schedules work at 100 tasks a second and compares when each started with when it was due."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from subjects import new_docket, new_worker
from support import NotAsExpected, Report, Settings, call_many, percentile, run_measure

PER_SECOND = 100
LEAD = timedelta(seconds=2)

started: dict[int, float] = {}


async def mark(number: int) -> None:
    """This is the task; it notes when it started."""
    started[number] = time.time()


async def measure(settings: Settings) -> Report:
    """This measures milliseconds late; a task that starts early ends the measure."""
    async with new_docket(settings, "lateness") as docket:
        docket.register(mark)
        first = datetime.now(timezone.utc) + LEAD
        due = [first + timedelta(seconds=number / PER_SECOND) for number in range(settings.n)]

        async def add(number: int) -> None:
            await docket.add(mark, when=due[number])(number)

        await call_many(add, settings.n)
        if datetime.now(timezone.utc) > first:
            msg = f"scheduling took longer than {LEAD}"
            raise NotAsExpected(msg)
        async with new_worker(docket, settings) as worker:
            await worker.run_until_finished()
    late = [1000 * (started[number] - due[number].timestamp()) for number in range(settings.n)]
    if min(late) < 0:
        msg = f"a task started {-min(late):.1f} ms before it was due"
        raise NotAsExpected(msg)
    return Report({"p50_ms": percentile(late, 0.5), "p99_ms": percentile(late, 0.99), "max_ms": max(late)})


if __name__ == "__main__":
    run_measure(measure)
