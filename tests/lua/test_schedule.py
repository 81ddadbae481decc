"""`schedule.lua`."""

from __future__ import annotations

import pytest

from docket._store.records import StateChange
from docket.states import ExecutionState
from tests.lua._scripts import LARGE, End, Item, Lua

HOUR_US = 3600 * 1_000_000
QUEUED, SCHEDULED, CANCELLED = ExecutionState.QUEUED, ExecutionState.SCHEDULED, ExecutionState.CANCELLED


async def test_work_for_now_is_queued(lua: Lua):
    [[word, generation, state, when]] = await lua.schedule(Item(function="send", payload=b"args", trace=b"trace"))

    assert (word, generation, state) == (b"created", 1, b"queued")
    assert await lua.depth() == (1, 0)
    assert lua.states() == [(1, QUEUED)]
    assert lua.wakes == []
    record = await lua.record()
    assert record.pop("token")
    assert record == {"state": "queued", "generation": "1", "function": "send", "when": when.decode(), "payload": "args", "trace": "trace"}


async def test_work_for_later_is_scheduled(lua: Lua):
    when = await lua.now_us() + HOUR_US

    [reply] = await lua.schedule(Item(when=when))

    assert reply == [b"created", 1, b"scheduled", str(when).encode()]
    assert await lua.depth() == (0, 1)
    assert lua.states() == [(1, SCHEDULED)]


async def test_events_of_scheduling_have_their_full_shape(lua: Lua):
    when = await lua.now_us() + HOUR_US

    await lua.schedule(Item(when=when))

    assert lua.events == [StateChange("k", 1, SCHEDULED, when, worker=None, started_us=None, completed_us=None, error=None)]


async def test_work_that_was_due_in_the_past_is_queued(lua: Lua):
    [[word, _, state, when]] = await lua.schedule(Item(when=1))

    assert (word, state, when) == (b"created", b"queued", b"1")


@pytest.mark.parametrize("claim", [False, True], ids=["queued", "running"])
async def test_a_live_key_exists_and_stays_as_it_is(lua: Lua, claim: bool):
    await lua.schedule(Item(function="first"))
    if claim:
        await lua.claim(*await lua.read())
    before = await lua.record()

    [reply] = await lua.schedule(Item(function="second"))

    assert reply[:3] == [b"exists", 1, before["state"].encode()]
    assert await lua.record() == before
    assert lua.events == []


async def test_a_scheduled_key_exists(lua: Lua):
    when = await lua.now_us() + HOUR_US
    await lua.schedule(Item(when=when))

    [reply] = await lua.schedule(Item())

    assert reply == [b"exists", 1, b"scheduled", str(when).encode()]


@pytest.mark.parametrize("later", [False, True], ids=["now", "later"])
async def test_a_repeat_answers_as_the_first_time_did_and_changes_nothing(lua: Lua, later: bool):
    item = Item(when=await lua.now_us() + HOUR_US if later else "", payload=LARGE)
    first = await lua.schedule(item)
    depth = await lua.depth()

    again = await lua.schedule(item)

    assert again == first
    assert await lua.depth() == depth
    assert lua.events == []


async def test_a_repeat_of_a_replacement_does_not_replace_again(lua: Lua):
    await lua.schedule(Item())
    item = Item(replace=True)
    first = await lua.schedule(item)

    again = await lua.schedule(item)

    assert again == first
    assert again[0][:2] == [b"created", 2]


async def test_a_repeat_is_known_while_the_run_runs(lua: Lua):
    item = Item()
    await lua.running(item)

    [reply] = await lua.schedule(item)

    assert reply[:3] == [b"created", 1, b"running"]


async def test_generations_are_never_used_twice(lua: Lua):
    replies = await lua.schedule(Item("a"), Item("b"), Item("a", replace=True), Item("c"))

    assert [reply[1] for reply in replies] == [1, 2, 3, 4]


async def test_one_key_twice_in_a_batch_is_made_once(lua: Lua):
    replies = await lua.schedule(Item("a"), Item("a"))

    assert [(reply[0], reply[1]) for reply in replies] == [(b"created", 1), (b"exists", 1)]
    assert await lua.depth() == (1, 0)


async def test_a_bad_record_fails_alone(lua: Lua):
    await lua.spoil("b")

    replies = await lua.schedule(Item("a"), Item("b"), Item("c", payload=LARGE))

    assert [reply[0] for reply in replies] == [b"created", b"error", b"created"]
    assert b"WRONGTYPE" in replies[1][1]
    assert await lua.depth() == (2, 0)
    await lua.mend("b")


async def test_a_large_payload_stands_in_its_own_key(lua: Lua):
    await lua.schedule(Item(payload=LARGE))

    assert await lua.get(lua.keys.payload("k")) == LARGE
    record = await lua.record()
    assert record["large"] == "1"
    assert "payload" not in record


