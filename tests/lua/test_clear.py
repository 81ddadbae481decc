"""`clear.lua`."""

from __future__ import annotations

import pytest

from docket.states import ExecutionState
from tests.lua._scripts import LARGE, TTL_MS, Applicant, End, Found, Item, Lua, places, rate

CANCELLED = ExecutionState.CANCELLED
HOUR_US = 3_600_000_000
CLEARED, LEFT = b"cleared", b"left"


async def later(lua: Lua) -> int:
    return await lua.now_us() + HOUR_US


async def entry(lua: Lua, key: str = "k") -> bytes:
    """This is the last entry of a key that stands in the stream."""
    entries = await lua.store.listing.entries(None, 100)
    return [each.message_id for each in entries if each.key == key][-1]


async def test_scheduled_work_is_cancelled_with_an_end(lua: Lua):
    await lua.schedule(Item("a", when=await later(lua), payload=LARGE), Item("b", when=await later(lua)))

    assert await lua.clear(Found("a"), Found("b")) == [2, CLEARED, CLEARED]

    assert await lua.depth() == (0, 0)
    assert (lua.states("a"), lua.states("b")) == ([(1, CANCELLED)], [(2, CANCELLED)])
    assert (await lua.record("a"))["state"] == "cancelled"
    assert await lua.total("cancelled") == 2
    if not lua.store.is_memory:
        for key in (lua.keys.run("a"), lua.keys.payload("a")):
            assert 0 < await lua.store.backend.call("PTTL", key) <= TTL_MS


async def test_ready_work_is_cancelled_and_its_entry_deleted(lua: Lua):
    await lua.schedule(Item())

    assert await lua.clear(Found("k", 1, await entry(lua))) == [1, CLEARED]

    assert await lua.depth() == (0, 0)
    assert await lua.read() == []


async def test_an_entry_that_a_worker_has_fetched_is_left_to_be_refused(lua: Lua):
    await lua.schedule(Item())
    fetched = await lua.read()

    assert await lua.clear(Found("k", 1)) == [1, CLEARED]

    assert await lua.pending() == fetched
    assert await lua.claim(*fetched) == [[b"refused", b"cancelled"]]
    assert await lua.depth() == (0, 0)


async def test_an_entry_that_is_deleted_while_a_worker_fetches_it_is_refused_all_the_same(lua: Lua):
    await lua.schedule(Item())
    listed = await entry(lua)
    fetched = await lua.read()

    assert await lua.clear(Found("k", 1, listed)) == [1, CLEARED]

    assert await lua.claim(*fetched) == [[b"refused", b"cancelled"]]
    assert await lua.pending() == []


async def test_a_run_that_was_claimed_meanwhile_goes_on(lua: Lua):
    await lua.schedule(Item())
    listed = await entry(lua)
    [fetched] = await lua.read()
    await lua.claim(fetched)

    assert await lua.clear(Found("k", 1, listed), Found("k")) == [0, LEFT, LEFT]

    assert lua.events == []
    assert await lua.settle(End(fetched.message_id, 1)) == [[b"settled", b"completed"]]
    assert await lua.total("cancelled") == 0


async def test_an_entry_of_a_run_that_is_another_ones_by_now_is_deleted_and_its_successor_left_alone(lua: Lua):
    await lua.schedule(Item())
    old = await entry(lua)
    await lua.schedule(Item(replace=True))

    assert await lua.clear(Found("k", 1, old)) == [0, LEFT]

    assert (await lua.record())["state"] == "queued"
    assert await lua.depth() == (1, 0)


async def test_an_entry_that_was_left_behind_by_cancelled_work_is_deleted(lua: Lua):
    await lua.schedule(Item())
    await lua.cancel()

    assert await lua.clear(Found("k", 1, await entry(lua))) == [0, LEFT]

    assert await lua.depth() == (0, 0)
    assert lua.events == []


async def test_an_entry_that_was_left_behind_by_work_that_was_moved_takes_that_along(lua: Lua):
    await lua.schedule(Item())
    await lua.reschedule(when=await later(lua))

    assert await lua.clear(Found("k", 1, await entry(lua))) == [1, CLEARED]

    assert await lua.depth() == (0, 0)


async def test_what_was_scheduled_since_is_left(lua: Lua):
    await lua.schedule(Item(when=await later(lua)))

    assert await lua.clear(Found("k"), newest=0) == [0, LEFT]

    assert await lua.depth() == (0, 1)


