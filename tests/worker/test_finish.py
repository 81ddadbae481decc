"""Whether anything is left to do."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from docket import Docket
from docket._worker._finish import Finish
from docket._worker._plans import Plans
from tests.worker._hands import claim, crew_of

HOUR = timedelta(hours=1)


async def known() -> None: ...
async def fallback() -> None: ...


@pytest.fixture
async def finish(docket: Docket) -> Finish:
    docket.register(known)
    return Finish(crew_of(docket), Plans(docket.registry, (), None))


async def test_nothing_is_left_at_first(finish: Finish):
    assert await finish.reached()


@pytest.mark.parametrize("when", [None, HOUR], ids=["queued", "scheduled"])
async def test_work_it_knows_is_left(docket: Docket, finish: Finish, when: timedelta | None):
    await docket.add(known, when=when, key="k")()

    assert not await finish.reached()

    await docket.cancel("k")


async def test_what_runs_elsewhere_is_left(docket: Docket, finish: Finish):
    await docket.add(known, key="k")()
    [claimed] = await claim(docket, "elsewhere~1")

    assert not await finish.reached()

    assert await docket.store.shard_of("k").delivery.reclaim("elsewhere~1", [], own=True) is not None
    assert claimed.run.key == "k"
    await docket.cancel("k")


async def test_strangers_are_left_in_place_and_named_in_one_line(docket: Docket, finish: Finish, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.worker")
    for number in range(3):
        await docket.add("foreign", key=f"foreign {number}")()
    await docket.add("alien", when=HOUR, key="alien")()

    assert await finish.reached()

    assert caplog.messages[2:] == ["Finished; tasks left for workers that know them: alien, foreign"]
    for key in ("alien", *(f"foreign {number}" for number in range(3))):
        assert await docket.get_execution(key)
        await docket.cancel(key)


async def test_to_a_worker_with_a_fallback_nothing_is_strange(docket: Docket):
    finish = Finish(crew_of(docket), Plans(docket.registry, (), fallback))
    await docket.add("foreign", key="k")()

    assert not await finish.reached()

    await docket.cancel("k")


async def test_an_entry_of_a_run_that_is_gone_is_nothing(docket: Docket, finish: Finish):
    await docket.add(known, key="k")()
    async with docket.redis() as redis:
        await redis.execute_command("DEL", docket.store.keys.run("k"))

    assert await finish.reached()


def test_only_names_are_tasks():
    assert 5 not in Finish.__new__(Finish)
