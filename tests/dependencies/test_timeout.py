from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Any

import pytest

from docket.dependencies import Timeout
from docket.errors import InvalidOption
from tests.dependencies._runs import an_execution, run

SOON = timedelta(milliseconds=20)
LONG = timedelta(seconds=60)


async def test_a_body_in_time_gives_its_result():
    async def task(a: int, timeout: Timeout = Timeout(LONG)):
        assert not timeout.expired() and timedelta(0) < timeout.remaining() <= LONG
        return a

    assert await run(task, 1) == 1


async def test_a_body_that_takes_too_long_is_cancelled_once_and_may_clean_up():
    log: list[str] = []

    async def task(timeout: Timeout = Timeout(SOON)):
        try:
            await asyncio.sleep(60)
        finally:
            assert timeout.expired()
            await asyncio.sleep(0.05)
            log.append("cleaned up")

    with pytest.raises(asyncio.TimeoutError, match="'task' took longer than its timeout of 0:00:00.02"):
        await run(task)

    assert log == ["cleaned up"]
    await asyncio.sleep(0)  # nothing of the cancellation is left


@pytest.mark.parametrize("error", [None, OSError("in the way")])
async def test_a_body_that_swallows_the_cancellation_has_timed_out_all_the_same(error: Exception | None):
    async def task(timeout: Timeout = Timeout(SOON)):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
        return "swallowed"

    with pytest.raises(asyncio.TimeoutError) as raised:
        await run(task)

    assert raised.value.__cause__ is error


async def test_a_body_that_fails_in_time_fails_with_its_own_error():
    async def task(timeout: Timeout = Timeout(LONG)):
        raise OSError("its own")

    with pytest.raises(OSError, match="its own"):
        await run(task)


async def test_extending_moves_the_deadline():
    async def task(timeout: Timeout = Timeout(SOON)):
        timeout.extend(LONG)
        assert timeout.remaining() > LONG - SOON
        timeout.start()
        timeout.extend()
        assert SOON < timeout.remaining() <= 2 * SOON
        await asyncio.sleep(SOON.total_seconds() * 1.2)
        return "extended"

    assert await run(task) == "extended"


async def test_extending_after_the_end_changes_nothing():
    async def task(timeout: Timeout = Timeout(SOON)):
        try:
            await asyncio.sleep(60)
        finally:
            timeout.extend(LONG)

    with pytest.raises(asyncio.TimeoutError):
        await run(task)


async def test_a_cancellation_from_elsewhere_stays_one():
    async def task(timeout: Timeout = Timeout(LONG)):
        await asyncio.sleep(60)

    running = asyncio.create_task(run(task))
    await asyncio.sleep(0)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before 3.11 asyncio does not count cancellations, so the two cannot be told apart")
async def test_a_cancellation_from_elsewhere_wins_over_the_deadline():
    cleaning = asyncio.Event()

    async def task(timeout: Timeout = Timeout(SOON)):
        try:
            await asyncio.sleep(60)
        finally:
            cleaning.set()
            await asyncio.sleep(60)

    running = asyncio.create_task(run(task))
    await cleaning.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_template_is_not_changed_by_a_run():
    template = Timeout(LONG)

    async def task(timeout: Any = template):
        timeout.extend()

    await run(task)

    assert template.remaining() == LONG and repr(template) == f"Timeout({LONG!r})"
    assert template.for_run(an_execution(task)) is not template


def test_a_timeout_that_leaves_no_time_is_refused():
    with pytest.raises(InvalidOption, match="leaves no time"):
        Timeout(timedelta(0))


def test_the_time_may_be_started_without_a_body():
    timeout = Timeout(LONG)

    timeout.start()

    assert timeout.remaining() <= LONG and not timeout.expired()
