"""Scheduling: saying what is to run, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from docket import Disposition, Docket, ExecutionState, Worker

SOON = timedelta(milliseconds=150)


def now() -> datetime:
    return datetime.now(timezone.utc)


async def test_a_task_without_a_time_runs_at_once(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def greet(name: str) -> None:
        ran.append(name)

    execution = await greet.schedule(name="Ada")
    await worker.run_until_finished()

    assert execution.disposition is Disposition.SCHEDULED
    assert ran == ["Ada"]


async def test_when_is_a_time_from_now(docket: Docket, worker: Worker):
    started: list[datetime] = []

    @docket.task
    async def job() -> None:
        started.append(now())

    asked = now()
    execution = await job.schedule(when=SOON)
    assert execution.state is ExecutionState.SCHEDULED
    await worker.run_until_finished()

    assert asked + SOON <= execution.when <= started[0]


async def test_when_is_an_aware_datetime_in_any_time_zone(docket: Docket, worker: Worker):
    started: list[datetime] = []

    @docket.task
    async def job() -> None:
        started.append(now())

    due = (now() + SOON).astimezone(timezone(timedelta(hours=5)))
    execution = await job.schedule(when=due)
    await worker.run_until_finished()

    assert execution.when == due <= started[0]


async def test_a_time_that_has_passed_is_now(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> str:
        return "done"

    execution = await job.schedule(when=now() - timedelta(days=1))
    await worker.run_until_finished()

    assert await execution.get_result() == "done"


async def test_later_work_does_not_hold_up_earlier_work(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def job(name: str) -> None:
        ran.append(name)

    began = now()
    await job.schedule("third", when=began + 2 * SOON)
    await job.schedule("second", when=began + SOON)
    await job.schedule("first", when=began)
    await worker.run_until_finished()

    assert ran == ["first", "second", "third"]


async def test_every_form_of_scheduling_does_the_same(docket: Docket, worker: Worker):
    @docket.task
    async def send(customer_id: int, name: str) -> str:
        return f"{customer_id} {name}"

    executions = [
        await send.schedule(1, name="Jane", key="a", when=SOON),
        await send.options(key="b", when=SOON).schedule(1, "Jane"),
        await docket.add(send, when=now() + SOON, key="c")(1, "Jane"),
        await docket.add("send", when=SOON, key="d")(1, name="Jane"),
        await docket.replace(send, when=SOON, key="e")(1, "Jane"),
        await docket.schedule(send.options(key="f", when=SOON).call(1, "Jane")),
    ]
    await worker.run_until_finished()

    assert [execution.key for execution in executions] == ["a", "b", "c", "d", "e", "f"]
    assert {await execution.get_result() for execution in executions} == {"1 Jane"}


async def test_the_key_and_time_nearest_to_the_call_win(docket: Docket, worker: Worker):
    @docket.add
    async def job() -> None: ...

    scheduler = docket.add(job, when=timedelta(hours=1), key="from add")

    execution = await scheduler.schedule(key="from schedule", when=SOON)
    await worker.run_until_finished()

    assert execution.key == "from schedule"
    assert await docket.get_execution("from add") is None


async def test_a_task_may_have_parameters_named_key_and_when(docket: Docket, worker: Worker):
    @docket.task
    async def turn(key: str, when: int) -> str:
        return f"{key}, {when} times"

    execution = await turn.options(key="the run's key").schedule(key="left", when=2)
    await worker.run_until_finished()

    assert execution.key == "the run's key"
    assert await execution.get_result() == "left, 2 times"


@dataclass
class Order:
    number: int
    lines: list[str]


@pytest.mark.parametrize(
    "argument",
    [None, 5, "text", b"\x00bytes", {"nested": [1, (2, 3)]}, datetime(2030, 1, 1, tzinfo=timezone.utc), Order(1, ["book"]), "long " * 10_000],
    ids=lambda value: type(value).__name__,
)
async def test_arguments_arrive_as_they_were_given(docket: Docket, worker: Worker, argument: Any):
    arrived: list[Any] = []

    @docket.task
    async def take(positional: Any, *, named: Any) -> Any:
        arrived.extend([positional, named])
        return positional

    execution = await take.schedule(argument, named=argument)
    await worker.run_until_finished()

    assert arrived == [argument, argument]
    assert await execution.get_result() == argument


async def test_even_a_lambda_is_an_argument(docket: Docket, worker: Worker):
    @docket.task
    async def apply(function: Callable[[int], int], number: int) -> int:
        return function(number)

    step = 1
    execution = await apply.options().schedule(lambda number: number + step, 41)
    await worker.run_until_finished()

    assert await execution.get_result() == 42


@pytest.mark.leaves_keys("the work is for a later day")
async def test_what_is_scheduled_can_be_looked_at(docket: Docket):
    @docket.task
    async def send(customer_id: int, name: str) -> None: ...

    await send.schedule(1, name="Jane", key="k", when=timedelta(days=1))

    found = await docket.get_execution("k")

    assert found is not None
    assert (found.function_name, found.args, found.kwargs, found.state) == ("send", (1,), {"name": "Jane"}, ExecutionState.SCHEDULED)
