"""`number.lua`, and the numbers it gave where other scripts put them to use."""

from __future__ import annotations

import pytest

from docket.states import ExecutionState
from tests.lua._scripts import LARGE, End, Item, Lua


async def test_numbers_are_taken_once_and_answered_with_the_last(lua: Lua):
    assert await lua.number(3) == 3
    assert await lua.number(1) == 4
    assert (await lua.schedule(Item()))[0][1] == 5


async def test_a_run_has_the_number_that_was_taken_for_it(lua: Lua):
    number = await lua.number(2)

    [reply] = await lua.schedule(Item(generation=number - 1))

    assert reply[:3] == [b"created", number - 1, b"queued"]
    assert (await lua.record())["generation"] == str(number - 1)


async def test_a_number_that_was_taken_too_early_is_stale_and_changes_nothing(lua: Lua):
    early = await lua.number(1)
    await lua.schedule(Item())
    before = await lua.record()

    assert await lua.schedule(Item(generation=early, replace=True)) == [[b"stale"]]

    assert await lua.record() == before
    assert lua.events == []


async def test_it_is_stale_after_the_end_of_the_later_run_too(lua: Lua):
    early = await lua.number(1)
    [delivery] = await lua.running(Item())
    await lua.settle(End(delivery.message_id, delivery.generation))

    assert await lua.schedule(Item(generation=early)) == [[b"stale"]]
    assert (await lua.record())["state"] == "completed"


async def test_a_live_key_is_answered_as_always_whatever_the_number(lua: Lua):
    early = await lua.number(1)
    await lua.schedule(Item())

    assert (await lua.schedule(Item(generation=early)))[0][:2] == [b"exists", 2]


async def test_a_successor_has_the_number_that_was_taken_for_it(lua: Lua):
    [delivery] = await lua.running(Item())
    number = await lua.number(1)

    [reply] = await lua.schedule(Item(generation=number, within=(1, 1)))

    assert reply[:2] == [b"created", number]
    await lua.settle(End(delivery.message_id, 1, wide=True))
    assert (await lua.record())["generation"] == str(number)


async def test_a_next_link_has_the_number_that_was_taken_for_it(lua: Lua):
    [delivery] = await lua.running(Item())
    number = await lua.number(1)

    await lua.settle(End(delivery.message_id, 1, again="next", following=number, payload=b"signed", outcome=b"c0:,"))

    record = await lua.record()
    assert (record["generation"], record["payload"]) == (str(number), "signed")
    assert (number, ExecutionState.QUEUED) in lua.states()


@pytest.mark.parametrize("had", [b"p", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("given", [b"q", LARGE + b"2"], ids=["small", "large"])
async def test_a_retry_has_the_number_and_the_payload_that_were_made_for_it(lua: Lua, had: bytes, given: bytes):
    [delivery] = await lua.running(Item(payload=had))
    await lua.settle(End(delivery.message_id, 1, state="failed", wide=True))
    number = await lua.number(1)

    reply = await lua.retry(following=number, payload=given)

    record = await lua.record()
    is_large = len(given) > 64
    assert reply[:2] == [b"created", number]
    assert await lua.get(lua.keys.payload("k")) == (given if is_large else None)
    assert (record.get("payload"), record.get("large")) == ((None, "1") if is_large else ("q", None))
