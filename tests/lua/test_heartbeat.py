"""`heartbeat.lua`."""

from __future__ import annotations

from docket._store.base import as_dict
from tests.lua._scripts import Lua

DAY_US = 24 * 3600 * 1_000_000


async def beat(lua: Lua, tasks: str = '["f"]', instance: str = "w~1", ttl_ms: int = 60_000, forget_us: int = DAY_US, shards: int = 1) -> tuple[int, bytes]:
    keys = [lua.keys.workers, lua.keys.worker(instance), lua.keys.meta]
    is_known, there = await lua.run("heartbeat", keys, instance, "w", tasks, ttl_ms, forget_us, shards, "sharded")
    return is_known, there


async def known(lua: Lua) -> list[bytes]:
    return await lua.store.backend.call("ZRANGE", lua.keys.workers, 0, -1)


async def test_an_instance_is_listed_and_described(lua: Lua):
    assert await beat(lua) == (1, b"1")

    assert await known(lua) == [b"w~1"]
    assert as_dict(await lua.store.backend.call("HGETALL", lua.keys.worker("w~1"))) == {b"name": b"w", b"tasks": b'["f"]'}


async def test_the_description_need_not_be_said_again(lua: Lua):
    await beat(lua)

    assert await beat(lua, tasks="") == (1, b"1")


async def test_a_description_that_is_gone_has_to_be_said_again(lua: Lua):
    assert await beat(lua, tasks="") == (0, b"1")
    assert await known(lua) == [b"w~1"]


async def test_instances_silent_for_long_are_forgotten(lua: Lua):
    await lua.store.backend.call("ZADD", lua.keys.workers, 5, "w~old")

    await beat(lua)

    assert await known(lua) == [b"w~1"]


async def test_a_short_beat_forgets_nobody(lua: Lua):
    await lua.store.backend.call("ZADD", lua.keys.workers, 5, "w~old")

    await beat(lua, tasks="")

    assert await known(lua) == [b"w~old", b"w~1"]


async def test_it_is_told_how_many_shards_there_are_by_now(lua: Lua):
    await lua.store.backend.call("HSET", lua.keys.meta, "layout", 2, "shards", 4)

    assert await beat(lua) == (1, b"4")
    assert await beat(lua, shards=8) == (1, b"4")


async def test_where_all_was_lost_it_is_said_again_how_many_there_are(lua: Lua):
    assert await beat(lua, shards=4) == (1, b"4")

    assert as_dict(await lua.store.backend.call("HGETALL", lua.keys.meta)) == {b"layout": b"2", b"shards": b"4", b"channels": b"sharded"}


async def test_of_one_that_is_in_one_piece_nothing_need_be_said(lua: Lua):
    await beat(lua)
    await lua.store.backend.call("HSET", lua.keys.meta, "layout", 1)

    assert await beat(lua, shards=4) == (1, b"1")
    assert as_dict(await lua.store.backend.call("HGETALL", lua.keys.meta)) == {b"layout": b"1"}
