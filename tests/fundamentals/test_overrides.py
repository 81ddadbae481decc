"""Overrides: a test gives its tasks something else than they depend on."""

from __future__ import annotations

import asyncio

import pytest

from docket import Depends, Docket, Shared, Worker
from docket.errors import InvalidOption


def connect() -> str:
    return "the real database"


def connect_to_nothing() -> str:
    return "a fake"


def connect_to_less() -> str:
    return "another fake"


async def connect_slowly() -> str:
    return "an async fake"


async def load(db: str = Depends(connect)) -> str:
    return db


async def load_shared(db: str = Shared(connect)) -> str:
    return db


async def test_a_docket_uses_something_else_on_all_its_workers(docket: Docket, worker: Worker):
    with docket.override(connect, connect_to_nothing):
        first = await docket.add(load)()
        await worker.run_until_finished()
        second = await docket.add(load)()
        async with Worker(docket) as another:
            await another.run_until_finished()
    third = await docket.add(load)()
    await worker.run_until_finished()

    assert [await execution.get_result() for execution in (first, second, third)] == ["a fake", "a fake", "the real database"]


async def test_a_worker_may_use_something_else_than_its_docket(docket: Docket, worker: Worker):
    with docket.override(connect, connect_to_nothing), worker.override(connect, connect_slowly):
        execution = await docket.add(load)()
        await worker.run_until_finished()

    assert await execution.get_result() == "an async fake"


async def test_shared_values_are_overridden_too(docket: Docket, worker: Worker):
    with docket.override(connect, connect_to_nothing):
        execution = await docket.add(load_shared)()
        await worker.run_until_finished()

    assert await execution.get_result() == "a fake"


async def test_overrides_may_be_left_in_any_order(docket: Docket):
    first, second = docket.override(connect, connect_to_nothing), docket.override(connect, connect_to_less)

    first.__enter__()
    second.__enter__()
    assert docket.overrides == {connect: connect_to_less}

    first.__exit__(None, None, None)
    assert docket.overrides == {connect: connect_to_less}

    second.__exit__(None, None, None)
    assert docket.overrides == {}


async def test_a_run_keeps_what_it_began_with(docket: Docket, running_worker: Worker):
    began, go_on = asyncio.Event(), asyncio.Event()

    @docket.task
    async def wait_and_see(db: str = Depends(connect)) -> str:
        began.set()
        await go_on.wait()
        return db

    execution = await wait_and_see.schedule()
    await began.wait()
    with docket.override(connect, connect_to_nothing):
        go_on.set()
        assert await execution.get_result() == "the real database"


async def test_what_cannot_stand_in_is_refused(docket: Docket):
    with pytest.raises(InvalidOption, match="override was given 'a fake'; give"), docket.override(connect, "a fake"):  # pyright: ignore[reportArgumentType]
        raise AssertionError("entered")

    assert docket.overrides == {}
