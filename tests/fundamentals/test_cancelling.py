"""Cancelling: what is cancelled does not run, or stops running, and its chain ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from docket import Docket, ExecutionCancelled, ExecutionState, Perpetual, Retry, Worker
from tests._waiting import eventually

LATER = timedelta(hours=1)


@pytest.mark.parametrize("when", [None, LATER], ids=["queued", "scheduled"])
async def test_work_that_waits_is_not_run(docket: Docket, worker: Worker, when: timedelta | None):
    ran: list[str] = []

    @docket.task
    async def job() -> None:
        ran.append("job")

    execution = await job.schedule(key="k", when=when)
    await docket.cancel("k")
    await worker.run_until_finished()

    assert ran == []
    await execution.sync()
    assert execution.state is ExecutionState.CANCELLED
    with pytest.raises(ExecutionCancelled, match="Execution k was cancelled"):
        await execution.get_result()


async def test_running_work_is_stopped_and_may_clean_up(docket: Docket, running_worker: Worker):
    told: list[str] = []
    started = asyncio.Event()

    @docket.task
    async def job() -> None:
        try:
            started.set()
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)  # awaiting is possible here
            told.append("cleaned up")

    execution = await job.schedule(key="k")
    await started.wait()
    await docket.cancel("k")

    with pytest.raises(ExecutionCancelled):
        await execution.get_result()
    assert told == ["cleaned up"]


async def test_a_handle_cancels_too(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule(key="k", when=LATER)
    await job.cancel("k")

    with pytest.raises(ExecutionCancelled):
        await execution.get_result()


async def test_a_perpetual_chain_ends_while_it_waits(docket: Docket, running_worker: Worker):
    runs: list[str] = []

    @docket.task
    @Perpetual(every=LATER)
    async def beat() -> None:
        runs.append("beat")

    await (await beat.schedule(key="k")).get_result()
    await docket.cancel("k")
    running_worker.stop()

    found = await docket.get_execution("k")
    assert found is not None
    assert found.state is ExecutionState.CANCELLED
    assert runs == ["beat"]


async def test_a_perpetual_chain_ends_while_it_runs(docket: Docket, worker: Worker):
    runs: list[str] = []

    @docket.task
    @Perpetual(every=timedelta(0))
    async def beat() -> None:
        runs.append("beat")
        await docket.cancel("k")
        await asyncio.sleep(3600)

    await beat.schedule(key="k")
    await worker.run_until_finished()  # which it would not be, if the chain went on

    assert runs == ["beat"]


async def test_a_task_that_waits_for_its_retry_is_not_tried_again(docket: Docket, running_worker: Worker):
    attempts: list[int] = []

    @docket.task
    async def flaky(retry: Retry = Retry(attempts=5, delay=LATER)) -> None:
        attempts.append(retry.attempt)
        raise RuntimeError("not yet")

    execution = await flaky.schedule(key="k")

    async def waits_for_its_retry() -> bool:
        await execution.sync()
        return execution.state is ExecutionState.SCHEDULED and bool(attempts)

    await eventually(waits_for_its_retry)
    await docket.cancel("k")

    with pytest.raises(ExecutionCancelled):
        await execution.get_result()
    assert attempts == [1]


async def test_a_cancelled_run_is_not_tried_again(docket: Docket, worker: Worker):
    attempts: list[int] = []

    @docket.task
    async def job(retry: Retry = Retry(attempts=5)) -> None:
        attempts.append(retry.attempt)
        await docket.cancel("k")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise RuntimeError("on the way out") from None

    execution = await job.schedule(key="k")
    await worker.run_until_finished()

    assert attempts == [1]
    with pytest.raises(ExecutionCancelled):
        await execution.get_result()


async def test_a_key_that_nobody_has_used_is_no_error(docket: Docket):
    await docket.cancel("nobody")

    assert await docket.get_execution("nobody") is None


async def test_work_that_has_ended_stays_as_it_ended(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> str:
        return "done"

    execution = await job.schedule(key="k")
    await worker.run_until_finished()
    await docket.cancel("k")

    assert await execution.get_result() == "done"


async def test_a_cancelled_key_is_free_again(docket: Docket, worker: Worker):
    @docket.task
    async def job(name: str) -> str:
        return name

    await job.schedule("first", key="k", when=LATER)
    await docket.cancel("k")
    second = await job.schedule("second", key="k")
    await worker.run_until_finished()

    assert await second.get_result() == "second"


async def test_a_task_that_cancels_itself_takes_no_other_along(docket: Docket, worker: Worker):
    started = asyncio.Event()

    @docket.task
    async def quitter() -> None:
        await started.wait()
        raise asyncio.CancelledError

    @docket.task
    async def neighbour() -> str:
        started.set()
        await asyncio.sleep(0.05)
        return "undisturbed"

    quitting, other = await quitter.schedule(), await neighbour.schedule()
    await worker.run_until_finished()

    assert await other.get_result() == "undisturbed"
    with pytest.raises(ExecutionCancelled):
        await quitting.get_result()


async def test_a_task_may_cancel_its_own_key_as_the_last_thing_it_does(docket: Docket, worker: Worker):
    @docket.task
    async def quit_at_the_end() -> None:
        await docket.cancel("k")

    execution = await quit_at_the_end.schedule(key="k")
    await worker.run_until_finished()

    await execution.sync()
    assert execution.state in {ExecutionState.COMPLETED, ExecutionState.CANCELLED}
