"""`forget.lua`."""

from __future__ import annotations

import pytest

from tests.lua._scripts import Item, Lua


@pytest.mark.only_server("the in-process engine keeps its consumers")
class TestOnAServer:
    async def test_an_instance_that_holds_nothing_is_forgotten(self, lua: Lua):
        await lua.read()

        assert await lua.forget("w~1") == b"forgotten"

        assert await lua.delivery.consumers() == []

    async def test_a_repeat_answers_as_the_first_time_did(self, lua: Lua):
        assert [await lua.forget("never~1"), await lua.forget("never~1")] == [b"forgotten", b"forgotten"]

    async def test_one_that_holds_an_entry_is_kept_with_it(self, lua: Lua):
        await lua.schedule(Item())
        await lua.read()

        assert await lua.forget("w~1") == b"kept"

        assert [entry.key for entry in await lua.pending()] == ["k"]


@pytest.mark.only_memory("servers forget")
async def test_the_engine_keeps_everybody(lua: Lua):
    assert await lua.forget("w~1") == b"kept"
