"""Starting automatic perpetual tasks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from docket import Docket, ExecutionState, Perpetual, Worker
from docket._worker._perpetuals import Perpetuals
from docket.errors import InvalidArguments, ServerError
from tests._waiting import eventually
from tests.worker._hands import at_work, crew_of

HOUR = timedelta(hours=1)


async def beat(perpetual: Perpetual = Perpetual(every=HOUR, automatic=True)) -> None: ...
async def not_automatic(perpetual: Perpetual = Perpetual(every=HOUR)) -> None: ...
async def plain() -> None: ...


async def test_automatic_tasks_are_scheduled_under_their_names(docket: Docket):
    docket.register(beat, names=["beat", "another"])
    docket.register(not_automatic)
    docket.register(plain)
    perpetuals = Perpetuals(crew_of(docket))

    assert await perpetuals.tick() == 60.0

    assert sorted(perpetuals.seeded) == ["another", "beat"]
    assert {key: bool(await docket.get_execution(key)) for key in ("beat", "another", "not_automatic", "plain")} == {
        "beat": True, "another": True, "not_automatic": False, "plain": False,
    }  # fmt: skip
    for key in perpetuals.seeded:
        await docket.cancel(key)


async def test_one_that_cannot_be_scheduled_keeps_no_worker_from_starting(docket: Docket, caplog: pytest.LogCaptureFixture):
    docket.register(beat)
    await docket.store.backend.call("SET", docket.store.keys.run("beat"), "no record", "PX", 60_000)

    async with at_work(docket):
        execution = await docket.add(plain)()
        assert await execution.get_result(timeout=timedelta(seconds=20)) is None

    assert "The worker's seeding of automatic tasks failed and will be tried again" in caplog.text


async def test_one_that_lives_is_left_alone_and_one_that_was_lost_is_put_back(docket: Docket):
    docket.register(beat)
    perpetuals = Perpetuals(crew_of(docket))
    mine = await docket.add(beat, when=HOUR, key="beat")()

    await perpetuals.tick()
    kept = await docket.get_execution("beat")
    assert kept is not None and kept.generation == mine.generation

    await docket.cancel("beat")
    await perpetuals.tick()
    back = await docket.get_execution("beat")
    assert back is not None and back.generation > mine.generation and back.state is ExecutionState.QUEUED
    await docket.cancel("beat")


async def test_one_that_cannot_be_called_without_arguments_is_an_error(docket: Docket):
    async def needy(x: int, perpetual: Perpetual = Perpetual(every=HOUR, automatic=True)) -> None: ...

    docket.register(needy)

    with pytest.raises(InvalidArguments, match="needy"):
        await Perpetuals(crew_of(docket)).tick()


async def test_one_that_the_server_refuses_is_an_error(docket: Docket):
    docket.register(beat)
    async with docket.redis() as redis:
        await redis.execute_command("SET", docket.store.keys.run("beat"), "not a hash", "PX", "60000")

    with pytest.raises(ServerError, match="WRONGTYPE"):
        await Perpetuals(crew_of(docket)).tick()


async def test_a_worker_seeds_before_it_fetches(docket: Docket):
    ran: list[str] = []

    async def every_hour(perpetual: Perpetual = Perpetual(every=HOUR, automatic=True)) -> None:
        ran.append("every_hour")

    docket.register(every_hour)

    async with at_work(docket):
        await eventually(lambda: ran)

    following = await docket.get_execution("every_hour")
    assert following is not None and following.state is ExecutionState.SCHEDULED
    await docket.cancel("every_hour")


async def test_a_worker_told_not_to_does_not(docket: Docket):
    docket.register(beat)

    async with Worker(docket, schedule_automatic_tasks=False) as worker:
        await worker.run_until_finished()

    assert await docket.get_execution("beat") is None
