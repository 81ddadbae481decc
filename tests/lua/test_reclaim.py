"""`reclaim.lua`."""

from __future__ import annotations

import pytest

from docket._store.records import Delivery, StateChange
from docket.states import ExecutionState
from tests.lua._scripts import LARGE, Applicant, End, Item, Lua, places

QUEUED, CANCELLED = ExecutionState.QUEUED, ExecutionState.CANCELLED


async def lease(lua: Lua) -> str | None:
    score = await lua.store.backend.call("ZSCORE", lua.keys.leases, "w~1")
    return None if score is None else f"{float(score):.0f}"


async def test_nothing_is_taken_from_an_instance_that_lives(lua: Lua):
    deliveries = await lua.running(Item())
    await lua.renew(first=True)

    assert await lua.reclaim(*deliveries) == [b"alive"]

    assert (await lua.record())["state"] == "running"


@pytest.mark.parametrize("lapsed", [False, True], ids=["no lease", "a lapsed lease"])
async def test_a_running_run_is_queued_again_and_its_crash_counted(lua: Lua, lapsed: bool):
    deliveries = await lua.running(Item(when=5, payload=LARGE))
    await lua.progress(add=2)
    if lapsed:
        await lua.renew(first=True, lease_us=-1)

    assert await lua.reclaim(*deliveries) == [b"taken", 1]

    record = await lua.record()
    assert (record["state"], record["delivery"], record["crashes"]) == ("queued", "2", "1")
    assert not {"worker", "started_at", "current"} & set(record)
    assert lua.events == [StateChange("k", 1, QUEUED, 5, None, None, None, None)]
    assert await lua.pending() == []
    [reply] = await lua.claim(*await lua.read(instance="w~2"), instance="w~2")
    assert (reply[0], reply[1], reply[3], reply[9]) == (b"claimed", 3, LARGE, b"1")


async def test_after_the_first_call_the_lease_stands_at_zero_and_cannot_be_renewed(lua: Lua):
    deliveries = await lua.running(Item())

    await lua.reclaim(*deliveries)

    assert await lease(lua) == "0"
    assert await lua.renew() == [b"lost"]


async def test_an_instance_that_holds_nothing_loses_its_lease_for_good(lua: Lua):
    await lua.renew(first=True, lease_us=-1)

    assert await lua.reclaim() == [b"taken", 0]

    assert await lease(lua) is None


async def test_a_repeat_takes_nothing(lua: Lua):
    deliveries = await lua.running(Item())
    await lua.reclaim(*deliveries)

    assert await lua.reclaim(*deliveries) == [b"taken", 1]  # the run is queued, and an entry more does no harm

    first, second = await lua.claim(*await lua.read(instance="w~2"), instance="w~2")
    assert (first[0], second[0]) == (b"claimed", b"refused")


async def test_what_was_fetched_and_never_claimed_is_given_back_without_a_crash(lua: Lua):
    await lua.schedule(Item())
    deliveries = await lua.read()
    await lua.renew(first=True)

    assert await lua.reclaim(*deliveries, own=True) == [b"taken", 1]

    assert "crashes" not in await lua.record()
    assert await lease(lua) != "0"
    [reply] = await lua.claim(*await lua.read(instance="w~2"), instance="w~2")
    assert (reply[0], reply[1]) == (b"claimed", 1)


async def test_what_was_claimed_is_given_back_without_a_crash(lua: Lua):
    deliveries = await lua.running(Item())

    assert await lua.reclaim(*deliveries, own=True) == [b"taken", 1]

    assert "crashes" not in await lua.record()


async def test_a_cancelled_run_of_a_dead_worker_ends_cancelled(lua: Lua):
    deliveries = await lua.running(Item(payload=LARGE))
    await lua.cancel()

    assert await lua.reclaim(*deliveries) == [b"taken", 0]

    assert lua.states() == [(1, CANCELLED)]
    assert (await lua.record())["state"] == "cancelled"
    assert await lua.depth() == (0, 0)
    assert await lua.total("cancelled") == 1


@pytest.mark.parametrize("payload", [b"p", LARGE], ids=["small", "large"])
async def test_the_successor_of_a_crashed_attempt_is_dropped(lua: Lua, payload: bytes):
    deliveries = await lua.running(Item())
    await lua.schedule(Item(within=(1, 1), payload=payload))

    await lua.reclaim(*deliveries)

    assert lua.states() == [(2, CANCELLED), (1, QUEUED)]
    assert await lua.exists(lua.keys.successor("k")) == 0


