"""Timeouts: a body gets so much time and no more."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from docket import Docket, ExecutionState, Retry, Timeout, Worker

SHORT = timedelta(milliseconds=50)


async def test_a_body_that_takes_too_long_is_stopped(docket: Docket, worker: Worker):
    @docket.task
    async def slow(timeout: Timeout = Timeout(SHORT)) -> None:
        await asyncio.sleep(3600)

    execution = await slow.schedule()
    await worker.run_until_finished()

    with pytest.raises(asyncio.TimeoutError, match="took longer"):
        await execution.get_result()
    await execution.sync()
    assert execution.state is ExecutionState.FAILED


async def test_a_body_in_time_is_left_alone(docket: Docket, worker: Worker):
    @docket.task
    @Timeout(timedelta(seconds=30))
    async def quick() -> str:
        return "done"

    execution = await quick.schedule()
    await worker.run_until_finished()

    assert await execution.get_result() == "done"


async def test_a_stopped_body_may_clean_up(docket: Docket, worker: Worker):
    told: list[str] = []

    @docket.task
    async def slow(timeout: Timeout = Timeout(SHORT)) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)  # awaiting is possible here
            told.append("closed")

    await slow.schedule()
    await worker.run_until_finished()

    assert told == ["closed"]


async def test_a_body_may_ask_for_more_time(docket: Docket, worker: Worker):
    @docket.task
    async def slow(timeout: Timeout = Timeout(timedelta(milliseconds=200))) -> bool:
        timeout.extend(timedelta(seconds=30))
        await asyncio.sleep(0.3)
        return timedelta(seconds=1) < timeout.remaining() < timedelta(seconds=31) and not timeout.expired()

    execution = await slow.schedule()
    await worker.run_until_finished()

    assert await execution.get_result() is True


async def test_what_took_too_long_can_be_tried_again(docket: Docket, worker: Worker):
    @docket.task
    async def slow_at_first(timeout: Timeout = Timeout(timedelta(milliseconds=200)), retry: Retry = Retry(attempts=2)) -> int:
        if retry.attempt == 1:
            await asyncio.sleep(3600)
        return retry.attempt

    execution = await slow_at_first.schedule()
    await worker.run_until_finished()

    assert await execution.get_result() == 2


async def test_a_slow_task_holds_up_no_other(docket: Docket, worker: Worker):
    @docket.task
    async def slow(timeout: Timeout = Timeout(timedelta(milliseconds=300))) -> None:
        await asyncio.sleep(3600)

    @docket.task
    async def quick() -> float:
        return time.monotonic()

    slow_one, quick_one = await slow.schedule(), await quick.schedule()
    await worker.run_until_finished()
    ended = time.monotonic()

    assert ended - await quick_one.get_result() > 0.2
    with pytest.raises(asyncio.TimeoutError):
        await slow_one.get_result()
