"""Retries: a task that failed is tried again, as the same run, until an attempt works or none is left."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import pairwise

import pytest

from docket import Depends, Docket, ExecutionState, Perpetual, Retry, Worker
from docket.dependencies import ExponentialRetry
from docket.testing import MovableClock, drain

SHORT = timedelta(milliseconds=50)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def test_a_task_is_tried_until_an_attempt_works(docket: Docket, worker: Worker):
    attempts: list[int] = []

    @docket.task
    async def flaky(retry: Retry = Retry(attempts=5)) -> str:
        attempts.append(retry.attempt)
        if retry.attempt < 3:
            raise RuntimeError("not yet")
        return "third time lucky"

    execution = await flaky.schedule()
    await worker.run_until_finished()

    assert attempts == [1, 2, 3]
    assert await execution.get_result() == "third time lucky"


async def test_who_waits_for_the_result_waits_for_the_last_attempt(docket: Docket, running_worker: Worker):
    @docket.task
    async def flaky(retry: Retry = Retry(attempts=2, delay=SHORT)) -> str:
        if retry.attempt == 1:
            raise RuntimeError("not yet")
        return "second time lucky"

    execution = await flaky.schedule()

    assert await execution.get_result() == "second time lucky"


async def test_when_no_attempt_is_left_it_has_failed(docket: Docket, worker: Worker):
    attempts: list[int] = []

    @docket.task
    @Retry(attempts=3)
    async def hopeless(retry: Retry = Depends(Retry)) -> None:
        attempts.append(retry.attempt)
        raise RuntimeError(f"attempt {retry.attempt}")

    execution = await hopeless.schedule()
    await worker.run_until_finished()

    assert attempts == [1, 2, 3]
    with pytest.raises(RuntimeError, match="attempt 3"):
        await execution.get_result()
    await execution.sync()
    assert (execution.state, execution.attempt) == (ExecutionState.FAILED, 3)


async def test_a_task_that_declares_nothing_is_tried_once(docket: Docket, worker: Worker):
    runs: list[str] = []

    @docket.task
    async def hopeless() -> None:
        runs.append("once")
        raise RuntimeError

    await hopeless.schedule()
    await worker.run_until_finished()

    assert runs == ["once"]


async def test_attempts_are_a_delay_apart(docket: Docket, worker: Worker):
    times: list[float] = []

    @docket.task
    async def flaky(retry: Retry = Retry(attempts=3, delay=SHORT)) -> None:
        times.append(time.monotonic())
        raise RuntimeError

    await flaky.schedule()
    await worker.run_until_finished()

    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) == 2
    assert min(gaps) >= 0.9 * SHORT.total_seconds()


async def test_a_delay_may_grow_from_attempt_to_attempt(timed: Docket):
    @timed.task
    async def flaky(retry: Retry = ExponentialRetry(attempts=5, minimum_delay=MINUTE, maximum_delay=5 * MINUTE)) -> None:
        raise RuntimeError

    await flaky.schedule()
    runs = await drain(timed, hours=1, raises=False)

    assert [(later.started_at - earlier.ended_at) / MINUTE for earlier, later in pairwise(runs)] == [1, 2, 4, 5]


async def test_a_body_may_choose_when_the_next_attempt_comes(timed: Docket, clock: MovableClock):
    noon = clock.now() + 12 * HOUR

    @timed.task
    async def flaky(retry: Retry = Retry(attempts=3, delay=24 * HOUR)) -> str:
        if retry.attempt == 1:
            retry.after(MINUTE)
        if retry.attempt == 2:
            retry.at(noon)
        return "done"

    await flaky.schedule()
    first, second, third = await drain(timed, days=1)

    assert second.started_at == first.ended_at + MINUTE
    assert (third.started_at, third.result) == (noon, "done")


async def test_a_retry_may_have_no_end(docket: Docket, worker: Worker):
    attempts: list[int] = []

    @docket.task
    async def stubborn(retry: Retry = Retry.forever()) -> None:
        attempts.append(retry.attempt)
        if retry.attempt < 20:
            raise RuntimeError

    await stubborn.schedule()
    await worker.run_until_finished()

    assert attempts == list(range(1, 21))


async def test_the_arguments_stay_the_same(docket: Docket, worker: Worker):
    seen: list[list[int]] = []

    @docket.task
    async def flaky(numbers: list[int], retry: Retry = Retry(attempts=2)) -> None:
        numbers.append(len(numbers))
        seen.append(numbers)
        raise RuntimeError

    await flaky.schedule([0])
    await worker.run_until_finished()

    assert seen == [[0, 1], [0, 1]]


async def test_a_dependency_that_fails_is_tried_again_too(docket: Docket, worker: Worker):
    attempts: list[str] = []

    async def connect() -> str:
        attempts.append("connect")
        if len(attempts) < 3:
            raise ConnectionError("not yet")
        return "connection"

    @docket.task
    async def load(db: str = Depends(connect), retry: Retry = Retry(attempts=5)) -> tuple[str, int]:
        return db, retry.attempt

    execution = await load.schedule()
    await worker.run_until_finished()

    assert await execution.get_result() == ("connection", 3)


async def test_a_perpetual_task_moves_on_when_its_attempts_are_used_up(docket: Docket, worker: Worker):
    attempts: list[int] = []

    @docket.task
    async def beat(retry: Retry = Retry(attempts=2), perpetual: Perpetual = Perpetual(every=timedelta(0))) -> None:
        attempts.append(retry.attempt)
        if len(attempts) == 4:
            perpetual.cancel()
        raise RuntimeError

    await beat.schedule(key="k")
    await worker.run_until_finished()

    assert attempts == [1, 2, 1, 2]
