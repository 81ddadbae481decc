"""Metrics: every step of a task is counted once, under the labels users know, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from docket import Cancel, Discard, Docket, Perpetual, RateLimit, Retry, Snooze, Worker
from docket.dependencies import FailureHandler, TaskOutcome
from docket.execution import Execution
from tests._telemetry import Metrics, metered
from tests._waiting import eventually
from tests.worker._hands import at_work, claim, dead_worker

LATER = timedelta(hours=1)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metrics]:
    with metered(monkeypatch) as metrics:
        yield metrics


async def fine() -> None: ...


async def fails(retry: Retry = Retry(attempts=2)) -> None:
    raise RuntimeError("no")


def names(recorded: Metrics) -> dict[str, float]:
    return {name.removeprefix("docket_tasks_"): recorded.total(name) for name in recorded.names() if name.startswith("docket_tasks_") and recorded.total(name)}


async def drained(docket: Docket, recorded: Metrics) -> dict[str, float]:
    """What is counted once everything has run."""
    async with Worker(docket, name="w") as worker:
        await worker.run_until_finished()
    docket_left(docket)
    return names(recorded)


def docket_left(docket: Docket) -> None:
    docket._scheduling.flush()  # pyright: ignore[reportPrivateUsage] - leaving the docket does it


async def test_a_task_that_succeeds(docket: Docket, recorded: Metrics):
    await docket.add(fine)()

    assert await drained(docket, recorded) == {"added": 1, "scheduled": 1, "started": 1, "completed": 1, "succeeded": 1}
    mine = {"docket.name": docket.name, "docket.task": "fine"}
    assert recorded.of("docket_tasks_added") == [(mine, 1)]
    assert recorded.of("docket_tasks_succeeded") == [({**mine, "docket.worker": "w"}, 1)]
    assert recorded.of("docket_task_duration") == recorded.of("docket_task_punctuality") == [({**mine, "docket.worker": "w"}, 1)]


async def test_a_task_that_fails_and_is_tried_again(docket: Docket, recorded: Metrics):
    await docket.add(fails)()

    assert await drained(docket, recorded) == {"added": 1, "scheduled": 1, "started": 2, "completed": 2, "failed": 2, "retried": 1}


async def test_a_task_that_goes_on(docket: Docket, recorded: Metrics):
    @docket.task
    @Perpetual(every=timedelta(0))
    async def beat() -> None: ...

    await beat.schedule(key="k")
    async with Worker(docket) as worker:
        await worker.run_at_most({"k": 3})
    docket_left(docket)

    assert names(recorded) == {"added": 1, "scheduled": 1, "started": 3, "completed": 3, "succeeded": 3, "perpetuated": 2}


async def test_batches_and_replacements(docket: Docket, recorded: Metrics):
    await docket.add_many(docket.call(fine, key=key)() for key in "aab")
    await docket.replace(fine, timedelta(0), "a")()
    await docket.add(fine, key="b")()  # stands already

    counted = await drained(docket, recorded)

    assert {name: counted[name] for name in ("added", "replaced", "scheduled")} == {"added": 2, "replaced": 1, "scheduled": 3}


async def test_a_cancellation_counts_once(docket: Docket, recorded: Metrics):
    running = asyncio.Event()

    @docket.task
    async def waits() -> None:
        running.set()
        await asyncio.sleep(3600)

    await docket.add(fine, when=LATER, key="later")()
    execution = await waits.schedule(key="now")
    async with at_work(docket):
        await running.wait()
        await docket.cancel("later")
        await docket.cancel("now")
        with pytest.raises(Exception, match="was cancelled"):
            await execution.get_result()
    await docket.cancel("nothing stands here")

    assert recorded.total("docket_tasks_cancelled") == 2
    assert recorded.of("docket_tasks_cancelled") == [({"docket.name": docket.name}, 2)]
    assert recorded.total("docket_tasks_running") == 0


async def test_a_run_that_cancels_itself(docket: Docket, recorded: Metrics):
    async def stops() -> None:
        raise Cancel("enough")

    await docket.add(stops)()

    counted = await drained(docket, recorded)
    assert counted == {"added": 1, "scheduled": 1, "started": 1, "cancelled": 1}
    assert recorded.total("docket_tasks_cancelled", docket_task="stops") == 1


async def test_what_is_put_off_has_not_ended(docket: Docket, recorded: Metrics):
    times = 0

    async def snoozes() -> None:
        nonlocal times
        times += 1
        if times == 1:
            raise Snooze(timedelta(milliseconds=1))

    await docket.add(snoozes)()

    assert await drained(docket, recorded) == {"added": 1, "scheduled": 1, "started": 2, "completed": 1, "succeeded": 1}


async def test_what_is_discarded_or_dealt_with_has_failed(docket: Docket, recorded: Metrics):
    class Calm(FailureHandler):
        async def handle_failure(self, execution: Execution[object], outcome: TaskOutcome) -> bool:
            return True

    async def discarded() -> None:
        raise Discard("no use")

    async def handled(calm: Calm = Calm()) -> None:
        raise RuntimeError("no")

    await docket.add(discarded)()
    await docket.add(handled)()

    assert await drained(docket, recorded) == {"added": 2, "scheduled": 2, "started": 2, "completed": 2, "failed": 2}


async def test_what_a_limit_drops_never_started(docket: Docket, recorded: Metrics):
    async def rare(limit: RateLimit = RateLimit(1, per=LATER, drop=True)) -> None: ...

    await docket.add(rare)()
    await docket.add(rare)()

    counted = await drained(docket, recorded)
    assert (counted["started"], counted["cancelled"]) == (1, 1)


async def test_struck_work_is_counted_where_it_was_stopped(docket: Docket, recorded: Metrics):
    await docket.add(fine)()
    await docket.strike(fine)
    await docket.add(fine)()

    counted = await drained(docket, recorded)

    assert counted == {"added": 1, "scheduled": 1, "stricken": 2}
    assert recorded.total("docket_tasks_stricken", docket_where="docket") == 1
    assert recorded.total("docket_tasks_stricken", docket_where="worker") == 1
    await docket.restore(fine)


async def test_a_run_whose_place_was_taken(docket: Docket, recorded: Metrics):
    running = asyncio.Event()

    @docket.task
    async def waits() -> None:
        running.set()
        await asyncio.sleep(3600)

    await waits.schedule(key="k")
    async with at_work(docket) as worker:
        await running.wait()
        execution = await docket.replace(fine, timedelta(0), "k")()
        await execution.get_result()
        worker.stop()

    assert recorded.total("docket_tasks_superseded", docket_where="worker") == 1
    assert recorded.total("docket_tasks_running") == 0


async def test_work_of_a_worker_that_died(docket: Docket, recorded: Metrics):
    docket.register(fine)
    await docket.add(fine, key="k")()
    await dead_worker(docket)
    assert len(await claim(docket, "dead~1")) == 1

    async with at_work(docket, redelivery_timeout=timedelta(milliseconds=200)):
        execution = await docket.get_execution("k")
        assert execution is not None
        await execution.get_result()

    assert recorded.total("docket_tasks_redelivered", docket_task="fine") == 1


async def test_gauges_tell_what_waits_and_what_is_struck(docket: Docket, recorded: Metrics):
    await docket.add_many(docket.call(fine, when=LATER)() for _ in range(3))
    await docket.strike("another")

    async with at_work(docket):
        await eventually(lambda: recorded.of("docket_strikes_in_effect"))
        assert recorded.of("docket_schedule_depth") == [({"docket.name": docket.name}, 3)]
        assert recorded.of("docket_queue_depth") == [({"docket.name": docket.name}, 0)]
        assert recorded.total("docket_strikes_in_effect") == 1
        assert {labels["cache"] for labels, _ in recorded.of("docket_cache_size")} == {"signature", "annotation"}
    assert recorded.total("docket_strikes_in_effect") == 0
    await docket.restore("another")
    await docket.clear()


async def test_a_gauge_tells_how_many_dead_letters_there_are(docket: Docket, recorded: Metrics):
    async def fails() -> None:
        raise RuntimeError("for good")

    async with at_work(docket):
        await docket.add(fails)()
        await eventually(lambda: recorded.of("docket_dead_letters"))
    async with at_work(docket):
        await eventually(lambda: recorded.total("docket_dead_letters") == 1)
        assert recorded.of("docket_dead_letters") == [({"docket.name": docket.name}, 1)]
