"""`settle.lua`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from docket._store.records import Delivery, StateChange
from docket.states import ExecutionState
from tests.lua._scripts import LARGE, TTL_MS, Applicant, End, Item, Lua, places

HOUR_US = 3600 * 1_000_000
OUTCOME = b"c0:,=value"
QUEUED, SCHEDULED, COMPLETED, FAILED, CANCELLED = (
    ExecutionState.QUEUED, ExecutionState.SCHEDULED, ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED
)  # fmt: skip


async def start(lua: Lua, item: Item | None = None) -> bytes:
    """This runs a run of `k`, generation 1, delivery 1, and gives its message."""
    [delivery] = await lua.running(item or Item())
    return delivery.message_id


async def expires(lua: Lua, key: str) -> bool:
    return 0 < await lua.store.backend.call("PTTL", key) <= TTL_MS if not lua.store.is_memory else True


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("wide", [False, True])
async def test_an_end_is_recorded_and_the_entry_acknowledged(lua: Lua, state: str, wide: bool):
    message = await start(lua)

    [reply] = await lua.settle(End(message, 1, state=state, error="why", wide=wide, outcome=OUTCOME if wide else b""))

    assert reply == [b"settled", state.encode()]
    assert await lua.depth() == (0, 0)
    assert await lua.pending() == []
    record = await lua.record()
    assert record["state"] == state
    assert record.get("outcome") == (OUTCOME.decode() if wide else None)
    assert await expires(lua, lua.keys.run("k"))


async def test_events_of_an_end_have_their_full_shape(lua: Lua):
    message = await start(lua, Item(when=5))

    await lua.settle(End(message, 1, state="failed", error="it broke\n: at 3,", outcome=OUTCOME))

    record = await lua.record()
    [event] = lua.events
    assert event == StateChange(
        "k", 1, FAILED, 5, worker="w", started_us=int(record["started_at"]), completed_us=int(record["completed_at"]), error="it broke\n: at 3,"
    )


async def test_events_of_a_plain_end_have_their_full_shape(lua: Lua):
    message = await start(lua, Item(when=5))

    await lua.settle(End(message, 1))

    record = await lua.record()
    assert lua.events == [StateChange("k", 1, COMPLETED, 5, "w", int(record["started_at"]), int(record["completed_at"]), None)]


async def test_a_large_outcome_stands_beside_the_record_and_expires(lua: Lua):
    message = await start(lua)

    await lua.settle(End(message, 1, outcome=LARGE))

    assert (await lua.record())["beside"] == "1"
    assert await lua.get(lua.keys.outcome("k", 1)) == LARGE
    assert await expires(lua, lua.keys.outcome("k", 1))


async def test_a_large_payload_expires_with_the_record(lua: Lua):
    message = await start(lua, Item(payload=LARGE))

    await lua.settle(End(message, 1, wide=True))

    assert await expires(lua, lua.keys.payload("k"))


@pytest.mark.parametrize("outcome", [b"", OUTCOME, LARGE], ids=["none", "small", "large"])
async def test_with_no_time_to_live_nothing_is_kept(lua: Lua, outcome: bytes):
    message = await start(lua, Item(payload=LARGE))
    await lua.schedule(Item(within=(1, 1), payload=LARGE))

    [reply] = await lua.settle(End(message, 1, wide=True, again="end", outcome=outcome), ttl_ms=0)

    assert reply == [b"settled", b"completed"]
    assert await lua.exists(lua.keys.run("k"), lua.keys.payload("k"), lua.keys.successor("k"), lua.keys.outcome("k", 1)) == 0
    assert (1, COMPLETED) in lua.states()


async def test_with_no_time_to_live_a_narrow_end_keeps_nothing_and_a_repeat_finds_it_gone(lua: Lua):
    end = End(await start(lua), 1)

    first, again = [await lua.settle(end, ttl_ms=0) for _ in range(2)]

    assert (first, again) == ([[b"settled", b"completed"]], [[b"gone"]])
    assert await lua.exists(lua.keys.run("k")) == 0


ENDS: dict[str, End] = {
    "an end": End(b"", 1, error="why"),
    "a failure": End(b"", 1, state="failed", outcome=OUTCOME),
    "a retry now": End(b"", 1, state="failed", again="retry", attempt=2),
    "a retry later": End(b"", 1, state="failed", again="retry", attempt=2, when=9_999_999_999_999_999),
    "a next link": End(b"", 1, again="next", outcome=OUTCOME),
    "a release": End(b"", 1, again="release"),
    "the end of all": End(b"", 1, again="end"),
}


@pytest.mark.parametrize("name", ENDS)
async def test_a_repeat_answers_as_the_first_time_did_and_changes_nothing(lua: Lua, name: str):
    message = await start(lua)
    end = replace(ENDS[name], message=message)
    first = await lua.settle(end)
    record, depth = await lua.record(), await lua.depth()

    again = await lua.settle(end)

    assert again == first
    assert (await lua.record(), await lua.depth()) == (record, depth)
    assert lua.events == []


async def test_a_run_that_was_replaced_cannot_be_settled(lua: Lua):
    message = await start(lua)
    await lua.schedule(Item(replace=True))
    before = await lua.record()

    [reply] = await lua.settle(End(message, 1))

    assert reply == [b"superseded"]
    assert await lua.record() == before
    assert lua.events == []


async def test_a_narrow_end_of_a_replaced_run_is_superseded_whatever_replaced_it(lua: Lua):
    message = await start(lua)
    await lua.schedule(Item(replace=True, payload=LARGE))

    assert await lua.settle(End(message, 1)) == [[b"superseded"]]


async def test_an_earlier_claim_of_the_run_cannot_settle_it(lua: Lua):
    deliveries = await lua.running(Item())
    await lua.reclaim(*deliveries)

    [reply] = await lua.settle(End(deliveries[0].message_id, 1))

    assert reply == [b"superseded"]


async def test_a_claim_that_was_taken_back_and_released_is_no_longer_to_settle(lua: Lua):
    deliveries = await lua.running(Item())
    await lua.reclaim(*deliveries)

    [reply] = await lua.settle(End(deliveries[0].message_id, 1, delivery=2))

    assert reply == [b"superseded", b"queued"]


async def test_what_ended_already_answers_how(lua: Lua):
    await lua.schedule(Item())
    deliveries = await lua.read()
    await lua.claim(*deliveries)
    await lua.settle(End(deliveries[0].message_id, 1, state="failed"))

    [reply] = await lua.settle(End(deliveries[0].message_id, 1))

    assert reply == [b"settled", b"failed"]


async def test_a_gone_record_is_gone(lua: Lua):
    assert await lua.settle(End(b"1-1", 1)) == [[b"gone"]]


async def test_a_bad_record_fails_alone_and_keeps_its_entry(lua: Lua):
    deliveries = await lua.running(Item("a"), Item("b"), Item("c"))
    await lua.spoil("b")

    replies = await lua.settle(*(End(delivery.message_id, delivery.generation, key=delivery.key) for delivery in deliveries))

    assert [reply[0] for reply in replies] == [b"settled", b"error", b"settled"]
    assert b"WRONGTYPE" in replies[1][1]
    assert [entry.key for entry in await lua.pending()] == ["b"]
    await lua.mend("b")


async def test_a_batch_of_bad_records_only_acknowledges_nothing(lua: Lua):
    deliveries = await lua.running(Item("a"))
    await lua.spoil("a")

    [reply] = await lua.settle(End(deliveries[0].message_id, 1, key="a"))

    assert reply[0] == b"error"
    assert len(await lua.pending()) == 1
    await lua.mend("a")


@pytest.mark.parametrize(("again", "spoilt"), [("", "dead"), ("next", "queue"), ("retry", "queue")])
async def test_what_fails_on_the_way_keeps_its_entry_so_that_it_is_not_lost(lua: Lua, again: str, spoilt: str):
    message = await start(lua)
    later = await lua.now_us() + HOUR_US
    end = End(message, 1, state="failed", again=again, when=later if again else "", outcome=OUTCOME, wide=True, failure="" if again else "{}")
    key = {"dead": lua.keys.dead, "queue": lua.keys.queue}[spoilt]
    await lua.store.backend.call("SET", key, "neither set nor list", "PX", 60_000)

    [reply] = await lua.settle(end)

    assert reply[0] == b"error"
    assert [entry.message_id for entry in await lua.pending()] == [message]
    assert (await lua.record())["state"] == "running"
    await lua.store.backend.call("DEL", key)
    [reply] = await lua.settle(end)
    assert reply[0] == b"settled"
    assert await lua.pending() == []


@pytest.mark.parametrize("field", ["when", "worker", "started_at"])
async def test_a_record_without_one_of_its_fields_is_settled_and_so_are_those_beside_it(lua: Lua, field: str):
    runs = await lua.running(Item("a"), Item("b"))
    await lua.store.backend.call("HDEL", lua.keys.run("a"), field)

    replies = await lua.settle(*(End(run.message_id, run.generation, key=run.key) for run in runs))

    assert replies == [[b"settled", b"completed"]] * 2


async def test_a_record_without_its_due_time_is_tried_again(lua: Lua):
    message = await start(lua)
    await lua.store.backend.call("HDEL", lua.keys.run("k"), "when")

    assert await lua.settle(End(message, 1, state="failed", again="retry", attempt=2)) == [[b"settled", b"queued"]]


@pytest.mark.parametrize("large", [False, True], ids=["a successor", "a large payload"])
async def test_a_narrow_end_of_a_run_that_needs_more_keys_is_an_error_and_loses_nothing(lua: Lua, large: bool):
    message = await start(lua, Item(payload=LARGE if large else b"p"))
    if not large:
        await lua.schedule(Item(within=(1, 1)))

    [reply] = await lua.settle(End(message, 1))

    assert reply[0] == b"error"
    assert b"wide keys" in reply[1]
    assert len(await lua.pending()) == 1
    assert await lua.settle(End(message, 1, wide=True, again="end")) == [[b"settled", b"completed"]]


@pytest.mark.parametrize("later", [False, True], ids=["now", "later"])
async def test_a_retry_is_the_same_generation_and_payload_again(lua: Lua, later: bool):
    message = await start(lua, Item(payload=LARGE, trace=b"t"))
    await lua.progress(add=3, note="half")
    when = await lua.now_us() + HOUR_US if later else 1

    [reply] = await lua.settle(End(message, 1, state="failed", again="retry", when=when, attempt=2, error="é" * 40, wide=True))

    assert reply == [b"settled", b"scheduled" if later else b"queued"]
    record = await lua.record()
    assert (record["generation"], record["attempt"], record["when"], record["trace"]) == ("1", "2", str(when), "t")
    assert record["error"] == "é" * 32
    assert not {"worker", "started_at", "message", "current", "note"} & set(record)
    assert await lua.get(lua.keys.payload("k")) == LARGE
    assert await lua.depth() == ((0, 1) if later else (1, 0))
    assert lua.events == [StateChange("k", 1, SCHEDULED if later else QUEUED, when, None, None, None, "é" * 40)]
    assert lua.wakes == ([when] if later else [])


async def test_a_retry_for_now_is_due_now(lua: Lua):
    message = await start(lua, Item(when=1))

    await lua.settle(End(message, 1, state="failed", again="retry", attempt=2))

    assert 1 < int((await lua.record())["when"]) <= await lua.now_us()


async def test_a_release_leaves_attempt_and_due_time_as_they_were(lua: Lua):
    message = await start(lua, Item(when=7))

    [reply] = await lua.settle(End(message, 1, state="failed", again="release", when=await lua.now_us() + HOUR_US, attempt=5))

    assert reply == [b"settled", b"scheduled"]
    record = await lua.record()
    assert record["when"] == "7"
    assert "attempt" not in record


async def test_who_released_a_run_has_no_more_say_in_it_also_before_another_claims_it(lua: Lua):
    message = await start(lua)
    release = End(message, 1, state="failed", again="release")
    assert await lua.settle(release) == [[b"settled", b"queued"]]

    assert await lua.settle(release, End(message, 1)) == [[b"settled", b"queued"], [b"settled", b"queued"]]  # repeats, by what they name

    assert (await lua.record())["delivery"] == "2"
    [again] = await lua.read()
    [reply] = await lua.claim(again)
    assert reply[:2] == [b"claimed", 3]
    standing = await lua.record()
    assert await lua.settle(End(message, 1)) == [[b"settled", b"running"]]  # by what it names a repeat, of what was long ago
    assert await lua.record() == standing


@pytest.mark.parametrize("later", [False, True], ids=["now", "later"])
async def test_a_next_link_is_a_new_generation_and_the_end_of_this_one_is_kept(lua: Lua, later: bool):
    message = await start(lua, Item(function="poll", payload=b"args", trace=b"t"))
    when = await lua.now_us() + HOUR_US if later else 1

    [reply] = await lua.settle(End(message, 1, again="next", when=when, outcome=OUTCOME))

    assert reply == [b"settled", b"scheduled" if later else b"queued"]
    record = await lua.record()
    assert (record["generation"], record["function"], record["payload"], record["trace"]) == ("2", "poll", "args", "t")
    assert not {"worker", "delivery", "attempt"} & set(record)
    assert record["earlier"].split(" ")[:2] == ["1", "completed"]
    assert await lua.get(lua.keys.outcome("k", 1)) == OUTCOME
    assert await expires(lua, lua.keys.outcome("k", 1))
    assert lua.states() == [(1, COMPLETED), (2, SCHEDULED if later else QUEUED)]
    assert lua.wakes == ([when] if later else [])


@pytest.mark.parametrize("before", [b"small", LARGE], ids=["from small", "from large"])
@pytest.mark.parametrize("after", [b"", b"other", LARGE + b"!"], ids=["as before", "to small", "to large"])
async def test_a_next_link_has_its_own_payload_or_the_one_before(lua: Lua, before: bytes, after: bytes):
    message = await start(lua, Item(payload=before))

    await lua.settle(End(message, 1, again="next", payload=after, wide=True))

    wanted = after or before
    [reply] = await lua.claim(*await lua.read())
    assert reply[3] == wanted
    assert await lua.get(lua.keys.payload("k")) == (wanted if len(wanted) > 64 else None)


async def test_a_next_link_with_no_time_to_live_keeps_no_outcome(lua: Lua):
    message = await start(lua)

    await lua.settle(End(message, 1, again="next", outcome=OUTCOME), ttl_ms=0)

    assert await lua.exists(lua.keys.outcome("k", 1)) == 0
    record = await lua.record()
    assert record["generation"] == "2"
    assert record["earlier"].split(" ")[:2] == ["1", "completed"]


@pytest.mark.parametrize("again", ["", "next"])
@pytest.mark.parametrize("before", [b"small", LARGE], ids=["from small", "from large"])
@pytest.mark.parametrize("after", [b"other", LARGE + b"!"], ids=["to small", "to large"])
async def test_a_successor_goes_live_when_its_run_ends(lua: Lua, again: str, before: bytes, after: bytes):
    message = await start(lua, Item(payload=before))
    await lua.schedule(Item(function="next", within=(1, 1), payload=after, trace=b"trace of the next", when=3))

    [reply] = await lua.settle(End(message, 1, again=again, wide=True, outcome=OUTCOME))

    assert reply == [b"settled", b"queued"]
    assert lua.states() == [(1, COMPLETED), (2, QUEUED)]
    assert await lua.get(lua.keys.outcome("k", 1)) == OUTCOME
    assert await lua.exists(lua.keys.successor("k")) == 0
    assert not [name for name in await lua.record() if name.startswith("next_")]
    [claimed] = await lua.claim(*await lua.read())
    assert claimed[2:6] == [b"next", after, b"1" if after.startswith(LARGE) else b"", b"3"]
    assert claimed[7] == b"trace of the next"
    assert await lua.get(lua.keys.payload("k")) == (after if len(after) > 64 else None)


async def test_a_successor_for_later_wakes_the_movers(lua: Lua):
    message = await start(lua)
    when = await lua.now_us() + HOUR_US
    await lua.schedule(Item(within=(1, 1), when=when))

    [reply] = await lua.settle(End(message, 1, wide=True))

    assert reply == [b"settled", b"scheduled"]
    assert lua.wakes == [when]
    assert await lua.depth() == (0, 1)


async def test_a_repeat_of_a_successors_order_is_known_once_it_is_live(lua: Lua):
    message = await start(lua)
    item = Item(within=(1, 1))
    await lua.schedule(item)
    await lua.settle(End(message, 1, wide=True))

    [reply] = await lua.schedule(item)

    assert reply[:3] == [b"created", 2, b"queued"]


@pytest.mark.parametrize("again", ["retry", "release", "end"])
@pytest.mark.parametrize("payload", [b"small", LARGE], ids=["small", "large"])
async def test_a_successor_is_dropped_with_an_end_of_its_own(lua: Lua, again: str, payload: bytes):
    message = await start(lua)
    await lua.schedule(Item(within=(1, 1), payload=payload, when=5))

    await lua.settle(End(message, 1, again=again, wide=True, attempt=2))

    record = await lua.record()
    assert record["generation"] == "1"
    assert not [name for name in record if name.startswith("next_")]
    assert await lua.exists(lua.keys.successor("k")) == 0
    dropped = lua.events[0]
    assert isinstance(dropped, StateChange)
    assert (dropped.generation, dropped.state, dropped.when_us, dropped.superseded) == (2, CANCELLED, 5, True)
    assert lua.states()[1] == (1, COMPLETED if again == "end" else QUEUED)


@pytest.mark.parametrize("again", ["", "retry", "next", "release", "end"])
@pytest.mark.parametrize("successor", [False, True], ids=["alone", "with a successor"])
async def test_nothing_follows_a_run_that_was_cancelled_meanwhile(lua: Lua, again: str, successor: bool):
    message = await start(lua)
    await lua.cancel()
    if successor:
        await lua.schedule(Item(within=(1, 1), payload=LARGE))

    [reply] = await lua.settle(End(message, 1, again=again, wide=True, state="failed", outcome=OUTCOME, error="e"))

    state = "cancelled" if again in ("retry", "release") else "failed"
    assert reply == [b"settled", state.encode()]
    assert (await lua.record())["state"] == state
    assert await lua.depth() == (0, 0)
    assert lua.states() == [*([(2, CANCELLED)] if successor else []), (1, ExecutionState(state))]
    assert await lua.exists(lua.keys.successor("k")) == 0


async def test_movers_are_woken_once_a_batch_for_the_earliest(lua: Lua):
    hour = await lua.now_us() + HOUR_US
    deliveries = await lua.running(Item("a"), Item("b"))

    await lua.settle(
        *(
            End(delivery.message_id, delivery.generation, key=delivery.key, state="failed", again="retry", when=hour - number)
            for number, delivery in enumerate(deliveries)
        )
    )

    assert lua.wakes == [hour - 1]


async def test_progress_and_crashes_of_a_run_do_not_reach_its_next_link(lua: Lua):
    message = await start(lua)
    await lua.progress(add=3, total=5, note="half")

    await lua.settle(End(message, 1, again="next"))

    assert not {"current", "total", "note", "crashes"} & set(await lua.record())


async def test_a_retry_remembers_when_the_run_was_first_due_and_first_started_and_the_last_error(lua: Lua):
    await lua.schedule(Item(when=5))
    [delivery] = await lua.read()
    [first] = await lua.claim(delivery)
    origin = b"5 " + first[6]
    deliveries = 1
    for error, known in (("one", "one"), ("", "one"), ("two", "two")):
        await lua.settle(End(delivery.message_id, 1, deliveries, state="failed", again="retry", attempt=2, error=error))
        assert (await lua.record())["error"] == known

        [delivery] = await lua.read()
        [again] = await lua.claim(delivery)

        deliveries += 1
        assert (again[1], again[10]) == (deliveries, origin)
    assert again[5] != b"5"

    await lua.settle(End(delivery.message_id, 1, deliveries, again="next", wide=True))

    assert "origin" not in await lua.record()


class TestAPlace:
    """Under a concurrency limit: given up by the settlement, and kept for whoever has waited longest."""

    async def under_way(self, lua: Lua, item: Item | None = None) -> tuple[bytes, bytes]:
        """`k` has the only place, `a` waits for it. Their messages."""
        k, a = await lua.running(item or Item(), Item("a"))
        assert await lua.admit(Applicant(k, (places(1),)), Applicant(a, (places(1),))) == [[b"admitted"], [b"parked"]]
        return k.message_id, a.message_id

    @pytest.mark.parametrize("name", ENDS)
    @pytest.mark.parametrize("wide", [False, True])
    async def test_whatever_follows_the_next_is_let_in(self, lua: Lua, name: str, wide: bool):
        message, _ = await self.under_way(lua)

        [reply] = await lua.settle(replace(ENDS[name], message=message, limit="f", wide=wide))

        assert reply[0] == b"settled"
        assert list(await lua.holders()) == ["2"]
        woken = [entry for entry in await lua.read() if entry.limit]
        assert [(entry.key, entry.generation, entry.limit) for entry in woken] == [("a", 2, "f")]
        assert await lua.waited_for() == []

    @pytest.mark.parametrize("name", ENDS)
    async def test_a_repeat_lets_in_nobody_else(self, lua: Lua, name: str):
        message, _ = await self.under_way(lua)
        [b] = await lua.running(Item("b"))
        await lua.admit(Applicant(b, (places(1),)))
        end = replace(ENDS[name], message=message, limit="f")
        await lua.settle(end)

        await lua.settle(end)

        assert list(await lua.holders()) == ["2"]
        assert await lua.waiters() == ["3|b"]

    async def test_a_run_that_was_replaced_gives_its_place_up_when_its_body_is_done(self, lua: Lua):
        message, _ = await self.under_way(lua)
        await lua.schedule(Item(replace=True))
        assert list(await lua.holders()) == ["1"]

        [reply] = await lua.settle(End(message, 1, limit="f"))

        assert reply == [b"superseded"]
        assert list(await lua.holders()) == ["2"]

    async def test_a_worker_that_lost_the_run_leaves_the_place_to_the_one_that_has_it_now(self, lua: Lua):
        message, _ = await self.under_way(lua)
        await lua.reclaim(Delivery(message, "k", 1))
        [entry] = await lua.read(instance="w~2")
        await lua.claim(entry, instance="w~2")
        assert await lua.admit(Applicant(entry, (places(1),), 3), instance="w~2") == [[b"admitted"]]

        [reply] = await lua.settle(End(message, 1, limit="f"))

        assert reply == [b"superseded"]
        assert list(await lua.holders()) == ["1"]
        assert await lua.waiters() == ["2|a"]

    async def test_a_late_repeat_leaves_the_place_to_the_next_attempt(self, lua: Lua):
        [run] = await lua.running(Item())
        await lua.admit(Applicant(run, (places(1),)))
        end = End(run.message_id, 1, state="failed", again="retry", attempt=2, limit="f")
        await lua.settle(end)
        [entry] = await lua.read()
        await lua.claim(entry)
        await lua.admit(Applicant(entry, (places(1),), 2))

        assert await lua.settle(end) == [[b"settled", b"running"]]

        assert list(await lua.holders()) == ["1"]

    async def test_a_run_that_is_tried_again_stands_in_line_again(self, lua: Lua):
        message, _ = await self.under_way(lua)
        await lua.settle(End(message, 1, state="failed", again="retry", attempt=2, limit="f"))
        retried = next(entry for entry in await lua.read() if entry.key == "k")
        await lua.claim(retried)

        assert await lua.admit(Applicant(retried, (places(1),), 2)) == [[b"parked"]]

        assert await lua.waiters() == ["1|k"]

    async def test_a_run_whose_record_cannot_be_read_keeps_its_place_as_it_keeps_its_entry(self, lua: Lua):
        message, _ = await self.under_way(lua)
        await lua.spoil()

        [reply] = await lua.settle(End(message, 1, limit="f"))

        assert reply[0] == b"error"
        assert list(await lua.holders()) == ["1"]
        await lua.mend()

    async def test_a_spoilt_limit_does_not_keep_a_run_from_its_end(self, lua: Lua):
        [run] = await lua.running(Item())
        await lua.store.backend.call("SET", lua.keys.concurrency("f")[0], "no set", "PX", 60_000)

        assert await lua.settle(End(run.message_id, 1, limit="f")) == [[b"settled", b"completed"]]

    async def test_several_of_a_batch_give_theirs_up(self, lua: Lua):
        runs = await lua.running(*(Item(key) for key in "kabcd"))
        await lua.admit(*(Applicant(run, (places(2),)) for run in runs))

        await lua.settle(*(End(run.message_id, run.generation, key=run.key, limit="f", wide=run.key == "a") for run in runs[:2]))

        assert list(await lua.holders()) == ["3", "4"]
        assert await lua.waiters() == ["5|d"]


# Counting


async def totals(lua: Lua) -> dict[str, int]:
    return {word: await lua.total(word) for word in ("completed", "failed", "cancelled", "retried")}


@pytest.mark.parametrize("wide", [False, True])
async def test_ends_are_counted_once_whatever_is_repeated(lua: Lua, wide: bool):
    runs = await lua.running(Item("a"), Item("b"), Item("c"), Item("d"))
    states = ["completed", "completed", "failed", "cancelled"]
    ends = [End(run.message_id, run.generation, key=run.key, state=state, wide=wide) for run, state in zip(runs, states, strict=True)]

    await lua.settle(*ends)
    await lua.settle(*ends)

    assert await totals(lua) == {"completed": 2, "failed": 1, "cancelled": 1, "retried": 0}


async def test_links_and_attempts_are_counted_and_what_is_handed_back_is_not(lua: Lua):
    a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))

    ends = [
        End(a.message_id, a.generation, key="a", state="failed", again="next"),
        End(b.message_id, b.generation, key="b", state="failed", again="retry", attempt=2),
        End(c.message_id, c.generation, key="c", state="failed", again="release"),
    ]
    await lua.settle(*ends)
    await lua.settle(*ends)

    assert await totals(lua) == {"completed": 0, "failed": 1, "cancelled": 0, "retried": 1}


async def test_a_retry_of_cancelled_work_counts_as_cancelled(lua: Lua):
    message = await start(lua)
    await lua.cancel()

    await lua.settle(End(message, 1, state="failed", again="retry", attempt=2))

    assert await totals(lua) == {"completed": 0, "failed": 0, "cancelled": 1, "retried": 0}


async def test_what_is_superseded_or_gone_is_not_counted(lua: Lua):
    message = await start(lua)
    await lua.schedule(Item(replace=True))

    await lua.settle(End(message, 1), End(b"1-1", 7, key="a"))

    assert await totals(lua) == {"completed": 0, "failed": 0, "cancelled": 0, "retried": 0}
