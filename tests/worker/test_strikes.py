"""A strike holds on every worker from the moment it was made, whatever becomes of the message that tells of it."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from docket import ConcurrencyLimit, Disposition, Docket, Execution, ExecutionCancelled, ExecutionState, Perpetual, Worker
from docket._store.strikes import Loaded
from docket._worker._leases import Leases
from docket._worker._perpetuals import Perpetuals
from docket._worker._runs import Running, Runs
from docket.errors import RedisUnavailable
from tests._proxy import Proxy
from tests._servers import RedisServer
from tests._shards import together
from tests._waiting import eventually
from tests.worker._hands import SOON, at_work, crew_of, fetch, intake_of, lasts, record, take_over


def unheard(message: bytes | None = None) -> None:
    """This hears nothing."""


class Job:
    """A task that notes its calls, and a docket whose worker never hears a message about strikes."""

    def __init__(self, docket: Docket) -> None:
        self.docket = docket
        self.ran: list[int] = []
        docket.store.strikes.on_message = unheard
        docket.store.strikes.on_interruption = unheard

        async def job(number: int) -> int:
            self.ran.append(number)
            return number

        self.task = job
        docket.register(job)


@pytest.fixture
async def operator(docket_name: str, url: str) -> AsyncIterator[Docket]:
    """This is another process, as far as the worker can tell: somebody strikes there."""
    async with Docket(docket_name, url) as operator:
        yield operator


@pytest.fixture
async def deaf(docket: Docket) -> Job:
    return Job(docket)


async def struck(execution: Execution[Any]) -> None:
    with pytest.raises(ExecutionCancelled, match="was cancelled: struck by job"):
        await execution.get_result(timeout=SOON)
    await execution.sync()
    assert execution.disposition is Disposition.STRUCK


async def test_what_was_fetched_before_a_strike_and_claimed_after_it_is_not_run(deaf: Job, operator: Docket, monkeypatch: pytest.MonkeyPatch):
    docket = deaf.docket
    lifecycle = docket.store.shard_of("k").lifecycle
    claim = lifecycle.claim

    striking = asyncio.Lock()

    async def claim_after_the_strike(*args: Any, **options: Any) -> Any:
        async with striking:
            if not operator.strike_list.in_effect:
                assert await operator.strike("job", "number", ">", 1)
                assert not docket.strike_list.in_effect  # it has heard of nothing
        return await claim(*args, **options)

    keys = together(docket.store, *"abcd")
    executions = await docket.add_many(docket.call(deaf.task, key=key)(number) for number, key in enumerate(keys))
    monkeypatch.setattr(lifecycle, "claim", claim_after_the_strike)
    async with Worker(docket, concurrency=10) as worker:
        await worker.run_until_finished()

    assert deaf.ran == [0, 1]
    for execution in executions[2:]:
        await struck(execution)
    assert docket.strike_list.in_effect


async def test_what_was_restored_is_run_by_whoever_claims_it_after_that(deaf: Job, operator: Docket):
    docket = deaf.docket
    await operator.strike("job")
    await docket.store.strikes.read()
    execution = await operator.add("job")(number=5)
    assert execution.disposition is Disposition.STRUCK
    await operator.restore("job")
    execution = await operator.add("job")(number=5)
    assert docket.strike_list.in_effect  # it has heard of nothing

    async with Worker(docket) as worker:
        await worker.run_until_finished()

    assert deaf.ran == [5]
    assert await execution.get_result() == 5


async def test_every_claim_looks_however_fast_strikes_come_and_go(deaf: Job, operator: Docket):
    """Each round strikes one number more; a run of that number, claimed after, must not begin."""
    async with at_work(deaf.docket, concurrency=3):
        for number in range(20):
            await operator.strike("job", "number", "==", number)
            scheduled = await asyncio.gather(*(operator.store.lifecycle.schedule(order) for order in _orders(operator, number)))
            assert all(ordered.created for ordered in scheduled)
            await eventually(lambda number=number: deaf.ran.count(1000 + number) == 2)

        async def is_done() -> bool:
            return await operator.store.delivery.depth() == (0, 0)

        await eventually(is_done)

    assert sorted(set(deaf.ran)) == list(range(1000, 1020))


def _orders(docket: Docket, number: int) -> list[Any]:
    """Orders that reach the store past the docket's own look at the strikes, as those of a process would that has not heard of them."""
    scheduling = docket._scheduling
    calls = [docket.call("job", key=f"{number}.{place}")(number=each) for place, each in enumerate([number, 1000 + number, number, 1000 + number])]
    return [scheduling._order(scheduling._execution(call)[0], replace=False) for call in calls]


