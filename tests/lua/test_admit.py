"""`admit.lua`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from docket._store.records import Delivery, StateChange
from docket.states import ExecutionState
from tests.lua._scripts import Applicant, End, Gate, Item, Lua, cooldown, debounce, places, rate

QUEUED, RUNNING, CANCELLED = ExecutionState.QUEUED, ExecutionState.RUNNING, ExecutionState.CANCELLED
MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
ALL = (places(1), rate(1), cooldown(), debounce())
DAY_MS = 24 * 3_600_000


async def words(lua: Lua, *deliveries: Delivery, gates: tuple[Gate, ...] = (places(1),), number: int = 1) -> list[str]:
    """This applies for each, and gives what became of it."""
    return [reply[0].decode() for reply in await lua.admit(*(Applicant(delivery, gates, number) for delivery in deliveries))]


async def again(lua: Lua, delivery: Delivery) -> Delivery:
    """This brings back what was told to come later, and claims it."""
    await lua.store.backend.call("ZADD", lua.keys.queue, 1, delivery.key)
    await lua.move_due(delivery.key)
    [came] = await lua.read()
    assert (came.key, came.generation, came.limit) == (delivery.key, delivery.generation, "")
    [reply] = await lua.claim(came)
    assert reply[0] == b"claimed"
    return came


async def left_ms(lua: Lua, key: str) -> int:
    """How long a key still stands; on memory that cannot be asked."""
    return await lua.store.backend.call("PTTL", key) if not lua.store.is_memory else 1


class TestAnyLimit:
    async def test_a_run_that_passes_stays_running_and_nothing_is_told(self, lua: Lua):
        [run] = await lua.running(Item())

        assert await words(lua, run, gates=(places(1), rate(1), cooldown())) == ["admitted"]

        assert lua.events == [] and lua.wakes == []
        assert (await lua.record())["state"] == "running"

    async def test_without_limits_everything_passes(self, lua: Lua):
        [run] = await lua.running(Item())

        assert await words(lua, run, gates=()) == ["admitted"]

    @pytest.mark.parametrize("gate", [rate(1), places(1), cooldown()], ids=lambda gate: gate.kind)
    async def test_a_repeat_after_a_lost_reply_passes_again(self, lua: Lua, gate: Gate):
        [run] = await lua.running(Item())
        await words(lua, run, gates=(gate,))

        assert await words(lua, run, gates=(gate,)) == ["admitted"]

    async def test_a_repeat_for_a_run_that_has_waited_for_quiet_passes_again(self, lua: Lua):
        [run] = await lua.running(Item())
        await words(lua, run, gates=(debounce(0),))
        run = await again(lua, run)
        assert await words(lua, run, gates=(debounce(0),), number=2) == ["admitted"]

        assert await words(lua, run, gates=(debounce(0),), number=2) == ["admitted"]

    async def test_a_repeat_for_a_run_that_was_set_aside_finds_it_no_longer_its_own(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        assert await words(lua, a, b) == ["admitted", "parked"]

        assert await words(lua, b) == ["superseded"]

        assert await lua.waiters() == ["2|b"]

    async def test_a_run_that_was_replaced_meanwhile_is_superseded_and_takes_no_place(self, lua: Lua):
        [run] = await lua.running(Item())
        await lua.schedule(Item(replace=True))

        assert await words(lua, run, gates=ALL) == ["superseded"]

        assert await lua.holders() == {}

    async def test_another_delivery_is_superseded(self, lua: Lua):
        [run] = await lua.running(Item())

        assert await words(lua, run, number=2) == ["superseded"]

    async def test_a_run_whose_record_is_gone_is_superseded(self, lua: Lua):
        assert await words(lua, Delivery(b"1-1", "k", 7)) == ["superseded"]

    async def test_a_run_that_was_cancelled_meanwhile_is_not_set_aside(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        await words(lua, a)
        await lua.cancel("b")

        assert await words(lua, b) == ["cancelled"]

        assert await lua.waiters() == []
        assert (await lua.record("b"))["state"] == "running"  # to be settled by who asked

    @pytest.mark.parametrize("last", [rate(1), cooldown(), debounce()], ids=lambda gate: gate.kind)
    async def test_a_run_passes_all_or_takes_a_place_in_none(self, lua: Lua, last: Gate):
        a, b = await lua.running(Item("a"), Item("b"))
        await words(lua, a, gates=(last,))

        [word] = await words(lua, b, gates=(places(5), replace(rate(5), identity="g"), replace(cooldown(), identity="g"), last))

        assert word in ("later", "dropped")  # what it may not have by now is checked by `lua.admit`
        assert await lua.holders() == {}

    async def test_each_run_of_a_batch_has_its_own_answer_and_lease(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await lua.spoil("b")

        replies = await lua.admit(Applicant(a, (places(2),), lease_us=MINUTE_US), Applicant(b, ALL), Applicant(c, (places(2),), lease_us=HOUR_US))

        assert [reply[0] for reply in replies] == [b"admitted", b"error", b"admitted"]
        assert b"WRONGTYPE" in replies[1][1]
        first, second = (await lua.holders()).values()
        assert second - first == HOUR_US - MINUTE_US
        await lua.mend("b")

    async def test_a_spoilt_limit_fails_only_who_is_under_it(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        await lua.store.backend.call("SET", lua.keys.limit("cooldown", "f"), "no hash", "PX", 60_000)

        replies = await lua.admit(Applicant(a, (cooldown(),)), Applicant(b, (places(1),)))

        assert [reply[0] for reply in replies] == [b"error", b"admitted"]

    @pytest.mark.only_server("in memory, expiries cannot be asked for")
    async def test_whatever_is_remembered_expires(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))

        await words(lua, a, gates=(places(1), rate(1), cooldown(5_000_000)))
        await words(lua, b, gates=(rate(1),))
        await words(lua, c, gates=(debounce(7_000_000),))

        starts, promises = lua.keys.rate("f")
        assert 60_000 < await left_ms(lua, starts) <= 120_000
        assert 120_000 < await left_ms(lua, promises) <= 180_000
        assert 60_000 < await left_ms(lua, lua.keys.limit("cooldown", "f")) <= 65_000
        assert 70_000 < await left_ms(lua, lua.keys.limit("debounce", "f")) <= 74_000
        assert DAY_MS - 60_000 < await left_ms(lua, lua.keys.concurrency("f")[0]) <= DAY_MS
        for run, key in ((a, "a"), (b, "b"), (c, "c")):
            await lua.cancel(key)
            await lua.settle(End(run.message_id, run.generation, key=key, state="cancelled"))


class TestPlaces:
    async def test_as_many_pass_as_there_are_places_and_the_others_wait_in_order(self, lua: Lua):
        a, b, c, d = await lua.running(Item("a", when=5), Item("b"), Item("c", when=7), Item("d"))

        assert await words(lua, a, b, d, c, gates=(places(2),)) == ["admitted", "admitted", "parked", "parked"]

        assert list(await lua.holders()) == ["1", "2"]
        assert await lua.waiters() == ["4|d", "3|c"]
        assert await lua.waited_for() == ["f"]
        assert lua.events[1] == StateChange("c", 3, QUEUED, 7, None, None, None, None)
        record = await lua.record("c")
        assert record["state"] == "queued" and not {"worker", "started_at", "message"} & set(record)
        assert [entry.key for entry in await lua.pending()] == ["a", "b"]

    async def test_limits_do_not_know_of_each_other(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))

        assert await words(lua, a, gates=(places(1, "x"),)) == ["admitted"]
        assert await words(lua, b, gates=(places(1, "y"),)) == ["admitted"]

    async def test_a_place_that_frees_goes_to_who_has_waited_longest_and_is_kept_for_it(self, lua: Lua):
        a, b, c, d = await lua.running(Item("a"), Item("b"), Item("c"), Item("d"))
        await words(lua, a, c, b)
        await lua.settle(End(a.message_id, 1, key="a", limit="f"))

        assert await words(lua, d) == ["parked"]  # it came when there was none free

        assert await lua.waiters() == ["2|b", "4|d"]
        [woken] = await lua.read()
        assert (woken.key, woken.generation, woken.limit) == ("c", 3, "f")
        [reply] = await lua.claim(woken)
        assert (reply[0], reply[1]) == (b"claimed", 2)
        assert await words(lua, woken, number=2) == ["admitted"]
        assert list(await lua.holders()) == ["3"]

    async def test_a_place_that_seems_to_have_lapsed_is_taken_until_somebody_sweeps(self, lua: Lua):
        """After an outage all of them seem so; whoever sweeps has given their holders time to renew."""
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await words(lua, a, b)
        await lua.move(lua.keys.concurrency("f")[0], "1", -2 * MINUTE_US)

        assert await words(lua, c) == ["parked"]
        assert list(await lua.holders()) == ["1"]

        await lua.sweep("f")
        assert list(await lua.holders()) == ["2"]
        assert await lua.waiters() == ["3|c"]

    async def test_who_comes_does_not_put_off_the_sweep(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await words(lua, a, b)
        before = await lua.scores(lua.keys.waiting)

        await words(lua, c)

        assert await lua.scores(lua.keys.waiting) == before

    async def test_lowering_a_limit_stops_nobody_and_lets_nobody_in_until_enough_have_gone(self, lua: Lua):
        a, b, c, d = await lua.running(Item("a"), Item("b"), Item("c"), Item("d"))
        assert await words(lua, a, b, c, gates=(places(3),)) == ["admitted"] * 3

        assert await words(lua, d, gates=(places(1),)) == ["parked"]

        for run, key in ((a, "a"), (b, "b")):
            await lua.settle(End(run.message_id, run.generation, key=key, limit="f"))
            assert await lua.waiters() == ["4|d"]
        await lua.settle(End(c.message_id, 3, key="c", limit="f"))
        assert list(await lua.holders()) == ["4"]

    async def test_raising_a_limit_lets_those_in_who_wait(self, lua: Lua):
        a, b, c, d = await lua.running(Item("a"), Item("b"), Item("c"), Item("d"))
        assert await words(lua, a, b, c) == ["admitted", "parked", "parked"]

        assert await words(lua, d, gates=(places(4),)) == ["admitted"]

        assert list(await lua.holders()) == ["1", "4", "2", "3"]
        assert await lua.waiters() == [] and await lua.waited_for() == []
        assert await lua.exists(*lua.keys.concurrency("f")[1:]) == 0

    async def test_a_run_taken_from_a_dead_worker_finds_the_place_it_had(self, lua: Lua):
        [run] = await lua.running(Item())
        await words(lua, run)
        await lua.reclaim(run)
        [woken] = await lua.read(instance="w~2")
        await lua.claim(woken, instance="w~2")

        assert await lua.admit(Applicant(woken, (places(1),), 3), instance="w~2") == [[b"admitted"]]

        assert list(await lua.holders()) == ["1"]

    async def test_a_place_kept_for_a_run_goes_to_the_next_when_something_else_holds_it_back(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await words(lua, a, b, c)
        await lua.settle(End(a.message_id, 1, key="a", limit="f"))
        [woken] = await lua.read()
        await lua.claim(woken)
        await lua.store.backend.call("ZADD", lua.keys.rate("f")[0], await lua.now_us(), "other.1")

        assert await words(lua, woken, gates=(places(1), rate(1)), number=2) == ["later"]

        assert list(await lua.holders()) == ["3"]
        await lua.store.backend.call("PEXPIRE", lua.keys.rate("f")[0], 1000)

    async def test_who_stands_in_line_and_comes_by_an_entry_that_was_left_over_keeps_its_turn(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await words(lua, a, b, c)
        await lua.store.backend.call("XADD", lua.keys.stream, "*", "key", "b", "generation", b.generation)
        [left_over] = await lua.read()
        await lua.claim(left_over)

        assert await words(lua, left_over, number=2) == ["parked"]

        assert await lua.waiters() == ["2|b", "3|c"]
        assert (await lua.record("b"))["parked"] == "f"

    async def test_a_run_that_was_let_in_no_longer_says_where_it_waits_once_it_is_tried_again(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        await words(lua, a, b)
        await lua.settle(End(a.message_id, 1, key="a", limit="f"))
        [woken] = await lua.read()
        await lua.claim(woken)

        await lua.settle(End(woken.message_id, 2, 2, key="b", again="retry", attempt=2, limit="f"))

        assert "parked" not in await lua.record("b")

    async def test_a_place_kept_for_a_run_goes_to_the_next_when_it_was_cancelled(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await words(lua, a, b, c)
        await lua.settle(End(a.message_id, 1, key="a", limit="f"))
        [woken] = await lua.read()
        await lua.claim(woken)
        await lua.cancel("b")

        assert await words(lua, woken, number=2) == ["cancelled"]

        assert list(await lua.holders()) == ["3"]


class TestRate:
    async def test_over_the_limit_a_run_is_told_the_first_free_moment(self, lua: Lua):
        a, b, c, d = await lua.running(Item("a"), Item("b"), Item("c", when=7), Item("d"))
        gates = (rate(2),)
        assert await words(lua, a, b, gates=gates) == ["admitted", "admitted"]
        first, second = (await lua.scores(lua.keys.rate("f")[0])).values()

        replies = await lua.admit(Applicant(c, gates), Applicant(d, gates))

        assert replies == [[b"later", b"%.0f" % (first + MINUTE_US)], [b"later", b"%.0f" % (second + MINUTE_US)]]
        assert lua.wakes == [int(first) + MINUTE_US]
        assert await lua.scores(lua.keys.queue) == {"c": first + MINUTE_US, "d": second + MINUTE_US}
        record = await lua.record("c")
        assert (record["state"], record["when"]) == ("queued", "7")
        assert await lua.pending() and not {c.message_id, d.message_id} & {entry.message_id for entry in await lua.pending()}

    async def test_further_promises_follow_each_other_at_the_rate(self, lua: Lua):
        a, b, c, d = await lua.running(Item("a"), Item("b"), Item("c"), Item("d"))
        gates = (rate(1),)
        await words(lua, a, gates=gates)
        [start] = (await lua.scores(lua.keys.rate("f")[0])).values()

        assert await words(lua, b, c, d, gates=gates) == ["later"] * 3

        assert await lua.scores(lua.keys.rate("f")[1]) == {str(1 + nth): start + nth * MINUTE_US for nth in (1, 2, 3)}

    async def test_what_started_longer_ago_no_longer_counts(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        await words(lua, a, gates=(rate(1),))
        await lua.move(lua.keys.rate("f")[0], "1.1", -MINUTE_US)

        assert await words(lua, b, gates=(rate(1),)) == ["admitted"]

        assert list(await lua.scores(lua.keys.rate("f")[0])) == ["2.1"]

    async def test_who_comes_before_its_moment_is_told_the_same_one(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        gates = (rate(1),)
        [[_, _], [_, when]] = [[b"", b""], *(await lua.admit(Applicant(a, gates), Applicant(b, gates)))[1:]]

        assert await lua.admit(Applicant(await again(lua, b), gates, 2)) == [[b"later", when]]

    async def test_who_comes_at_its_moment_passes(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        gates = (rate(1),)
        await words(lua, a, b, gates=gates)
        starts, promises = lua.keys.rate("f")
        await lua.move(starts, "1.1", -MINUTE_US)
        await lua.move(promises, "2", -MINUTE_US)

        assert await words(lua, await again(lua, b), gates=gates, number=2) == ["admitted"]

        assert list(await lua.scores(starts)) == ["2.2"]
        assert await lua.scores(promises) == {}

    async def test_who_comes_at_its_moment_waits_on_for_those_that_started_late(self, lua: Lua):
        a, b, c, d = await lua.running(Item("a"), Item("b"), Item("c"), Item("d"))
        gates = (rate(1),)
        await words(lua, a, b, c, d, gates=gates)
        starts, promises = lua.keys.rate("f")
        await lua.move(starts, "1.1", -MINUTE_US)
        for nth, member in enumerate(("2", "3", "4"), 1):
            await lua.move(promises, member, -nth * MINUTE_US - 10_000_000 * (4 - nth))
        assert await words(lua, await again(lua, b), gates=gates, number=2) == ["admitted"]
        [began] = (await lua.scores(starts)).values()
        c, d = await again(lua, c), await again(lua, d)

        replies = await lua.admit(Applicant(d, gates, 2), Applicant(c, gates, 2))

        assert replies == [[b"later", b"%.0f" % (began + 2 * MINUTE_US)], [b"later", b"%.0f" % (began + MINUTE_US)]]

    async def test_over_the_limit_a_run_is_dropped_where_that_is_wanted(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        gates = (rate(1, drop=True),)

        assert await lua.admit(Applicant(a, gates), Applicant(b, gates)) == [[b"admitted"], [b"dropped", b"rate"]]

        assert lua.events == []
        assert (await lua.record("b"))["state"] == "running"
        assert await lua.scores(lua.keys.rate("f")[1]) == {}

    async def test_every_attempt_counts(self, lua: Lua):
        [run] = await lua.running(Item())
        gates = (rate(1),)
        await words(lua, run, gates=gates)
        await lua.settle(End(run.message_id, 1, state="failed", again="retry", attempt=2))
        [run] = await lua.read()
        await lua.claim(run)

        assert await words(lua, run, gates=gates, number=2) == ["later"]

    async def test_lowering_the_limit_counts_what_has_started(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        await words(lua, a, b, gates=(rate(2),))
        _, second = (await lua.scores(lua.keys.rate("f")[0])).values()

        assert await lua.admit(Applicant(c, (rate(1),))) == [[b"later", b"%.0f" % (second + MINUTE_US)]]

    async def test_who_waits_for_a_place_gives_its_moment_up(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        gates = (places(1), rate(1))
        await words(lua, a, b, gates=gates)
        starts, promises = lua.keys.rate("f")
        await lua.move(starts, "1.1", -MINUTE_US)
        await lua.move(promises, "2", -MINUTE_US)

        assert await words(lua, await again(lua, b), gates=gates, number=2) == ["parked"]

        assert await lua.scores(promises) == {}
        assert await words(lua, c, gates=(rate(1),)) == ["admitted"]


class TestCooldown:
    async def test_within_the_window_others_are_dropped(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))

        assert await lua.admit(Applicant(a, (cooldown(),)), Applicant(b, (cooldown(),))) == [[b"admitted"], [b"dropped", b"cooldown"]]

    async def test_after_the_window_the_next_passes(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        await words(lua, a, gates=(cooldown(),))
        await lua.move_field(lua.keys.limit("cooldown", "f"), "until", -MINUTE_US)

        assert await words(lua, b, gates=(cooldown(),)) == ["admitted"]

    async def test_the_run_that_began_it_passes_again(self, lua: Lua):
        [run] = await lua.running(Item())
        await words(lua, run, gates=(cooldown(),))
        await lua.settle(End(run.message_id, 1, state="failed", again="retry", attempt=2))
        [run] = await lua.read()
        await lua.claim(run)

        assert await words(lua, run, gates=(cooldown(),), number=2) == ["admitted"]


class TestDebounce:
    async def test_the_first_waits_and_the_others_are_dropped(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))

        replies = await lua.admit(Applicant(a, (debounce(),)), Applicant(b, (debounce(),)))

        assert [reply[0] for reply in replies] == [b"later", b"dropped"]
        assert replies[1][1] == b"debounce"
        assert lua.states("a") == [(1, QUEUED)]
        assert len(lua.wakes) == 1

    async def test_it_passes_once_it_is_quiet(self, lua: Lua):
        [run] = await lua.running(Item())
        await words(lua, run, gates=(debounce(),))
        await lua.move_field(lua.keys.limit("debounce", "f"), "last", -MINUTE_US)

        assert await words(lua, await again(lua, run), gates=(debounce(),), number=2) == ["admitted"]

        assert await lua.exists(lua.keys.limit("debounce", "f")) == 0

    async def test_others_move_its_moment(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        key = lua.keys.limit("debounce", "f")
        await words(lua, a, gates=(debounce(),))
        await lua.move_field(key, "last", -MINUTE_US)
        await words(lua, b, gates=(debounce(),))
        last = int(await lua.store.backend.call("HGET", key, "last"))

        assert await lua.admit(Applicant(await again(lua, a), (debounce(),), 2)) == [[b"later", b"%d" % (last + MINUTE_US)]]

    async def test_when_the_first_has_vanished_another_takes_its_part(self, lua: Lua):
        a, b = await lua.running(Item("a"), Item("b"))
        await words(lua, a, gates=(debounce(),))
        await lua.cancel("a")
        await lua.move_field(lua.keys.limit("debounce", "f"), "due", -3 * MINUTE_US)

        assert await words(lua, b, gates=(debounce(),)) == ["later"]

        assert await lua.store.backend.call("HGET", lua.keys.limit("debounce", "f"), "first") == b"2"

    @pytest.mark.parametrize(("quiet", "word"), [(True, "admitted"), (False, "dropped")])
    async def test_a_first_that_comes_back_so_late_that_another_took_its_part_runs_if_it_is_quiet(self, lua: Lua, quiet: bool, word: str):
        a, b = await lua.running(Item("a"), Item("b"))
        key = lua.keys.limit("debounce", "f")
        await words(lua, a, gates=(debounce(),))
        await lua.move_field(key, "due", -3 * MINUTE_US)
        await words(lua, b, gates=(debounce(),))
        if quiet:
            await lua.move_field(key, "last", -MINUTE_US)

        assert await words(lua, await again(lua, a), gates=(debounce(),), number=2) == [word]

    async def test_who_has_waited_for_quiet_need_not_again_for_a_place_or_another_attempt(self, lua: Lua):
        a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
        gates = (places(1), debounce(0))
        await words(lua, a)
        await words(lua, b, gates=gates)
        b = await again(lua, b)
        assert await words(lua, b, gates=gates, number=2) == ["parked"]
        assert await words(lua, c, gates=gates) == ["later"]  # a burst of its own
        await lua.settle(End(a.message_id, 1, key="a", limit="f"))
        [woken] = await lua.read()
        await lua.claim(woken)

        assert await words(lua, woken, gates=gates, number=3) == ["admitted"]

        await lua.settle(End(woken.message_id, 2, key="b", delivery=3, state="failed", again="retry", attempt=2, limit="f"))
        [retried] = await lua.read()
        await lua.claim(retried)
        assert await words(lua, retried, gates=gates, number=4) == ["admitted"]


async def test_cancelling_what_is_set_aside_ends_it(lua: Lua):
    a, b, c = await lua.running(Item("a"), Item("b"), Item("c"))
    await words(lua, a, b)
    await words(lua, c, gates=(debounce(),))

    await lua.cancel("b")
    assert lua.states("b") == [(2, CANCELLED)]
    await lua.cancel("c")
    assert lua.states("c") == [(3, CANCELLED)]

    assert await lua.depth() == (1, 0)
    await lua.settle(End(a.message_id, 1, key="a", limit="f"))  # wakes what was parked: see test_claim
