"""Fetching and claiming: no entry stays behind, whatever happens to a read."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Container
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from docket import Docket, ExecutionState, Worker
from docket._store.records import Claimed, Delivery, Outcome, Settlement
from docket._worker import _intake
from docket._worker._crew import Crew
from docket._worker._runs import Running, Runs
from docket.errors import RedisUnavailable, ServerError
from tests._servers import RedisServer
from tests._shards import together
from tests._waiting import eventually
from tests.worker._hands import SOON, at_work, claim, crew_of, fetch, intake_of, is_reading, lasts, read_all, record, take_over


class Stage:
    """A crew and an intake whose runs end when they are told to."""

    def __init__(self, docket: Docket, *, concurrency: int = 10, finished: Callable[[], bool] | None = None, lease: timedelta = timedelta(minutes=5)) -> None:
        self.crew: Crew = crew_of(
            docket, name="worker-1", concurrency=concurrency, reconnection_delay=lasts(50), minimum_check_interval=lasts(20), redelivery_timeout=lease
        )
        self.begun: list[str] = []
        self.curtain = asyncio.Event()
        self.runs = Runs(concurrency, self._perform)
        self.looks = 0
        self._is_finished = finished
        self.intake = intake_of(self.crew, self.runs, None if finished is None else self._finished)

    async def _perform(self, running: Running, runs: Runs) -> None:
        claimed = running.claimed
        self.begun.append(claimed.run.key)
        await self.curtain.wait()
        await self.crew.store.lifecycle.settle(Settlement(claimed.run, claimed.message_id, Outcome(ExecutionState.COMPLETED)))

    async def _finished(self) -> bool:
        self.looks += 1
        assert self._is_finished is not None
        return self._is_finished()

    @asynccontextmanager
    async def playing(self) -> AsyncGenerator[None, None]:
        await self.crew.store.delivery.ensure_group()
        running = asyncio.create_task(self.intake.run())
        try:
            yield
        finally:
            self.intake.stop()
            await asyncio.wait_for(running, 10)

    async def end(self) -> None:
        """Lets all runs end, settled."""
        self.curtain.set()
        await eventually(lambda: self.runs.idle)


async def task() -> None: ...


async def test_as_much_is_fetched_as_there_are_free_slots(docket: Docket):
    stage = Stage(docket, concurrency=3)
    keys = together(docket.store, *(f"k{number}" for number in range(5)))
    await docket.add_many(docket.call(task, key=key)() for key in keys)

    async with stage.playing():
        await eventually(lambda: len(stage.begun) == 3)
        assert stage.begun == keys[:3]
        assert {entry.key for entries in (await read_all(docket)).values() for entry in entries} == set(keys[:3])

        stage.curtain.set()
        await eventually(lambda: len(stage.begun) == 5)
    await stage.end()


async def test_new_work_ends_the_wait_for_it(docket: Docket):
    stage = Stage(docket)

    async with stage.playing():
        await docket.add(task, key="k")()
        await eventually(lambda: stage.begun == ["k"], within=3)
    await stage.end()


async def test_told_to_stop_it_ends_at_once(docket: Docket):
    stage = Stage(docket)

    async with stage.playing():
        await asyncio.sleep(0)


async def test_told_to_stop_while_every_slot_is_taken_it_ends_at_once(docket: Docket):
    stage = Stage(docket, concurrency=1)
    await docket.add(task, key="k")()

    async with stage.playing():
        await eventually(lambda: stage.begun)
    await stage.end()


async def test_told_to_stop_it_waits_for_no_server(docket: Docket, caplog: pytest.LogCaptureFixture):
    stage = Stage(docket)
    stage.intake.stop()

    await stage.intake.wait_out(RedisUnavailable("away"))

    assert not caplog.records


@pytest.mark.only_memory("a server knows nothing of event loops")
async def test_work_that_another_event_loop_adds_ends_the_wait_for_it(docket: Docket, url: str):
    stage = Stage(docket)

    async def add() -> None:
        async with Docket(docket.name, url) as same:
            await same.add(task, key="k")()

    async with stage.playing():
        await eventually(lambda: stage.intake._reading)
        await asyncio.to_thread(lambda: asyncio.run(add()))
        await eventually(lambda: stage.begun == ["k"], within=3)
    await stage.end()


async def test_it_asks_whether_all_is_done_only_when_nothing_is_held(docket: Docket):
    stage = Stage(docket, finished=lambda: True)
    await docket.add(task, key="k")()
    await docket.store.delivery.ensure_group()
    running = asyncio.create_task(stage.intake.run())

    await eventually(lambda: stage.begun)
    await asyncio.wait([running], timeout=0.05)
    assert not stage.looks

    stage.curtain.set()
    await asyncio.wait_for(running, 10)
    assert stage.looks == 1
    await stage.end()


async def test_it_asks_again_after_pauses_that_grow_to_the_check_interval(docket: Docket):
    answers = iter([False, False, False, True])
    stage = Stage(docket, finished=lambda: next(answers))
    await docket.store.delivery.ensure_group()

    await asyncio.wait_for(stage.intake.run(), 10)

    assert stage.looks == 4


async def test_entries_that_a_broken_read_left_are_found_again(docket: Docket):
    stage = Stage(docket, concurrency=2)
    keys = together(docket.store, *(f"k{number}" for number in range(5)))
    await docket.add_many(docket.call(task, key=key)() for key in keys)
    assert len(await fetch(docket, stage.crew.instance)) == 5  # and the answer is lost
    stage.intake._unsure = True

    async with stage.playing():
        await eventually(lambda: len(stage.begun) == 2)
        stage.curtain.set()
        await eventually(lambda: len(stage.begun) == 5)
    assert sorted(stage.begun) == keys
    await stage.end()


async def test_entries_whose_claim_was_refused_are_looked_for_after_a_pause_also_where_somebody_looked_meanwhile(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    stage = Stage(docket)
    pauses: list[int] = []

    def backoff(failures: int) -> float:
        pauses.append(failures)
        stage.intake._unsure = False  # as the search leaves it, which passes over what is being claimed
        return -0.99

    async def refuse(*args: object, **kwargs: object) -> None:
        raise ServerError("WRONGTYPE")

    monkeypatch.setattr(_intake, "backoff", backoff)
    monkeypatch.setattr(docket.store.shard_of("k").lifecycle, "claim", refuse)
    for _ in range(3):
        stage.runs.reserve(1)
        await stage.intake._claim(stage.crew.instance, [Delivery(b"1-1", "k", 1)])
        assert stage.intake._unsure

    assert pauses == [0, 1, 2]
    assert stage.runs.free == 10


async def test_entries_that_a_lost_read_is_handed_after_it_was_looked_for_them_are_found_soon(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    stage, delivery = Stage(docket), docket.store.shard_of("k").delivery
    read, pending, looks = delivery.read, delivery.pending, 0
    await docket.add(task, key="stray")()
    await fetch(docket, stage.crew.instance)

    async def break_once(*args: Any) -> list[Delivery]:
        monkeypatch.setattr(delivery, "read", read)
        raise RedisUnavailable("lost")

    async def look(instance: str, *, beyond: Container[bytes] = ()) -> list[Delivery]:
        nonlocal looks
        looks += 1
        return [] if looks == 1 else await pending(instance, beyond=beyond)  # the server has not come upon the read the first time

    monkeypatch.setattr(_intake, "STRAY_LOOKS", 0.05)
    monkeypatch.setattr(delivery, "read", break_once)
    monkeypatch.setattr(delivery, "pending", look)
    async with stage.playing():
        await eventually(lambda: stage.begun == ["stray"])
    await stage.end()


async def test_entries_that_nobody_knows_of_are_found_within_a_lease(docket: Docket):
    stage = Stage(docket, lease=lasts(200))
    await docket.add(task, key="stray")()
    await fetch(docket, stage.crew.instance)

    async with stage.playing():
        await eventually(lambda: stage.begun == ["stray"])
    await stage.end()


async def test_they_are_found_behind_however_many_that_are_held(docket: Docket):
    stage = Stage(docket, concurrency=1000)
    lost, *keys = together(docket.store, "lost", *(f"k{number}" for number in range(450)))
    await docket.add_many(docket.call(task, key=key)() for key in keys)
    for _ in range(3):
        for claimed in await claim(docket, stage.crew.instance):
            stage.runs.start(claimed)
    await eventually(lambda: len(stage.begun) == 450)
    await docket.add(task, key=lost)()
    await fetch(docket, stage.crew.instance)
    stage.intake._unsure = True

    async with stage.playing():
        await eventually(lambda: stage.begun[450:] == [lost])
    await stage.end()


@pytest.mark.only_server("whose answers take a while")
async def test_a_claim_that_breaks_while_a_read_or_a_search_is_under_way_is_not_forgotten(docket: Docket):
    stage = Stage(docket)
    intake, instance = stage.intake, stage.crew.instance
    await docket.store.delivery.ensure_group()

    for under_way in (intake._read(instance, 1), intake._find_again(instance)):
        intake._unsure = False
        going_on = asyncio.ensure_future(under_way)
        await asyncio.sleep(0)
        intake._unsure = True  # as a claim does
        assert await going_on == []

        assert intake._unsure
    await intake._reader.aclose()


@pytest.mark.parametrize("backlog", [3, 450])
async def test_a_worker_that_leaves_gives_back_what_it_never_saw(docket: Docket, backlog: int):
    stage = Stage(docket)
    keys = together(docket.store, *(f"k{number}" for number in range(backlog)))
    await docket.add_many(docket.call(task, key=key)() for key in keys)
    await fetch(docket, stage.crew.instance, 1000)
    stage.intake._unsure = True

    stage.intake.stop()
    await stage.intake.run()

    assert stage.begun == []
    assert await read_all(docket) == {}
    assert {(await record(docket, key)).state for key in keys} == {ExecutionState.QUEUED}
    assert len(await fetch(docket, "other~1", 1000)) == backlog
    for key in keys:
        await docket.cancel(key)


async def test_a_cancelled_read_leaves_nothing_behind(docket: Docket):
    ran: list[int] = []
    chance = random.Random(5)

    async def noted(number: int) -> None:
        ran.append(number)

    docket.register(noted)
    number = 0
    for _ in range(40):
        async with Worker(docket, schedule_automatic_tasks=False) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda worker=worker: is_reading(worker))
            adding = [asyncio.ensure_future(docket.add(noted)(number + more)) for more in range(3)]
            number += 3
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(*adding)

    assert await read_all(docket) == {}
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    assert sorted(ran) == list(range(number))


@pytest.mark.only_server("whose answer takes a while")
async def test_a_claim_that_was_overtaken_by_the_loss_of_the_lease_starts_nothing(docket: Docket):
    stage = Stage(docket)
    await docket.add(task, key="k")()
    await docket.store.delivery.ensure_group()
    found = await fetch(docket, stage.crew.instance)
    stage.runs.reserve(1)

    claiming = asyncio.create_task(stage.intake._claim(stage.crew.instance, found))
    await asyncio.sleep(0)
    former = stage.crew.begin_anew()
    await claiming

    assert stage.begun == []
    assert stage.runs.free == 10
    await docket.cancel("k")
    await take_over(docket, former)


async def test_what_was_fetched_under_a_former_name_is_not_claimed_under_the_present_one(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    stage, delivery = Stage(docket), docket.store.shard_of("k").delivery
    former, pending = stage.crew.instance, delivery.pending
    await docket.add(task, key="k")()
    await fetch(docket, former)
    stage.intake._unsure = True

    async def lose(instance: str, *, beyond: Container[bytes] = ()) -> list[Delivery]:
        found = await pending(instance, beyond=beyond)
        if instance == former:
            stage.crew.begin_anew()
        return found

    monkeypatch.setattr(delivery, "pending", lose)
    async with stage.playing():
        await eventually(lambda: stage.crew.instance != former and stage.runs.free == 10)

        assert stage.begun == []
        assert await delivery.reclaim(former, await pending(former)) == 1
        await eventually(lambda: stage.begun == ["k"])
    await stage.end()


async def test_an_entry_that_comes_twice_is_run_once(docket: Docket):
    stage = Stage(docket)
    await docket.add(task, key="k")()
    found = await fetch(docket, stage.crew.instance)
    for _ in range(2):
        stage.runs.reserve(1)
        await stage.intake._claim(stage.crew.instance, found)
    await eventually(lambda: stage.begun == ["k"])

    assert len(stage.runs) == 1
    assert all(isinstance(answer, Claimed) for answer in await docket.store.shard_of("k").lifecycle.claim(stage.crew.instance, found))
    await stage.end()


@pytest.mark.only_server("the engine in memory has no XGROUP DESTROY")
class TestAGroupThatIsGone:
    async def test_it_is_made_again_and_nothing_is_lost_or_run_twice(self, docket: Docket, redis_server: RedisServer, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.INFO, "docket.worker")
        begun: list[str] = []
        go = asyncio.Event()

        async def slow(name: str) -> str:
            begun.append(name)
            await go.wait()
            return name

        running = await docket.add(slow, key=together(docket.store, "running")[0])("running")
        async with at_work(docket, concurrency=2, reconnection_delay=lasts(50)):
            await eventually(lambda: begun == ["running"])

            assert redis_server.client().xgroup_destroy(docket.store.keys.of("k").stream, docket.worker_group_name)
            added = await docket.add(slow, key="k")("added")
            await eventually(lambda: len(begun) == 2)
            go.set()

            assert await running.get_result(timeout=SOON) == "running"
            assert await added.get_result(timeout=SOON) == "added"
        assert begun == ["running", "added"]
        assert f"The consumer group of docket {docket.name!r} is gone; making it again" in caplog.messages
        assert await docket.store.delivery.depth() == (0, 0)

    async def test_so_it_is_when_the_whole_server_was_emptied(self, docket: Docket, redis_server: RedisServer):
        async def five() -> int:
            return 5

        async with at_work(docket, reconnection_delay=lasts(50), redelivery_timeout=lasts(500)):
            await asyncio.sleep(0.05)
            redis_server.flush()

            asked = await docket.add(five)()

            assert await asked.get_result(timeout=SOON) == 5

    async def test_any_other_refusal_is_logged_and_tried_again(self, docket: Docket, redis_server: RedisServer, caplog: pytest.LogCaptureFixture):
        async def five() -> int:
            return 5

        async with at_work(docket) as worker:
            await eventually(lambda: is_reading(worker))
            client, stream = redis_server.client(), docket.store.keys.of("k").stream
            client.delete(stream)
            client.set(stream, "no stream", px=60000)
            await eventually(lambda: "Reading new work failed and will be tried again" in caplog.text)
            client.delete(stream)

            asked = await docket.add(five, key="k")()
            assert await asked.get_result(timeout=SOON) == 5
