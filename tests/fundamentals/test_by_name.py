"""By name: who schedules a task needs to know what it is called, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from docket import Docket, ExecutionState, Retry, Worker
from docket.errors import UnknownTask
from tests._waiting import eventually


async def test_a_registered_task_goes_by_its_name(docket: Docket, worker: Worker):
    @docket.task
    async def send(customer_id: int, name: str) -> str:
        return f"{customer_id} {name}"

    execution = await docket.add("send", key="k")(1, name="Jane")
    await worker.run_until_finished()

    assert await execution.get_result() == "1 Jane"


async def test_a_task_may_go_by_several_names(docket: Docket, worker: Worker):
    async def send(execution_number: int) -> int:
        return execution_number

    docket.register(send, names=["emails.send", "letters.send"])
    email, letter = await docket.add("emails.send", key="email")(1), await docket.add("letters.send", key="letter")(2)
    await worker.run_until_finished()

    assert [await email.get_result(), await letter.get_result()] == [1, 2]
    found = await docket.get_execution("letter")
    assert found is not None
    assert found.function_name == "letters.send"


async def test_who_schedules_needs_no_code(docket: Docket, docket_name: str, url: str):
    consumer = Docket(docket_name, url)  # in another process, usually

    @consumer.task
    async def send(customer_id: int) -> str:
        return f"sent to {customer_id}"

    execution = await docket.add("send", key="k")(1)
    async with consumer, Worker(consumer) as worker:
        await worker.run_until_finished()

    assert "send" not in docket.tasks
    assert await execution.get_result() == "sent to 1"


async def test_a_name_that_no_live_worker_knows_is_written_with_one_warning(docket: Docket, caplog: pytest.LogCaptureFixture):
    executions = [await docket.add("elsewhere")(number) for number in range(3)]

    assert {execution.state for execution in executions} == {ExecutionState.QUEUED}
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "'elsewhere'" in warnings[0]
    for execution in executions:
        await docket.cancel(execution.key)


async def test_a_name_that_a_live_worker_knows_is_no_reason_to_warn(docket: Docket, docket_name: str, url: str, caplog: pytest.LogCaptureFixture):
    consumer = Docket(docket_name, url)

    @consumer.task
    async def send() -> str:
        return "sent"

    async with consumer, Worker(consumer) as worker:
        running = asyncio.create_task(worker.run_forever())
        await (await docket.add("trace")("until the worker is up")).get_result()
        execution = await docket.add("send")()
        assert await execution.get_result() == "sent"
        worker.stop()
        await running

    assert "send" not in caplog.text


async def test_arguments_that_turn_out_not_to_bind_fail_the_run(docket: Docket, docket_name: str, url: str):
    consumer = Docket(docket_name, url)

    @consumer.task
    async def send(customer_id: int) -> None: ...

    execution = await docket.add("send")(customer="Jane")  # unchecked: nobody here knows better
    async with consumer, Worker(consumer) as worker:
        await worker.run_until_finished()

    with pytest.raises(TypeError, match="customer"):
        await execution.get_result()


async def test_a_worker_leaves_what_it_does_not_know_for_one_that_does(docket: Docket, worker: Worker, docket_name: str, url: str):
    consumer = Docket(docket_name, url)

    @consumer.task
    async def known_there(number: int) -> int:
        return number

    @docket.task
    async def known_here() -> str:
        return "done"

    elsewhere, here = await docket.add("known_there", key="there")(1), await known_here.schedule()
    await worker.run_until_finished()

    assert await here.get_result() == "done"
    await elsewhere.sync()
    assert elsewhere.state in (ExecutionState.SCHEDULED, ExecutionState.QUEUED)

    async with consumer, Worker(consumer) as other:
        await other.run_until_finished()
    assert await elsewhere.get_result() == 1


async def test_what_is_not_known_here_can_be_looked_at(docket: Docket):
    await docket.add("elsewhere", key="k")(1, name="Jane")

    found = await docket.get_execution("k")

    assert found is not None
    assert (found.function_name, found.args, found.kwargs) == ("elsewhere", (1,), {"name": "Jane"})
    with pytest.raises(UnknownTask, match="no task named 'elsewhere'"):
        found.function()
    await docket.cancel("k")


async def test_the_attempt_can_be_looked_at(docket: Docket, running_worker: Worker):
    told: list[Any] = []
    looked_at = asyncio.Event()

    @docket.task
    async def flaky(retry: Retry = Retry(attempts=2)) -> None:
        if retry.attempt == 1:
            raise RuntimeError("not yet")
        await looked_at.wait()

    await flaky.schedule(key="k")

    async def runs_again() -> bool:
        found = await docket.get_execution("k")
        told.append(found and found.attempt)
        return bool(found and found.state is ExecutionState.RUNNING and found.attempt == 2)

    await eventually(runs_again)
    looked_at.set()
    assert told[-1] == 2