async def test_a_key_whose_record_is_gone_is_taken_off_the_schedule(lua: Lua):
    await lua.schedule(Item(when=await later(lua)))
    await lua.store.backend.call("DEL", lua.keys.run("k"))

    assert await lua.clear(Found("k")) == [0, LEFT]

    assert await lua.depth() == (0, 0)


async def in_line(lua: Lua, *keys: str) -> None:
    """This has a run `a` hold the only place, and the others wait in line."""
    runs = await lua.running(Item("a"), *map(Item, keys))
    replies = await lua.admit(*(Applicant(run, (places(1),)) for run in runs))
    assert [reply[0] for reply in replies] == [b"admitted", *[b"parked"] * len(keys)]


async def test_who_waits_in_line_is_taken_out_of_it(lua: Lua):
    await in_line(lua, "b", "c", "d")

    assert await lua.clear(Found("b", 2, limit="f"), Found("d", 4, limit="f")) == [2, CLEARED, CLEARED]

    assert await lua.waiters() == ["3|c"]
    assert await lua.waited_for() == ["f"]
    assert (lua.states("b"), lua.states("d")) == ([(2, CANCELLED)], [(4, CANCELLED)])


async def test_the_last_of_a_line_closes_it(lua: Lua):
    await in_line(lua, "b")

    await lua.clear(Found("b", 2, limit="f"))

    assert await lua.waited_for() == []
    assert await lua.exists(*lua.keys.concurrency("f")[1:]) == 0
    assert list(await lua.holders()) == ["1"]


async def let_in(lua: Lua) -> bytes:
    """This has `b` be let in, and `c` wait, and gives the entry of `b`."""
    await in_line(lua, "b", "c")
    [holder] = await lua.pending()
    await lua.settle(End(holder.message_id, 1, key="a", limit="f"))
    assert list(await lua.holders()) == ["2"]
    return await entry(lua, "b")


@pytest.mark.parametrize("fetched", [False, True])
async def test_a_place_that_is_kept_for_it_goes_to_the_next(lua: Lua, fetched: bool):
    listed = await let_in(lua)
    entries = await lua.read() if fetched else []

    assert await lua.clear(Found("b", 2, b"" if fetched else listed, "f")) == [1, CLEARED]

    assert list(await lua.holders()) == ["3"]
    assert await lua.waiters() == []
    if fetched:
        assert await lua.claim(*entries) == [[b"refused", b"cancelled"]]
        assert list(await lua.holders()) == ["3"]


async def test_a_place_that_a_run_has_by_now_stays_its_own(lua: Lua):
    listed = await let_in(lua)
    await lua.claim(*await lua.read())

    assert await lua.clear(Found("b", 2, listed, "f")) == [0, LEFT]

    assert list(await lua.holders()) == ["2"]
    assert await lua.waiters() == ["3|c"]


async def test_what_a_limit_told_to_come_later_is_cancelled(lua: Lua):
    a, b = await lua.running(Item("a"), Item("b"))
    await lua.admit(Applicant(a, (rate(1),)))
    await lua.admit(Applicant(b, (rate(1),)))

    assert await lua.clear(Found("b")) == [1, CLEARED]

    assert await lua.depth() == (1, 0)


async def test_with_no_time_to_live_nothing_is_kept(lua: Lua):
    await lua.schedule(Item(when=await later(lua), payload=LARGE))

    await lua.clear(Found(), ttl_ms=0)

    assert await lua.exists(lua.keys.run("k"), lua.keys.payload("k")) == 0
    assert lua.states() == [(1, CANCELLED)]


async def test_a_repeat_tells_how_many_it_was(lua: Lua):
    await lua.schedule(Item("a", when=await later(lua)), Item("b", when=await later(lua)))
    await lua.clear(Found("a"), Found("b"), token=10**12)

    assert await lua.clear(Found("a"), Found("b"), token=10**12) == [2]

    assert await lua.total("cancelled") == 2
    assert await lua.clear(Found("a"), Found("b"), token=10**12 + 1) == [0, LEFT, LEFT]


async def test_a_bad_record_is_an_error_of_its_own(lua: Lua):
    await lua.schedule(Item("a", when=await later(lua)), Item("b", when=await later(lua)))
    await lua.spoil("a")

    count, a, b = await lua.clear(Found("a"), Found("b"))

    assert (count, a[0], b) == (1, b"error", CLEARED)
    assert b"WRONGTYPE" in a[1]
    await lua.mend("a")