async def test_replacing_ends_what_stood_there(lua: Lua):
    await lua.schedule(Item(when=await lua.now_us() + HOUR_US, payload=LARGE))

    [reply] = await lua.schedule(Item(replace=True, payload=b"new"))

    assert reply[:3] == [b"created", 2, b"queued"]
    assert lua.states() == [(1, CANCELLED), (2, QUEUED)]
    gone = lua.events[0]
    assert isinstance(gone, StateChange)
    assert gone.superseded
    assert gone.completed_us is not None
    assert await lua.depth() == (1, 0)
    assert await lua.exists(lua.keys.payload("k")) == 0
    assert lua.cancels == []


async def test_replacing_a_running_run_tells_it_to_stop(lua: Lua):
    await lua.running(Item())

    await lua.schedule(Item(replace=True))

    assert lua.cancels == [b"1:k,1:1,8:replaced,"]
    assert lua.states() == [(1, CANCELLED), (2, QUEUED)]


async def test_a_run_that_replaces_itself_is_not_told_to_stop(lua: Lua):
    await lua.running(Item())

    [reply] = await lua.schedule(Item(replace=True, within=(1, 1)))

    assert reply[:2] == [b"created", 2]
    assert lua.cancels == []
    assert lua.states() == [(1, CANCELLED), (2, QUEUED)]


async def test_replacing_drops_the_successor_with_an_end_of_its_own(lua: Lua):
    await lua.running(Item())
    await lua.schedule(Item(within=(1, 1), payload=LARGE))

    await lua.schedule(Item(replace=True))

    assert lua.states() == [(1, CANCELLED), (2, CANCELLED), (3, QUEUED)]
    assert await lua.exists(lua.keys.successor("k")) == 0


@pytest.mark.parametrize("payload", [b"small", LARGE], ids=["small", "large"])
async def test_a_run_that_schedules_its_own_key_gets_a_successor(lua: Lua, payload: bytes):
    await lua.running(Item())
    when = await lua.now_us() + HOUR_US

    [reply] = await lua.schedule(Item(function="next", within=(1, 1), when=when, payload=payload, trace=b"t"))

    assert reply == [b"created", 2, b"scheduled", str(when).encode()]
    record = await lua.record()
    assert (record["state"], record["generation"], record["next_generation"], record["next_function"]) == ("running", "1", "2", "next")
    assert await lua.get(lua.keys.successor("k")) == (payload if payload == LARGE else None)
    assert await lua.depth() == (1, 0)
    assert lua.events == []


async def test_a_successor_for_now_is_due_when_it_was_asked_for(lua: Lua):
    await lua.running(Item())
    before = await lua.now_us()

    [[_, _, _, when]] = await lua.schedule(Item(within=(1, 1)))

    assert before <= int(when) <= await lua.now_us()


async def test_a_second_successor_exists_already_and_a_repeat_of_the_first_was_created(lua: Lua):
    await lua.running(Item())
    item = Item(within=(1, 1))
    first = await lua.schedule(item)

    again, other = await lua.schedule(item, Item(within=(1, 1)))

    assert [again] == first
    assert other == [b"exists", *again[1:]]


@pytest.mark.parametrize("within", [(1, 2), (9, 1)], ids=["another delivery", "another generation"])
async def test_another_claim_of_the_key_gets_no_successor(lua: Lua, within: tuple[int, int]):
    await lua.running(Item())

    [reply] = await lua.schedule(Item(within=within))

    assert reply[:3] == [b"exists", 1, b"running"]
    assert "next_generation" not in await lua.record()


@pytest.mark.parametrize("wide", [False, True])
async def test_an_ended_key_is_free_again_and_nothing_of_the_old_run_stays(lua: Lua, wide: bool):
    [delivery] = await lua.running(Item(payload=LARGE, trace=b"old"))
    await lua.settle(End(delivery.message_id, 1, outcome=b"c0:,=value", wide=True))

    [reply] = await lua.schedule(Item(wide=wide))

    assert reply[:3] == [b"created", 2, b"queued"]
    assert set(await lua.record()) == {"state", "generation", "function", "when", "token", "payload", "earlier"}


@pytest.mark.parametrize(("how", "word"), [("completed", "completed"), ("failed", "failed"), ("cancelled", "cancelled"), ("replaced", "replaced")])
async def test_a_record_remembers_how_the_run_before_it_ended(lua: Lua, how: str, word: str):
    [delivery] = await lua.running(Item())
    before = await lua.now_us()
    if how != "replaced":
        await lua.settle(End(delivery.message_id, 1, state=how))

    await lua.schedule(Item(replace=how == "replaced"))

    generation, found, moment = (await lua.record())["earlier"].split(" ")
    assert (generation, found) == ("1", word)
    assert before <= int(moment) <= await lua.now_us()


async def test_the_first_run_of_a_key_remembers_none(lua: Lua):
    await lua.schedule(Item())

    assert "earlier" not in await lua.record()


async def test_movers_are_woken_only_for_what_is_due_earlier_than_all_else(lua: Lua):
    hour = await lua.now_us() + HOUR_US
    await lua.schedule(Item("a", when=hour))
    assert lua.wakes == [hour]

    await lua.schedule(Item("b", when=hour + 1))
    assert lua.wakes == []

    await lua.schedule(Item("c", when=hour - 5), Item("k", when=hour - 9))
    assert lua.wakes == [hour - 9]
