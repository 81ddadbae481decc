"""The runs a worker holds, and the slots they take."""

from __future__ import annotations

import asyncio

import pytest

from docket._store.records import Claimed, RunId
from docket._worker._runs import Running, Runs
from tests._waiting import eventually


def claimed(key: str, generation: int = 1) -> Claimed:
    return Claimed(
        run=RunId(key, generation, 1), message_id=key.encode(), function="f", payload=b"", when_us=0, started_us=0, attempt=1, crashes=0, large_payload=False, trace=b""
    )  # fmt: skip


class Stage:
    """Performs runs as the tests want: each holds its body until `curtain`, and is then settled until `lights`."""

    def __init__(self) -> None:
        self.curtain = asyncio.Event()
        self.lights = asyncio.Event()
        self.lights.set()
        self.cancelled: list[str] = []

    async def __call__(self, running: Running, runs: Runs) -> None:
        running.in_body = True
        try:
            await self.curtain.wait()
        except asyncio.CancelledError:
            self.cancelled.append(running.claimed.run.key)
        running.in_body = False
        runs.free_slot(running)
        await self.lights.wait()


@pytest.fixture
async def stage() -> Stage:
    return Stage()


def in_touch() -> bool:
    return False


def away() -> bool:
    return True


async def test_a_slot_is_taken_by_a_body_and_not_by_its_settling(stage: Stage):
    runs = Runs(2, stage)
    stage.lights.clear()

    runs.start(claimed("a"))
    runs.start(claimed("b"))
    assert (runs.free, len(runs), runs.idle) == (0, 2, False)

    stage.curtain.set()
    await asyncio.wait_for(runs.slot(), 5)
    await eventually(lambda: runs.free == 2)
    assert (len(runs), runs.idle) == (2, False)

    stage.lights.set()
    assert await runs.drained(is_out=in_touch, patience=0)
    assert (runs.free, len(runs), runs.idle) == (2, 0, True)


async def test_a_free_slot_is_there_at_once(stage: Stage):
    await asyncio.wait_for(Runs(1, stage).slot(), 5)


async def test_there_is_an_end_to_what_may_wait_to_be_settled(stage: Stage):
    runs = Runs(1, stage)
    stage.curtain.set()
    stage.lights.clear()

    for number in range(52):
        runs.start(claimed(f"k{number}"))

        def begun(number: int = number) -> bool:
            return runs.free == min(1, 52 - number - 1)

        await eventually(begun)

    assert runs.free == 0
    stage.lights.set()
    await runs.drained(is_out=in_touch, patience=0)


async def test_it_names_what_it_holds(stage: Stage):
    runs = Runs(2, stage)
    runs.start(claimed("a"))
    runs.start(claimed("b"))

    assert runs.held() == [RunId("a", 1, 1), RunId("b", 1, 1)]
    assert runs.messages() == {b"a", b"b"}

    await asyncio.sleep(0)
    runs.stop_all("lost")
    assert runs.held() == []
    await runs.drained(is_out=in_touch, patience=0)


async def test_only_the_run_that_is_meant_is_stopped_and_only_once(stage: Stage):
    runs = Runs(3, stage)
    for run in (claimed("a", 1), claimed("a", 2), claimed("b", 1)):
        runs.start(run)
    await asyncio.sleep(0)

    runs.stop("a", 2, "cancelled")
    runs.stop("a", 2, "replaced")
    runs.stop("c", 1, "cancelled")
    await eventually(lambda: len(runs) == 2)

    assert stage.cancelled == ["a"]
    assert runs.held() == [RunId("a", 1, 1), RunId("b", 1, 1)]
    stage.curtain.set()
    await runs.drained(is_out=in_touch, patience=0)


async def test_a_run_without_a_body_only_learns_the_reason(stage: Stage):
    runs = Runs(1, stage)
    running = Running(claimed("a"))
    running.stop("cancelled")
    assert running.stopped == "cancelled"

    stage.lights.clear()
    stage.curtain.set()
    runs.start(claimed("b"))
    await eventually(lambda: runs.free == 1)
    runs.stop_all("lost")
    stage.lights.set()
    await runs.drained(is_out=in_touch, patience=0)

    assert stage.cancelled == []


async def test_bodies_are_waited_for_also_while_redis_is_away(stage: Stage):
    runs = Runs(1, stage)
    runs.start(claimed("a"))
    draining = asyncio.create_task(runs.drained(is_out=away, patience=0))

    done, _ = await asyncio.wait([draining], timeout=1.3)
    assert not done

    stage.curtain.set()
    assert await draining


async def test_what_cannot_be_settled_is_given_up_in_the_end(stage: Stage):
    runs = Runs(1, stage)
    stage.curtain.set()
    stage.lights.clear()
    runs.start(claimed("a"))

    assert not await runs.drained(is_out=away, patience=0.5)

    assert runs.idle


async def test_an_outage_that_ends_is_forgotten(stage: Stage):
    runs = Runs(1, stage)
    stage.curtain.set()
    stage.lights.clear()
    runs.start(claimed("a"))
    looks = iter([True, False])
    draining = asyncio.create_task(runs.drained(is_out=lambda: next(looks, False), patience=0.5))

    done, _ = await asyncio.wait([draining], timeout=2.3)
    assert not done

    stage.lights.set()
    assert await draining