async def test_the_worker_of_the_docket_that_struck_knows_it_as_well(docket: Docket):
    job = Job(docket)
    execution = await docket.add(job.task)(5)
    await docket.strike(job.task)

    async with Worker(docket) as worker:
        await worker.run_until_finished()

    assert job.ran == []
    await struck(execution)


# Outages


async def test_a_strike_made_while_the_worker_was_cut_off_holds_when_it_is_back(docket_name: str, proxy: Proxy, redis_server: RedisServer):
    async with Docket(docket_name, proxy.url) as far, Docket(docket_name, redis_server.url) as operator:
        job = Job(far)
        del far.store.strikes.on_message, far.store.strikes.on_interruption
        async with at_work(far, reconnection_delay=lasts(50)) as worker:
            await eventually(worker.is_claiming)
            await proxy.stop()
            await eventually(lambda: not worker.is_claiming())
            waiting = await operator.add("job")(number=5)
            assert await operator.strike("job", "number", "==", 5)
            other = await operator.add("job")(number=6)
            await proxy.start()

            await struck(waiting)
            assert await other.get_result(timeout=SOON) == 6
            await eventually(lambda: far.strike_list.in_effect)
            assert (await far.add(job.task)(5)).disposition is Disposition.STRUCK
        assert job.ran == [6]


async def test_so_it_does_after_the_server_was_restarted(docket_name: str, new_server: Callable[..., RedisServer]):
    server = new_server("--appendonly", "yes", "--appendfsync", "always")
    async with Docket(docket_name, server.url) as docket:
        job = Job(docket)
        async with at_work(docket, reconnection_delay=lasts(50)) as worker:
            await eventually(worker.is_claiming)
            server.kill()
            await eventually(lambda: not worker.is_claiming())
            await asyncio.to_thread(server.start)
            async with Docket(docket_name, server.url) as operator:
                execution = await operator.add("job", when=lasts(300))(number=5)
                await operator.strike("job")

                await struck(execution)
        assert job.ran == []


async def test_while_it_cannot_be_read_what_is_struck_nothing_is_run(deaf: Job, operator: Docket, monkeypatch: pytest.MonkeyPatch):
    strikes = deaf.docket.store.strikes
    load, tries = strikes.load, 0

    async def away() -> Loaded:
        nonlocal tries
        tries += 1
        raise RedisUnavailable("away")

    monkeypatch.setattr(strikes, "load", away)
    execution = await operator.add("job")(number=5)
    await operator.strike("job")
    async with at_work(deaf.docket):
        await eventually(lambda: tries > 2)
        assert (await record(operator, execution.key)).state is ExecutionState.RUNNING  # claimed, that is
        assert deaf.ran == []
        monkeypatch.setattr(strikes, "load", load)

        await struck(execution)
    assert deaf.ran == []


