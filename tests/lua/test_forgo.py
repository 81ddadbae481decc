"""`forgo.lua`: a run of another shard gives up what it has before limits of this one."""

from __future__ import annotations

import pytest

from tests.lua._scripts import Gate, Lua, cooldown, debounce, places, rate
from tests.lua.test_ask import ask, keys_of, line


async def forgo(lua: Lua, generation: int, gate: Gate, delivery: int = 1) -> list[bytes]:
    keys = [lua.keys.stream, lua.keys.waiting, *keys_of(lua, gate)]
    [reply] = await lua.run("forgo", keys, f"k{generation}", generation, delivery, gate.kind, gate.identity)
    return reply


async def test_a_place_goes_to_the_next_in_line(lua: Lua):
    await ask(lua, 11, places(1))
    await ask(lua, 12, places(1))

    assert await forgo(lua, 11, places(1)) == [b"given up"]
    assert await forgo(lua, 11, places(1)) == [b"given up"]

    [entry] = await lua.read()
    assert (entry.key, entry.generation, entry.limit) == ("k12", 12, "f")
    assert await line(lua) == []


async def test_a_turn_in_line_is_given_up(lua: Lua):
    await ask(lua, 11, places(1))
    await ask(lua, 12, places(1))

    await forgo(lua, 12, places(1), delivery=0)
    await forgo(lua, 11, places(1))

    assert await lua.read() == [] and await line(lua) == []


@pytest.mark.leaves_keys("the run that waits is in another shard")
async def test_a_place_that_was_taken_is_not_that_of_who_waits_and_a_later_delivery_has_one_of_its_own(lua: Lua):
    """Whoever gives up late gives up nothing of what runs by then."""
    await ask(lua, 11, places(1))
    await forgo(lua, 11, places(1), delivery=0)
    assert (await ask(lua, 12, places(1)))[0] == "parked"

    assert (await ask(lua, 11, places(1), delivery=2))[0] == "admitted"
    await forgo(lua, 11, places(1), delivery=1)

    assert await holders(lua) == [b"11.2"]


async def test_a_claim_that_ended_before_it_asked_gives_up_what_was_kept_for_it(lua: Lua):
    await ask(lua, 11, places(1))
    await ask(lua, 12, places(1))
    await ask(lua, 13, places(1))
    await forgo(lua, 11, places(1))
    assert await holders(lua) == [b"12"]

    await forgo(lua, 12, places(1), delivery=2)

    assert await holders(lua) == [b"13"]


async def holders(lua: Lua) -> list[bytes]:
    return await lua.store.backend.call("ZRANGE", lua.keys.concurrency("f")[0], 0, -1)


@pytest.mark.parametrize("gate", [rate(1), cooldown()], ids=lambda gate: gate.kind)
async def test_a_start_that_did_not_come_to_be_counts_for_nothing(lua: Lua, gate: Gate):
    await ask(lua, 11, gate)
    await forgo(lua, 12, gate)
    assert (await ask(lua, 12, gate))[0] != "admitted"

    await forgo(lua, 12, gate)
    await forgo(lua, 11, gate)

    assert (await ask(lua, 13, gate))[0] == "admitted"


async def test_of_a_debounce_there_is_nothing_to_give_up(lua: Lua):
    await ask(lua, 11, debounce())

    assert await forgo(lua, 11, debounce()) == [b"given up"]


async def test_a_limit_that_cannot_be_read_is_an_error(lua: Lua):
    await lua.store.backend.call("SET", lua.keys.concurrency("f")[1], "no set", "PX", 60_000)

    assert (await forgo(lua, 11, places(1), delivery=0))[0] == b"error"
