"""A task that kills its worker: only it is blamed, and only so often; the workers live, and so do the tasks that ran beside it."""

# What a worker does inside is looked at at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from docket import Docket, MaxDeliveries, Retry, Worker
from docket._store.records import Claimed, RunId
from docket._worker._runs import Running, Runs
from docket.errors import DeliveriesExhausted, ExecutionCancelled, InvalidOption, ResultTimeout
from docket.execution import Execution
from docket.states import ExecutionState
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.worker._hands import at_work, claim, dead_worker, fetch, lasts, record, take_over

DEAD = "dead~1"


async def killed(docket: Docket, *, alone: bool, times: int = 1) -> None:
    """A worker takes what is there, and dies with it."""
    for _ in range(times):
        await dead_worker(docket, DEAD)
        for claimed in await claim(docket, DEAD):
            if alone:
                assert await docket.store.lifecycle.suspect(claimed.run)
        await bury(docket)


async def bury(docket: Docket) -> None:
    """Another worker takes back what the dead one had."""
    for shard in docket.store.shards:
        entries = await shard.delivery.pending(DEAD)
        assert await shard.delivery.reclaim(DEAD, entries) == len(entries)
        await shard.delivery.reclaim(DEAD, [])


async def fine() -> str:
    return "fine"


async def test_a_death_in_a_crowd_is_nobodys_fault(docket: Docket):
    docket.register(fine)
    executions = [await docket.add(fine)() for _ in range(3)]
    await killed(docket, alone=False, times=9)

    async with at_work(docket):
        assert [await execution.get_result() for execution in executions] == ["fine"] * 3


async def test_a_task_that_dies_alone_too_often_is_given_up(docket: Docket, worker: Worker):
    docket.register(fine)
    execution = await docket.add(fine)()
    await killed(docket, alone=True, times=5)

    await worker.run_until_finished()

    with pytest.raises(DeliveriesExhausted, match="fine took down every worker that ran it alone, 5 in all"):
        await execution.get_result()
    assert (await record(docket, execution.key)).state is ExecutionState.FAILED


async def test_once_less_often_it_runs(docket: Docket, worker: Worker):
    docket.register(fine)
    execution = await docket.add(fine)()
    await killed(docket, alone=True, times=4)

    await worker.run_until_finished()

    assert await execution.get_result() == "fine"


async def test_a_task_may_have_a_number_of_its_own(docket: Docket, worker: Worker):
    @docket.task
    async def delicate(deliveries: MaxDeliveries = MaxDeliveries(1)) -> None: ...

    execution = await delicate.schedule()
    await killed(docket, alone=True)
    await worker.run_until_finished()

    with pytest.raises(DeliveriesExhausted, match="1 in all"):
        await execution.get_result()


async def test_a_docket_may_have_another_number(docket_name: str, url: str):
    async with Docket(docket_name, url, max_deliveries=2) as docket, Worker(docket) as worker:
        docket.register(fine)
        execution = await docket.add(fine)()
        await killed(docket, alone=True, times=2)
        await worker.run_until_finished()

        with pytest.raises(DeliveriesExhausted):
            await execution.get_result()


def test_a_number_of_deliveries_is_printed_as_it_is_written():
    assert repr(MaxDeliveries(3)) == "MaxDeliveries(3)"


@pytest.mark.parametrize("count", [0, -1, True])
def test_a_number_of_deliveries_is_at_least_one(count: int):
    with pytest.raises(InvalidOption, match="at least 1"):
        MaxDeliveries(count)


async def test_who_lives_through_an_attempt_is_no_suspect_any_more(docket: Docket, worker: Worker):
    times = 0

    @docket.task
    async def fails_once(retry: Retry = Retry(attempts=2)) -> str:
        nonlocal times
        times += 1
        if times == 1:
            raise RuntimeError("not yet")
        return "well"

    execution = await fails_once.schedule(key="k")
    await killed(docket, alone=True, times=4)
    async with at_work(docket):
        assert await execution.get_result() == "well"

    assert (await record(docket, "k")).crashes == 0


