"""`cancel.lua`."""

from __future__ import annotations

import pytest

from docket.errors import ServerError
from docket.states import ExecutionState
from tests.lua._scripts import LARGE, TTL_MS, End, Item, Lua

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
