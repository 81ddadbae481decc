"""`letters.lua` reads dead letters."""

from __future__ import annotations

from typing import Any

from tests.lua._scripts import LARGE, End, Item, Lua

ROOMY = 1_000_000


async def bury(lua: Lua, *items: Item, failure: str = "{1}") -> None:
    for generation, (item, delivery) in enumerate(zip(items, await lua.running(*items), strict=True), start=1):
        await lua.settle(End(delivery.message_id, generation, key=item.key, state="failed", failure=failure, wide=len(item.payload) > 64))


async def letters(lua: Lua, *generations: int, task: str = "", prefix: str = "", room: int = ROOMY) -> Any:
    replies = await lua.run("letters", [lua.keys.letter(generation) for generation in generations], task, prefix, room)
    assert lua.events == []
    return replies


async def test_a_letter_is_read_with_all_that_is_known(lua: Lua):
    await bury(lua, Item(payload=b"args", trace=b"{}"))

    [[key, task, when, attempt, generation, died_at, trace, size, history, whole, payload]] = await letters(lua, 1)

    assert (key, task, attempt, generation, trace, size, history, whole, payload) == (b"k", b"f", b"1", b"1", b"{}", b"4", b"{1}", b"1", b"args")
    assert int(when) <= int(died_at) <= await lua.now_us()


async def test_what_is_gone_or_not_wanted_is_left_out(lua: Lua):
    await bury(lua, Item("a", "one"), Item("b", "two"))

    assert [reply == 0 for reply in await letters(lua, 1, 2, 3)] == [False, False, True]
    assert [reply == 0 for reply in await letters(lua, 1, 2, task="two")] == [True, False]
    assert [reply == 0 for reply in await letters(lua, 1, 2, prefix="a")] == [False, True]
    assert [reply == 0 for reply in await letters(lua, 1, prefix="ab")] == [True]


async def test_a_letter_for_which_there_is_no_room_tells_of_its_last_attempt_only(lua: Lua):
    await bury(lua, Item("a", payload=LARGE), Item("b", payload=LARGE), Item("c"), failure="one\ntwo\nthree")

    first, second, third = await letters(lua, 1, 2, 3, room=len(LARGE) + 13 + 20)

    assert first[8:] == [b"one\ntwo\nthree", b"1", LARGE]
    assert second[7:] == [b"100", b"three", b""]
    assert third[8:] == [b"one\ntwo\nthree", b"1", b"p"]
    assert (await letters(lua, 3, room=0))[0][8:] == [b"three", b""]


async def test_the_only_attempt_is_there_whatever_the_room(lua: Lua):
    await bury(lua, Item())

    assert (await letters(lua, 1, room=0))[0][8:] == [b"{1}", b""]


async def test_what_is_no_letter_is_an_error_of_its_own(lua: Lua):
    await bury(lua, Item())
    await lua.store.backend.call("SET", lua.keys.letter(7), "no letter", "PX", 60_000)
    await lua.store.backend.call("HSET", lua.keys.letter(8), "key", "k")
    await lua.store.backend.call("PEXPIRE", lua.keys.letter(8), 60_000)

    wrong, bare, fine = await letters(lua, 7, 8, 1)

    assert wrong[0] == b"error"
    assert bare == [b"k", *[b""] * 8, b"1", b""]
    assert fine[0] == b"k"
