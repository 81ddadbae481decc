"""Keeping a worker's lease, and learning through it what was cancelled, replaced or taken over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from docket import Docket, ExecutionState
from docket._store.records import RunId
from docket._worker._leases import Leases
from docket._worker._reclaimer import Reclaimer
from docket._worker._runs import Running, Runs
from tests._waiting import eventually
from tests.worker._hands import SOON, at_work, bereave, claim, crew_of, dead_worker, expiry, lasts, leased, read_all, record, take_over


async def task() -> None: ...


class Held:
    """A crew, and runs whose bodies last until they are stopped."""

    def __init__(self, docket: Docket, lease: timedelta = timedelta(minutes=5)) -> None:
        self.crew = crew_of(docket, name="worker-1", redelivery_timeout=lease)
        self.stopped: dict[str, str | None] = {}
        self.losses = 0
        self.runs = Runs(10, self._perform)
        self.leases = Leases(self.crew, self.runs, self._on_loss)

    async def _perform(self, running: Running, runs: Runs) -> None:
        running.in_body = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stopped[running.claimed.run.key] = running.stopped

    def _on_loss(self) -> None:
        self.losses += 1

    async def hold(self, docket: Docket, *keys: str) -> None:
        for key in keys:
            await docket.add(task, key=key)()
        for claimed in await claim(docket, self.crew.instance):
            self.runs.start(claimed)
        await asyncio.sleep(0)


async def test_a_lease_is_taken_out_and_renewed_four_times_in_its_length(docket: Docket):
    held = Held(docket, lasts(2000))

    await held.leases.start()
    first = await expiry(docket, held.crew.instance)
    pause = await held.leases.tick()
    second = await expiry(docket, held.crew.instance)

    assert pause == 0.5
    assert 0 < first < second


async def test_what_was_cancelled_is_learnt_with_the_renewal(docket: Docket):
    held = Held(docket)
    await held.leases.start()
    await held.hold(docket, "a", "b")

    await docket.cancel("a")
    await held.leases.tick()
    await eventually(lambda: held.stopped == {"a": "cancelled"})

    assert len(held.runs) == 1
    held.runs.stop_all("lost")
    await docket.cancel("b")
    await eventually(lambda: held.runs.idle)
    assert await take_over(docket, held.crew.instance, own=True) == 0


async def test_what_was_replaced_is_learnt_with_the_renewal(docket: Docket):
    held = Held(docket)
    await held.leases.start()
    await held.hold(docket, "a")

    await docket.replace(task, when=timedelta(hours=1), key="a")()
    await held.leases.tick()
    await eventually(lambda: held.stopped == {"a": "replaced"})

    await docket.cancel("a")


async def test_more_than_a_script_call_takes_is_renewed_in_parts(docket: Docket):
    held = Held(docket)
    await held.leases.start()
    await held.hold(docket, *(f"k{number}" for number in range(150)))
    await held.hold(docket, *(f"l{number}" for number in range(150)))
    assert len(held.runs) == 300

    await docket.cancel("k7")
    await docket.cancel("l149")
    await held.leases.tick()
    await eventually(lambda: held.stopped == {"k7": "cancelled", "l149": "cancelled"})

    for prefix in "kl":
        for number in range(150):
            await docket.cancel(f"{prefix}{number}")
    await held.leases.tick()
    await eventually(lambda: held.runs.idle)
    while await read_all(docket):
        await take_over(docket, held.crew.instance, own=True)


async def test_a_lease_that_was_taken_over_is_lost_with_everything_under_it(docket: Docket, caplog: pytest.LogCaptureFixture):
    held = Held(docket)
    former = held.crew.instance
    await held.leases.start()
    await held.hold(docket, "a")
    await dead_worker(docket, former)  # its lease lapses here
    taken = await take_over(docket, former)
    assert taken == 1

    await held.leases.tick()
    await eventually(lambda: held.stopped == {"a": "lost"})

    assert held.losses == 1
    assert held.crew.instance != former
    assert held.crew.instance.startswith("worker-1~")
    assert await expiry(docket, held.crew.instance)
    assert f"The lease of {former} lapsed" in caplog.text
    await docket.cancel("a")


async def test_a_worker_that_lost_its_lease_goes_by_no_other_name_before_that_has_one(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    held = Held(docket)
    former, renew = held.crew.instance, docket.store.delivery.renew
    took_out: list[tuple[str, str]] = []

    async def note(instance: str, lease_us: int, runs: Sequence[RunId], *, first: bool = False) -> list[str] | None:
        if first:
            took_out.append((held.crew.instance, instance))
        return await renew(instance, lease_us, runs, first=first)

    await held.leases.start()
    await dead_worker(docket, former)
    await bereave(docket, former)
    monkeypatch.setattr(docket.store.delivery, "renew", note)

    await held.leases.tick()

    assert took_out == [(former, held.crew.instance)]


async def test_an_instance_taken_over_can_never_renew_again(docket: Docket):
    held = Held(docket)
    former = held.crew.instance
    await held.leases.start()
    await dead_worker(docket, former)
    await bereave(docket, former)

    assert await docket.store.delivery.renew(former, 1_000_000, []) is None


async def test_a_long_task_runs_once_while_others_look_for_the_dead(docket: Docket):
    begun = 0
    end = asyncio.Event()

    async def long() -> int:
        nonlocal begun
        begun += 1
        await end.wait()
        return begun

    asked = await docket.add(long)()
    lease = lasts(500)
    async with at_work(docket, name="one", redelivery_timeout=lease):
        await eventually(lambda: begun)
        async with at_work(docket, name="other", redelivery_timeout=lease):
            reclaimer = Reclaimer(crew_of(docket, redelivery_timeout=lease))
            until = asyncio.get_running_loop().time() + 4 * lease.total_seconds()
            while asyncio.get_running_loop().time() < until:
                await reclaimer.tick()
                await asyncio.sleep(0.02)
            end.set()

            assert await asked.get_result(timeout=SOON) == 1
    assert begun == 1


async def test_a_worker_that_loses_its_lease_stops_its_bodies_and_settles_nothing(docket: Docket, caplog: pytest.LogCaptureFixture):
    begun: list[int] = []
    stopped: list[int] = []
    end = asyncio.Event()

    async def long() -> int:
        number = len(begun)
        begun.append(number)
        try:
            await end.wait()
        except asyncio.CancelledError:
            stopped.append(number)
            raise
        return number

    asked = await docket.add(long, key="k")()
    async with at_work(docket, name="one", concurrency=1, redelivery_timeout=lasts(2000)):
        await eventually(lambda: begun == [0])
        [loser] = await leased(docket)
        await dead_worker(docket, loser)
        assert await take_over(docket, loser) == 1

        await eventually(lambda: stopped == [0])
        await eventually(lambda: begun == [0, 1])  # run again: it works on under another name
        assert (await record(docket, "k")).state is ExecutionState.RUNNING
        end.set()
        assert await asked.get_result(timeout=SOON) == 1

    found = await docket.get_execution("k")
    assert found is not None and found.redelivered
    assert "another worker has taken it over" in caplog.text


async def test_a_worker_without_a_free_slot_that_loses_its_lease_fetches_no_more_than_it_can_run(docket: Docket):
    began = asyncio.Event()
    end = asyncio.Event()
    ran: list[int] = []

    async def stubborn() -> None:
        began.set()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    async def quick(number: int) -> None:
        ran.append(number)

    await docket.add(stubborn, key="stubborn")()
    async with at_work(docket, name="one", concurrency=1, redelivery_timeout=lasts(1000)):
        await began.wait()
        await docket.add_many(docket.call(quick, key=f"quick {number}")(number) for number in range(20))
        [loser] = await leased(docket)
        await dead_worker(docket, loser)
        await bereave(docket, loser)

        async def has_a_new_lease() -> bool:
            return bool(await leased(docket) - {loser})

        await eventually(has_a_new_lease)
        [instance] = await leased(docket)
        since = await expiry(docket, instance)

        async def has_renewed_it() -> bool:
            return await expiry(docket, instance) > since

        await eventually(has_renewed_it)
        fetched, ran_before = (await read_all(docket)).get(instance, []), list(ran)
        end.set()
        await eventually(lambda: len(ran) == 20)

    assert fetched == [] and ran_before == []
    assert sorted(ran) == list(range(20))
    await docket.cancel("stubborn")