async def test_told_to_stop_meanwhile_it_gives_back_what_it_claimed(
    deaf: Job, operator: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def perform(running: Running, runs: Runs) -> None:
        raise AssertionError("nothing is to be run")

    async def away() -> Loaded:
        intake.stop()
        raise RedisUnavailable("away")

    execution = await operator.add("job", key="k")(number=5)
    await operator.strike("job")
    crew, runs = crew_of(deaf.docket), Runs(10, perform)
    intake = intake_of(crew, runs)
    await crew.store.delivery.ensure_group()
    await Leases(crew, runs, intake.interrupt).start()
    monkeypatch.setattr(deaf.docket.store.strikes, "load", away)

    await asyncio.wait_for(intake.run(), 20)

    assert "Claiming 1 entries failed; they are looked for again" in caplog.text
    assert runs.idle
    assert (await record(operator, "k")).state is ExecutionState.QUEUED
    await crew.store.workers.depart(crew.instance)
    await operator.restore("job")
    monkeypatch.undo()
    async with Worker(deaf.docket) as worker:
        await worker.run_until_finished()
    assert await execution.get_result() == 5


async def test_a_lease_that_was_lost_while_it_waited_has_nothing_run(deaf: Job, operator: Docket, monkeypatch: pytest.MonkeyPatch):
    begun: list[str] = []

    async def perform(running: Running, runs: Runs) -> None:
        begun.append(running.claimed.run.key)

    load = deaf.docket.store.strikes.load

    async def slow() -> Loaded:
        crew.begin_anew()
        return await load()

    await operator.add("job", key="k")(number=5)
    await operator.strike("job")
    crew, runs = crew_of(deaf.docket), Runs(10, perform)
    former, intake = crew.instance, intake_of(crew, runs)
    found = await fetch(deaf.docket, former)
    runs.reserve(1)
    monkeypatch.setattr(deaf.docket.store.strikes, "load", slow)

    await intake._claim(former, found)

    assert begun == []
    await operator.cancel("k")
    await take_over(deaf.docket, former)


# The run that is struck


async def test_the_slot_and_the_place_of_a_struck_run_are_free_at_once(docket: Docket):
    ran: list[int] = []
    go = asyncio.Event()

    @docket.task
    async def limited(number: int, limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> int:
        ran.append(number)
        if number == 0:
            await go.wait()
        return number

    async with at_work(docket, concurrency=2):
        first = await limited.schedule(0)
        await eventually(lambda: ran == [0])
        others = [await limited.schedule(number) for number in (1, 2, 3)]

        async def all_wait() -> bool:
            return (await docket.store.delivery.contended()) == 1 and {(await record(docket, one.key)).state for one in others} == {ExecutionState.QUEUED}

        await eventually(all_wait)
        await docket.strike(limited, "number", "<", 3)
        go.set()

        assert await first.get_result(timeout=SOON) == 0
        for one in others[:2]:
            with pytest.raises(ExecutionCancelled, match="struck by limited"):
                await one.get_result(timeout=SOON)
        assert await others[2].get_result(timeout=SOON) == 3
    assert ran == [0, 3]


async def test_a_fallback_task_is_struck_under_the_name_it_was_scheduled_by(docket: Docket):
    ran: list[str] = []

    async def fallback(*args: Any, **kwargs: Any) -> None:
        ran.append("fallback")

    execution = await docket.add("elsewhere")(customer=5)
    await docket.add("elsewhere")(customer=6)
    await docket.strike("elsewhere", "customer", "==", 5)
    async with Worker(docket, fallback_task=fallback) as worker:
        await worker.run_until_finished()

    assert ran == ["fallback"]
    with pytest.raises(ExecutionCancelled, match=r"struck by elsewhere\(customer == 5\)"):
        await execution.get_result()


async def test_a_run_that_was_replaced_meanwhile_is_not_told_of_as_struck(docket: Docket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    job = Job(docket)
    settle = docket.store.lifecycle.settle

    async def replaced_first(settlement: Any) -> Any:
        monkeypatch.undo()
        await docket.restore(job.task)
        await docket.replace(job.task, timedelta(0), "k")(6)
        return await settle(settlement)

    await docket.add(job.task, key="k")(5)
    await docket.strike(job.task)
    monkeypatch.setattr(docket.store.lifecycle, "settle", replaced_first)
    async with Worker(docket) as worker:
        await worker.run_until_finished()

    assert job.ran == [6]
    assert not [entry for entry in caplog.messages if "🗙" in entry]


async def test_one_that_cannot_be_settled_is_left_to_the_lease(docket: Docket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    job = Job(docket)

    async def broken(settlement: Any) -> Any:
        monkeypatch.undo()
        raise RuntimeError("on purpose")

    execution = await docket.add(job.task, key="k")(5)
    await docket.strike(job.task)
    monkeypatch.setattr(docket.store.lifecycle, "settle", broken)
    async with at_work(docket, redelivery_timeout=lasts(200)):
        await eventually(lambda: "Settling k failed" in caplog.text)
        assert not [entry for entry in caplog.messages if "🗙" in entry]
    async with Worker(docket, redelivery_timeout=lasts(200)) as worker:
        await worker.run_until_finished()

    await struck(execution)
    assert job.ran == []


async def test_log_lines_below_the_level_are_not_made(docket: Docket, caplog: pytest.LogCaptureFixture):
    job = Job(docket)
    caplog.set_level(logging.ERROR, "docket.worker")
    execution = await docket.add(job.task, key="k")(5)
    await docket.strike(job.task)

    async with Worker(docket) as worker:
        await worker.run_until_finished()

    await struck(execution)
    assert not [entry for entry in caplog.messages if "🗙" in entry]


# Automatic tasks


async def test_seeding_what_is_struck_is_no_error(docket: Docket):
    @docket.task
    async def beat(perpetual: Perpetual = Perpetual(every=timedelta(hours=1), automatic=True)) -> None: ...

    await docket.strike(beat)
    perpetuals = Perpetuals(crew_of(docket))

    assert await perpetuals.tick() == 60.0

    assert await docket.get_execution("beat") is None


async def test_seeding_looks_again_when_something_was_restored_and_only_then(docket: Docket):
    perpetuals = Perpetuals(crew_of(docket))
    ticks = 0

    async def tick() -> float:
        nonlocal ticks
        ticks += 1
        return 3600.0

    perpetuals.tick = tick
    running = asyncio.create_task(perpetuals.run())
    await eventually(lambda: ticks == 1)
    await docket.strike("something")
    await asyncio.sleep(0.02)
    assert ticks == 1

    await docket.restore("something")
    await eventually(lambda: ticks == 2)
    running.cancel()
    await asyncio.wait([running])
    assert docket.strike_list._on_restore == []
