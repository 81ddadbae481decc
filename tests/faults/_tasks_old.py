"""Tasks of the fault test, as the version before the deploy has them."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

from docket import ConcurrencyLimit, CurrentDocket, CurrentExecution, Docket, Execution, Perpetual, RateLimit, Retry
from tests.faults._bodies import TooEarly, recorded

PLACES = 2
"""How many `limited` tasks of one tenant may run at once."""

ATTEMPTS = 4


async def steady(seconds: float, padding: str, run: Execution[Any] = CurrentExecution()) -> None:
    async with recorded(run):
        await asyncio.sleep(seconds)


async def flaky(
    seconds: float, failures: int, run: Execution[Any] = CurrentExecution(), retry: Retry = Retry(attempts=ATTEMPTS, delay=timedelta(milliseconds=100))
) -> None:
    async with recorded(run):
        await asyncio.sleep(seconds)
        if run.attempt <= failures:
            raise TooEarly


async def limited(
    tenant: str, seconds: float, run: Execution[Any] = CurrentExecution(), limit: ConcurrencyLimit = ConcurrencyLimit("tenant", max_concurrent=PLACES)
) -> None:
    async with recorded(run, tenant=tenant):
        await asyncio.sleep(seconds)


async def paced(seconds: float, run: Execution[Any] = CurrentExecution(), limit: RateLimit = RateLimit(10, per=timedelta(seconds=1))) -> None:
    async with recorded(run):
        await asyncio.sleep(seconds)


async def stubborn(seconds: float, run: Execution[Any] = CurrentExecution()) -> None:
    """This does what nobody should: it blocks the event loop."""
    async with recorded(run, blocks=True):
        time.sleep(seconds)


async def link(run: Execution[Any] = CurrentExecution(), perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=300))) -> None:
    async with recorded(run):
        await asyncio.sleep(0.02)


async def relay(left: int, run: Execution[Any] = CurrentExecution(), docket: Docket = CurrentDocket()) -> None:
    """This asks for its own successor."""
    async with recorded(run, left=left):
        if left:
            await docket.add("relay", key=run.key)(left - 1)


tasks = [steady, flaky, limited, paced, stubborn, link, relay]
