from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from docket import Docket, Worker
from docket.dependencies import CallArgument, CurrentDocket, CurrentExecution, CurrentWorker, Dependency, Depends, TaskArgument, TaskKey
from docket.dependencies._resolution import compile_plan
from docket.errors import CycleError, DependencyFailed
from docket.testing import run_task


async def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """This runs a task once and gives its result."""
    return (await run_task(function, *args, **kwargs)).result


async def test_a_run_is_given_what_it_knows_of_itself():
    async def task(docket: Docket = CurrentDocket(), worker: Worker = CurrentWorker(), execution: Any = CurrentExecution(), key: str = TaskKey()):
        return docket, worker.docket, execution.key, key

    home = Docket(url="memory://")
    told = await run_task(home.call(task, key="key-1")())

    assert told.result == (home, home, "key-1", "key-1")


async def test_a_dependency_reaches_the_run_through_the_context():
    class Mine(Dependency):
        async def __aenter__(self) -> tuple[Any, ...]:
            return self.docket, self.worker, self.execution

    async def task(mine: Any = Mine(), docket: Any = CurrentDocket(), worker: Any = CurrentWorker(), execution: Any = CurrentExecution()):
        return mine == (docket, worker, execution)

    assert await run(task)


def customer(customer_id: int = TaskArgument(), name: str = TaskArgument("customer_name"), region: str | None = TaskArgument(optional=True)) -> Any:
    return customer_id, name, region


async def test_a_dependency_is_given_arguments_of_the_task_by_name():
    async def task(customer_id: int, customer_name: str, region: str = "eu", customer: Any = Depends(customer)):
        return customer

    assert await run(task, 1, customer_name="Jane") == (1, "Jane", None)
    assert await run(task, 1, "Jane", region="us") == (1, "Jane", "us")


async def test_arguments_beyond_the_named_ones_go_by_their_own_name():
    def count(rest: tuple[int, ...] = TaskArgument(optional=True)) -> int:
        return len(rest or ())

    async def task(first: int, *rest: int, count: int = Depends(count)):
        return count

    assert await run(task, 1, 2, 3) == 2
    assert await run(task, 1) == 0


async def test_an_argument_that_was_not_passed_fails_the_run():
    async def task(customer: Any = Depends(customer)): ...

    with pytest.raises(DependencyFailed, match="'task' was not given an argument 'customer_id'") as raised:
        await run(task)

    assert isinstance(raised.value.__cause__, KeyError)


async def test_a_call_argument_reaches_siblings_and_defaults_as_well():
    def connect() -> str:
        return "connection"

    def repository(
        db: str = CallArgument(),
        region: str = CallArgument(),
        size: int = CallArgument(default=7),
        missing: str | None = CallArgument("nowhere", optional=True),
    ) -> Any:
        return db, region, size, missing

    async def task(repository: Any = Depends(repository), db: str = Depends(connect), region: str = "eu"):
        return repository

    assert await run(task) == ("connection", "eu", 7, None)
    assert await run(task, db="passed", region="us") == ("passed", "us", 7, None)


async def test_a_call_argument_at_its_own_name_is_what_the_caller_passed():
    async def task(a: int = CallArgument(default=1), b: int = CallArgument("a", default=2)):
        return a, b

    assert await run(task) == (1, 2)
    assert await run(task, a=3) == (3, 3)


def test_call_arguments_that_need_each_other_are_found_at_registration():
    def one(b: Any = CallArgument()) -> Any: ...
    def other(a: Any = CallArgument()) -> Any: ...

    async def task(a: Any = Depends(one), b: Any = Depends(other)): ...

    with pytest.raises(CycleError, match=r"CallArgument\('b'\)"):
        compile_plan(task, "task")
