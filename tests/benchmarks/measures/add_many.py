"""Enqueues no-op tasks with one `add_many`."""

from __future__ import annotations

import time

from subjects import new_docket
from support import NotAsExpected, Report, Settings, run_measure

from docket.execution import Disposition


async def nothing(number: int) -> None:
    """This is the task; nobody runs it here."""


async def measure(settings: Settings) -> Report:
    """This measures how many tasks per second one call of `add_many` schedules, the making of its calls included."""
    async with new_docket(settings, "add-many") as docket:
        docket.register(nothing)
        started = time.perf_counter()
        executions = await docket.add_many(docket.call(nothing, key=f"k{number}")(number) for number in range(settings.n))
        adding = time.perf_counter() - started
        scheduled = sum(execution.disposition is Disposition.SCHEDULED for execution in executions)
        if scheduled != settings.n:
            msg = f"{scheduled} of {settings.n} tasks were scheduled"
            raise NotAsExpected(msg)
    return Report({"add_many_per_second": settings.n / adding})


if __name__ == "__main__":
    run_measure(measure)
