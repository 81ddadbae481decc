"""Perpetual tasks: each run schedules the next, under the same key, in the step that ends it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from docket import Depends, Disposition, Docket, ExecutionState, Perpetual, Worker
from docket.testing import MovableClock, drain, run_task

AT_ONCE = timedelta(0)
OFTEN = timedelta(milliseconds=40)
LATER = timedelta(hours=1)


async def test_a_perpetual_task_runs_again_and_again_under_its_key(docket: Docket, worker: Worker):
    services: list[str] = []

    @docket.task
    @Perpetual(interval=OFTEN)
    async def monitor(service: str) -> None:
        services.append(service)

    await monitor.schedule(key="monitor-main", service="main")
    await worker.run_at_most({"monitor-main": 3})

    assert services == ["main"] * 3


async def test_the_interval_counts_from_start_to_start(timed: Docket, clock: MovableClock):
    began, starts = clock.now(), list[datetime]()

    @timed.task
    @Perpetual(every=LATER)
    async def beat() -> None:
        starts.append(clock.now())
        clock.advance(LATER / 2)

    await beat.schedule(key="k")
    await drain(timed, until=began + 2 * LATER)

    assert starts == [began, began + LATER, began + 2 * LATER]


async def test_the_next_run_waits_for_its_time(docket: Docket):
    @docket.task
    @Perpetual(every=LATER)
    async def beat() -> None: ...

    await beat.schedule(key="k")
    (run,) = await drain(docket)

    following = await docket.get_execution("k")
    assert following is not None
    assert (following.state, following.when) == (ExecutionState.SCHEDULED, run.started_at + LATER)
    assert following.when == run.next_at
    await docket.cancel("k")


async def test_every_key_is_a_chain_of_its_own(docket: Docket, worker: Worker):
    services: list[str] = []

    @docket.task
    @Perpetual(every=AT_ONCE)
    async def monitor(service: str) -> None:
        services.append(service)

    for service in ("a", "b"):
        await monitor.schedule(service, key=service)
    await worker.run_at_most({"a": 2, "b": 3})

    assert sorted(services) == ["a", "a", "b", "b", "b"]


async def test_the_chain_goes_on_after_a_failure(docket: Docket, worker: Worker):
    runs: list[int] = []

    @docket.task
    @Perpetual(every=AT_ONCE)
    async def fragile() -> None:
        runs.append(len(runs))
        raise RuntimeError("this run, not the chain")

    first = await fragile.schedule(key="k")
    await worker.run_at_most({"k": 3})

    assert runs == [0, 1, 2]
    with pytest.raises(RuntimeError, match="not the chain"):
        await first.get_result()


async def test_a_run_may_end_its_chain(docket: Docket, worker: Worker):
    runs: list[int] = []

    @docket.task
    async def count(perpetual: Perpetual = Perpetual(every=AT_ONCE)) -> None:
        runs.append(len(runs))
        if len(runs) == 3:
            perpetual.cancel()

    await count.schedule(key="k")
    await worker.run_until_finished()

    assert runs == [0, 1, 2]


async def test_a_run_may_choose_the_arguments_of_the_next(docket: Docket, worker: Worker):
    pages: list[int] = []

    @docket.task
    async def crawl(page: int, perpetual: Perpetual = Perpetual(every=AT_ONCE)) -> None:
        pages.append(page)
        perpetual.perpetuate(page + 1)

    await crawl.schedule(1, key="k")
    await worker.run_at_most({"k": 3})

    assert pages == [1, 2, 3]


async def test_a_run_may_choose_when_the_next_comes(docket: Docket, running_worker: Worker):
    @docket.task
    async def after(perpetual: Perpetual = Perpetual(every=AT_ONCE)) -> None:
        perpetual.after(LATER)

    @docket.task
    async def at(when: datetime, perpetual: Perpetual = Perpetual(every=AT_ONCE)) -> None:
        perpetual.at(when)

    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    await (await at.schedule(tomorrow, key="at")).get_result()

    waiting = await docket.get_execution("at")
    assert waiting is not None
    assert (waiting.state, waiting.when) == (ExecutionState.SCHEDULED, tomorrow)
    await docket.cancel("at")
    run = await run_task(after)
    assert run.next_at == run.ended_at + LATER


async def test_a_behaviour_declared_above_is_reached_from_within(docket: Docket, worker: Worker):
    runs: list[int] = []

    @docket.task
    @Perpetual(every=AT_ONCE)
    async def count(perpetual: Perpetual = Depends(Perpetual)) -> None:
        runs.append(len(runs))
        if len(runs) == 2:
            perpetual.cancel()

    await count.schedule(key="k")
    await worker.run_until_finished()

    assert runs == [0, 1]


async def test_an_automatic_task_is_started_by_the_worker_under_its_name(docket: Docket, worker: Worker):
    runs: list[int] = []

    @docket.task
    @Perpetual(every=OFTEN, automatic=True)
    async def beat() -> None:
        runs.append(len(runs))

    await worker.run_at_most({"beat": 2})

    assert runs == [0, 1]


async def test_workers_start_an_automatic_task_once_and_leave_a_live_one_alone(docket: Docket):
    runs: list[str] = []

    @docket.task
    @Perpetual(every=LATER, automatic=True)
    async def beat(by: str = "a worker") -> None:
        runs.append(by)

    first = await beat.schedule("hand", key="beat")
    async with Worker(docket) as one, Worker(docket) as two:
        running = [asyncio.create_task(worker.run_forever()) for worker in (one, two)]
        await first.get_result()
        for worker in (one, two):
            worker.stop()
        await asyncio.gather(*running)

    again = await beat.schedule("hand", key="beat")
    assert again.disposition is Disposition.ALREADY_SCHEDULED
    assert runs == ["hand"]
    await docket.cancel("beat")


async def test_a_worker_may_be_told_to_start_none(docket: Docket):
    @docket.task
    @Perpetual(every=OFTEN, automatic=True)
    async def beat() -> None: ...

    async with Worker(docket, schedule_automatic_tasks=False) as worker:
        await worker.run_until_finished()

    assert await docket.get_execution("beat") is None
