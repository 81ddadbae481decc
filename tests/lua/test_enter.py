"""`enter.lua`: a run is made ready that a limit of another shard has let in."""

from __future__ import annotations

from tests.lua._scripts import Item, Lua
from tests.lua.test_aside import aside, enter


async def test_a_parked_run_becomes_ready_once(lua: Lua):
    [run] = await lua.running(Item())
    await aside(lua, run, "parked", "f")

    assert await enter(lua, run) == "entered"
    assert await enter(lua, run) == "entered"

    [entry] = await lua.read()
    assert (entry.key, entry.generation, entry.limit) == ("k", run.generation, "f")
    assert "parked" not in await lua.record()
    assert await lua.store.backend.call("ZCARD", lua.keys.away) == 0


async def test_one_that_still_runs_says_so(lua: Lua):
    [run] = await lua.running(Item())

    assert await enter(lua, run) == "running"


async def test_one_that_waits_for_something_else_needs_no_place_here(lua: Lua):
    [run] = await lua.running(Item())
    await aside(lua, run, "parked", "f")

    assert await enter(lua, run, "g") == "gone"


async def test_one_that_is_gone_needs_no_place(lua: Lua):
    [run] = await lua.running(Item())
    await lua.store.backend.call("HSET", lua.keys.run("k"), "generation", run.generation + 1)
    assert await enter(lua, run) == "gone"

    await lua.store.backend.call("DEL", lua.keys.run("k"))
    assert await enter(lua, run) == "gone"
