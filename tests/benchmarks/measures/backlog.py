"""Works beside a great many scheduled tasks: does any command get slow, and is `add` as fast as on an empty server?"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from probe import Probe
from subjects import new_docket, working
from support import NotAsExpected, Report, Settings, call_many, run_measure

from docket import Docket

ADDS = 10_000
ADD_ROUNDS = 3
DUE_AT_ONCE = 2_000
CANCELS = 200
CHUNK = 10_000
LOOKS = 5
LIMIT_MS = 10
NOTED_MS = 4  # less would fill the server's log with the usual
PATIENCE_SECONDS = 120
SHOWN = 5

ran: list[int] = []


async def note(number: int) -> None:
    """This is the task; it counts its runs."""
    ran.append(number)


@dataclass(frozen=True)
class Rates:
    """This is how many adds a second a docket takes: for now, for later, and as many of the one as of the other."""

    now: float
    later: float
    both: float


async def rates_of_add(docket: Docket) -> Rates:
    """This adds from 32 callers and takes medians over a few rounds."""
    later = datetime.now(timezone.utc) + timedelta(hours=2)

    async def add_now(number: int) -> None:
        await docket.add(note)(number)

    async def add_later(number: int) -> None:
        await docket.add(note, when=later)(number)

    seconds = [(await call_many(add_now, ADDS), await call_many(add_later, ADDS)) for _ in range(ADD_ROUNDS)]
    return Rates(
        now=ADDS / statistics.median(now for now, _ in seconds),
        later=ADDS / statistics.median(later for _, later in seconds),
        both=2 * ADDS / statistics.median(now + later for now, later in seconds),
    )


async def fill(docket: Docket, n: int) -> float:
    """This schedules n tasks from tomorrow on and returns the tasks per second."""
    first = datetime.now(timezone.utc) + timedelta(days=1)
    began = time.perf_counter()
    for start in range(0, n, CHUNK):
        chunk = range(start, min(start + CHUNK, n))
        await docket.add_many(docket.call(note, when=first + timedelta(milliseconds=50 * number), key=f"later-{number}")(number) for number in chunk)
    return n / (time.perf_counter() - began)


async def milliseconds_of(look: Callable[[], Awaitable[object]]) -> float:
    """This takes the median of a few looks at the docket."""
    taken: list[float] = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        await look()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


async def work_beside(docket: Docket, settings: Settings) -> None:
    """This runs everything that is queued or becomes due now with a worker, and cancels some of the backlog meanwhile."""
    due = datetime.now(timezone.utc) + timedelta(seconds=1)

    async def add(number: int) -> None:
        await docket.add(note, when=due)(number)

    await call_many(add, DUE_AT_ONCE)
    expected = 2 * ADD_ROUNDS * ADDS + DUE_AT_ONCE
    give_up = time.monotonic() + PATIENCE_SECONDS
    async with working(docket, settings):
        await call_many(lambda number: docket.cancel(f"later-{number}"), min(CANCELS, settings.n))
        while len(ran) < expected:
            if time.monotonic() > give_up:
                msg = f"{len(ran)} of {expected} tasks ran in {PATIENCE_SECONDS} s"
                raise NotAsExpected(msg)
            await asyncio.sleep(0.1)


async def measure(settings: Settings) -> Report:
    """This measures the slowest command while n tasks are scheduled, added to, worked beside and cancelled, and `add` before and after."""
    async with Probe(settings.url) as probe, new_docket(settings, "backlog") as docket:
        docket.register(note)
        await probe.note_commands_over(NOTED_MS)
        empty = await rates_of_add(docket)
        filling = await fill(docket, settings.n)
        full = await rates_of_add(docket)
        snapshot = await milliseconds_of(docket.snapshot)
        page = await milliseconds_of(docket.executions(state="scheduled").page)
        await work_beside(docket, settings)
        slow = await probe.slow_commands()
    return Report(
        {
            "commands_over_10_ms": sum(milliseconds > LIMIT_MS for milliseconds, _ in slow),
            "slowest_ms": slow[0][0] if slow else NOTED_MS,
            "add_empty_per_second": empty.both,
            "add_full_per_second": full.both,
            "add_full_to_empty": full.both / empty.both,
            "add_now_full_to_empty": full.now / empty.now,
            "add_later_full_to_empty": full.later / empty.later,
            "fill_per_second": filling,
            "snapshot_ms": snapshot,
            "page_ms": page,
        },
        {
            "slowest": f"{settings.n:,} scheduled; "
            + ("; ".join(f"{milliseconds:.1f} ms {words}" for milliseconds, words in slow[:SHOWN]) or f"none over {NOTED_MS} ms")
        },
    )


if __name__ == "__main__":
    run_measure(measure)
