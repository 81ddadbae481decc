"""`halt.lua`, and what gives no generation until `go_on`."""

from __future__ import annotations

from typing import Any

import pytest

from docket._store.base import as_dict
from docket.errors import LayoutMismatch
from tests.lua._scripts import LARGE, End, Item, Lua
from tests.lua.test_revive import revive

DIVIDED = b"DOCKET-DIVIDED 4"


async def halt(lua: Lua, shards: int = 4) -> Any:
    return await lua.run("halt", [lua.keys.meta], shards)


async def go_on(lua: Lua) -> Any:
    return await lua.run("go_on", [lua.keys.meta])


async def meta(lua: Lua) -> dict[bytes, bytes]:
    return as_dict(await lua.store.backend.call("HGETALL", lua.keys.meta))


async def test_repeats_change_nothing(lua: Lua):
    await lua.schedule(Item())

    assert [await halt(lua), await halt(lua), await go_on(lua), await go_on(lua)] == [b"1"] * 4


async def test_where_nothing_was_ever_scheduled_it_is_the_same(lua: Lua):
    assert await halt(lua) == b"0"
    assert (await lua.schedule(Item()))[0] == [b"error", DIVIDED]
    assert await go_on(lua) == b"0"
    assert await meta(lua) == {}


async def test_nothing_is_scheduled_or_numbered_while_it_is_halted(lua: Lua):
    number = await lua.number(1)
    await lua.schedule(Item(when=2**52))
    await halt(lua)
    before = await lua.record(), await meta(lua)

    replies = await lua.schedule(Item(key="a"), Item(replace=True), Item(key="b", generation=number), Item(key="c", payload=LARGE))

    assert replies == [[b"error", DIVIDED]] * 4
    with pytest.raises(LayoutMismatch, match="divided into 4"):
        await lua.number(2)
    assert (await lua.record(), await meta(lua)) == before
    assert not await lua.record("a")
    assert not await lua.record("b")


async def test_what_is_there_already_is_answered_all_the_same(lua: Lua):
    await lua.schedule(Item())
    await halt(lua)

    assert (await lua.schedule(Item()))[0][:2] == [b"exists", 1]


async def test_nothing_runs_again_while_it_is_halted(lua: Lua):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1, state="failed", failure="f"))
    await halt(lua)

    with pytest.raises(LayoutMismatch, match="divided into 4"):
        await lua.retry()
    with pytest.raises(LayoutMismatch, match="divided into 4"):
        await revive(lua)


async def test_a_chain_does_not_go_on_while_it_is_halted(lua: Lua):
    [delivery] = await lua.running(Item())
    await halt(lua)

    assert await lua.settle(End(delivery.message_id, 1, again="next", wide=True, outcome=b"c0:,")) == [[b"error", DIVIDED]]

    assert (await lua.record())["state"] == "running"


@pytest.mark.parametrize("recorded", [{"shards": 4}, {"moving": 4}])
async def test_the_first_generation_of_all_is_refused_where_somebody_divided_the_docket(lua: Lua, recorded: dict[str, int]):
    await lua.store.backend.call("HSET", lua.keys.meta, *(part for field in recorded.items() for part in field))
    before = await meta(lua)

    assert await lua.schedule(Item()) == [[b"error", DIVIDED]]

    assert await meta(lua) == before


async def test_a_docket_that_was_moved_to_one_piece_is_in_one_piece(lua: Lua):
    await lua.store.backend.call("HSET", lua.keys.meta, "layout", 1, "shards", 1, "moving", "")

    assert (await lua.schedule(Item()))[0][0] == b"created"
