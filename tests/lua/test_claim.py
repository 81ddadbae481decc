"""`claim.lua`."""

from __future__ import annotations

import asyncio

import pytest

from docket._store.records import Delivery, StateChange
from docket.states import ExecutionState
from tests.lua._scripts import LARGE, Applicant, End, Item, Lua, places


async def test_a_queued_run_becomes_running(lua: Lua):
    await lua.schedule(Item(function="send", when=5, payload=b"args", trace=b"t"))
    [delivery] = await lua.read()

    [reply] = await lua.claim(delivery)

    started = reply[6]
    assert reply == [b"claimed", 1, b"send", b"args", b"", b"5", started, b"t"]
    record = await lua.record()
    assert (record["state"], record["delivery"], record["worker"], record["started_at"]) == ("running", "1", "w~1", started.decode())
    assert lua.events == [StateChange("k", 1, ExecutionState.RUNNING, 5, worker="w", started_us=int(started), completed_us=None, error=None)]
    assert [entry.key for entry in await lua.pending()] == ["k"]


async def test_a_large_payload_comes_along(lua: Lua):
    await lua.schedule(Item(payload=LARGE))

    [reply] = await lua.claim(*await lua.read())

    assert (reply[3], reply[4]) == (LARGE, b"1")


async def test_a_repeat_answers_as_the_first_time_did(lua: Lua):
    await lua.schedule(Item(payload=LARGE))
    deliveries = await lua.read()
    first = await lua.claim(*deliveries)

    again = await lua.claim(*deliveries)

    assert again == first
    assert lua.events == []


async def test_each_claim_raises_the_delivery_number(lua: Lua):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1, state="failed", again="retry", attempt=2))

    [reply] = await lua.claim(*await lua.read())

    assert (reply[1], reply[8]) == (2, b"2")


async def test_another_worker_is_refused_a_running_run(lua: Lua):
    [delivery] = await lua.running(Item())

    [reply] = await lua.claim(delivery, instance="w~2")

    assert reply == [b"refused", b"running"]


async def test_an_entry_that_was_taken_back_before_it_was_claimed_is_refused_and_the_run_waits_under_another(lua: Lua):
    await lua.schedule(Item())
    [late] = await lua.read()
    await lua.reclaim(late)

    [reply] = await lua.claim(late)

    assert reply == [b"refused", b"taken back"]
    assert (await lua.record())["state"] == "queued"
    [again] = await lua.read(instance="w~2")
    assert (await lua.claim(again, instance="w~2"))[0][:2] == [b"claimed", 1]


async def test_a_place_that_is_kept_for_an_entry_stays_when_it_was_taken_back(lua: Lua):
    [holder] = await lua.running(Item(key="a"))
    await lua.admit(Applicant(holder, (places(1),)))
    [waiter] = await lua.running(Item(key="b"))
    await lua.admit(Applicant(waiter, (places(1),)))
    await lua.settle(End(holder.message_id, holder.generation, key="a", limit="f"))
    [late] = await lua.read()
    await lua.reclaim(late)

    [reply] = await lua.claim(late)

    assert reply == [b"refused", b"taken back"]
    assert list(await lua.holders()) == [str(late.generation)]


async def refused(lua: Lua, why: bytes) -> None:
    [reply] = await lua.claim(*await lua.read())

    assert reply == [b"refused", why]
    assert await lua.pending() == []
    assert await lua.depth() == (0, 0)


async def test_a_cancelled_run_is_refused_and_its_entry_acknowledged_away(lua: Lua):
    await lua.schedule(Item())
    await lua.cancel()

    await refused(lua, b"cancelled")


async def test_a_run_whose_record_is_gone_is_refused(lua: Lua):
    await lua.schedule(Item())
    await lua.cancel(ttl_ms=0)

    await refused(lua, b"gone")


async def test_a_replaced_run_is_refused_and_its_replacement_is_not(lua: Lua):
    await lua.schedule(Item())
    await lua.schedule(Item(replace=True))

    old, new = await lua.claim(*await lua.read())

    assert old == [b"refused", b"replaced"]
    assert (new[0], new[1]) == (b"claimed", 1)


async def test_an_ended_run_is_refused(lua: Lua):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1))

    [reply] = await lua.claim(delivery)

    assert reply == [b"refused", b"completed"]


