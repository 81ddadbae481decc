"""`renew.lua`."""

from __future__ import annotations

from tests.lua._scripts import End, Item, Lua


async def test_a_lease_that_was_never_begun_is_lost(lua: Lua):
    assert await lua.renew() == [b"lost"]
    assert await lua.delivery.leased() == set()


async def test_the_first_renewal_begins_a_lease(lua: Lua):
    assert await lua.renew(first=True) == [b"kept"]

    assert await lua.delivery.leased() == {"w~1"}
    assert await lua.delivery.lapsed(await lua.now_us()) == []


async def test_a_lapsed_lease_that_nobody_took_is_kept(lua: Lua):
    await lua.renew(first=True, lease_us=-1)

    assert await lua.renew() == [b"kept"]

    assert await lua.delivery.lapsed(await lua.now_us()) == []


async def test_a_lease_that_a_reclaimer_took_is_lost(lua: Lua):
    await lua.store.backend.call("ZADD", lua.keys.leases, 0, "w~1")

    assert await lua.renew() == [b"lost"]
    assert await lua.renew(first=True) == [b"kept"]


async def test_each_run_is_held_cancelled_or_replaced(lua: Lua):
    await lua.running(Item("a"), Item("b"), Item("c"))
    await lua.cancel("b")
    await lua.schedule(Item("c", replace=True))

    reply = await lua.renew(("a", 1, 1), ("b", 2, 1), ("c", 3, 1), ("k", 4, 1), first=True)

    assert reply == [b"kept", b"held", b"cancelled", b"replaced", b"replaced"]


async def test_a_run_that_was_claimed_again_is_replaced(lua: Lua):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1, state="failed", again="retry", attempt=2))
    await lua.claim(*await lua.read())

    assert await lua.renew(("k", 1, 1), first=True) == [b"kept", b"replaced"]


async def test_a_bad_record_fails_alone(lua: Lua):
    await lua.running(Item("a"), Item("b"))
    await lua.spoil("a")

    assert await lua.renew(("a", 1, 1), ("b", 2, 1), first=True) == [b"kept", b"replaced", b"held"]

    await lua.mend("a")
