"""Progress: a task says how far it is, and others see it."""

from __future__ import annotations

import asyncio

import pytest

from docket import CurrentExecution, Docket, Execution, ExecutionProgress, Worker


async def test_a_task_tells_how_far_it_is(docket: Docket, worker: Worker):
    @docket.task
    async def import_orders(orders: int, execution: Execution = CurrentExecution()) -> None:
        await execution.progress.set_total(orders)
        for number in range(orders):
            await execution.progress.increment()
            await execution.progress.set_message(f"order {number}")

    execution = await import_orders.schedule(3)
    await worker.run_until_finished()
    await execution.progress.sync()

    progress = execution.progress
    assert (progress.current, progress.total, progress.message) == (3, 3, "order 2")
    assert progress.updated_at is not None


async def test_reports_made_side_by_side_add_up(docket: Docket, worker: Worker):
    @docket.task
    async def import_orders(execution: Execution = CurrentExecution()) -> None:
        await asyncio.gather(*(execution.progress.increment(2) for _ in range(50)))

    await import_orders.schedule(key="k")
    await worker.run_until_finished()

    progress = await ExecutionProgress.create(docket, "k")
    assert progress.current == 100


async def test_progress_can_be_followed(docket: Docket, running_worker: Worker):
    started, followed = asyncio.Event(), asyncio.Event()

    @docket.task
    async def import_orders(execution: Execution = CurrentExecution()) -> None:
        started.set()
        await followed.wait()
        for _ in range(3):
            await execution.progress.increment()

    execution = await import_orders.schedule(key="k")
    await started.wait()
    seen: list[int | None] = []
    async for event in execution.progress.subscribe(ready=followed):
        assert list(event) == ["type", "key", "current", "total", "message", "updated_at"]
        seen.append(event["current"])
        if event["current"] == 3:
            break

    assert seen == [0, 1, 2, 3]


async def test_progress_starts_at_nothing_of_a_hundred(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule()
    await execution.progress.sync()
    assert (execution.progress.current, execution.progress.total) == (None, 100)
    await worker.run_until_finished()

    await execution.progress.sync()
    assert (execution.progress.current, execution.progress.total) == (0, 100)


async def test_what_is_no_progress_is_refused(docket: Docket, worker: Worker):
    @docket.task
    async def no_total(execution: Execution = CurrentExecution()) -> None:
        await execution.progress.set_total(0)

    @docket.task
    async def backwards(execution: Execution = CurrentExecution()) -> None:
        await execution.progress.increment(-1)

    total, amount = await no_total.schedule(), await backwards.schedule()
    await worker.run_until_finished()

    with pytest.raises(ValueError, match="Total must be at least 1"):
        await total.get_result()
    with pytest.raises(ValueError, match="Amount must be at least 1"):
        await amount.get_result()
