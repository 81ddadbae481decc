"""Results: what a task returns or raises reaches whoever holds its execution."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta, timezone

import pytest

from docket import Docket, Execution, ExecutionCancelled, ExecutionState, Perpetual, Worker
from docket.errors import DocketError, ResultUnavailable
from tests._waiting import eventually

SOON = timedelta(milliseconds=50)


class OutOfStock(Exception):
    def __init__(self, product: str, left: int = 0) -> None:
        super().__init__(product, left)
        self.product = product
        self.left = left

    def __str__(self) -> str:
        return f"{self.product}: {self.left} left"


async def test_a_result_is_waited_for(docket: Docket, running_worker: Worker):
    @docket.task
    async def add(left: int, right: int) -> int:
        return left + right

    execution = await add.schedule(1, 2, when=SOON)

    assert await execution.get_result() == 3


async def test_many_wait_for_one_result(docket: Docket, running_worker: Worker):
    @docket.task
    async def job() -> str:
        return "done"

    execution = await job.schedule(when=SOON)

    assert await asyncio.gather(*(execution.get_result() for _ in range(10))) == ["done"] * 10


async def test_a_task_that_returns_nothing_gives_none(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule()
    await worker.run_until_finished()

    assert await execution.get_result() is None


async def test_a_failure_is_raised_again_as_it_was(docket: Docket, worker: Worker):
    @docket.task
    async def order(product: str) -> None:
        raise OutOfStock(product, left=2)

    execution = await order.schedule("book")
    await worker.run_until_finished()

    with pytest.raises(OutOfStock, match="book: 2 left") as caught:
        await execution.get_result()
    assert (caught.value.product, caught.value.left) == ("book", 2)
    assert "in order" in str(caught.value.__cause__)  # where in the worker it was raised


async def test_an_execution_tells_how_the_run_went(docket: Docket, worker: Worker):
    @docket.task
    async def order(product: str) -> None:
        raise OutOfStock(product, left=2)

    execution = await order.schedule("book")
    await worker.run_until_finished()
    await execution.sync()

    assert execution.state is ExecutionState.FAILED
    assert execution.error == "OutOfStock: book: 2 left"
    assert execution.worker == worker.name
    assert execution.started_at is not None
    assert execution.completed_at is not None
    assert execution.when <= execution.started_at <= execution.completed_at


async def test_a_result_can_be_had_by_key(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> str:
        return "done"

    await job.schedule(key="k")
    await worker.run_until_finished()

    found = await docket.get_execution("k")
    assert found is not None
    assert await found.get_result() == "done"


@pytest.mark.leaves_keys("the work stays undone")
async def test_waiting_can_be_bounded(docket: Docket):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule(key="k")

    with pytest.raises(TimeoutError, match="Timeout waiting for execution k to complete") as caught:
        await execution.get_result(timeout=timedelta(milliseconds=20))
    assert isinstance(caught.value, asyncio.TimeoutError)
    assert isinstance(caught.value, DocketError)
    with pytest.raises(TimeoutError):
        await execution.get_result(deadline=datetime.now(timezone.utc) + timedelta(milliseconds=20))
    with pytest.raises(ValueError, match="Cannot specify both timeout and deadline"):
        await execution.get_result(timeout=SOON, deadline=datetime.now(timezone.utc))


async def test_everybody_waits_for_the_run_they_asked_for(docket: Docket, worker: Worker):
    @docket.task
    async def job(number: int) -> int:
        return number

    executions: list[Execution[int]] = []
    for number in range(3):
        executions.append(await job.schedule(number, key="k"))
        await worker.run_until_finished()

    assert await executions[-1].get_result() == 2


async def test_a_perpetual_run_has_a_result(docket: Docket, worker: Worker):
    runs: list[int] = []

    @docket.task
    @Perpetual(every=timedelta(0))
    async def count() -> int:
        runs.append(len(runs) + 1)
        return len(runs)

    first = await count.schedule(key="k")
    await worker.run_at_most({"k": 3})

    assert await first.get_result() == 1
    last = await docket.get_execution("k")
    assert last is not None
    assert await last.get_result() == 3


async def is_gone(docket: Docket, key: str) -> bool:
    return await docket.get_execution(key) is None


async def test_records_are_kept_for_a_time(docket_name: str, url: str):
    async with Docket(docket_name, url, execution_ttl=timedelta(milliseconds=50)) as docket, Worker(docket) as worker:

        @docket.task
        async def job() -> str:
            return "done"

        execution = await job.schedule(key="k")
        await worker.run_until_finished()
        await eventually(lambda: is_gone(docket, "k"))

        with pytest.raises(ResultUnavailable, match="execution_ttl"):
            await execution.get_result()


async def test_with_a_time_of_zero_nothing_is_kept_and_the_end_is_still_told(docket_name: str, url: str):
    async with Docket(docket_name, url, execution_ttl=timedelta(0)) as docket, Worker(docket) as worker:

        @docket.task
        async def fine() -> str:
            return "done"

        execution = await fine.schedule(key="k", when=SOON)
        waiting = asyncio.create_task(execution.get_result())
        await worker.run_until_finished()

        assert await waiting is None  # a result would have had to be kept
        assert await docket.get_execution("k") is None


async def test_a_result_that_cannot_be_pickled_does_not_fail_the_task(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> object:
        return (number for number in range(3))

    execution = await job.schedule()
    await worker.run_until_finished()

    assert await execution.get_result() is None
    await execution.sync()
    assert execution.state is ExecutionState.COMPLETED
    assert "cannot be pickled" in str(execution.error)


class OfItsOwnMaking(Exception):
    def __init__(self, first: int, second: int, **more: object) -> None:
        super().__init__(f"{first} and {second}")  # pickle would make it anew from its one argument, and fail
        self.sum = first + second
        self.more = more


async def test_an_exception_that_is_made_of_other_arguments_than_it_shows_comes_back(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None:
        raise OfItsOwnMaking(1, 2)

    execution = await job.schedule()
    await worker.run_until_finished()

    with pytest.raises(OfItsOwnMaking, match="^1 and 2$") as caught:
        await execution.get_result()
    assert caught.value.sum == 3
    assert "raise OfItsOwnMaking(1, 2)" in str(caught.value.__cause__)


async def test_an_exception_that_cannot_be_pickled_is_told_in_words(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None:
        raise OfItsOwnMaking(1, 2, lock=threading.Lock())

    execution = await job.schedule()
    await worker.run_until_finished()

    with pytest.raises(Exception, match="OfItsOwnMaking: 1 and 2") as caught:
        await execution.get_result()
    assert type(caught.value) is Exception
    await execution.sync()
    assert execution.state is ExecutionState.FAILED


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("serializer", ["cloudpickle", "json"])
async def test_whatever_cannot_be_written_of_an_end_its_state_is_true(docket_name: str, url: str, serializer: str):
    async with Docket(docket_name, url, serializer=serializer) as docket, Worker(docket) as worker:

        @docket.task
        async def gives() -> object:
            return threading.Lock()

        @docket.task
        async def raises() -> None:
            raise OfItsOwnMaking(1, 2, lock=threading.Lock())

        @docket.task
        async def is_mute() -> None:
            raise Mute(threading.Lock())

        given, raised, mute = await gives.schedule(), await raises.schedule(), await is_mute.schedule()
        await worker.run_until_finished()

        assert await given.get_result() is None
        with pytest.raises(Exception, match="OfItsOwnMaking: 1 and 2"):
            await raised.get_result()
        with pytest.raises(Exception, match="Mute .which cannot be printed."):
            await mute.get_result()
        for execution in (given, raised, mute):
            await execution.sync()
        assert [execution.state for execution in (given, raised, mute)] == [ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.FAILED]
        assert "cannot be" in str(given.error)


async def test_a_small_result_goes_when_its_key_is_scheduled_again_and_that_is_said(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> str:
        return "done"

    execution = await job.schedule(key="k")
    await worker.run_until_finished()
    await job.schedule(key="k")

    with pytest.raises(ResultUnavailable, match="execution k completed, and what came of it went when its key was scheduled again"):
        await execution.get_result()
    assert not await execution.is_superseded()  # nothing took its place before its end
    assert execution.state is ExecutionState.COMPLETED
    await docket.cancel("k")


async def test_a_run_that_was_cancelled_stays_so_when_its_key_is_scheduled_again(docket: Docket):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule(key="k")
    await docket.cancel("k")
    await job.schedule(key="k")

    with pytest.raises(ExecutionCancelled):
        await execution.get_result()
    await docket.cancel("k")
