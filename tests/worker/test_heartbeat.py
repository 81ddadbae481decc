"""Saying that a worker can claim work."""

from __future__ import annotations

from datetime import timedelta

from docket import Docket
from docket._store.records import Announcement
from docket._worker._heartbeat import Heartbeat
from tests._waiting import eventually
from tests.worker._hands import at_work, crew_of, leased


async def announced(docket: Docket) -> list[Announcement]:
    return await docket.store.workers.live(since_us=0)


async def test_it_names_the_worker_and_its_tasks(docket: Docket):
    async def greet() -> None: ...

    docket.register(greet)
    crew = crew_of(docket, name="worker-1")

    pause = await Heartbeat(crew).tick()

    assert pause == docket.heartbeat_interval.total_seconds()
    [announcement] = await announced(docket)
    assert (announcement.instance, announcement.name) == (crew.instance, "worker-1")
    assert announcement.tasks == {"greet", "trace", "fail", "sleep"}


async def test_a_worker_that_cannot_claim_is_silent(docket: Docket):
    trouble: list[str | None] = ["Redis takes no writes now"]
    heartbeat = Heartbeat(crew_of(docket), lambda: trouble[0])

    assert await heartbeat.tick() == docket.heartbeat_interval.total_seconds()
    assert await docket.store.workers.live(since_us=0) == []

    trouble[0] = None
    await heartbeat.tick()
    assert len(await docket.store.workers.live(since_us=0)) == 1


async def test_a_later_beat_is_later(docket: Docket):
    heartbeat = Heartbeat(crew_of(docket))
    await heartbeat.tick()
    [before] = await announced(docket)

    await heartbeat.tick()

    [after] = await announced(docket)
    assert after.last_seen_us > before.last_seen_us
    assert after.tasks == before.tasks


async def test_a_task_registered_meanwhile_is_announced(docket: Docket):
    async def late() -> None: ...

    heartbeat = Heartbeat(crew_of(docket))
    await heartbeat.tick()

    docket.register(late)
    await heartbeat.tick()

    [announcement] = await announced(docket)
    assert "late" in announcement.tasks


async def test_a_description_that_went_is_given_again_at_once(docket: Docket):
    crew = crew_of(docket, name="worker-1")
    heartbeat = Heartbeat(crew)
    await heartbeat.tick()
    async with docket.redis() as redis:
        await redis.execute_command("DEL", docket.key(f"worker:{crew.instance}"))

    assert await heartbeat.tick() == 0.0
    assert await heartbeat.tick() == 2.0

    [announcement] = await announced(docket)
    assert announcement.name == "worker-1"


async def test_a_worker_with_a_new_identity_says_everything_again(docket: Docket):
    crew = crew_of(docket, name="worker-1")
    heartbeat = Heartbeat(crew)
    await heartbeat.tick()

    crew.begin_anew()
    await heartbeat.tick()

    assert {(one.instance == crew.instance, one.name, len(one.tasks)) for one in await announced(docket)} == {(True, "worker-1", 3), (False, "worker-1", 3)}


async def test_a_worker_beats_from_its_start_and_leaves_every_list_at_its_end(docket_name: str, url: str):
    async with Docket(docket_name, url, heartbeat_interval=timedelta(milliseconds=20)) as docket:
        async with at_work(docket, name="worker-1"):
            await eventually(lambda: announced(docket))
            [first] = await announced(docket)

            async def beaten() -> bool:
                return (await announced(docket))[0].last_seen_us > first.last_seen_us

            await eventually(beaten)

        assert await announced(docket) == []
        assert await leased(docket) == set()
