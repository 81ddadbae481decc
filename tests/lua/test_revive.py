"""`revive.lua` runs a dead letter again."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from docket.errors import ServerError
from docket.states import ExecutionState
from tests.lua._scripts import LARGE, MINUTE_US, TTL_MS, End, Item, Lua

QUEUED, SCHEDULED = ExecutionState.QUEUED, ExecutionState.SCHEDULED

tokens = itertools.count(10**9)


async def bury(lua: Lua, item: Item = Item(), *, outcome: bytes = b"", ttl_ms: int = TTL_MS) -> None:
    """The first run of the docket dies."""
    [delivery] = await lua.running(item)
    wide = len(item.payload) > 64 or len(outcome) > 64
    await lua.settle(End(delivery.message_id, 1, state="failed", outcome=outcome, failure="{1}", wide=wide), ttl_ms=ttl_ms)


async def revive(
    lua: Lua, *, when: int | str = "", token: int | None = None, following: int | str = "", payload: bytes | None = None, ttl_ms: int = TTL_MS, key: str = "k"
) -> Any:
    spell = lua.keys
    keys = [spell.stream, spell.queue, spell.meta, spell.dead, spell.letter(1), spell.run(key), spell.payload(key), spell.outcome(key, 1)]
    return await lua.run(
        "revive", keys, spell.wake, ttl_ms, 1, key, next(tokens) if token is None else token, when, following, payload or b"", "" if payload is None else "1"
    )


async def letters(lua: Lua) -> tuple[int, int]:
    """How many are listed, and how many of the first there are."""
    return len(await lua.scores(lua.keys.dead)), await lua.exists(lua.keys.letter(1))


async def test_it_is_a_new_run_of_the_first_attempt_and_the_letter_goes(lua: Lua):
    await bury(lua, Item(payload=b"args", trace=b"{}"))

    word, generation, state, when = await revive(lua)

    assert (word, generation, state) == (b"created", 2, b"queued")
    assert lua.states() == [(2, QUEUED)]
    assert await letters(lua) == (0, 0)
    record = await lua.record()
    assert record.pop("token") is not None
    ended = record.pop("earlier")
    assert record == {"state": "queued", "generation": "2", "function": "f", "when": when.decode(), "payload": "args", "trace": "{}"}
    assert ended.startswith("1 failed ")
    [delivery] = await lua.read()
    [claimed] = await lua.claim(delivery)
    assert (claimed[0], claimed[3], len(claimed)) == (b"claimed", b"args", 8)


async def test_it_is_scheduled_for_later_and_the_movers_are_woken(lua: Lua):
    await bury(lua)
    later = await lua.now_us() + MINUTE_US

    assert await revive(lua, when=later) == [b"created", 2, b"scheduled", str(later).encode()]

    assert await lua.scores(lua.keys.queue) == {"k": later}
    assert lua.wakes == [later]
    assert lua.states() == [(2, SCHEDULED)]


async def test_a_large_payload_goes_along_and_lives_as_long_as_the_run(lua: Lua):
    await bury(lua, Item(payload=LARGE))

    await revive(lua)

    assert await lua.get(lua.keys.payload("k")) == LARGE
    if not lua.store.is_memory:
        assert await lua.store.backend.call("TTL", lua.keys.payload("k")) == -1
    assert (await lua.record())["large"] == "1"
    [delivery] = await lua.read()
    await lua.claim(delivery)
    await lua.settle(End(delivery.message_id, 2, wide=True))


@pytest.mark.parametrize(("before", "after"), [(LARGE, b"other"), (b"p", LARGE)], ids=["smaller", "larger"])
async def test_other_arguments_take_the_place_of_those_it_had(lua: Lua, before: bytes, after: bytes):
    await bury(lua, Item(payload=before))

    await revive(lua, payload=after)

    [delivery] = await lua.read()
    [claimed] = await lua.claim(delivery)
    assert claimed[3] == after
    assert await lua.exists(lua.keys.payload("k")) == (1 if after == LARGE else 0)
    await lua.settle(End(delivery.message_id, 2, wide=True))


async def test_a_generation_taken_beforehand_is_the_new_runs(lua: Lua):
    await bury(lua)
    taken = await lua.number(3)

    assert (await revive(lua, following=taken))[:2] == [b"created", taken]


async def test_what_is_sealed_for_the_run_that_died_is_not_taken_for_another(lua: Lua):
    await bury(lua, Item(payload=b"\x03seal"))

    assert await revive(lua) == [b"sealed"]
    assert await letters(lua) == (1, 1)
    assert (await lua.record())["state"] == "failed"

    assert (await revive(lua, following=await lua.number(1), payload=b"\x03other"))[0] == b"created"


async def test_where_the_record_is_gone_it_runs_all_the_same(lua: Lua):
    await bury(lua, ttl_ms=0)
    assert await lua.record() == {}

    assert (await revive(lua, ttl_ms=0))[:2] == [b"created", 2]
    assert (await lua.record())["earlier"].startswith("1 failed ")


async def test_how_the_run_ended_is_kept_beside(lua: Lua):
    await bury(lua, outcome=b"f4:Ouch,")

    await revive(lua)

    assert await lua.get(lua.keys.outcome("k", 1)) == b"f4:Ouch,"


async def test_what_stands_beside_already_stays(lua: Lua):
    await bury(lua, outcome=b"f70:" + b"o" * 70 + b",")

    await revive(lua)

    assert await lua.get(lua.keys.outcome("k", 1)) == b"f70:" + b"o" * 70 + b","


async def test_a_key_that_was_used_and_is_free_again_takes_it(lua: Lua):
    await bury(lua)
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 2, outcome=b"c0:,"))

    assert (await revive(lua))[:2] == [b"created", 3]

    assert (await lua.record())["earlier"].startswith("2 completed ")
    assert await lua.exists(lua.keys.outcome("k", 1)) == 0


@pytest.mark.parametrize("state", ["scheduled", "queued", "running"])
async def test_a_key_in_use_keeps_its_letter(lua: Lua, state: str):
    await bury(lua)
    if state == "running":
        await lua.running(Item())
    else:
        await lua.schedule(Item(when=await lua.now_us() + MINUTE_US if state == "scheduled" else ""))

    assert await revive(lua) == [b"wrong", state.encode()]

    assert await letters(lua) == (1, 1)
    assert lua.events == []
    assert (await lua.record())["generation"] == "2"


async def test_a_generation_that_was_overtaken_is_refused(lua: Lua):
    await bury(lua)
    taken = await lua.number(1)
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, 3))

    assert await revive(lua, following=taken) == [b"stale"]
    assert await letters(lua) == (1, 1)

    assert (await revive(lua, following=await lua.number(1)))[:2] == [b"created", 4]


async def test_of_two_callers_one_runs_it(lua: Lua):
    await bury(lua)
    assert (await revive(lua))[0] == b"created"

    assert await revive(lua) == [b"gone"]
    assert lua.events == []
    assert await lua.depth() == (1, 0)


async def test_what_was_thrown_away_or_has_expired_is_gone(lua: Lua):
    await bury(lua)
    await lua.store.letters.discard(["1"])

    assert await revive(lua) == [b"gone"]
    assert (await lua.record())["state"] == "failed"


async def test_a_repeat_answers_as_the_first_time(lua: Lua):
    await bury(lua)
    first = await revive(lua, token=5)

    assert await revive(lua, token=5) == first
    assert lua.events == []
    assert await lua.depth() == (1, 0)

    [delivery] = await lua.read()
    await lua.claim(delivery)
    assert (await revive(lua, token=5))[:3] == [b"created", 2, b"running"]


async def test_a_bad_record_is_an_error_and_the_letter_stays(lua: Lua):
    await bury(lua)
    await lua.spoil()

    with pytest.raises(ServerError, match="WRONGTYPE"):
        await revive(lua)

    assert await letters(lua) == (1, 1)
    await lua.mend()
