"""`strike.lua`."""

from __future__ import annotations

from typing import Any

import pytest

from docket._messages import loads_netstrings
from docket._store.base import as_dict
from docket.errors import ServerError
from tests._waiting import eventually
from tests.lua._scripts import Item, Lua


class Ear:
    """This hears what is published on one channel."""

    def __init__(self) -> None:
        self.messages: list[list[bytes]] = []

    def on_message(self, message: bytes) -> None:
        self.messages.append(loads_netstrings(message))

    def on_interruption(self) -> None:
        """Nothing is lost here: the test would fail for it."""


@pytest.fixture
async def told(lua: Lua) -> list[list[bytes]]:
    """This is every change that is told of."""
    ear = Ear()
    await lua.store.backend.subscriber.add(lua.keys.struck, ear)
    return ear.messages


async def change(lua: Lua, verb: str, instruction: bytes = b"i", *, most: int = 10, shards: int = 1) -> Any:
    return await lua.run("strike", [lua.keys.strikes, lua.keys.meta], lua.keys.struck, verb, instruction, most, shards)


async def now_us(lua: Lua) -> int:
    now = await lua.now_us()
    lua.check_touched({lua.keys.queue, lua.keys.stream})
    return now


async def standing(lua: Lua) -> dict[bytes, bytes]:
    return as_dict(await lua.store.backend.call("HGETALL", lua.keys.strikes))


async def test_what_is_struck_stands_with_the_moment_it_was_struck(lua: Lua, told: list[list[bytes]]):
    before = await now_us(lua)

    word, was, version = await change(lua, "strike")

    assert (word, was) == (b"struck", b"0")
    assert before <= int(version) <= await now_us(lua)
    assert await standing(lua) == {b"i": version}
    await eventually(lambda: told == [[b"0", version, b"strike", b"i"]])


async def test_what_is_restored_stands_no_more(lua: Lua, told: list[list[bytes]]):
    _, _, first = await change(lua, "strike")
    await change(lua, "strike", b"another")

    word, was, version = await change(lua, "restore")

    assert word == b"restored"
    assert int(first) < int(was) < int(version)
    assert list(await standing(lua)) == [b"another"]
    await eventually(lambda: told[2:] == [[was, version, b"restore", b"i"]])


async def test_a_repeat_changes_nothing(lua: Lua, told: list[list[bytes]]):
    _, _, version = await change(lua, "strike")
    stood = await standing(lua)

    assert await change(lua, "strike") == [b"unchanged", version, version]
    assert await change(lua, "restore", b"another") == [b"unchanged", version, version]

    assert await standing(lua) == stood
    await eventually(lambda: told)
    assert len(told) == 1


async def test_where_nothing_was_ever_struck_there_is_nothing_to_restore(lua: Lua):
    assert await change(lua, "restore") == [b"unchanged", b"0", b"0"]
    assert "strikes" not in await meta(lua)


async def meta(lua: Lua) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in as_dict(await lua.store.backend.call("HGETALL", lua.keys.meta)).items()}


async def test_no_more_are_taken_than_may_stand(lua: Lua, told: list[list[bytes]]):
    await change(lua, "strike", b"a", most=2)
    _, _, version = await change(lua, "strike", b"b", most=2)

    assert await change(lua, "strike", b"c", most=2) == [b"full", 2]

    assert sorted(await standing(lua)) == [b"a", b"b"]
    assert await change(lua, "strike", b"a", most=2) == [b"unchanged", version, version]
    assert (await change(lua, "restore", b"a", most=2))[0] == b"restored"
    assert (await change(lua, "strike", b"c", most=2))[0] == b"struck"


async def test_a_version_is_more_than_the_one_before_whatever_the_clock_says(lua: Lua):
    ahead = await now_us(lua) + 10**12
    await lua.store.backend.call("HSET", lua.keys.meta, "strikes", ahead)

    _, was, version = await change(lua, "strike")

    assert (int(was), int(version)) == (ahead, ahead + 1)


async def test_a_version_is_not_used_again_when_the_data_was_lost(lua: Lua):
    _, _, version = await change(lua, "strike")
    await lua.store.backend.call("DEL", lua.keys.strikes, lua.keys.meta)

    _, was, again = await change(lua, "strike")

    assert was == b"0"
    assert int(again) > int(version)


async def test_an_instruction_may_be_any_bytes(lua: Lua, told: list[list[bytes]]):
    instruction = bytes(range(256)) if not lua.store.is_memory else "1:ä,\n{}".encode()

    await change(lua, "strike", instruction)

    assert list(await standing(lua)) == [instruction]
    await eventually(lambda: [message[3] for message in told] == [instruction])


async def test_a_claim_answers_the_version(lua: Lua):
    await lua.schedule(Item("a"), Item("b"))
    first, second = await lua.read()
    await lua.claim(first)
    assert lua.struck == 0

    _, _, version = await change(lua, "strike")
    await lua.claim(second)

    assert lua.struck == int(version)


async def test_what_is_no_hash_is_an_error(lua: Lua):
    await lua.store.backend.call("SET", lua.keys.strikes, "no hash")

    with pytest.raises(ServerError, match="WRONGTYPE"):
        await change(lua, "strike")

    await lua.store.backend.call("DEL", lua.keys.strikes)
    assert "strikes" not in await meta(lua)


@pytest.mark.parametrize(("recorded", "there"), [({"layout": 1}, b"1"), ({"layout": 2, "shards": 8}, b"8")])
async def test_whoever_knows_of_other_shards_than_there_are_is_refused(lua: Lua, recorded: dict[str, int], there: bytes):
    """Those that are there would not be told."""
    await lua.store.backend.call("HSET", lua.keys.meta, *(part for field in recorded.items() for part in field))

    assert await change(lua, "strike", shards=4) == [b"divided", there]

    assert await standing(lua) == {}
    assert (await change(lua, "strike", shards=int(there)))[0] == b"struck"
