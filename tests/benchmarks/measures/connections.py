"""Counts the Redis connections of a process whose worker has all its slots full while 32 callers add."""

from __future__ import annotations

import asyncio
import time

from probe import Probe
from subjects import new_docket, working
from support import NotAsExpected, Report, Settings, call_many, run_measure

BODY_SECONDS = 0.25
PATIENCE_SECONDS = 30

ended: list[int] = []


async def pause(number: int) -> None:
    """This is the task; it holds its slot for a while."""
    await asyncio.sleep(BODY_SECONDS)
    ended.append(number)


async def measure(settings: Settings) -> Report:
    """This measures the most connections that were open at any one time, of the docket and its worker together."""
    most = 0
    async with Probe(settings.url) as probe, new_docket(settings, "connections") as docket:
        docket.register(pause)

        async def add(number: int) -> None:
            await docket.add(pause)(number)

        async with working(docket, settings):
            adding = asyncio.create_task(call_many(add, settings.n))
            give_up = time.monotonic() + PATIENCE_SECONDS
            while len(ended) < settings.n:
                most = max(most, await probe.connections())
                if time.monotonic() > give_up:
                    msg = f"stalled: {len(ended)} of {settings.n} tasks ran in {PATIENCE_SECONDS} s, with {most} connections"
                    raise NotAsExpected(msg)
                await asyncio.sleep(0.05)
            await adding
    return Report({"connections": most})


if __name__ == "__main__":
    run_measure(measure)
