"""Taking work back from the dead, and from nobody else."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from datetime import timedelta

import anyio
import pytest

from docket import Docket, ExecutionState
from docket._worker._reclaimer import Reclaimer
from tests._shards import together
from tests._waiting import eventually
from tests.worker._hands import SOON, at_work, claim, crew_of, dead_worker, fetch, lasts, leased, read_all, record, take_over

LEASE = lasts(200)


async def task() -> str:
    return "done"


async def reclaimer_of(docket: Docket, lease: timedelta = LEASE) -> Reclaimer:
    """This is the one of the shard of `k`, whose connection has stood for longer than a lease."""
    await docket.store.delivery.ensure_group()
    await eventually(lambda: docket.store.backend.connected_for() > lease.total_seconds())
    return Reclaimer(crew_of(docket, redelivery_timeout=lease), docket.store.shard_of("k"))


async def look(reclaimer: Reclaimer, lease: timedelta = LEASE) -> float:
    """This has it look until that counts: what it learns from a server, or a machine, that took long to answer does not, nor for a lease after that."""
    while True:
        asked_at = anyio.current_time()
        pause = await reclaimer.tick()
        if asked_at - reclaimer._stood_still_until > lease.total_seconds():
            return pause
        await asyncio.sleep(pause)


async def clear_up(docket: Docket, *keys: str) -> None:
    for key in keys:
        await docket.cancel(key)


async def test_what_a_dead_worker_had_claimed_and_fetched_is_queued_again(docket: Docket, caplog: pytest.LogCaptureFixture):
    dead = await dead_worker(docket)
    first, second = together(docket.store, "claimed", "fetched")
    await docket.add(task, key=first)()
    await claim(docket, dead)
    await docket.add(task, key=second)()
    await fetch(docket, dead)
    reclaimer = await reclaimer_of(docket)

    assert await look(reclaimer) == 0.05

    claimed, fetched = await record(docket, first), await record(docket, second)
    assert (claimed.state, claimed.crashes, claimed.worker) == (ExecutionState.QUEUED, 1, None)
    assert (fetched.state, fetched.crashes) == (ExecutionState.QUEUED, 0)
    assert [entry.key for entry in await fetch(docket, "other~1")] == [first, second]
    assert dead not in await docket.store.shard_of("k").delivery.leased()
    assert caplog.messages == [f"Took back 2 task(s) from {dead}, which is gone"]
    await clear_up(docket, first, second)


async def test_a_crowd_is_taken_back_whole(docket: Docket):
    dead = await dead_worker(docket)
    keys = together(docket.store, *(f"k{number}" for number in range(350)))
    await docket.add_many(docket.call(task, key=key)() for key in keys)
    await claim(docket, dead)
    await claim(docket, dead)
    reclaimer = await reclaimer_of(docket)

    await look(reclaimer)

    assert await read_all(docket) == {}
    assert await docket.store.delivery.depth() == (350, 0)
    await clear_up(docket, *keys)


@pytest.mark.only_server("consumers are not deleted in memory")
async def test_the_dead_are_forgotten_by_the_group(docket: Docket):
    dead = await dead_worker(docket)
    await docket.add(task, key="k")()
    await claim(docket, dead)
    reclaimer = await reclaimer_of(docket)

    await look(reclaimer)

    assert await docket.store.shard_of("k").delivery.consumers() == []
    await clear_up(docket, "k")


async def test_an_instance_that_holds_entries_without_a_lease_counts_as_dead(docket: Docket):
    await docket.add(task, key="k")()
    await claim(docket, "departed~1")
    reclaimer = await reclaimer_of(docket)

    await look(reclaimer)

    assert (await record(docket, "k")).state is ExecutionState.QUEUED
    await clear_up(docket, "k")


async def test_the_living_keep_what_they_have(docket: Docket):
    living = await dead_worker(docket, "living~1", lease=60)
    await docket.add(task, key="k")()
    await claim(docket, living)
    reclaimer = await reclaimer_of(docket)

    await look(reclaimer)

    assert (await record(docket, "k")).state is ExecutionState.RUNNING
    assert [*await read_all(docket)] == [living]
    await clear_up(docket, "k")
    await take_over(docket, living, own=True)


@pytest.mark.parametrize("holds", [True, False])
async def test_one_that_renews_at_the_last_moment_keeps_what_it_has(docket: Docket, holds: bool):
    living = await dead_worker(docket, "living~1", lease=60)
    if holds:
        await docket.add(task, key="k")()
        await claim(docket, living)
    reclaimer = await reclaimer_of(docket)
    reclaimer._crew.server_offset_us = 120_000_000  # so that its lease looks lapsed from here

    await look(reclaimer)

    assert await leased(docket) == {living}
    assert (await docket.store.delivery.renew(living, 60_000_000, [])) == []
    if holds:
        assert (await record(docket, "k")).state is ExecutionState.RUNNING
        await clear_up(docket, "k")
        await take_over(docket, living, own=True)


async def test_its_own_work_is_never_taken(docket: Docket):
    reclaimer = await reclaimer_of(docket)
    own = await dead_worker(docket, reclaimer._crew.instance)
    await docket.add(task, key="k")()
    await claim(docket, own)

    await look(reclaimer)

    assert (await record(docket, "k")).state is ExecutionState.RUNNING
    await clear_up(docket, "k")
    await take_over(docket, own, own=True)


async def test_a_cancelled_run_of_the_dead_is_not_run_again(docket: Docket):
    dead = await dead_worker(docket)
    await docket.add(task, key="k")()
    await claim(docket, dead)
    await docket.cancel("k")
    reclaimer = await reclaimer_of(docket)

    await look(reclaimer)

    assert (await record(docket, "k")).state is ExecutionState.CANCELLED
    assert await docket.store.delivery.depth() == (0, 0)


async def test_nothing_is_taken_until_the_connection_has_stood_for_a_lease(docket: Docket):
    dead = await dead_worker(docket)
    await docket.add(task, key="k")()
    await claim(docket, dead)

    pause = await Reclaimer(crew_of(docket, redelivery_timeout=timedelta(seconds=3600))).tick()
    assert pause == 900
    soon = await Reclaimer(crew_of(docket, redelivery_timeout=timedelta(seconds=docket.store.backend.connected_for() + 5))).tick()
    assert soon < 5

    assert (await record(docket, "k")).state is ExecutionState.RUNNING
    await clear_up(docket, "k")
    await take_over(docket, dead, own=True)


async def test_a_worker_runs_what_a_dead_one_left(docket: Docket):
    asked = await docket.add(task)()
    dead = await dead_worker(docket)
    await claim(docket, dead)

    async with at_work(docket, redelivery_timeout=LEASE):
        assert await asked.get_result(timeout=SOON) == "done"


async def test_a_successor_asked_for_by_the_dead_is_dropped(docket: Docket):
    ran: list[int] = []

    async def link(number: int) -> None:
        if not ran:
            ran.append(number)
            await docket.add(link, key="k")(number + 10)
            await asyncio.Event().wait()
        ran.append(number)

    await docket.add(link, key="k")(1)
    async with at_work(docket, redelivery_timeout=lasts(600)):
        await eventually(lambda: ran == [1])
        [loser] = await leased(docket)
        await dead_worker(docket, loser)
        await take_over(docket, loser)

        await eventually(lambda: ran == [1, 1])

        async def ended() -> bool:
            return (await record(docket, "k")).state is ExecutionState.COMPLETED

        await eventually(ended)
    assert ran == [1, 1]
