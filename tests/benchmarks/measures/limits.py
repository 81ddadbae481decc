"""Prices a concurrency limit: the same tasks on a worker of concurrency 10, without a limit and with one of 10 that all of them share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable

from subjects import new_docket
from support import Report, Settings, run_measure

from docket import ConcurrencyLimit, Docket, Worker

ROUNDS = 5
PLACES = 10


async def free(number: int) -> None:
    """This is a task that nothing holds back."""


async def limited(number: int, limit: ConcurrencyLimit = ConcurrencyLimit(PLACES)) -> None:
    """This is a task of which so many run at once."""


async def drained_per_second(docket: Docket, function: Callable[[int], Awaitable[None]], n: int) -> float:
    """This schedules n tasks and returns the rate at which a worker drains them."""
    await docket.add_many(docket.call(function)(number) for number in range(n))
    async with Worker(docket, concurrency=PLACES) as worker:
        started = time.perf_counter()
        await worker.run_until_finished()
        return n / (time.perf_counter() - started)


async def measure(settings: Settings) -> Report:
    """This drains the two in turn and returns the medians, and the median of their ratios."""
    async with new_docket(settings, "limits") as docket:
        rounds = [(await drained_per_second(docket, free, settings.n), await drained_per_second(docket, limited, settings.n)) for _ in range(ROUNDS)]
    return Report(
        {
            "free_per_second": statistics.median(without for without, _ in rounds),
            "limited_per_second": statistics.median(within for _, within in rounds),
            "limited_to_free": statistics.median(within / without for without, within in rounds),
        }
    )


if __name__ == "__main__":
    run_measure(measure)
