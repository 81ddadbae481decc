"""Dead letters: `settle.lua` writes them, `discard.lua` throws them away."""

from __future__ import annotations

from typing import Any

import pytest

from docket._store.records import Letter
from tests.lua._scripts import LARGE, Applicant, End, Item, Lua, places


async def letter(lua: Lua, generation: int = 1) -> Letter | None:
    [found] = await lua.store.letters.read([str(generation)])
    return found


async def dead(lua: Lua) -> list[str]:
    return [generation for _, generation in await lua.store.letters.newest(None, 10)]


async def discard(lua: Lua, *generations: int) -> Any:
    return await lua.run("discard", [lua.keys.dead, *map(lua.keys.letter, generations)], *generations)


async def test_a_failure_for_good_leaves_a_letter(lua: Lua):
    [delivery] = await lua.running(Item())

    assert await lua.settle(End(delivery.message_id, 1, state="failed", error="no", failure="{1}")) == [[b"settled", b"failed"]]

    found = await letter(lua)
    assert found is not None
    assert (found.key, found.generation, found.function, found.payload, found.attempt, found.trace, found.history) == ("k", 1, "f", b"p", 1, b"", (b"{1}",))
    assert await dead(lua) == ["1"]


async def test_a_repeat_leaves_no_other(lua: Lua):
    [delivery] = await lua.running(Item())
    end = End(delivery.message_id, 1, state="failed", failure="{1}")
    await lua.settle(end)
    await lua.settle(end)

    found = await letter(lua)
    assert found is not None
    assert found.history == (b"{1}",)


async def test_a_large_payload_is_in_it(lua: Lua):
    [delivery] = await lua.running(Item(payload=LARGE))
    await lua.settle(End(delivery.message_id, 1, state="failed", failure="{1}", wide=True))

    found = await letter(lua)
    assert found is not None
    assert found.payload == LARGE


async def test_the_attempts_before_are_in_it_and_only_the_last_twenty(lua: Lua):
    await lua.schedule(Item())
    for attempt in range(1, 23):
        [delivery] = await lua.read()
        [reply] = await lua.claim(delivery)
        again = "retry" if attempt < 22 else ""
        await lua.settle(End(delivery.message_id, 1, reply[1], state="failed", again=again, attempt=attempt + 1, failure=f"{{{attempt}}}"))

    found = await letter(lua)
    assert found is not None
    assert found.history == tuple(f"{{{attempt}}}".encode() for attempt in range(3, 23))


async def test_attempts_that_say_too_much_give_way_to_later_ones(lua: Lua):
    await lua.schedule(Item())
    for attempt in range(1, 4):
        [delivery] = await lua.read()
        [reply] = await lua.claim(delivery)
        again = "retry" if attempt < 3 else ""
        await lua.settle(End(delivery.message_id, 1, reply[1], state="failed", again=again, attempt=attempt + 1, failure=str(attempt) * 30_000))

    found = await letter(lua)
    assert found is not None
    assert [line[:1] for line in found.history] == [b"2", b"3"]


async def test_a_failed_link_leaves_one_and_the_chain_goes_on(lua: Lua):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1, state="failed", again="next", failure="{1}"))

    assert await dead(lua) == ["1"]
    assert (await lua.record())["generation"] == "2"


async def test_what_was_handed_back_or_replaced_leaves_none(lua: Lua):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1, state="failed", again="release", failure="{1}"))
    assert await lua.settle(End(delivery.message_id, 1, 7, state="failed", failure="{1}")) == [[b"superseded"]]

    assert await dead(lua) == []


async def test_letters_are_thrown_away_once(lua: Lua):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1, state="failed", failure="{1}"))

    assert await discard(lua, 1, 2) == 1
    assert await discard(lua, 1) == 0
    assert await letter(lua) is None


async def test_an_unknown_task_remembers_since_when(lua: Lua):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1, state="failed", again="release", attempt="unknown"))
    since = (await lua.record())["unknown_since"]
    [delivery] = await lua.read()
    [reply] = await lua.claim(delivery)
    assert reply[12] == since.encode()

    await lua.settle(End(delivery.message_id, 1, reply[1], state="failed", again="release", attempt="unknown"))
    assert (await lua.record())["unknown_since"] == since


@pytest.mark.parametrize("how", ["handed back", "its worker died", "parked"])
async def test_a_worker_that_knew_it_has_the_time_begin_anew(lua: Lua, how: str):
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 1, state="failed", again="release", attempt="unknown"))
    [delivery] = await lua.read()
    [reply] = await lua.claim(delivery)

    if how == "handed back":
        await lua.settle(End(delivery.message_id, 1, reply[1], state="failed", again="release"))
    elif how == "its worker died":
        await lua.reclaim(delivery)
    else:
        await lua.admit(Applicant(delivery, (places(0),), number=reply[1]))

    assert "unknown_since" not in await lua.record()
