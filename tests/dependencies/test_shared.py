from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from docket.dependencies import CurrentDocket, CurrentWorker, Depends, Retry, Shared, SharedContext, TaskKey
from docket.dependencies._base import Dependency
from docket.dependencies._resolution import compile_plan
from docket.errors import DependencyFailed, InvalidOption
from tests.dependencies._runs import WORKER, run

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log():
    log.clear()


async def settings(docket: Any = CurrentDocket()) -> str:
    log.append("settings")
    return f"settings of {docket.name}"


async def pool(settings: str = Shared(settings), worker: Any = CurrentWorker()) -> AsyncGenerator[list[str]]:
    async with anyio.create_task_group():  # must be left by the task that entered it
        log.append("open pool")
        await asyncio.sleep(0.01)
        yield [settings, worker.name]
    log.append("close pool")


async def task(pool: list[str] = Shared(pool), settings: str = Shared(settings)):
    return pool, settings


async def test_a_shared_value_is_made_once_and_closed_with_the_worker():
    async with SharedContext() as shared:
        results = await asyncio.gather(*(run(task, shared=shared) for _ in range(5)))
        assert log == ["settings", "open pool"]

    assert results[0] == (["settings of orders", WORKER.name], "settings of orders")
    assert all(result[0] is results[0][0] for result in results)
    assert log == ["settings", "open pool", "close pool"]


async def test_a_shared_value_that_could_not_be_made_is_tried_again():
    failures = ["first"]

    def flaky() -> str:
        if failures:
            raise OSError(failures.pop())
        return "made"

    async def task(value: str = Shared(flaky)):
        return value

    async with SharedContext() as shared:
        with pytest.raises(DependencyFailed, match="first"):
            await run(task, shared=shared)
        assert await run(task, shared=shared) == "made"


async def test_a_caller_that_is_cancelled_leaves_the_making_to_the_others():
    making, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(fail: bool = False) -> str:
        making.set()
        await goes_on.wait()
        return "made"

    async def broken() -> str:
        await slow()
        raise OSError

    async def task(value: str = Shared(slow)):
        return value

    async def failing(value: str = Shared(broken)): ...

    async with SharedContext() as shared:
        for function in (task, failing):
            making.clear()
            goes_on.clear()
            waiting = asyncio.create_task(run(function, shared=shared))
            await making.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            goes_on.set()

        assert await run(task, shared=shared) == "made"


async def test_what_a_failed_shared_value_had_opened_is_closed():
    async def opened() -> AsyncGenerator[str]:
        try:
            yield "opened"
        finally:
            log.append("closed")

    def broken(opened: str = Depends(opened)) -> str:
        raise OSError

    async def task(value: str = Shared(broken)): ...

    async with SharedContext() as shared:
        with pytest.raises(DependencyFailed):
            await run(task, shared=shared)
        assert log == ["closed"]


async def test_a_shared_value_needs_a_worker():
    closed = SharedContext()
    await closed.__aexit__(None, None, None)

    for shared, message in ((None, "none around"), (closed, "while their worker is entered")):
        with pytest.raises(DependencyFailed, match=message):
            await run(task, shared=shared)


def needing_a_key(key: str = TaskKey()) -> str: ...
def needing_a_retry(retry: Retry = Retry(attempts=2)) -> str: ...
def asking_for_a_retry(retry: Retry = Depends(Retry)) -> str: ...


@pytest.mark.parametrize("function", [needing_a_key, needing_a_retry, asking_for_a_retry])
def test_a_shared_value_cannot_depend_on_one_run(function: Any):
    async def task(value: str = Shared(function)): ...

    with pytest.raises(InvalidOption, match="run"):
        compile_plan(task, "task")


async def test_a_shared_value_may_depend_on_dependencies_of_the_users_own():
    class Mine(Dependency):
        async def __aenter__(self) -> str:
            return "mine"

        async def __aexit__(self, *details: object) -> None:
            log.append("left")

    def value(mine: Any = Mine()) -> str:
        return mine

    async def task(value: str = Shared(value)):
        return value

    async with SharedContext() as shared:
        assert await run(task, shared=shared) == "mine"
        assert log == []
    assert log == ["left"]


async def test_overrides_reach_shared_values():
    async with SharedContext() as shared:
        assert (await run(task, shared=shared, overrides={settings: lambda: "fake"}))[1] == "fake"
