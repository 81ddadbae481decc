"""Watches a worker that has nothing to do: its share of a core, and the commands it sends to Redis."""

from __future__ import annotations

import asyncio
import time

from probe import Probe
from subjects import new_docket, working
from support import Report, Settings, run_measure

SETTLE_SECONDS = 3


async def nothing() -> None:
    """This is a task the worker knows; nobody adds it."""


async def measure(settings: Settings) -> Report:
    """This measures for n seconds the processor time of the whole process and the server's count of commands, those in scripts included."""
    async with Probe(settings.url) as probe, new_docket(settings, "idle") as docket:
        docket.register(nothing)
        async with working(docket, settings):
            await asyncio.sleep(SETTLE_SECONDS)
            await probe.reset_counts()
            began, processor = time.perf_counter(), time.process_time()
            await asyncio.sleep(settings.n)
            wall, processor = time.perf_counter() - began, time.process_time() - processor
            commands = await probe.commands()
    by_count = sorted(commands.items(), key=lambda item: -item[1])
    return Report(
        {"core_percent": 100 * processor / wall, "commands_per_second": sum(commands.values()) / wall},
        {"commands": ", ".join(f"{name} {count / wall:.2f}/s" for name, count in by_count)},
    )


if __name__ == "__main__":
    run_measure(measure)
