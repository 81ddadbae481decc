"""`heartbeat.lua`."""

from __future__ import annotations

from docket._store.base import as_dict
from tests.lua._scripts import Lua

DAY_US = 24 * 3600 * 1_000_000


async def beat(lua: Lua, tasks: str = '["f"]', instance: str = "w~1", ttl_ms: int = 60_000, forget_us: int = DAY_US) -> int:
    return await lua.run("heartbeat", [lua.keys.workers, lua.keys.worker(instance)], instance, "w", tasks, ttl_ms, forget_us)


async def known(lua: Lua) -> list[bytes]:
    return await lua.store.backend.call("ZRANGE", lua.keys.workers, 0, -1)


async def test_an_instance_is_listed_and_described(lua: Lua):
    assert await beat(lua) == 1

    assert await known(lua) == [b"w~1"]
    assert as_dict(await lua.store.backend.call("HGETALL", lua.keys.worker("w~1"))) == {b"name": b"w", b"tasks": b'["f"]'}


async def test_the_description_need_not_be_said_again(lua: Lua):
    await beat(lua)

    assert await beat(lua, tasks="") == 1


async def test_a_description_that_is_gone_has_to_be_said_again(lua: Lua):
    assert await beat(lua, tasks="") == 0
    assert await known(lua) == [b"w~1"]


async def test_instances_silent_for_long_are_forgotten(lua: Lua):
    await lua.store.backend.call("ZADD", lua.keys.workers, 5, "w~old")

    await beat(lua)

    assert await known(lua) == [b"w~1"]


async def test_a_short_beat_forgets_nobody(lua: Lua):
    await lua.store.backend.call("ZADD", lua.keys.workers, 5, "w~old")

    await beat(lua, tasks="")

    assert await known(lua) == [b"w~old", b"w~1"]