async def test_a_bad_record_fails_alone_and_its_entry_is_acknowledged_away(lua: Lua):
    await lua.schedule(Item("a"), Item("b"), Item("c"))
    deliveries = await lua.read()
    await lua.spoil("b")

    replies = await lua.claim(*deliveries)

    assert [reply[0] for reply in replies] == [b"claimed", b"error", b"claimed"]
    assert b"WRONGTYPE" in replies[1][1]
    assert [entry.key for entry in await lua.pending()] == ["a", "c"]
    await lua.mend("b")


@pytest.mark.parametrize("generation", [0, 7])
async def test_an_entry_that_names_no_run_is_refused(lua: Lua, generation: int):
    [reply] = await lua.claim(Delivery(b"1-1", "k", generation))

    assert reply == [b"refused", b"gone"]


class TestAPlaceKept:
    """For a run that waited at a limit and was let in."""

    async def let_in(self, lua: Lua) -> Delivery:
        """One run has been let in and another waits behind it."""
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await lua.admit(*(Applicant(run, (places(1),)) for run in (a, b, c)))
        await lua.settle(End(a.message_id, 1, key="a", limit="f"))
        [woken] = await lua.read()
        assert (woken.key, woken.limit, list(await lua.holders())) == ("b", "f", ["2"])
        return woken

    async def test_it_is_still_there_once_the_run_is_claimed(self, lua: Lua):
        [reply] = await lua.claim(await self.let_in(lua))

        assert reply[0] == b"claimed"
        assert list(await lua.holders()) == ["2"]

    @pytest.mark.parametrize("ttl_ms", [60_000, 0])
    async def test_when_the_run_was_cancelled_the_next_gets_it(self, lua: Lua, ttl_ms: int):
        woken = await self.let_in(lua)
        await lua.cancel("b", ttl_ms=ttl_ms)

        [reply] = await lua.claim(woken)

        assert reply == [b"refused", b"cancelled" if ttl_ms else b"gone"]
        assert list(await lua.holders()) == ["3"]

    async def test_when_the_run_was_replaced_while_it_waited_the_next_gets_it(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await lua.admit(*(Applicant(run, (places(1),)) for run in (a, b, c)))
        await lua.schedule(Item("b", replace=True, when=await lua.now_us() + 10_000_000))
        await lua.settle(End(a.message_id, 1, key="a", limit="f"))

        [reply] = await lua.claim(*await lua.read())

        assert reply == [b"refused", b"replaced"]
        assert list(await lua.holders()) == ["3"]

    async def test_when_the_run_was_replaced_the_next_gets_it(self, lua: Lua):
        woken = await self.let_in(lua)
        await lua.schedule(Item("b", replace=True))

        [reply] = await lua.claim(woken)

        assert reply == [b"refused", b"replaced"]
        assert list(await lua.holders()) == ["3"]

    async def test_when_the_record_cannot_be_read_the_next_gets_it(self, lua: Lua):
        woken = await self.let_in(lua)
        await lua.spoil("b")

        [reply] = await lua.claim(woken)

        assert reply[0] == b"error"
        assert list(await lua.holders()) == ["3"]
        await lua.mend("b")

    async def test_an_entry_that_comes_twice_does_not_take_it_from_the_run_under_way(self, lua: Lua):
        woken = await self.let_in(lua)
        await lua.reclaim(woken)
        await lua.reclaim(woken)  # two reclaimers looked at the same dead worker
        first, second = await lua.read()
        [_] = await lua.claim(first)
        await lua.admit(Applicant(first, (places(1),), 2))

        [reply] = await lua.claim(second)

        assert reply == [b"refused", b"running"]
        assert list(await lua.holders()) == ["2"]
        assert await lua.waiters() == ["3|c"]

    async def test_whoever_waits_for_entries_has_the_next_at_once(self, lua: Lua):
        woken = await self.let_in(lua)
        await lua.cancel("b")
        reader = lua.delivery.reader()
        reading = asyncio.create_task(lua.delivery.read(reader, "w~2", 10, 10_000))
        await asyncio.sleep(0.01)

        await lua.claim(woken)

        [entry] = await asyncio.wait_for(reading, 5)
        assert (entry.key, entry.limit) == ("c", "f")
        await reader.aclose()
