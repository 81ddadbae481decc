"""Moving due work to the stream."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from docket import Docket, ExecutionState
from docket._worker import _mover
from docket._worker._mover import FALLBACK, Mover
from tests._shards import together
from tests._waiting import eventually
from tests.worker._hands import SOON, MovedClock, at_work, crew_of, ignored, lasts, record

HOUR = timedelta(hours=1)


async def task() -> None: ...


@pytest.fixture
async def mover(docket: Docket) -> Mover:
    """This is the one of the shard of `k`."""
    return Mover(crew_of(docket), docket.store.shard_of("k"))


async def test_what_is_due_is_moved_and_the_rest_is_left(docket: Docket, mover: Mover):
    soon, later = together(docket.store, "soon", "later")
    await docket.add(task, when=lasts(20), key=soon)()
    await docket.add(task, when=HOUR, key=later)()

    async def moved() -> bool:
        await mover.tick()
        return (await record(docket, soon)).state is ExecutionState.QUEUED

    await eventually(moved)

    assert (await record(docket, later)).state is ExecutionState.SCHEDULED
    assert await docket.store.delivery.depth() == (1, 1)
    await docket.cancel(soon)
    await docket.cancel(later)


async def test_it_sleeps_until_the_next_is_due(docket: Docket, mover: Mover):
    await docket.add(task, when=lasts(1500), key="k")()

    async with docket.store.events.signals(on_wake=mover.wake, on_cancel=ignored):
        pause = await mover.tick()

    assert 0.5 < pause <= 1.5
    await docket.cancel("k")


@pytest.mark.only_memory("messages always arrive in one process")
async def test_it_looks_up_every_now_and_then(docket: Docket, mover: Mover):
    assert await mover.tick() == FALLBACK

    await docket.add(task, when=HOUR, key="k")()
    assert await mover.tick() == FALLBACK
    await docket.cancel("k")


@pytest.mark.only_server("a connection for messages")
async def test_while_no_messages_can_arrive_it_looks_more_often(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    mover = Mover(crew_of(docket, scheduling_resolution=lasts(123)))

    with monkeypatch.context() as cut:
        cut.setattr(type(docket.store.backend.subscriber), "connected", False)
        assert await mover.tick() == 0.123

    async with docket.store.events.signals(on_wake=mover.wake, on_cancel=ignored):
        assert await mover.tick() == FALLBACK


async def test_a_crowd_is_moved_in_batches_without_a_pause(docket: Docket, mover: Mover):
    due = docket.clock.now() + lasts(500)  # all are scheduled before
    later, *keys = together(docket.store, "later", *(f"k{number}" for number in range(250)))
    await docket.add_many(docket.call(task, when=due, key=key)() for key in keys)
    await docket.add(task, when=HOUR, key=later)()

    async def all_due() -> bool:
        return len(await mover._shard.delivery.due(mover._crew.server_now_us() - 30_000)) == 200

    await eventually(all_due)

    assert await mover.tick() == 0.0
    assert await docket.store.delivery.depth() == (200, 51)
    assert await mover.tick() > 0.0
    assert await docket.store.delivery.depth() == (250, 1)
    for key in (later, *keys):
        await docket.cancel(key)


@pytest.mark.only_server("whose clock counts")
@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
async def test_it_goes_by_the_servers_clock_and_learns_it(docket_name: str, url: str, ahead: float):
    async with Docket(docket_name, url) as docket, Docket(docket_name, url, clock=MovedClock(ahead)) as wrong:
        crew = crew_of(wrong)
        mover = Mover(crew)
        await docket.add(task, when=lasts(20), key="soon")()
        await docket.add(task, when=timedelta(minutes=30), key="later")()

        async def moved() -> bool:
            await mover.tick()
            return (await record(docket, "soon")).state is ExecutionState.QUEUED

        await eventually(moved)

        assert (await record(docket, "later")).state is ExecutionState.SCHEDULED
        assert abs(crew.server_offset_us + ahead * 1e6) < 1e6
        await docket.cancel("soon")
        await docket.cancel("later")


async def test_word_of_something_earlier_moves_the_wake_up_without_a_tick_before_it(docket: Docket, mover: Mover):
    waiting = asyncio.create_task(mover._wait(3600))
    await asyncio.sleep(0)
    due = mover._crew.server_now_us() + 60_000

    mover.wake(due + 3_600_000_000)
    mover.wake(due)
    mover.wake(due + 1_000_000)
    await waiting

    assert mover._crew.server_now_us() >= due - 5_000  # loops count in milliseconds


async def test_word_that_something_may_be_due_is_followed_at_once(docket: Docket, mover: Mover):
    waiting = asyncio.create_task(mover._wait(3600))
    await asyncio.sleep(0)

    mover.wake(None)

    await asyncio.wait_for(waiting, 5)


async def test_word_of_something_overdue_is_followed_at_once(mover: Mover):
    mover.wake(mover._crew.server_now_us() - 1_000_000)

    await asyncio.wait_for(mover._wait(3600), 5)


async def test_word_that_comes_during_a_tick_counts(docket: Docket, mover: Mover):
    pause = await mover.tick()
    mover.wake(mover._crew.server_now_us() + 10_000)

    await asyncio.wait_for(mover._wait(pause + 3600), 5)


async def test_a_worker_is_woken_by_what_is_scheduled_later_for_earlier(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_mover, "FALLBACK", 3600.0)

    async with at_work(docket):
        await docket.add(task, when=HOUR, key="later")()
        soon = await docket.add(task, when=lasts(30))()

        await soon.get_result(timeout=SOON)

    await docket.cancel("later")
