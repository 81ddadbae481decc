"""Whether a worker was told to stop is known in every coroutine and every thread."""

# Who waits is looked at, for it waits in another thread.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from docket import Docket
from docket.execution import Stopping
from tests._waiting import eventually

SOON = timedelta(seconds=20)


async def five() -> int:
    return 5


async def test_it_is_set_once_and_for_all():
    stopping = Stopping()
    assert not stopping.is_set()
    assert repr(stopping) == "<Stopping: not told to stop>"

    stopping.set()
    stopping.set()

    assert stopping.is_set()
    assert repr(stopping) == "<Stopping: told to stop>"
    await asyncio.wait_for(stopping.wait(), 5)
    assert stopping.wait_in_thread()


async def test_all_coroutines_that_wait_are_woken():
    stopping = Stopping()
    waiting = [asyncio.create_task(stopping.wait()) for _ in range(3)]
    await asyncio.sleep(0)

    stopping.set()

    await asyncio.wait_for(asyncio.gather(*waiting), 5)


async def test_one_that_waits_no_more_is_forgotten():
    stopping = Stopping()
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert stopping._waiting == []


async def test_one_that_gave_up_just_before_is_left_alone():
    stopping = Stopping()
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.sleep(0)

    stopping.set()  # whose word arrives after the cancellation
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)

    assert stopping.is_set()


async def test_threads_wait_for_it_and_so_do_the_loops_in_them():
    stopping = Stopping()
    woken: list[str] = []

    def in_a_loop() -> None:
        asyncio.run(stopping.wait())
        woken.append("loop")

    def in_a_thread() -> None:
        assert stopping.wait_in_thread(SOON)
        woken.append("thread")

    threads = [threading.Thread(target=target) for target in (in_a_loop, in_a_thread)]
    for thread in threads:
        thread.start()
    await eventually(lambda: stopping._waiting)

    stopping.set()

    await eventually(lambda: sorted(woken) == ["loop", "thread"])
    for thread in threads:
        thread.join()


async def test_a_thread_waits_as_long_as_it_likes():
    assert not Stopping().wait_in_thread(timedelta(milliseconds=1))


def test_a_loop_that_was_closed_is_no_matter():
    stopping = Stopping()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(stopping.wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    stopping.set()

    assert stopping.is_set()
    assert not waiting.done()


async def test_outside_a_worker_nothing_is_ever_told_to_stop(docket: Docket):
    execution = await docket.add(five)()

    assert not execution.stopping.is_set()
    assert execution.stopping is execution.stopping
    await docket.cancel(execution.key)
