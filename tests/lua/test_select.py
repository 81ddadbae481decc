"""`select.lua`."""

from __future__ import annotations

import pytest

from docket._store.base import as_dict
from tests.lua._scripts import LARGE, Item, Lua


async def test_what_is_there_is_read_as_it_stands_and_what_is_not_is_nothing(lua: Lua):
    await lua.schedule(Item("a"))

    found, nothing = await lua.select(("a", ""), ("b", ""))

    assert as_dict(found[0])[b"state"] == b"queued"
    assert as_dict(found[0])[b"payload"] == b"p"
    assert nothing == 0
    assert lua.events == []


@pytest.mark.parametrize(
    ("states", "task", "generation", "found"),
    [
        ("", "", "", True),
        (",queued,", "", "", True),
        (",running,queued,", "f", 1, True),
        (",running,", "", "", False),
        (",que,", "", "", False),
        ("", "g", "", False),
        ("", "", 2, False),
    ],
)
async def test_only_what_is_wanted_is_read(lua: Lua, states: str, task: str, generation: int | str, found: bool):
    await lua.schedule(Item())

    [reply] = await lua.select(("k", generation), states=states, task=task)

    assert (reply != 0) == found


async def test_large_payloads_come_along_for_as_long_as_there_is_room(lua: Lua):
    await lua.schedule(Item("a", payload=LARGE), Item("b", payload=LARGE + b"more"), Item("c", payload=LARGE))

    a, b, c = await lua.select(("a", ""), ("b", ""), ("c", ""), room=2 * len(LARGE))

    assert (a[1], len(b), c[1]) == (LARGE, 1, LARGE)
    assert as_dict(b[0])[b"large"] == b"1"


async def test_a_large_payload_that_is_gone_is_left_out(lua: Lua):
    await lua.schedule(Item(payload=LARGE))
    await lua.store.backend.call("DEL", lua.keys.payload("k"))

    [reply] = await lua.select(("k", ""))

    assert len(reply) == 1


async def test_a_bad_record_is_an_error_of_its_own(lua: Lua):
    await lua.schedule(Item("a"), Item("c"))
    await lua.spoil("b")

    a, b, c = await lua.select(("a", ""), ("b", ""), ("c", ""))

    assert (len(a), b[0], len(c)) == (1, b"error", 1)
    assert b"WRONGTYPE" in b[1]
    await lua.mend("b")
