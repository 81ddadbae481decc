"""`open.lua`."""

from __future__ import annotations

from tests.lua._scripts import Lua


async def test_the_layout_that_stands_is_answered(lua: Lua):
    assert await lua.run("open", [lua.keys.meta], 7) == b"1"


async def test_the_first_to_open_writes_its_layout(lua: Lua):
    await lua.store.backend.call("DEL", lua.keys.meta)

    assert await lua.run("open", [lua.keys.meta], 7) == b"7"
    assert await lua.run("open", [lua.keys.meta], 8) == b"7"
