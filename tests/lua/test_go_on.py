"""`go_on.lua`: what was halted."""

from __future__ import annotations

from tests.lua._scripts import Item, Lua
from tests.lua.test_halt import go_on, halt, meta


async def test_what_is_halted_goes_on_where_it_was(lua: Lua):
    await lua.schedule(Item())

    assert await halt(lua) == b"1"
    assert await go_on(lua) == b"1"

    assert (await lua.schedule(Item(key="a")))[0][1] == 2
    assert await meta(lua) == {b"layout": b"1", b"generation": b"2"}


async def test_what_was_never_halted_goes_on_as_it_is(lua: Lua):
    await lua.schedule(Item())

    assert await go_on(lua) == b"1"

    assert await meta(lua) == {b"layout": b"1", b"generation": b"1"}
