"""`reschedule.lua`."""

from __future__ import annotations

import pytest

from docket._store.records import StateChange
from docket.errors import ServerError
from docket.states import ExecutionState
from tests.lua._scripts import LARGE, Applicant, End, Item, Lua, places, rate

SCHEDULED, QUEUED, RUNNING = ExecutionState.SCHEDULED, ExecutionState.QUEUED, ExecutionState.RUNNING
HOUR_US = 3_600_000_000


async def later(lua: Lua, hours: int = 1) -> int:
    return await lua.now_us() + hours * HOUR_US


async def test_scheduled_work_is_moved_and_told_of(lua: Lua):
    await lua.schedule(Item(when=await later(lua, 1)))
    when = await later(lua, 2)

    assert await lua.reschedule(when=when) == [b"moved", b"scheduled", str(when).encode()]

    assert await lua.scores(lua.keys.queue) == {"k": when}
    assert (await lua.record())["when"] == str(when)
    [event] = lua.events
    assert event == StateChange("k", 1, SCHEDULED, when, None, None, None, None)


async def test_movers_are_woken_for_what_is_due_before_all_else_only(lua: Lua):
    await lua.schedule(Item("a", when=await later(lua, 5)))
    await lua.schedule(Item(when=await later(lua, 6)))
    when = await later(lua, 4)

    await lua.reschedule(generation=2, when=when)
    assert lua.wakes == [when]

    await lua.reschedule(generation=2, when=when + HOUR_US * 4)
    assert lua.wakes == []


@pytest.mark.parametrize("when", ["", 5], ids=["promoted", "moved to the past"])
async def test_scheduled_work_that_is_due_is_ready_at_once(lua: Lua, when: int | str):
    now = await lua.now_us()
    await lua.schedule(Item(when=now + HOUR_US))

    word, state, due = await lua.reschedule(when=when)

    assert (word, state) == (b"moved", b"queued")
    assert await lua.depth() == (1, 0)
    assert lua.states() == [(1, QUEUED)]
    assert lua.wakes == []
    record = await lua.record()
    assert (record["state"], record["when"].encode()) == ("queued", due)
    assert int(due) == 5 if when else now <= int(due) < now + HOUR_US
    [reply] = await lua.claim(*await lua.read())
    assert reply[0] == b"claimed"


async def test_a_run_that_waits_for_its_retry_is_moved_with_the_error_so_far(lua: Lua):
    [run] = await lua.running(Item())
    await lua.settle(End(run.message_id, 1, again="retry", when=await later(lua), attempt=2, error="why"))

    await lua.reschedule()

    record = await lua.record()
    assert (record["state"], record["attempt"], record["error"]) == ("queued", "2", "why")
    [event] = lua.events
    assert isinstance(event, StateChange)
    assert (event.state, event.error) == (QUEUED, "why")


# Queued work, and the entry that it leaves in the stream


async def test_queued_work_is_moved_and_told_of(lua: Lua):
    await lua.schedule(Item())
    when = await later(lua)

    assert await lua.reschedule(when=when) == [b"moved", b"scheduled", str(when).encode()]

    assert await lua.scores(lua.keys.queue) == {"k": when}
    assert lua.states() == [(1, SCHEDULED)]
    assert lua.wakes == [when]


@pytest.mark.parametrize("fetched", [True, False])
async def test_the_entry_it_leaves_does_not_run_it_early(lua: Lua, fetched: bool):
    await lua.schedule(Item())
    entries = await lua.read() if fetched else []
    await lua.reschedule(when=await later(lua))
    entries = entries or await lua.read()

    assert await lua.claim(*entries) == [[b"refused", b"scheduled"]]

    assert await lua.pending() == []
    assert await lua.depth() == (0, 1)
    assert (await lua.record())["state"] == "scheduled"


@pytest.mark.parametrize("first", [0, 1], ids=["the old entry first", "the new entry first"])
async def test_when_it_is_due_whichever_entry_comes_first_runs_it_once(lua: Lua, first: int):
    await lua.schedule(Item())
    await lua.reschedule(when=await later(lua))
    await lua.reschedule()
    old, new = await lua.read()

    one, other = (old, new) if first == 0 else (new, old)
    assert (await lua.claim(one))[0][0] == b"claimed"
    assert await lua.claim(other) == [[b"refused", b"running"]]

    await lua.settle(End(one.message_id, 1))
    assert await lua.depth() == (0, 0)
    assert await lua.pending() == []


async def test_an_old_entry_in_a_dead_workers_hands_comes_to_nothing(lua: Lua):
    await lua.schedule(Item())
    [entry] = await lua.read()
    await lua.reschedule(when=await later(lua))

    assert await lua.reclaim(entry) == [b"taken", 0]

    assert await lua.depth() == (0, 1)


@pytest.mark.parametrize("when", ["", 5], ids=["promoted", "moved to the past"])
async def test_queued_work_that_is_due_stays_as_it_is(lua: Lua, when: int | str):
    await lua.schedule(Item(when=3))

    assert await lua.reschedule(when=when) == [b"moved", b"queued", b"3"]

    assert await lua.depth() == (1, 0)
    assert lua.events == []


# What limits have told to wait


async def parked(lua: Lua, *keys: str) -> None:
    """This has a run `a` hold the only place, and the others wait in line."""
    runs = await lua.running(Item("a"), *map(Item, keys))
    replies = await lua.admit(*(Applicant(run, (places(1),)) for run in runs))
    assert [reply[0] for reply in replies] == [b"admitted", *[b"parked"] * len(keys)]


