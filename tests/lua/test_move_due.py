"""`move_due.lua`."""

from __future__ import annotations

import pytest

from docket._store.records import StateChange
from docket.states import ExecutionState
from tests._waiting import eventually
from tests.lua._scripts import Applicant, Item, Lua, rate

HOUR_US = 3600 * 1_000_000


async def test_with_nothing_scheduled_there_is_nothing_to_wait_for(lua: Lua):
    moved, wait, now = await lua.move_due()

    assert (moved, wait) == (0, b"")
    assert int(now) > 0


async def test_what_is_not_due_stays_and_the_time_until_then_is_told(lua: Lua):
    when = await lua.now_us() + HOUR_US
    await lua.schedule(Item(when=when))

    moved, wait, now = await lua.move_due("k")

    assert moved == 0
    assert int(wait) == when - int(now)
    assert await lua.depth() == (0, 1)


async def due(lua: Lua, *keys: str) -> int:
    """This schedules work and waits until it is due."""
    when = await lua.now_us() + 20_000
    await lua.schedule(*(Item(key, when=when) for key in keys))

    async def has_come() -> bool:
        return await lua.now_us() > when

    await eventually(has_come)
    return when


async def test_what_is_due_is_queued(lua: Lua):
    when = await due(lua, "k")
    await lua.schedule(Item("a", when=when + HOUR_US))

    moved, wait, _ = await lua.move_due("k", "a")

    assert moved == 1
    assert 0 < int(wait) <= HOUR_US
    assert await lua.depth() == (1, 1)
    assert lua.events == [StateChange("k", 1, ExecutionState.QUEUED, when, None, None, None, None)]
    [reply] = await lua.claim(*await lua.read())
    assert reply[5] == str(when).encode()


async def test_a_second_mover_moves_nothing(lua: Lua):
    await due(lua, "k")
    await lua.move_due("k")

    moved, *_ = await lua.move_due("k")

    assert moved == 0
    assert await lua.depth() == (1, 0)


async def test_the_overdue_rest_has_a_negative_wait(lua: Lua):
    await due(lua, "a", "b")

    _, wait, _ = await lua.move_due("a")

    assert int(wait) < 0


async def test_an_index_entry_without_scheduled_work_is_taken_away(lua: Lua):
    await lua.schedule(Item("a"))
    await lua.store.backend.call("ZADD", lua.keys.queue, 1, "a")
    await lua.store.backend.call("ZADD", lua.keys.queue, 1, "nobody")

    moved, wait, _ = await lua.move_due("a", "nobody")

    assert (moved, wait) == (0, b"")
    assert await lua.depth() == (1, 0)


async def test_a_bad_record_fails_alone_and_is_not_tried_for_ever(lua: Lua):
    await due(lua, "a", "b", "c")
    await lua.spoil("b")

    moved, wait, _ = await lua.move_due("a", "b", "c")

    assert (moved, wait) == (2, b"")
    await lua.mend("b")


async def test_what_a_limit_told_to_come_back_is_moved_although_it_is_queued(lua: Lua):
    a, b = await lua.running(Item("a"), Item("b", when=5))
    await lua.admit(Applicant(a, (rate(1, 20_000),)), Applicant(b, (rate(1, 20_000),)))
    assert await lua.depth() == (1, 1)

    async def is_moved() -> bool:
        return (await lua.move_due("b"))[0] == 1

    await eventually(is_moved)

    assert await lua.depth() == (2, 0)
    assert lua.events == []  # it was queued all the time
    [entry] = await lua.read()
    [reply] = await lua.claim(entry)
    assert (reply[0], reply[1]) == (b"claimed", 2)
    assert await lua.move_due("b") != 1


@pytest.mark.parametrize("how", ["cancelled", "replaced"])
async def test_what_was_told_to_come_back_and_is_no_longer_wanted_is_not_moved(lua: Lua, how: str):
    a, b = await lua.running(Item("a"), Item("b"))
    await lua.admit(Applicant(a, (rate(1),)), Applicant(b, (rate(1),)))

    await (lua.cancel("b") if how == "cancelled" else lua.schedule(Item("b", replace=True)))
    await lua.store.backend.call("ZADD", lua.keys.queue, 1, "b")

    assert (await lua.move_due("b"))[:2] == [0, b""]
