"""Flow control: what a task can declare so that not everything runs at once, or at all."""

import asyncio
import time
from datetime import timedelta
from typing import Annotated

import pytest

from docket import ConcurrencyLimit, Cooldown, Debounce, Depends, Docket, Execution, ExecutionState, RateLimit, Worker
from docket.dependencies import AdmissionBlocked, CurrentExecution
from docket.errors import ExecutionCancelled
from docket.testing import MovableClock, assert_task_count, drain
from tests._shards import together
from tests._waiting import eventually

MINUTE = timedelta(minutes=1)
SHORT = timedelta(milliseconds=150)


class AtOnce:
    """Counts how many are under way at the same time."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def __aenter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.005)

    async def __aexit__(self, *_: object) -> None:
        self.now -= 1


async def test_at_most_so_many_runs_of_a_task_at_once(docket: Docket, worker: Worker):
    at_once = AtOnce()

    @docket.task
    @ConcurrencyLimit(2)
    async def render() -> None:
        async with at_once:
            pass

    executions = [await render.schedule() for _ in range(8)]
    await worker.run_until_finished()

    assert at_once.most == 2
    assert [await execution.get_result() for execution in executions] == [None] * 8


async def test_at_most_so_many_for_each_value_of_an_argument(docket: Docket, worker: Worker):
    customers = {"ada": AtOnce(), "bob": AtOnce()}
    all_together = AtOnce()

    @docket.task
    async def bill(customer: Annotated[str, ConcurrencyLimit(1)]) -> None:
        async with customers[customer], all_together:
            pass

    for customer in ("ada", "bob") * 4:
        await bill.schedule(customer)
    await worker.run_until_finished()

    assert customers["ada"].most == customers["bob"].most == 1
    assert all_together.most == 2


async def test_tasks_may_share_a_limit(docket: Docket, worker: Worker):
    at_once = AtOnce()

    @docket.task
    @ConcurrencyLimit(1, scope="printer")
    async def print_letter() -> None:
        async with at_once:
            pass

    @docket.task
    @ConcurrencyLimit(1, scope="printer")
    async def print_poster() -> None:
        async with at_once:
            pass

    for task in (print_letter, print_poster) * 3:
        await task.schedule()
    await worker.run_until_finished()

    assert at_once.most == 1


async def test_what_is_held_back_is_queued_and_runs_in_order_of_arrival(docket: Docket, running_worker: Worker):
    order: list[int] = []
    go = asyncio.Event()

    @docket.task
    async def step(number: int, limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> None:
        order.append(number)
        await go.wait()

    first = await step.schedule(0)
    await eventually(lambda: order == [0])
    others: list[Execution[None]] = []
    for number in (1, 2, 3):
        others.append(await step.schedule(number))
        await asyncio.sleep(0.02)
    await others[0].sync()
    assert others[0].state is ExecutionState.QUEUED

    go.set()
    for execution in [first, *others]:
        await execution.get_result()

    assert order == [0, 1, 2, 3]


async def test_a_body_can_ask_whom_it_shares_its_places_with(docket: Docket, worker: Worker):
    @docket.task
    @ConcurrencyLimit("customer", max_concurrent=3)
    async def bill(customer: int, limit: ConcurrencyLimit = Depends(ConcurrencyLimit)) -> str:
        return limit.concurrency_key

    execution = await bill.schedule(7)
    await worker.run_until_finished()

    assert await execution.get_result() == "bill/customer=7"


async def test_at_most_so_many_starts_in_a_stretch_of_time(timed: Docket):
    @timed.task
    @RateLimit(2, per=MINUTE)
    async def call_partner() -> None: ...

    for _ in range(5):
        await call_partner.schedule()
    starts = [run.started_at for run in await drain(timed, minutes=3)]

    assert [(start - starts[0]) / MINUTE for start in starts] == [0, 0, 1, 1, 2]


async def test_who_comes_too_early_waits(docket: Docket):
    @docket.task
    @RateLimit(2, per=MINUTE)
    async def call_partner() -> None: ...

    for _ in range(5):
        await call_partner.schedule()

    assert len(await drain(docket)) == 2
    await assert_task_count(docket, call_partner, count=3)
    await docket.clear()


async def test_what_is_over_the_rate_may_be_dropped_instead(docket: Docket, worker: Worker):
    ran: list[int] = []

    @docket.task
    @RateLimit(2, per=MINUTE, drop=True)
    async def report(number: int) -> None:
        ran.append(number)

    executions = [await report.schedule(number, key=key) for number, key in enumerate(together(docket.store, *"abcd"))]
    await worker.run_until_finished()

    assert ran == [0, 1]
    with pytest.raises(ExecutionCancelled):
        await executions[3].get_result()


async def test_after_a_run_none_for_a_while(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def warm(cache: Annotated[str, Cooldown(MINUTE)]) -> None:
        ran.append(cache)

    for cache in ("prices", "prices", "stock"):
        await warm.schedule(cache)
    await worker.run_until_finished()

    assert sorted(ran) == ["prices", "stock"]


async def test_after_that_while_again(timed: Docket, clock: MovableClock):
    @timed.task
    @Cooldown(MINUTE)
    async def warm() -> None: ...

    states: list[ExecutionState] = []
    for _ in range(3):
        await warm.schedule()
        states += [run.state for run in await drain(timed)]
        clock.advance(MINUTE / 2)

    assert states == [ExecutionState.COMPLETED, ExecutionState.CANCELLED, ExecutionState.COMPLETED]


async def test_every_call_of_a_burst_moves_its_run(timed: Docket, clock: MovableClock):
    began = clock.now()

    @timed.task
    @Debounce(MINUTE)
    async def reindex() -> str:
        return "indexed"

    for _ in range(4):
        await reindex.schedule()
        await drain(timed)
        clock.advance(MINUTE / 2)
    (run,) = await drain(timed, hours=1)

    assert (run.started_at, run.result) == (began + 2.5 * MINUTE, "indexed")


async def test_of_a_burst_one_run_once_it_is_quiet(docket: Docket, running_worker: Worker):
    ran: list[float] = []

    @docket.task
    @Debounce(SHORT)
    async def reindex() -> str:
        ran.append(time.monotonic())
        return "indexed"

    began = time.monotonic()
    burst = [await reindex.schedule(key=key) for key in together(docket.store, *"abcd")]

    assert await burst[0].get_result() == "indexed"
    for dropped in burst[1:]:
        with pytest.raises(ExecutionCancelled):
            await dropped.get_result()
    assert len(ran) == 1 and ran[0] - began > 0.14


async def test_a_dependency_of_ones_own_may_hold_a_run_back(docket: Docket, worker: Worker):
    asked: list[str] = []

    async def opening_hours(execution: Execution[None] = CurrentExecution()) -> None:
        asked.append(execution.key)
        if len(asked) < 3:
            raise AdmissionBlocked(execution, "opening hours", retry_delay=timedelta(milliseconds=10))

    @docket.task
    async def deliver(is_open: None = Depends(opening_hours)) -> str:
        return "delivered"

    execution = await docket.add(deliver, key="parcel")()
    await worker.run_until_finished()

    assert await execution.get_result() == "delivered"
    assert asked == ["parcel"] * 3
