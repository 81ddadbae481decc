"""The shop that the pictures show: something that takes long, something frequent, something that fails, something for later."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random

from docket import ConcurrencyLimit, Cron, ExponentialRetry, Perpetual, Progress
from docket.execution import ExecutionProgress

__all__ = ["tasks"]

chance = Random(7)


async def import_prices(file: str, rows: int, progress: ExecutionProgress = Progress()) -> int:
    await progress.set_total(rows)
    await progress.set_message(file)
    for _ in range(rows // 10):
        await asyncio.sleep(0.05)
        await progress.increment(10)
    return rows


async def make_thumbnails(album: int, pictures: int, progress: ExecutionProgress = Progress()) -> None:
    await progress.set_total(pictures)
    await progress.set_message(f"album {album}")
    for _ in range(pictures):
        await asyncio.sleep(0.2)
        await progress.increment()


async def send_receipt(order: int) -> None:
    await asyncio.sleep(chance.uniform(0.01, 0.05))


@ConcurrencyLimit(2)
async def charge(order: int) -> None:
    await asyncio.sleep(0.1)
    if order % 10 == 3:
        raise ConnectionError("the bank does not answer")


@ExponentialRetry(attempts=6, minimum_delay=timedelta(seconds=2), maximum_delay=timedelta(minutes=1))
async def notify_partner(order: int) -> None:
    raise TimeoutError("no answer within 5 s")


@Perpetual(every=timedelta(seconds=1), automatic=True)
async def check_stock() -> None:
    await asyncio.sleep(0.02)


@Cron("30 2 * * *")
async def nightly_report() -> None: ...


tasks = [import_prices, make_thumbnails, send_receipt, charge, notify_partner, check_stock, nightly_report]
