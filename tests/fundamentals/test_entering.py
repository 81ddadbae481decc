"""Entering: a docket connects where it is entered, as often and wherever that is."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time

import pytest

from docket import Docket, Worker


async def double(number: int) -> int:
    return number * 2


async def use(docket: Docket, number: int) -> int:
    async with docket:
        execution = await docket.add(double)(number)
        async with Worker(docket) as worker:
            await worker.run_until_finished()
        return await execution.get_result()


async def test_several_times(docket_name: str, url: str):
    docket = Docket(docket_name, url)

    assert [await use(docket, number) for number in range(3)] == [0, 2, 4]
    assert not docket.is_entered


async def test_more_than_once_at_a_time(docket_name: str, url: str):
    docket = Docket(docket_name, url)

    async with docket, docket:
        assert await use(docket, 1) == 2
        assert docket.is_entered
    assert not docket.is_entered


async def test_by_many_at_once(docket_name: str, url: str):
    docket = Docket(docket_name, url)

    assert sorted(await asyncio.gather(*(use(docket, number) for number in range(5)))) == [0, 2, 4, 6, 8]
    assert not docket.is_entered


def test_in_one_event_loop_after_another(docket_name: str, url: str):
    docket = Docket(docket_name, url)

    assert [asyncio.run(use(docket, number)) for number in range(3)] == [0, 2, 4]


@pytest.mark.only_server("it is about the scheme of a server's URL")
async def test_a_valkey_is_a_redis(docket_name: str, url: str):
    assert await use(Docket(docket_name, url.replace("redis://", "valkey://")), 21) == 42


async def test_what_was_scheduled_before_is_there_when_it_is_entered_again(docket_name: str, url: str):
    docket = Docket(docket_name, url)

    async with docket:
        execution = await docket.add(double, key="k")(21)
    async with docket, Worker(docket) as worker:
        await worker.run_until_finished()

        assert await execution.get_result() == 42


async def test_leaving_takes_milliseconds(docket_name: str, url: str):
    docket = Docket(docket_name, url)
    leaving: list[float] = []

    for _ in range(5):
        await docket.__aenter__()
        execution = await docket.add(double)(1)
        async with Worker(docket) as worker:
            running = asyncio.create_task(worker.run_forever())
            await execution.get_result()
            started = time.monotonic()
        await running
        await docket.__aexit__(None, None, None)
        leaving.append(time.monotonic() - started)

    assert min(leaving) < 0.1  # the least of five: the machine may be busy
    assert max(leaving) < 2


async def test_an_error_inside_is_left_with_too(docket_name: str, url: str):
    docket = Docket(docket_name, url)

    with pytest.raises(LookupError, match="inside"):
        async with docket:
            raise LookupError("inside")
    assert not docket.is_entered


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.only_server("children share no memory with their parent")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_each_child_of_a_fork(docket_name: str, url: str):
    docket = Docket(docket_name, url)
    docket.register(double)
    assert asyncio.run(use(docket, 1)) == 2  # the parent has used it already

    def in_child(number: int) -> None:
        os._exit(0 if asyncio.run(use(docket, number)) == number * 2 else 1)

    children = [multiprocessing.get_context("fork").Process(target=in_child, args=(number,)) for number in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)

    assert [child.exitcode for child in children] == [0, 0]
    assert asyncio.run(use(docket, 2)) == 4
