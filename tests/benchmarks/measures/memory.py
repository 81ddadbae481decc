"""Weighs a task in Redis: the server's used memory before and after thousands of them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

from probe import Probe
from subjects import new_docket
from support import Report, Settings, call_many, run_measure

WARM_UP = 500
PAYLOADS = {"small": "m", "100_bytes": "m" * 100}


async def nothing(payload: str) -> None:
    """This is the task; nobody runs it here."""


async def weigh(probe: Probe, settings: Settings, payload: str, *, scheduled: bool, short_keys: bool) -> float:
    """This puts n tasks on an emptied server and returns what each added to its memory, in bytes; the first few are not counted."""
    await probe.flush()
    when = datetime.now(timezone.utc) + timedelta(hours=1) if scheduled else None
    async with new_docket(settings, "memory") as docket:
        docket.register(nothing)

        async def add(number: int) -> None:
            await docket.add(nothing, when=when, key=f"f{number}" if short_keys else None)(payload)

        await call_many(add, WARM_UP)  # connections, scripts, buffers
        await asyncio.sleep(0.2)
        before = await probe.used_memory()
        await call_many(lambda number: add(WARM_UP + number), settings.n)
        await asyncio.sleep(0.2)
        return (await probe.used_memory() - before) / settings.n


async def measure(settings: Settings) -> Report:
    """This measures bytes per queued and per scheduled task, with a small argument and with one of 100 characters, with default and with short keys."""
    report = Report()
    async with Probe(settings.url) as probe:
        for size, payload in PAYLOADS.items():
            for place, scheduled in (("queued", False), ("scheduled", True)):
                for suffix, short_keys in (("", False), ("_short_key", True)):
                    report.values[f"{place}_{size}{suffix}"] = await weigh(probe, settings, payload, scheduled=scheduled, short_keys=short_keys)
    return report


if __name__ == "__main__":
    run_measure(measure)
