"""`hold.lua`."""

from __future__ import annotations

from tests.lua._scripts import Applicant, End, Item, Lua, places

MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000


async def test_places_are_kept_for_another_lease(lua: Lua):
    runs = await lua.running(Item("a"), Item("b"))
    await lua.admit(Applicant(runs[0], (places(1, "x"),)), Applicant(runs[1], (places(1, "y"),)))
    before = [*(await lua.holders("x")).values(), *(await lua.holders("y")).values()]

    assert await lua.hold(("x", 1), ("y", 2), lease_us=HOUR_US) == 1

    after = [*(await lua.holders("x")).values(), *(await lua.holders("y")).values()]
    assert all(HOUR_US - MINUTE_US <= late - early < HOUR_US for early, late in zip(before, after, strict=True))
    assert lua.events == []


async def test_a_place_that_was_given_up_stays_given_up(lua: Lua):
    [run] = await lua.running(Item())
    await lua.admit(Applicant(run, (places(1),)))
    await lua.settle(End(run.message_id, 1, limit="f"))

    await lua.hold(("f", 1))

    assert await lua.holders() == {}


async def test_a_spoilt_limit_fails_alone(lua: Lua):
    [run] = await lua.running(Item())
    await lua.admit(Applicant(run, (places(1),)))
    [before] = (await lua.holders()).values()
    await lua.store.backend.call("SET", lua.keys.concurrency("x")[0], "no set", "PX", 60_000)

    assert await lua.hold(("x", 1), ("f", 1), lease_us=HOUR_US) == 1

    [after] = (await lua.holders()).values()
    assert after > before
