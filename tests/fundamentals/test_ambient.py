"""The ambient docket: the one that is meant by a task that names none."""

from __future__ import annotations

import asyncio

import pytest

import docket as package
from docket import Docket, Worker
from docket.errors import NoDocket
from tests._waiting import eventually


@package.task
async def where(expected: str) -> bool:
    execution = await further.schedule()
    return execution.docket.name == expected


@package.task
async def further() -> str:
    return "further"


async def run(docket: Docket) -> None:
    async with Worker(docket) as worker:
        await worker.run_until_finished()


async def test_it_is_the_only_one_that_is_entered(docket: Docket):
    execution = await where.schedule(docket.name)

    assert execution.docket is docket
    await docket.cancel(execution.key)


async def test_it_is_the_innermost_of_several_each_time_anew(docket: Docket, docket_name: str, url: str):
    before = await further.schedule()
    async with Docket(f"{docket_name}-inner", url) as inner:
        within = await further.schedule()
        await inner.cancel(within.key)
    after = await further.schedule()

    assert (before.docket, within.docket, after.docket) == (docket, inner, docket)
    for execution in (before, after):
        await docket.cancel(execution.key)


async def test_inside_a_run_it_is_the_runs(docket: Docket, docket_name: str, url: str):
    execution = await docket.add(where)(docket.name)
    async with Docket(f"{docket_name}-inner", url):
        await run(docket)

    assert await execution.get_result() is True


async def test_each_context_has_its_own(docket_name: str, url: str):
    entered: list[str] = []

    async def use(name: str) -> bool:
        async with Docket(f"{docket_name}-{name}", url) as docket:
            entered.append(name)
            await eventually(lambda: len(entered) == 3)
            execution = await where.schedule(docket.name)
            await run(docket)
            return execution.docket is docket and await execution.get_result()

    assert await asyncio.gather(*(use(name) for name in "abc")) == [True, True, True]


async def test_without_one_it_is_an_error_that_says_what_to_do():
    with pytest.raises(NoDocket, match=r"task 'further' names no docket, and no docket is entered; .* inside `async with docket:`"):
        await further.schedule()