async def test_a_suspect_runs_alone(docket: Docket):
    beside: list[int] = []
    running = 0
    finish, started = asyncio.Event(), asyncio.Event()

    @docket.task
    async def slow() -> None:
        nonlocal running
        running += 1
        started.set()
        await finish.wait()
        running -= 1

    @docket.task
    async def suspect() -> None:
        beside.append(running)

    await docket.add(suspect, key="suspect")()
    await killed(docket, alone=False)
    await fetch(docket, "aside~1")
    await docket.add(slow, key="slow")()
    async with at_work(docket) as worker:
        await started.wait()
        await take_over(docket, "aside~1", own=True)  # the suspect comes while another task runs
        later = await docket.add(slow, key="later")()
        await eventually(lambda: worker._intake is not None and worker._intake._runs.has_suspects)
        assert beside == []
        finish.set()
        await later.get_result()

    assert beside == [0]


SERVING = """
import asyncio, os, sys
from datetime import timedelta
from docket import Docket, Worker

async def slow(number): await asyncio.sleep(0.02); return number
async def poison(): await asyncio.sleep(0.01); os._exit(9)

async def main(name, url):
    async with Docket(name, url, max_deliveries=2) as docket:
        docket.register(slow)
        docket.register(poison)
        async with Worker(docket, concurrency=32, redelivery_timeout=timedelta(milliseconds=400)) as worker:
            await worker.run_until_finished()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.only_server("workers are processes that die")
async def test_one_poison_among_a_hundred_takes_no_other_with_it(docket: Docket, redis_server: RedisServer, tmp_path: Path):
    (tmp_path / "serving.py").write_text(SERVING)
    slow = [await docket.add("slow")(number) for number in range(50)]
    poison = await docket.add("poison")()
    slow += [await docket.add("slow")(number) for number in range(50, 100)]

    ends: list[int] = []
    while not ends or ends[-1] != 0:
        assert len(ends) < 10, f"workers go on dying: {ends}"
        process = await asyncio.create_subprocess_exec(sys.executable, str(tmp_path / "serving.py"), docket.name, redis_server.url)
        ends.append(await process.wait())

    assert ends == [9, 9, 9, 0]  # once in the crowd, twice alone, and then the rest of the work is done
    assert [await execution.get_result() for execution in slow] == list(range(100))
    with pytest.raises(DeliveriesExhausted):
        await poison.get_result()


def claimed_with(crashes: int) -> Claimed:
    return Claimed(RunId(f"k{crashes}", 1, 1), b"1-1", "f", b"", 0, 0, large_payload=False, trace=b"", crashes=crashes)


async def nobody(running: Running, runs: Runs) -> None: ...


async def test_ordinary_runs_wait_while_a_suspect_has_its_turn():
    runs = Runs(10, nobody)
    suspect, ordinary = Running(claimed_with(1)), Running(claimed_with(0))
    runs._bodies = 2
    waiting = asyncio.create_task(runs.turn_alone(suspect, 60))
    await asyncio.sleep(0)
    assert runs.has_suspects
    assert runs.free == 0
    runs.free_slot(ordinary)
    assert await waiting

    runs._bodies += 1
    other = asyncio.create_task(runs.turn())
    await asyncio.sleep(0)
    assert not other.done()
    runs.free_slot(suspect)
    await other
    assert not runs.has_suspects


async def test_suspects_take_turns():
    runs = Runs(10, nobody)
    first, second = Running(claimed_with(1)), Running(claimed_with(2))
    runs._bodies = 2
    turns = [asyncio.create_task(runs.turn_alone(suspect, 60)) for suspect in (first, second)]
    await eventually(lambda: any(turn.done() for turn in turns))
    assert sorted(turn.done() for turn in turns) == [False, True]
    runs.free_slot(first)
    runs.free_slot(second)
    assert [await turn for turn in turns] == [True, True]
    runs.free_slot(first)
    runs.free_slot(second)
    assert not runs.has_suspects


async def test_a_suspect_does_not_wait_for_ever(docket: Docket, caplog: pytest.LogCaptureFixture):
    ends: list[Any] = []

    @docket.task
    async def parent() -> None:
        child = await docket.get_execution("child")
        assert child is not None
        ends.append(await child.get_result(timeout=timedelta(seconds=30)))

    docket.register(fine)
    child = await docket.add(fine, key="child")()
    await killed(docket, alone=False)
    await child.reschedule(lasts(200))  # its parent has begun by then
    await parent.schedule()
    with caplog.at_level(logging.WARNING, logger="docket.worker"):
        async with at_work(docket, redelivery_timeout=lasts(400)):
            await eventually(lambda: ends)

    assert ends == ["fine"]
    assert "A worker died while it ran child, which should therefore run alone now" in caplog.text


class TestOneThatWaitsForOthers:
    """Nothing else is started while a suspect runs alone; and then it waits for what it has scheduled itself."""

    async def test_gives_way_to_them(self, docket: Docket):
        @docket.task
        async def parent() -> list[str]:
            children = [await docket.add(fine)() for _ in range(3)]
            return await asyncio.gather(*[child.get_result() for child in children])

        execution = await parent.schedule()
        await killed(docket, alone=False)

        async with at_work(docket, redelivery_timeout=lasts(60_000)):
            assert await execution.get_result() == ["fine"] * 3

    async def test_also_when_these_are_suspects(self, docket: Docket):
        docket.register(fine)
        child = await docket.add(fine, key="child")()

        @docket.task
        async def parent() -> str:
            return await child.get_result()

        execution = await parent.schedule()
        await killed(docket, alone=False)

        async with at_work(docket, redelivery_timeout=lasts(60_000)):
            assert await execution.get_result() == "fine"

    async def test_is_to_blame_for_what_it_does_before_and_after(self, docket: Docket):
        alone: list[bool] = []

        async def look() -> None:
            alone.append(await docket.store.backend.call("HGET", docket.store.keys.run("parent"), "alone") == b"1")

        @docket.task
        async def child() -> None:
            await look()

        @docket.task
        async def parent() -> None:
            await look()
            await (await docket.add(child)()).get_result()
            await look()
            with pytest.raises(ResultTimeout):
                await (await docket.add(child, when=timedelta(hours=1), key="later")()).get_result(timeout=timedelta(milliseconds=20))
            await look()

        execution = await parent.schedule(key="parent")
        await killed(docket, alone=False)

        async with at_work(docket, redelivery_timeout=lasts(60_000)):
            await execution.get_result()
        await docket.cancel("later")

        assert alone == [True, False, True, True]

    async def test_stops_when_it_is_told_to_and_leaves_nothing_behind(self, docket: Docket):
        waits = asyncio.Event()

        @docket.task
        async def parent() -> None:
            waits.set()
            await (await docket.add(fine, when=timedelta(hours=1), key="child")()).get_result()

        docket.register(fine)
        execution = await parent.schedule()
        await killed(docket, alone=False)

        async with at_work(docket, redelivery_timeout=lasts(60_000)):
            await waits.wait()
            await execution.cancel()
            with pytest.raises(ExecutionCancelled):
                await execution.get_result()
            assert await (await docket.add(fine)()).get_result() == "fine"
        await docket.cancel("child")


async def test_a_suspect_that_gives_up_in_line_leaves_the_turn_to_who_has_it():
    runs = Runs(10, nobody)
    first, second = Running(claimed_with(1)), Running(claimed_with(2))
    runs._bodies = 1
    assert await runs.turn_alone(first, 60)
    runs._bodies = 2
    waiting = asyncio.create_task(runs.turn_alone(second, 60))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.wait([waiting])

    assert runs.has_suspects
    assert runs._alone is first
    runs.free_slot(first)
    assert not runs.has_suspects


async def test_a_suspect_that_was_taken_from_its_worker_is_not_called(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    calls = 0

    @docket.task
    async def suspect() -> None:
        nonlocal calls
        calls += 1

    execution = await suspect.schedule()
    await killed(docket, alone=False)
    lifecycle = docket.store.lifecycle
    real = lifecycle.suspect
    asked = 0
    replacements: list[Execution[str]] = []

    async def overtaken(run: Any) -> bool:
        nonlocal asked
        asked += 1
        if asked > 1:
            return await real(run)
        replacements.append(await docket.replace(fine, timedelta(0), execution.key)())
        return await real(run)

    monkeypatch.setattr(lifecycle, "suspect", overtaken)
    async with at_work(docket):
        await eventually(lambda: replacements)
        assert await replacements[0].get_result() == "fine"

    assert calls == 0
