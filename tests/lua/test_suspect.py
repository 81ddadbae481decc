"""`suspect.lua`, and what the other scripts make of it."""

from __future__ import annotations

from tests.lua._scripts import End, Item, Lua


async def died(lua: Lua, *, alone: bool) -> None:
    """A worker claims what is there, and its lease lapses."""
    await lua.renew(instance="dead~1", lease_us=0, first=True)
    deliveries = await lua.read(instance="dead~1")
    [reply] = await lua.claim(*deliveries, instance="dead~1")
    if alone:
        assert await lua.suspect("k", 1, reply[1]) == b"noted"
    await lua.reclaim(*deliveries, instance="dead~1")


async def test_a_suspect_is_marked_and_a_repeat_changes_nothing(lua: Lua):
    await lua.running(Item())

    assert await lua.suspect("k", 1, 1) == b"noted"
    assert await lua.suspect("k", 1, 1) == b"noted"
    assert (await lua.record())["alone"] == "1"


async def test_another_run_is_not_marked(lua: Lua):
    await lua.running(Item())

    assert await lua.suspect("k", 2, 1) == b"superseded"
    assert await lua.suspect("k", 1, 2) == b"superseded"
    assert await lua.suspect("gone", 1, 1) == b"superseded"
    assert "alone" not in await lua.record()


async def test_only_a_death_while_alone_is_its_doing(lua: Lua):
    await lua.schedule(Item())
    await died(lua, alone=False)
    await died(lua, alone=True)
    await died(lua, alone=False)

    [reply] = await lua.claim(*await lua.read())
    assert (reply[9], reply[11]) == (b"3", b"1")
    assert "alone" not in await lua.record()


async def test_who_lives_through_an_attempt_starts_anew(lua: Lua):
    await lua.schedule(Item())
    await died(lua, alone=True)
    [delivery] = await lua.read()
    [reply] = await lua.claim(delivery)
    await lua.settle(End(delivery.message_id, 1, reply[1], state="failed", again="retry", attempt=2))

    [reply] = await lua.claim(*await lua.read())
    assert (reply[9], reply[11]) == (b"0", b"0")


async def test_to_be_handed_back_proves_nothing(lua: Lua):
    await lua.schedule(Item())
    await died(lua, alone=True)
    [delivery] = await lua.read()
    [reply] = await lua.claim(delivery)
    await lua.settle(End(delivery.message_id, 1, reply[1], state="failed", again="release"))

    [reply] = await lua.claim(*await lua.read())
    assert (reply[9], reply[11]) == (b"1", b"1")


async def test_one_that_waits_for_another_is_alone_no_longer_and_a_death_counts_for_nothing(lua: Lua):
    await lua.schedule(Item())
    await lua.claim(*await lua.read())
    assert await lua.suspect("k", 1, 1) == b"noted"

    assert await lua.suspect("k", 1, 1, alone=False) == b"noted"
    assert await lua.suspect("k", 1, 1, alone=False) == b"noted"

    assert "alone" not in await lua.record()
    assert await lua.suspect("k", 1, 2, alone=False) == b"superseded"