async def test_who_waits_in_line_leaves_it(lua: Lua):
    await parked(lua, "b", "c")
    when = await later(lua)

    assert await lua.reschedule(key="b", generation=2, when=when) == [b"line", b"f"]
    assert await lua.reschedule(key="b", generation=2, when=when, line="f") == [b"moved", b"scheduled", str(when).encode()]

    assert await lua.waiters() == ["3|c"]
    assert await lua.waited_for() == ["f"]
    assert "parked" not in await lua.record("b")
    await lua.settle(End((await lua.pending())[0].message_id, 1, key="a", limit="f"))
    assert list(await lua.holders()) == ["3"]


async def test_the_last_of_a_line_closes_it(lua: Lua):
    await parked(lua, "b")

    await lua.reschedule(key="b", generation=2, when=await later(lua), line="f")

    assert await lua.waited_for() == []
    assert await lua.exists(*lua.keys.concurrency("f")[1:]) == 0


async def test_who_waits_in_line_and_is_due_stays_in_line(lua: Lua):
    await parked(lua, "b")

    assert (await lua.reschedule(key="b", generation=2))[:2] == [b"moved", b"queued"]

    assert await lua.waiters() == ["2|b"]
    assert lua.events == []


async def test_a_place_that_is_kept_for_it_goes_to_the_next(lua: Lua):
    await parked(lua, "b", "c")
    [holder] = [entry for entry in await lua.pending() if entry.key == "a"]
    await lua.settle(End(holder.message_id, 1, key="a", limit="f"))
    assert list(await lua.holders()) == ["2"]

    await lua.reschedule(key="b", generation=2, when=await later(lua), line="f")

    assert list(await lua.holders()) == ["3"]
    old, following = await lua.read()
    assert await lua.claim(old) == [[b"refused", b"scheduled"]]
    assert list(await lua.holders()) == ["3"]
    assert (await lua.claim(following))[0][0] == b"claimed"


async def test_what_was_told_to_come_later_is_moved(lua: Lua):
    a, b = await lua.running(Item("a"), Item("b"))
    await lua.admit(Applicant(a, (rate(1),)))
    await lua.admit(Applicant(b, (rate(1),)))
    assert "aside" in await lua.record("b")
    when = await later(lua, 5)

    await lua.reschedule(key="b", generation=2, when=when)

    record = await lua.record("b")
    assert (record["state"], "aside" in record) == ("scheduled", False)
    assert await lua.scores(lua.keys.queue) == {"b": when}
    assert lua.states("b") == [(2, SCHEDULED)]


async def test_what_was_told_to_come_later_is_not_promoted_past_its_limit(lua: Lua):
    a, b = await lua.running(Item("a"), Item("b"))
    await lua.admit(Applicant(a, (rate(1),)))
    await lua.admit(Applicant(b, (rate(1),)))

    assert (await lua.reschedule(key="b", generation=2))[:2] == [b"moved", b"queued"]

    assert await lua.depth() == (1, 1)


# Whom it may not move


async def test_what_runs_is_not_moved_and_need_not_be_promoted(lua: Lua):
    await lua.running(Item())

    assert await lua.reschedule(when=await later(lua)) == [b"wrong", b"running"]
    assert (await lua.reschedule())[:2] == [b"moved", b"running"]

    assert await lua.depth() == (1, 0)
    assert lua.events == []


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
async def test_what_has_ended_is_neither_moved_nor_promoted(lua: Lua, state: str):
    [run] = await lua.running(Item())
    await lua.settle(End(run.message_id, 1, state=state))

    assert await lua.reschedule(when=await later(lua)) == [b"wrong", state.encode()]
    assert await lua.reschedule() == [b"wrong", state.encode()]


async def test_another_run_of_the_key_is_left_alone(lua: Lua):
    await lua.schedule(Item(when=await later(lua)))
    await lua.schedule(Item(when=await later(lua), replace=True))

    assert await lua.reschedule(generation=1) == [b"superseded"]

    assert await lua.depth() == (0, 1)


async def test_where_nothing_is_known_there_is_nothing_to_move(lua: Lua):
    assert await lua.reschedule() == [b"gone"]


async def test_a_successor_is_moved_before_it_has_come_to_be(lua: Lua):
    [run] = await lua.running(Item())
    await lua.schedule(Item(within=(1, 1), when=await later(lua), payload=LARGE))
    when = await later(lua, 2)

    assert await lua.reschedule(generation=2, when=when) == [b"moved", b"scheduled", str(when).encode()]
    await lua.settle(End(run.message_id, 1, wide=True))

    assert await lua.scores(lua.keys.queue) == {"k": when}


async def test_a_successor_is_promoted(lua: Lua):
    [run] = await lua.running(Item())
    await lua.schedule(Item(within=(1, 1), when=await later(lua)))

    await lua.reschedule(generation=2)
    await lua.settle(End(run.message_id, 1, wide=True))

    assert await lua.depth() == (1, 0)


async def test_a_repeat_answers_with_what_stands_by_now(lua: Lua):
    await lua.schedule(Item(when=await later(lua)))
    when = await later(lua, 2)
    first = await lua.reschedule(when=when, token=10**12)

    assert await lua.reschedule(when=when, token=10**12) == first
    assert lua.events == []

    await lua.reschedule(token=10**12 + 1)
    await lua.claim(*await lua.read())
    assert (await lua.reschedule(token=10**12 + 1))[:2] == [b"moved", b"running"]


async def test_a_bad_record_is_an_error(lua: Lua):
    await lua.spoil()

    with pytest.raises(ServerError, match="WRONGTYPE"):
        await lua.reschedule()

    await lua.mend()
