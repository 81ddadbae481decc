"""What `docket top` reads, on both backends; how it is shown: `test_top_frame.py`, `test_top.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from docket import Docket
from docket.cli._top_reading import Collector
from docket.cli._top_screen import Screen
from docket.errors import RedisUnavailable
from tests._waiting import eventually
from tests.cli._stage import Stage, working


@pytest.fixture
async def stage(docket: Docket) -> AsyncIterator[Stage]:
    stage = Stage(docket)
    async with working(docket):
        await stage.fill()
        yield stage
        await stage.clear()


async def test_a_look_sees_everything_that_a_screen_shows(docket: Docket, stage: Stage):
    collector = Collector(docket)

    async def progress() -> int | None:
        reading = await collector.look(10)
        runs = reading.underway
        return runs[0].progress.current if reading.counts.failed and runs and runs[0].progress else None

    await eventually(progress)
    reading = await collector.look(10)

    [run] = reading.underway
    [worker] = reading.workers
    [failure] = reading.failures
    assert (run.key, run.function, run.worker) == ("sheep", "reports", "Jim")
    assert (worker.name, worker.running, worker.tasks) == ("Jim", 1, len(docket.tasks))
    assert (failure.key, failure.function, failure.error) == ("broken", "fails", "ValueError: Ouch!")
    assert (reading.counts.running, reading.counts.scheduled, reading.counts.failed) == (1, 1, 1)
    assert reading.ready_since_us is None
    assert reading.next_due_us is not None and reading.next_due_us > reading.now_us
    assert reading.strikes == ("sleep(seconds > 100)",)


async def test_what_waits_for_a_worker_tells_since_when(docket: Docket):
    await docket.add("trace", key="k")("waits")

    reading = await Collector(docket).look(10)

    assert reading.ready_since_us is not None
    assert reading.counts.queued == 1
    assert reading.next_due_us is None
    await docket.cancel("k")


async def test_of_many_workers_the_busiest_are_told_of_in_full(docket: Docket, stage: Stage):
    async with working(docket, "idle"):
        collector = Collector(docket)

        async def both() -> bool:
            reading = await collector.look(1)
            return len(reading.workers) == 2 and reading.workers[0].running == 1

        await eventually(both)
        busy, idle = (await collector.look(1)).workers

    assert (busy.name, busy.tasks) == ("Jim", len(docket.tasks))
    assert (idle.name, idle.running, idle.tasks) == ("idle", 0, None)


async def test_what_does_not_change_is_not_read_again(docket: Docket, stage: Stage, monkeypatch: pytest.MonkeyPatch):
    collector = Collector(docket)

    async def has_failed() -> bool:
        reading = await collector.look(10)
        return bool(reading.failures) and reading.counts.failed == 1

    await eventually(has_failed)
    await collector.look(10)

    async def unwanted(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(docket.store.glance, "failures", unwanted)
    monkeypatch.setattr(docket.store.glance, "tasks_of", unwanted)
    reading = await collector.look(10)

    assert [failure.key for failure in reading.failures] == ["broken"]
    assert [worker.tasks for worker in reading.workers] == [len(docket.tasks)]


async def test_a_look_that_redis_does_not_answer_leaves_the_last_one_standing(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    moment = 5
    screen = Screen(docket, lambda: moment, timedelta(seconds=1), Console(file=StringIO()))
    await screen.look()
    seen = screen.view()

    async def refuses(*_: object) -> None:
        raise RedisUnavailable("loading")

    async def is_not_there(timeout: float) -> bool:
        return False

    monkeypatch.setattr(docket, "counts", refuses)
    await screen.look()
    monkeypatch.setattr(docket.store.backend, "available", is_not_there)
    moment = 6
    await screen.look()
    away = screen.view()
    monkeypatch.undo()
    await screen.look()

    assert seen.reading is not None and seen.away_since_us is None
    assert (away.reading, away.away_since_us) == (seen.reading, 5)
    assert screen.view().away_since_us is None