async def test_replaced_ended_and_vanished_runs_are_acknowledged_away(lua: Lua):
    a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
    await lua.schedule(Item("a", replace=True))
    await lua.settle(End(b.message_id, b.generation, key="b"), ttl_ms=0)
    await lua.settle(End(c.message_id, c.generation, key="c"))

    assert await lua.reclaim(a, b, c) == [b"taken", 0]

    assert await lua.depth() == (1, 0)


async def test_a_run_that_another_claimed_meanwhile_stays_with_it(lua: Lua):
    deliveries = await lua.running(Item())
    await lua.reclaim(*deliveries)
    await lua.claim(*await lua.read(instance="w~2"), instance="w~2")

    assert await lua.reclaim(*deliveries) == [b"taken", 0]

    assert (await lua.record())["worker"] == "w~2"


async def test_a_bad_record_fails_alone(lua: Lua):
    deliveries = await lua.running(Item("a"), Item("b"), Item("c"))
    await lua.spoil("b")

    assert await lua.reclaim(*deliveries) == [b"taken", 2]

    assert await lua.pending() == []
    await lua.mend("b")


class TestAPlaceKept:
    """For a run that waited at a limit, was let in, and was fetched by a worker that then died."""

    async def fetched(self, lua: Lua, *, claimed: bool = False) -> Delivery:
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await lua.admit(*(Applicant(run, (places(1),)) for run in (a, b, c)))
        await lua.settle(End(a.message_id, 1, key="a", limit="f"))
        [woken] = await lua.read()
        if claimed:
            await lua.claim(woken)
        return woken

    async def given_up(self, lua: Lua, why: bytes) -> None:
        """The entry came back, is refused, and the place goes to the next."""
        [entry] = await lua.read(instance="w~2")
        [reply] = await lua.claim(entry, instance="w~2")
        assert why in (reply[0], reply[1])
        assert list(await lua.holders()) == ["3"]

    @pytest.mark.parametrize("own", [False, True])
    @pytest.mark.parametrize("claimed", [False, True])
    async def test_it_goes_with_the_run(self, lua: Lua, own: bool, claimed: bool):
        woken = await self.fetched(lua, claimed=claimed)

        assert await lua.reclaim(woken, own=own) == [b"taken", 1]

        [entry] = await lua.read(instance="w~2")
        assert (entry.key, entry.limit) == ("b", "f")
        assert list(await lua.holders()) == ["2"]

    async def test_when_the_run_was_cancelled_the_next_gets_it(self, lua: Lua):
        woken = await self.fetched(lua, claimed=True)
        await lua.cancel("b")

        assert await lua.reclaim(woken) == [b"taken", 0]

        await self.given_up(lua, b"cancelled")

    async def test_when_the_run_was_cancelled_before_it_was_claimed_the_next_has_it_already(self, lua: Lua):
        woken = await self.fetched(lua)
        await lua.cancel("b")
        assert list(await lua.holders()) == ["3"]

        assert await lua.reclaim(woken) == [b"taken", 0]

        following, come_back = await lua.read(instance="w~2")
        [claimed, refused] = await lua.claim(following, come_back, instance="w~2")
        assert (claimed[0], refused) == (b"claimed", [b"refused", b"cancelled"])
        assert list(await lua.holders()) == ["3"]

    async def test_when_the_run_was_replaced_the_next_gets_it(self, lua: Lua):
        woken = await self.fetched(lua)
        await lua.schedule(Item("b", replace=True))
        await lua.claim(*await lua.read(instance="w~3"), instance="w~3")

        assert await lua.reclaim(woken) == [b"taken", 0]

        await self.given_up(lua, b"replaced")

    async def test_when_the_record_cannot_be_read_the_next_gets_it(self, lua: Lua):
        woken = await self.fetched(lua)
        await lua.spoil("b")

        assert await lua.reclaim(woken) == [b"taken", 0]

        await self.given_up(lua, b"error")
        await lua.mend("b")

    async def test_a_run_that_another_claimed_meanwhile_keeps_it(self, lua: Lua):
        woken = await self.fetched(lua)
        await lua.reclaim(woken)
        [entry] = await lua.read(instance="w~2")
        await lua.claim(entry, instance="w~2")

        await lua.reclaim(woken)  # two reclaimers looked at the same dead worker

        [twin] = await lua.read(instance="w~2")
        assert await lua.claim(twin, instance="w~2") == [[b"refused", b"running"]]
        assert list(await lua.holders()) == ["2"]
