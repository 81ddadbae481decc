"""`cancel.lua`."""

from __future__ import annotations

import pytest

from docket._store.records import Delivery
from docket.errors import ServerError
from docket.states import ExecutionState
from tests.lua._scripts import LARGE, TTL_MS, Applicant, End, Item, Lua, places

CANCELLED = ExecutionState.CANCELLED


async def test_where_nothing_lives_nothing_is_cancelled(lua: Lua):
    assert await lua.cancel() == [b"none", 0]
    assert lua.events == []


async def test_scheduled_work_is_prevented(lua: Lua):
    await lua.schedule(Item(when=await lua.now_us() + 10_000_000, payload=LARGE))

    assert await lua.cancel() == [b"scheduled", 1]

    assert (await lua.record())["state"] == "cancelled"
    assert await lua.depth() == (0, 0)
    assert lua.states() == [(1, CANCELLED)]
    if not lua.store.is_memory:
        for key in (lua.keys.run("k"), lua.keys.payload("k")):
            assert 0 < await lua.store.backend.call("PTTL", key) <= TTL_MS


async def test_queued_work_is_prevented_and_its_entry_is_refused_when_it_is_claimed(lua: Lua):
    await lua.schedule(Item())

    assert await lua.cancel() == [b"queued", 1]

    assert await lua.claim(*await lua.read()) == [[b"refused", b"cancelled"]]


async def test_with_no_time_to_live_nothing_is_kept(lua: Lua):
    await lua.schedule(Item(payload=LARGE))

    await lua.cancel(ttl_ms=0)

    assert await lua.exists(lua.keys.run("k"), lua.keys.payload("k")) == 0
    assert lua.states() == [(1, CANCELLED)]


async def test_a_running_run_is_told_to_stop_and_marked(lua: Lua):
    await lua.running(Item())

    assert await lua.cancel() == [b"running", 1]

    record = await lua.record()
    assert (record["state"], record["cancel"]) == ("running", "1")
    assert lua.cancels == [b"1:k,1:1,9:cancelled,"]
    assert lua.events == []


async def test_a_run_already_told_is_told_again(lua: Lua):
    await lua.running(Item())
    first = await lua.cancel()

    again = await lua.cancel()

    assert again == first
    assert len(lua.cancels) == 1


async def test_a_repeat_on_prevented_work_finds_nothing_live(lua: Lua):
    await lua.schedule(Item())
    await lua.cancel()

    assert await lua.cancel() == [b"none", 0]
    assert lua.events == []


async def test_a_successor_is_dropped_with_an_end_of_its_own(lua: Lua):
    await lua.running(Item())
    await lua.schedule(Item(within=(1, 1), payload=LARGE))

    await lua.cancel()

    assert lua.states() == [(2, CANCELLED)]
    assert await lua.exists(lua.keys.successor("k")) == 0
    assert "next_generation" not in await lua.record()


async def test_an_ended_run_stays_as_it_ended(lua: Lua):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1))

    assert await lua.cancel() == [b"none", 0]
    assert (await lua.record())["state"] == "completed"


async def test_a_bad_record_is_an_error(lua: Lua):
    await lua.spoil()

    with pytest.raises(ServerError, match="WRONGTYPE"):
        await lua.cancel()

    await lua.mend()


# One very run


async def test_the_run_that_is_named_is_cancelled(lua: Lua):
    await lua.schedule(Item())

    assert await lua.cancel(generation=1) == [b"queued", 1]

    assert lua.states() == [(1, CANCELLED)]


async def test_a_run_that_is_named_and_was_replaced_leaves_its_replacement_alone(lua: Lua):
    await lua.schedule(Item())
    await lua.schedule(Item(replace=True))

    assert await lua.cancel(generation=1) == [b"none", 0]

    assert (await lua.record())["state"] == "queued"
    assert lua.events == []


async def test_a_run_that_is_named_and_runs_is_told_to_stop(lua: Lua):
    await lua.running(Item())

    assert await lua.cancel(generation=1) == [b"running", 1]

    assert lua.cancels == [b"1:k,1:1,9:cancelled,"]


@pytest.mark.parametrize("ttl_ms", [TTL_MS, 0])
async def test_a_successor_that_is_named_is_cancelled_and_the_run_before_it_goes_on(lua: Lua, ttl_ms: int):
    [run] = await lua.running(Item())
    await lua.schedule(Item(within=(1, 1), payload=LARGE))

    assert await lua.cancel(generation=2, ttl_ms=ttl_ms) == [b"scheduled", 2]

    assert lua.states() == [(2, CANCELLED)]
    assert lua.cancels == []
    assert await lua.get(lua.keys.outcome("k", 2)) == (b"x0:," if ttl_ms else None)
    assert await lua.exists(lua.keys.successor("k")) == 0
    assert await lua.settle(End(run.message_id, 1, wide=True)) == [[b"settled", b"completed"]]
    assert await lua.depth() == (0, 0)


# Who waits before a limit


async def in_line(lua: Lua, *keys: str) -> Delivery:
    """This has a run `a` hold the only place, and the others wait in line."""
    runs = await lua.running(Item("a"), *map(Item, keys))
    replies = await lua.admit(*(Applicant(run, (places(1),)) for run in runs))
    assert [reply[0] for reply in replies] == [b"admitted", *[b"parked"] * len(keys)]
    return runs[0]


async def test_who_stands_in_line_leaves_it(lua: Lua):
    await in_line(lua, "b", "c")

    assert await lua.cancel("b") == [b"queued", 2]

    assert lua.states("b") == [(2, CANCELLED)]
    assert await lua.waiters() == ["3|c"]
    assert await lua.waited_for() == ["f"]


async def test_the_last_of_a_line_closes_it(lua: Lua):
    await in_line(lua, "b")

    await lua.cancel("b")

    assert await lua.waited_for() == []
    assert await lua.exists(*lua.keys.concurrency("f")[1:]) == 0


async def test_a_place_that_is_kept_for_it_goes_to_the_next(lua: Lua):
    holder = await in_line(lua, "b", "c")
    await lua.settle(End(holder.message_id, 1, key="a", limit="f"))
    assert list(await lua.holders()) == ["2"]

    await lua.cancel("b")

    assert list(await lua.holders()) == ["3"]
    refused, claimed = await lua.claim(*await lua.read())
    assert (refused, claimed[0]) == ([b"refused", b"cancelled"], b"claimed")
    assert list(await lua.holders()) == ["3"]


async def test_one_that_was_let_in_and_runs_keeps_its_place_until_it_has_stopped(lua: Lua):
    holder = await in_line(lua, "b", "c")
    await lua.settle(End(holder.message_id, 1, key="a", limit="f"))
    await lua.claim(*await lua.read())

    assert await lua.cancel("b") == [b"running", 2]

    assert list(await lua.holders()) == ["2"]


# Counting


async def test_what_had_not_begun_is_counted_once(lua: Lua):
    await lua.schedule(Item("a"), Item("b", when=await lua.now_us() + 10_000_000))
    for key in ("a", "b", "a", "c"):
        await lua.cancel(key)

    assert await lua.total("cancelled") == 2


async def test_what_runs_is_counted_when_it_has_stopped(lua: Lua):
    [run] = await lua.running(Item())
    await lua.cancel()
    assert await lua.total("cancelled") == 0

    await lua.settle(End(run.message_id, 1, state="cancelled"))
    assert await lua.total("cancelled") == 1
