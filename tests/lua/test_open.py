"""`open.lua`."""

from __future__ import annotations

from typing import Any

from docket._store.base import as_dict
from tests.lua._scripts import Lua


async def opened(lua: Lua, layout: int, shards: int | str = "", channels: str = "") -> Any:
    return await lua.run("open", [lua.keys.meta], layout, shards, channels)


async def meta(lua: Lua) -> dict[bytes, bytes]:
    return as_dict(await lua.store.backend.call("HGETALL", lua.keys.meta))


async def test_the_layout_that_stands_is_answered(lua: Lua):
    await lua.store.backend.call("HSET", lua.keys.meta, "layout", 1)

    assert await opened(lua, 7) == [b"1", b"1", b"", b""]
    assert await opened(lua, 7, 4) == [b"1", b"1", b"", b""]


async def test_whoever_says_nothing_writes_nothing(lua: Lua):
    assert await opened(lua, 7) == [b"7", b"1", b"", b""]

    assert await meta(lua) == {}


async def test_the_first_to_say_how_many_shards_there_are_writes_its_layout(lua: Lua):
    assert await opened(lua, 7, 1) == [b"7", b"1", b"", b""]
    assert await opened(lua, 8, 4) == [b"7", b"1", b"", b""]

    assert await meta(lua) == {b"layout": b"7"}


async def test_where_there_are_several_that_is_written_too_and_whether_they_have_channels_of_their_own(lua: Lua):
    assert await opened(lua, 7, 4, "sharded") == [b"7", b"4", b"", b"sharded"]
    assert await opened(lua, 7, 5) == [b"7", b"4", b"", b"sharded"]
    assert await opened(lua, 7) == [b"7", b"4", b"", b"sharded"]


async def test_one_that_is_being_moved_says_so(lua: Lua):
    await lua.store.backend.call("HSET", lua.keys.meta, "layout", 1, "moving", 4)

    assert await opened(lua, 7) == [b"1", b"1", b"4", b""]
