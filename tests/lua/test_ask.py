"""`ask.lua`: a run of another shard before limits of this one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lua._scripts import MINUTE_US, Gate, Lua, cooldown, debounce, places, rate


def keys_of(lua: Lua, gate: Gate) -> list[str]:
    if gate.kind == "concurrency":
        return [*lua.keys.concurrency(gate.identity)]
    return [*lua.keys.rate(gate.identity)] if gate.kind == "rate" else [lua.keys.limit(gate.kind, gate.identity)]


async def ask(lua: Lua, generation: int, *gates: Gate, quiet: str = "", first: str = "", delivery: int = 1) -> list[str]:
    keys = [lua.keys.stream, lua.keys.queue, lua.keys.meta, lua.keys.waiting, *(key for gate in gates for key in keys_of(lua, gate))]
    of_gates = [value for gate in gates for value in (gate.kind, gate.identity, gate.a, gate.b, gate.c)]
    [reply] = await lua.run("ask", keys, lua.keys.group, lua.keys.wake, f"k{generation}", generation, delivery, MINUTE_US, quiet, first, len(gates), *of_gates)
    return [word.decode() for word in reply]


async def line(lua: Lua) -> list[Any]:
    return await lua.store.backend.call("ZRANGE", lua.keys.concurrency("f")[1], 0, -1)


@pytest.mark.leaves_keys("the runs that wait are in another shard")
async def test_a_place_is_given_and_the_next_one_stands_in_line(lua: Lua):
    assert await ask(lua, 11, places(1)) == ["admitted", "", ""]
    assert await ask(lua, 12, places(1)) == ["parked", "f", ""]

    assert await line(lua) == [b"12|k12"]
    assert await lua.store.backend.call("ZRANGE", lua.keys.waiting, 0, -1) == [b"f"]


@pytest.mark.leaves_keys("the runs that wait are in another shard")
async def test_a_repeat_gets_the_same_answer(lua: Lua):
    for _ in range(2):
        assert await ask(lua, 11, places(1), rate(5)) == ["admitted", "", ""]
        assert await ask(lua, 12, places(1)) == ["parked", "f", ""]

    assert await line(lua) == [b"12|k12"]
    assert await lua.store.backend.call("ZCARD", lua.keys.rate("f")[0]) == 1


async def test_a_rate_tells_when_to_come_back(lua: Lua):
    await ask(lua, 11, rate(1))

    word, when, _ = await ask(lua, 12, rate(1))

    assert word == "later" and int(when) > 0
    assert await lua.store.backend.call("ZRANGE", lua.keys.rate("f")[1], 0, -1) == [b"12"]


async def test_a_cooldown_drops(lua: Lua):
    await ask(lua, 11, cooldown())

    assert await ask(lua, 12, cooldown()) == ["dropped", "cooldown", ""]


async def test_what_the_record_is_to_say_is_told(lua: Lua):
    word, _, marks = await ask(lua, 11, debounce())
    assert (word, marks) == ("later", "first")

    assert await ask(lua, 11, debounce(), quiet="1") == ["admitted", "", ""]
    await lua.store.backend.call("HSET", lua.keys.limit("debounce", "f"), "last", 1)
    assert await ask(lua, 11, debounce()) == ["admitted", "", "quiet "]


async def test_a_limit_that_cannot_be_read_is_an_error(lua: Lua):
    await lua.store.backend.call("SET", lua.keys.concurrency("f")[0], "no set", "PX", 60_000)

    word, message = await ask(lua, 11, places(1))

    assert word == "error" and message


async def holders(lua: Lua) -> Any:
    return await lua.store.backend.call("ZRANGE", lua.keys.concurrency("f")[0], 0, -1)


@pytest.mark.parametrize("later", [2, 3])
async def test_a_later_delivery_takes_over_the_place_of_the_one_before(lua: Lua, later: int):
    """Taken back from a worker that died, a delivery number is left out."""
    await ask(lua, 11, places(1))

    assert (await ask(lua, 11, places(1), delivery=later))[0] == "admitted"

    assert await holders(lua) == [b"11.%d" % later]


@pytest.mark.leaves_keys("the run that waits is in another shard")
async def test_of_one_long_before_it_knows_nothing(lua: Lua):
    """Which lapses; nobody is let in beside it until then."""
    await ask(lua, 11, places(1))

    assert (await ask(lua, 11, places(1), delivery=4))[0] == "parked"

    assert await holders(lua) == [b"11.1"]


async def test_one_that_passes_stands_in_line_no_longer(lua: Lua):
    """Let in a second time, it would take two places."""
    await ask(lua, 11, places(1))
    await ask(lua, 12, places(1))

    assert (await ask(lua, 12, places(2)))[0] == "admitted"

    assert await line(lua) == []
    assert await lua.store.backend.call("ZRANGE", lua.keys.waiting, 0, -1) == []
    assert sorted(await holders(lua)) == [b"11.1", b"12.1"]
