"""`depart.lua`."""

from __future__ import annotations

from tests.lua._scripts import Lua


async def test_an_instance_is_taken_off_every_list(lua: Lua):
    await lua.renew(first=True)
    await lua.store.workers.heartbeat("w~1", "w", ["f"], 60_000)
    lua.check_touched({lua.keys.workers, lua.keys.worker("w~1"), lua.keys.meta})

    for _ in range(2):
        assert await lua.run("depart", [lua.keys.workers, lua.keys.worker("w~1"), lua.keys.leases], "w~1") == 1

    assert await lua.exists(lua.keys.worker("w~1")) == 0
    for listing in (lua.keys.workers, lua.keys.leases):
        assert await lua.store.backend.call("ZCARD", listing) == 0
