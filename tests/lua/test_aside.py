"""`aside.lua`: a run is set aside, as a limit of another shard has said."""

from __future__ import annotations

from docket._store.records import Delivery
from docket.states import ExecutionState
from tests.lua._scripts import End, Item, Lua


async def aside(lua: Lua, run: Delivery, word: str, detail: str | int = "", marks: str = "", number: int = 1) -> str:
    keys = [lua.keys.stream, lua.keys.queue, lua.keys.run(run.key), lua.keys.away]
    [reply] = await lua.run("aside", keys, lua.keys.group, lua.keys.wake, run.message_id, run.key, run.generation, number, word, detail, marks)
    return reply.decode()


async def enter(lua: Lua, run: Delivery, identity: str = "f") -> str:
    [reply] = await lua.run("enter", [lua.keys.stream, lua.keys.run(run.key), lua.keys.away], run.key, run.generation, identity)
    return reply.decode()


async def test_a_parked_run_waits_and_is_noted_as_away(lua: Lua):
    [run] = await lua.running(Item())

    assert await aside(lua, run, "parked", "f") == "aside"
    assert lua.states() == [(run.generation, ExecutionState.QUEUED)]
    assert await aside(lua, run, "parked", "f") == "aside"
    assert lua.events == []

    record = await lua.record()
    assert (record["state"], record["parked"]) == ("queued", "f")
    assert await lua.store.backend.call("ZRANGE", lua.keys.away, 0, -1) == [b"k"]
    assert await lua.store.backend.call("XLEN", lua.keys.stream) == 0


async def test_one_that_was_let_in_meanwhile_was_set_aside_all_the_same(lua: Lua):
    [run] = await lua.running(Item())
    await aside(lua, run, "parked", "f")
    assert await enter(lua, run) == "entered"

    assert await aside(lua, run, "parked", "f") == "aside"


async def test_one_that_comes_later_stands_in_the_schedule(lua: Lua):
    [run] = await lua.running(Item())

    assert await aside(lua, run, "later", 5_000_000_000_000_000, "first") == "aside"
    assert lua.wakes == [5_000_000_000_000_000]
    assert await aside(lua, run, "later", 5_000_000_000_000_000, "first") == "aside"

    record = await lua.record()
    assert (record["state"], record["first"]) == ("queued", "1")
    assert await lua.store.backend.call("ZCARD", lua.keys.queue) == 1


async def test_only_what_is_remembered_of_one_that_passes_is_written(lua: Lua):
    [run] = await lua.running(Item())

    assert await aside(lua, run, "admitted", "", " quiet first") == "admitted"

    record = await lua.record()
    assert (record["state"], record["quiet"], record["first"]) == ("running", "1", "1")


async def test_one_that_is_no_longer_ours_is_left_alone(lua: Lua):
    [run] = await lua.running(Item())

    assert await aside(lua, run, "parked", "f", number=2) == "superseded"
    await lua.cancel("k")
    assert await aside(lua, run, "parked", "f") == "cancelled"
    await lua.settle(End(run.message_id, run.generation, state="cancelled"))
    assert await aside(lua, run, "parked", "f") == "superseded"
