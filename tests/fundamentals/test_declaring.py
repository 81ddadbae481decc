"""Declaring: what makes a function a task."""

from __future__ import annotations

import threading
from datetime import timedelta

import docket as package
from docket import Depends, Docket, Perpetual, Task, TaskLogger, Worker


async def test_a_task_is_a_function_that_a_worker_runs_later(docket: Docket, worker: Worker):
    @docket.task
    async def greet(name: str) -> str:
        return f"Hello, {name}"

    execution = await greet.schedule("Ada")
    await worker.run_until_finished()

    assert await execution.get_result() == "Hello, Ada"


async def test_a_handle_calls_as_the_function_it_wraps(docket: Docket):
    @docket.task
    async def send_welcome_email(customer_id: int, name: str) -> bool:
        return customer_id == 1 and name == "Jane"

    assert await send_welcome_email(1, "Jane")


async def test_a_task_can_have_a_name_of_its_own(docket: Docket, worker: Worker):
    @docket.task(name="emails.welcome")
    async def send_welcome_email(customer_id: int) -> int:
        return customer_id

    execution = await docket.add("emails.welcome")(1)
    await worker.run_until_finished()

    assert send_welcome_email.name == execution.function_name == "emails.welcome"
    assert await execution.get_result() == 1


async def test_a_docket_may_be_made_and_its_tasks_declared_before_anything_connects(docket_name: str, url: str):
    docket = Docket(name=docket_name, url=url)  # at import time, usually

    @docket.task
    async def double(number: int) -> int:
        return number * 2

    async with docket:
        execution = await double.schedule(21)
        async with Worker(docket) as worker:
            await worker.run_until_finished()

        assert await execution.get_result() == 42


async def test_a_plain_function_runs_in_a_thread(docket: Docket, worker: Worker):
    @docket.task
    def resize(width: int) -> tuple[int, bool]:
        return width * 2, threading.current_thread() is threading.main_thread()

    execution = await resize.schedule(4)
    await worker.run_until_finished()

    assert await execution.get_result() == (8, False)


async def test_a_function_needs_no_decorator(docket: Docket, worker: Worker):
    async def greet(name: str) -> str:
        return f"Hello, {name}"

    execution = await docket.add(greet)("Grace")
    await worker.run_until_finished()

    assert await execution.get_result() == "Hello, Grace"


async def test_add_is_a_decorator_too(docket: Docket, worker: Worker):
    async def check_service(service_id: str) -> str:
        return f"{service_id} is fine"

    @docket.add
    @Perpetual(interval=timedelta(minutes=5))
    async def monitor_service(service_id: str, logger: TaskLogger = Depends(TaskLogger)) -> str:
        status = await check_service(service_id)
        logger.info("Service status", service_id=service_id, status=status)
        return status

    execution = await monitor_service.schedule(key="monitor-service-main", service_id="main-service")
    await worker.run_at_most({"monitor-service-main": 1})

    assert await execution.get_result() == "main-service is fine"


async def test_add_decorates_a_plain_function_as_well(docket: Docket, worker: Worker):
    @docket.add
    async def greet(name: str) -> str:
        return f"Hello, {name}"

    executions = [await greet("Ada"), await greet.schedule("Grace"), await greet.options(key="third").schedule("Joan")]
    await worker.run_until_finished()

    assert [await execution.get_result() for execution in executions] == ["Hello, Ada", "Hello, Grace", "Hello, Joan"]


async def test_the_module_declares_tasks_for_whichever_docket_is_entered(docket: Docket, worker: Worker):
    @package.task  # import docket; @docket.task
    async def greet(name: str) -> str:
        return f"Hello, {name}"

    execution = await greet.schedule("Ada")
    await worker.run_until_finished()

    assert execution.docket is docket
    assert await execution.get_result() == "Hello, Ada"


async def test_a_behaviour_is_a_decorator_or_a_default(docket: Docket, worker: Worker):
    often = timedelta(milliseconds=1)
    runs: list[str] = []

    @docket.task
    @Perpetual(interval=often)
    async def above() -> None:
        runs.append("above")

    @docket.task
    async def within(perpetual: Perpetual = Perpetual(every=often)) -> None:
        runs.append("within")

    await above.schedule(key="a")
    await within.schedule(key="b")
    await worker.run_at_most({"a": 2, "b": 2})

    assert sorted(runs) == ["above", "above", "within", "within"]


async def test_a_behaviour_alone_makes_a_task_that_takes_the_docket_it_is_used_on(docket: Docket, worker: Worker):
    @Perpetual(interval=timedelta(minutes=5))
    async def monitor(service: str) -> str:
        return service

    assert isinstance(monitor, Task)

    execution = await monitor.schedule("main", key="monitor")
    await worker.run_at_most({"monitor": 1})

    assert await execution.get_result() == "main"


async def test_declaring_the_same_function_again_replaces_it(docket: Docket, worker: Worker):
    def version(number: int) -> Task[[], int]:
        @docket.task
        async def job() -> int:
            return number

        return job

    version(1)
    version(2)
    execution = await docket.add("job")()
    await worker.run_until_finished()

    assert await execution.get_result() == 2
