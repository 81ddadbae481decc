"""Prices dependency injection: what a task with dependencies costs more than one without, through a whole worker."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Awaitable, Callable

from support import CALLERS, Report, Settings, call_many, run_measure

from docket import Depends, Docket, Retry, Worker

ROUNDS = 7


async def trivial(number: int) -> None:
    """This is a task without dependencies."""


async def settings_of_app() -> dict[str, str]:
    """This is the innermost dependency."""
    return {"greeting": "hello"}


async def connection(settings: dict[str, str] = Depends(settings_of_app)) -> str:
    """This is the dependency in the middle."""
    return settings["greeting"]


async def service(connected: str = Depends(connection)) -> str:
    """This is the outermost dependency."""
    return connected


async def injected(number: int, served: str = Depends(service), retry: Retry = Retry(attempts=3)) -> None:
    """This is a task with three nested dependencies and a Retry."""


def blocking_settings() -> dict[str, str]:
    """This is the innermost dependency, synchronous."""
    return {"greeting": "hello"}


def blocking_connection(settings: dict[str, str] = Depends(blocking_settings)) -> str:
    """This is the dependency in the middle, synchronous."""
    return settings["greeting"]


def blocking_service(connected: str = Depends(blocking_connection)) -> str:
    """This is the outermost dependency, synchronous."""
    return connected


async def injected_by_thread(number: int, served: str = Depends(blocking_service), retry: Retry = Retry(attempts=3)) -> None:
    """This is the same with synchronous dependencies, which a worker calls in a thread, all three in one visit."""


async def microseconds_per_task(function: Callable[[int], Awaitable[None]], n: int, name: str) -> float:
    """This drains n tasks on the in-process engine and returns what one took."""
    async with Docket(name=name, url=f"memory://{name}") as docket:
        docket.register(function)

        async def add(number: int) -> None:
            await docket.add(function)(number)

        await call_many(add, n)
        async with Worker(docket, concurrency=CALLERS) as worker:
            started = time.perf_counter()
            await worker.run_until_finished()
            return 1_000_000 * (time.perf_counter() - started) / n


async def measure(settings: Settings) -> Report:
    """This measures the kinds of task in turn and returns the medians, and the median differences, in microseconds."""
    rounds = [
        (
            await microseconds_per_task(trivial, settings.n, f"trivial-{os.getpid()}-{round_}"),
            await microseconds_per_task(injected, settings.n, f"injected-{os.getpid()}-{round_}"),
            await microseconds_per_task(injected_by_thread, settings.n, f"threaded-{os.getpid()}-{round_}"),
        )
        for round_ in range(ROUNDS)
    ]
    return Report(
        {
            "trivial_us": statistics.median(plain for plain, _, _ in rounds),
            "injected_us": statistics.median(with_dependencies for _, with_dependencies, _ in rounds),
            "injection_us": statistics.median(with_dependencies - plain for plain, with_dependencies, _ in rounds),
            "injection_by_thread_us": statistics.median(by_thread - plain for plain, _, by_thread in rounds),
        }
    )


if __name__ == "__main__":
    run_measure(measure)
