"""Cron: a perpetual task that runs by the clock on the wall. When exactly is written in tests/dependencies/test_cron.py.

Nights and hours pass on a clock that the tests move, in memory; that a server's own clock is followed too is seen in seconds.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from docket import Cron, Depends, Docket, ExecutionCancelled, ExecutionState, Worker
from docket.testing import MovableClock, drain
from tests._waiting import eventually

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.only_server("seconds of a clock that nobody can move")
async def test_a_cron_runs_by_the_clock(docket: Docket, worker: Worker):
    seconds: list[datetime] = []

    @docket.task
    @Cron("* * * * * *")
    async def tick(cron: Cron = Depends(Cron)) -> None:
        seconds.append(cron.execution.when)

    await worker.run_at_most({"tick": 2})

    assert seconds[0].microsecond == 0
    assert seconds[1] >= seconds[0] + timedelta(seconds=1)


async def test_a_cron_runs_every_night(timed: Docket, clock: MovableClock):
    clock.move_to(datetime(2099, 10, 24, 12, tzinfo=BERLIN))
    nights: list[datetime] = []

    @timed.task
    @Cron("30 2 * * *", tz=BERLIN)
    async def nightly() -> None:
        nights.append(clock.now())

    await drain(timed, days=3)

    assert [night.astimezone(BERLIN).isoformat() for night in nights] == [
        "2099-10-25T02:30:00+02:00",
        "2099-10-26T02:30:00+01:00",
        "2099-10-27T02:30:00+01:00",
    ]


async def test_an_automatic_cron_waits_for_its_first_time(docket: Docket, worker: Worker):
    @docket.task
    async def nightly(cron: Cron = Cron("30 2 * * *", tz=BERLIN)) -> None: ...

    @docket.task
    async def by_hand(cron: Cron = Cron("@daily", automatic=False)) -> None: ...

    running = asyncio.create_task(worker.run_forever())
    await eventually(lambda: docket.get_execution("nightly"))
    worker.stop()
    await running

    waiting = await docket.get_execution("nightly")
    assert waiting is not None
    assert waiting.state is ExecutionState.SCHEDULED
    assert waiting.when == Cron("30 2 * * *", tz=BERLIN).next_time()
    assert await docket.get_execution("by_hand") is None
    await docket.cancel("nightly")


async def test_a_run_that_comes_late_makes_up_for_all_that_were_missed(docket: Docket, running_worker: Worker):
    runs: list[datetime] = []

    @docket.task
    async def hourly(cron: Cron = Cron("@hourly", automatic=False)) -> None:
        runs.append(datetime.now(timezone.utc))

    late = await docket.add(hourly, when=datetime.now(timezone.utc) - timedelta(hours=5), key="k")()
    await late.get_result()

    await eventually_scheduled(docket, "k")
    assert len(runs) == 1
    await docket.cancel("k")


async def test_or_is_left_out(docket: Docket, running_worker: Worker):
    runs: list[str] = []

    @docket.task
    async def hourly(cron: Cron = Cron("@hourly", automatic=False, missed="skip")) -> None:
        runs.append("ran")

    late = await docket.add(hourly, when=datetime.now(timezone.utc) - timedelta(hours=5), key="k")()
    with pytest.raises(ExecutionCancelled, match="missed its time"):
        await late.get_result()

    await eventually_scheduled(docket, "k")
    assert runs == []
    await docket.cancel("k")


async def test_however_long_nobody_was_there_one_run_makes_up_for_it(timed: Docket, clock: MovableClock):
    @timed.task
    async def hourly(cron: Cron = Cron("@hourly", automatic=False)) -> None: ...

    @timed.task
    async def or_not(cron: Cron = Cron("@hourly", automatic=False, missed="skip")) -> None: ...

    for task in (hourly, or_not):
        await task.schedule(when=clock.now())
    await drain(timed)
    clock.advance(days=30)
    runs = await drain(timed)

    assert {run.task: run.state for run in runs} == {"hourly": ExecutionState.COMPLETED, "or_not": ExecutionState.CANCELLED}
    assert len(runs) == 2
    assert {run.next_at for run in runs} == {Cron("@hourly").next_time(clock.now())}


async def eventually_scheduled(docket: Docket, key: str) -> None:
    """This waits until the next run of a chain is scheduled for the next full hour."""

    async def scheduled() -> bool:
        following = await docket.get_execution(key)
        return following is not None and following.state is ExecutionState.SCHEDULED and following.when.minute == 0

    await eventually(scheduled)
