"""`sweep.lua`."""

from __future__ import annotations

import pytest

from tests.lua._scripts import Applicant, Item, Lua, places

MINUTE_US = 60_000_000


async def waiting(lua: Lua, *keys: str, limit: str = "f", lease_us: int = MINUTE_US) -> None:
    """One of these has the only place, the others wait."""
    runs = await lua.running(*(Item(key) for key in keys))
    await lua.admit(*(Applicant(run, (places(1, limit),), lease_us=lease_us if run == runs[0] else MINUTE_US) for run in runs))


async def test_a_place_that_lapsed_goes_to_who_has_waited_longest(lua: Lua):
    await waiting(lua, "a", "c", "b", lease_us=-1)

    assert await lua.sweep("f") == 1

    assert list(await lua.holders()) == ["2"]
    [woken] = await lua.read()
    assert (woken.key, woken.limit) == ("c", "f")
    assert await lua.waiters() == ["3|b"]
    assert lua.events == []


async def test_while_places_are_held_nobody_is_let_in_and_it_is_noted_that_somebody_looked(lua: Lua):
    await waiting(lua, "a", "b")
    await lua.move(lua.keys.waiting, "f", -MINUTE_US)
    [before] = (await lua.scores(lua.keys.waiting)).values()

    await lua.sweep("f")

    assert await lua.waiters() == ["2|b"]
    [after] = (await lua.scores(lua.keys.waiting)).values()
    assert after > before


async def test_a_limit_that_nobody_waits_for_any_more_is_forgotten(lua: Lua):
    await waiting(lua, "a", "b")
    await lua.store.backend.call("DEL", lua.keys.concurrency("f")[1])

    await lua.sweep("f")

    assert await lua.waited_for() == []
    assert await lua.exists(*lua.keys.concurrency("f")[1:]) == 0


async def test_where_the_number_was_lost_one_at_a_time_is_let_in(lua: Lua):
    await waiting(lua, "a", "b", "c")
    holders, _, most = lua.keys.concurrency("f")
    await lua.store.backend.call("DEL", holders, most)

    await lua.sweep("f")

    assert list(await lua.holders()) == ["2"]
    assert await lua.waiters() == ["3|c"]


@pytest.mark.parametrize("spoilt", [0, 1])
async def test_a_spoilt_limit_fails_alone(lua: Lua, spoilt: int):
    await waiting(lua, "a", "b")
    await lua.move(lua.keys.concurrency("f")[0], "1", -2 * MINUTE_US)
    await lua.store.backend.call("SET", lua.keys.concurrency("x")[spoilt], "no set", "PX", 60_000)
    await lua.store.backend.call("ZADD", lua.keys.waiting, 1, "x")

    assert await lua.sweep("x", "f") == 1

    assert list(await lua.holders()) == ["2"]
