"""`begin.lua`."""

from __future__ import annotations

from typing import Any

import pytest

from docket.errors import ServerError
from tests._servers import RedisServer
from tests.lua._scripts import Item, Lua


async def test_without_work_nothing_is_made(lua: Lua):
    assert await lua.begin() == b"empty"


async def test_a_group_that_is_there_stays_as_it_is(lua: Lua):
    await lua.schedule(Item("a"), Item("b"))
    await lua.read(count=1)

    for _ in range(2):
        assert await lua.begin() == b"ready"

    assert [entry.key for entry in await lua.pending()] == ["a"]
    assert [entry.key for entry in await lua.read()] == ["b"]


@pytest.mark.only_server("nobody can delete the group of the in-process engine")
class TestWithoutAGroup:
    async def test_it_is_made_and_delivers_from_the_start(self, lua: Lua, redis_server: RedisServer):
        await lua.schedule(Item("a"), Item("b"))
        client: Any = redis_server.client()
        client.xgroup_destroy(lua.keys.stream, lua.keys.group)

        assert await lua.begin() == b"ready"

        assert [entry.key for entry in await lua.read()] == ["a", "b"]

    async def test_what_is_in_its_way_is_said(self, lua: Lua, redis_server: RedisServer):
        client: Any = redis_server.client()
        client.delete(lua.keys.stream)
        client.set(lua.keys.stream, "no stream", px=60_000)

        with pytest.raises(ServerError, match="WRONGTYPE"):
            await lua.begin()
