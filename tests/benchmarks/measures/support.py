"""What every measured process shares: its settings, its callers, its clock's helpers and its one line of JSON.

It knows no task system and imports nothing but the standard library and uvloop, because it runs in the environment of every peer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

CALLERS = 32


@dataclass(frozen=True)
class Settings:
    """This is what the benchmark asks of one measured process, passed in its environment."""

    url: str
    n: int
    concurrency: int | None
    "None: the default of the system that is measured."

    @classmethod
    def from_environment(cls) -> Settings:
        """This reads what the benchmark has set; with nothing set, a small run against a server on the usual port."""
        concurrency = os.environ.get("BENCH_CONCURRENCY")
        return cls(
            url=os.environ.get("BENCH_URL", "redis://127.0.0.1:6379/0"),
            n=int(os.environ.get("BENCH_N", "2000")),
            concurrency=int(concurrency) if concurrency else None,
        )


@dataclass
class Report:
    """This is the one line a measured process prints: numbers, of which the benchmark takes the median, and notes in words."""

    values: dict[str, float] = field(default_factory=dict[str, float])
    notes: dict[str, str] = field(default_factory=dict[str, str])

    def as_line(self) -> str:
        """This returns the line of JSON that the benchmark reads."""
        return json.dumps({"values": self.values, "notes": self.notes})


class NotAsExpected(Exception):
    """This ends a measured process whose work was not what was measured: a task that was lost or ran twice, a stall."""


def run_measure(measure: Callable[[Settings], Coroutine[Any, Any, Report]]) -> None:
    """This runs one measure on uvloop with INFO logging off and prints its report."""
    logging.disable(logging.INFO)
    report = uvloop.run(measure(Settings.from_environment()))
    leave(report)


def leave(report: Report) -> None:
    """This prints the report and ends the process at once: the way out of a worker is not what is measured."""
    sys.stdout.write(f"{report.as_line()}\n")
    sys.stdout.flush()
    os._exit(0)


async def call_many(call: Callable[[int], Awaitable[object]], n: int, *, callers: int = CALLERS) -> float:
    """This makes calls 0 to n-1 from so many callers at once, each awaiting its own, and returns the seconds it took."""
    numbers = itertools.count()

    async def caller() -> None:
        while (number := next(numbers)) < n:
            await call(number)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(min(callers, n))))
    return time.perf_counter() - started


async def wait_while(working: asyncio.Task[Any], event: asyncio.Event) -> None:
    """This waits for an event that a worker brings about; a worker that ends before ends the measure."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, working}, return_when=asyncio.FIRST_COMPLETED)
    if not event.is_set():
        raise NotAsExpected("the worker ended too early") from working.exception()


def percentile(values: Sequence[float], share: float) -> float:
    """This returns the value below which the given share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
