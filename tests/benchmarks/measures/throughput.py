"""Enqueues no-op tasks one by one from 32 callers, then drains them with one worker and reads every one of them back."""

from __future__ import annotations

import time

from subjects import new_docket, new_worker
from support import NotAsExpected, Report, Settings, call_many, run_measure

from docket import Docket
from docket.execution import ExecutionState

runs: list[int] = []


async def nothing(number: int) -> None:
    """This is the task; it counts its runs."""
    runs[number] += 1


async def check_each_ran_once(docket: Docket, keys: list[str]) -> None:
    """This ends the measure unless every task ran exactly once and reads back as COMPLETED through the public API."""
    if wrong := [number for number, count in enumerate(runs) if count != 1]:
        msg = f"{len(wrong)} of {len(runs)} tasks did not run exactly once, the first is number {wrong[0]} with {runs[wrong[0]]} runs"
        raise NotAsExpected(msg)

    async def check(number: int) -> None:
        execution = await docket.get_execution(keys[number])
        if execution is None or execution.state is not ExecutionState.COMPLETED:
            msg = f"task {keys[number]} reads back as {execution and execution.state}, not as COMPLETED"
            raise NotAsExpected(msg)

    await call_many(check, len(keys))


async def measure(settings: Settings) -> Report:
    """This measures tasks per second in and out; the clock of the drain stops when the last settle is acknowledged."""
    runs.extend([0] * settings.n)
    keys = [""] * settings.n
    async with new_docket(settings, "throughput") as docket:
        docket.register(nothing)

        async def add(number: int) -> None:
            keys[number] = (await docket.add(nothing)(number)).key

        adding = await call_many(add, settings.n)
        async with new_worker(docket, settings) as worker:
            started = time.perf_counter()
            await worker.run_until_finished()
            draining = time.perf_counter() - started
        await check_each_ran_once(docket, keys)
    return Report({"add_per_second": settings.n / adding, "drain_per_second": settings.n / draining})


if __name__ == "__main__":
    run_measure(measure)
