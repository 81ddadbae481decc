"""Limits of a divided docket hold over all shards, whoever dies at whichever step."""

# What a worker does inside is looked at.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docket import ConcurrencyLimit, Cooldown, Docket, RateLimit, Worker
from docket._store.foreign import ForeignLimits
from docket._store.records import Admission, Applicant, Claimed, Delivery, Outcome, Refused, Requirement, RunId, Settlement
from docket._store.shards import ShardedLimits
from docket._worker._intakes import Intakes, intake_of
from docket._worker._runs import Running, Runs
from docket.dependencies import Dependency
from docket.states import ExecutionState
from tests._waiting import eventually
from tests.worker._hands import at_work, claim, crew_of, dead_worker, report_of
from tests.worker.test_limits_hold import Scenario, actions, others

MINUTE_US = 60_000_000
COMPLETED, FAILED = Outcome(ExecutionState.COMPLETED), Outcome(ExecutionState.FAILED)
SHARDS = 4


class Divided(Scenario):
    """The same, with shards."""

    shards = SHARDS


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 3), st.booleans(), others, st.lists(actions, min_size=1, max_size=30), st.integers(1, 2))
def test_whatever_is_asked_for(most: int, per_value: bool, declared: list[Dependency], script: list[tuple[str, str, int]], workers: int):
    scenario = Divided(most, per_value, declared)

    asyncio.run(asyncio.wait_for(scenario.play(script, workers), 20))

    assert scenario.exceeded == []


@pytest.fixture
async def divided(docket_name: str, url: str) -> AsyncIterator[Docket]:
    """This is a docket of several shards."""
    async with Docket(docket_name, url, shards=SHARDS) as docket:
        docket.register(job)
        yield docket


async def job() -> None: ...


def limits_of(docket: Docket) -> ShardedLimits:
    limits = docket.store.limits
    assert isinstance(limits, ShardedLimits)
    return limits


def foreign_to(docket: Docket, identity: str) -> list[str]:
    """Keys whose shard is not that of the limit."""
    home = docket.store.shard_of(identity)
    return [key for key in (f"k{number}" for number in range(50)) if docket.store.shard_of(key) is not home]


async def claimed(docket: Docket, key: str, instance: str = "w~1") -> Claimed:
    await docket.add(job, key=key)()
    [run] = await claim(docket, instance)
    return run


async def ask(docket: Docket, run: Claimed, *requirements: Requirement) -> Admission:
    return await docket.store.limits.admit(Applicant(run.run, run.message_id, requirements or (Requirement("concurrency", "x", "1"),), MINUTE_US))


async def holders(docket: Docket, identity: str = "x") -> list[bytes]:
    return await docket.store.shard_of(identity).backend.call("ZRANGE", docket.store.keys.concurrency(identity)[0], 0, -1)


def place_of(run: Claimed) -> bytes:
    """The name under which a run of another shard holds its place."""
    return b"%d.%d" % (run.run.generation, run.run.delivery)


async def state(docket: Docket, key: str) -> ExecutionState | None:
    execution = await docket.get_execution(key)
    return execution and execution.state


async def hand_on(docket: Docket) -> None:
    """This takes word of who was let in to where it is meant for, as a worker does."""
    for shard in docket.store.shards:
        await shard.delivery.ensure_group()
        reader = shard.delivery.reader()
        try:
            entries = await shard.delivery.read(reader, "w~2", 100, 1)
        finally:
            await reader.aclose()
        ours = await limits_of(docket).forward_all(shard, entries)
        await shard.delivery.reclaim("w~2", ours, own=True)


async def test_a_place_in_another_shard_is_held_until_the_run_is_settled(divided: Docket, monkeypatch: pytest.MonkeyPatch):
    """Given up before, one too many could run; never given up, nobody else could."""
    seen: list[int] = []

    @divided.task
    @ConcurrencyLimit(1)
    async def limited() -> None: ...

    for shard in divided.store.shards:
        settle = shard.lifecycle.settle

        async def watched(settlement: Any, settle: Any = settle) -> Any:
            settled = await settle(settlement)
            if settlement.again is None:
                seen.append(len(await holders(divided, "limited")))
            return settled

        monkeypatch.setattr(shard.lifecycle, "settle", watched)
    for key in foreign_to(divided, "limited")[:5]:
        await divided.add(limited, key=key)()
    async with Worker(divided) as worker:
        await worker.run_until_finished()

    assert seen == [1] * 5
    assert await holders(divided, "limited") == []


async def test_who_waits_is_let_in_when_a_place_is_given_up(divided: Docket):
    first, second = foreign_to(divided, "x")[:2]
    one, two = await claimed(divided, first), await claimed(divided, second)
    assert (await ask(divided, one)).word == "admitted"
    assert (await ask(divided, two)).word == "parked"
    assert await state(divided, second) is ExecutionState.QUEUED
    assert (await divided.counts()).waiting == 1

    await limits_of(divided).left("x", first, one.run.generation, one.run.delivery)
    await hand_on(divided)

    [again] = [run for run in await claim(divided, "w~1") if run.run.key == second]
    assert again.limit == "x"
    assert await holders(divided) == [b"%d" % two.run.generation]
    assert (await ask(divided, again)).word == "admitted"
    assert await holders(divided) == [place_of(again)]


async def test_one_that_is_let_in_before_it_was_set_aside_is_not_forgotten(divided: Docket, monkeypatch: pytest.MonkeyPatch):
    first, second = foreign_to(divided, "x")[:2]
    one, two = await claimed(divided, first), await claimed(divided, second)
    await ask(divided, one)
    set_aside = ForeignLimits.set_aside

    async def late(self: ForeignLimits, applicant: Applicant, word: str, detail: str, marks: str) -> str:
        await limits_of(divided).left("x", first, one.run.generation, one.run.delivery)
        await hand_on(divided)  # which finds it running, and gives it up
        return await set_aside(self, applicant, word, detail, marks)

    monkeypatch.setattr(ForeignLimits, "set_aside", late)
    assert (await ask(divided, two)).word == "parked"

    [again] = [run for run in await claim(divided, "w~1") if run.run.key == second]
    assert (await ask(divided, again)).word == "admitted"


async def test_one_whose_worker_dies_before_it_is_set_aside_keeps_its_turn(divided: Docket, monkeypatch: pytest.MonkeyPatch):
    first, second = foreign_to(divided, "x")[:2]
    one = await claimed(divided, first)
    await ask(divided, one)
    await dead_worker(divided, "dead~1")
    two = await claimed(divided, second, "dead~1")

    async def dies(*rest: object) -> str:
        raise asyncio.CancelledError

    with monkeypatch.context() as dying:
        dying.setattr(ForeignLimits, "set_aside", dies)
        with pytest.raises(asyncio.CancelledError):
            await ask(divided, two)
    await limits_of(divided).left("x", first, one.run.generation, one.run.delivery)
    own = divided.store.shard_of(second)
    await own.delivery.reclaim("dead~1", await own.delivery.pending("dead~1"))
    await hand_on(divided)

    [again] = [run for run in await claim(divided, "w~1") if run.run.key == second]
    assert (await ask(divided, again)).word == "admitted"
    assert await holders(divided) == [place_of(again)]


@pytest.mark.parametrize("what", ["word", "line"])
async def test_what_is_lost_is_found_by_looking_after_who_waits(divided: Docket, what: str):
    first, second = foreign_to(divided, "x")[:2]
    one, two = await claimed(divided, first), await claimed(divided, second)
    await ask(divided, one)
    await ask(divided, two)
    home, own = divided.store.shard_of("x"), divided.store.shard_of(second)
    now_us = divided.clock.now_us() + MINUTE_US
    assert await limits_of(divided).sweep_away(own, now_us, now_us) == 0  # it stands in line

    if what == "word":
        await limits_of(divided).left("x", first, one.run.generation, one.run.delivery)
        await home.backend.call("DEL", home.keys.stream)
        await home.delivery.ensure_group()
    else:
        await home.backend.call("DEL", *home.keys.concurrency("x"))
    assert await limits_of(divided).sweep_away(own, now_us + 1, now_us + 1) == 1

    [again] = [run for run in await claim(divided, "w~1") if run.run.key == second]
    assert (await ask(divided, again)).word == "admitted"


async def test_one_that_is_cancelled_in_line_leaves_it(divided: Docket):
    first, second, third = foreign_to(divided, "x")[:3]
    one, two, three = await claimed(divided, first), await claimed(divided, second), await claimed(divided, third)
    for run in (one, two, three):
        await ask(divided, run)

    await divided.cancel(second)

    assert (await divided.counts()).waiting == 1
    assert await divided.clear() == 1
    assert (await divided.counts()).waiting == 0
    assert await state(divided, third) is ExecutionState.CANCELLED
    await limits_of(divided).left("x", first, one.run.generation, one.run.delivery)
    assert await holders(divided) == []


async def test_one_that_was_let_in_and_does_not_know_is_cleared_all_the_same(divided: Docket):
    first, second = foreign_to(divided, "x")[:2]
    one, two = await claimed(divided, first), await claimed(divided, second)
    await ask(divided, one)
    await ask(divided, two)
    await limits_of(divided).left("x", first, one.run.generation, one.run.delivery)

    assert await divided.clear() == 1

    assert await state(divided, second) is ExecutionState.CANCELLED
    await hand_on(divided)
    assert await holders(divided) == []


@pytest.mark.leaves_keys("a run waits, and the line is in another shard than its record")
async def test_a_run_that_is_refused_by_one_limit_takes_nothing_of_the_others(divided: Docket):
    key = foreign_to(divided, "x")[0]
    run = await claimed(divided, key)
    full = next(name for name in map(str, range(50)) if divided.store.shard_of(name) not in (divided.store.shard_of("x"), divided.store.shard_of(key)))
    other = await claimed(divided, next(each for each in foreign_to(divided, full) if each != key))
    await ask(divided, other, Requirement("concurrency", full, "1"))

    rate, place = Requirement("rate", "x", "1", str(MINUTE_US)), Requirement("concurrency", full, "1")
    assert (await ask(divided, run, rate, place)).word == "parked"

    starts, promises = divided.store.keys.rate("x")
    home = divided.store.shard_of("x")
    assert await home.backend.call("ZCARD", starts) == await home.backend.call("ZCARD", promises) == 0


async def test_a_place_in_another_shard_is_kept_for_as_long_as_the_run_is(divided: Docket):
    run = await claimed(divided, foreign_to(divided, "x")[0])
    await ask(divided, run)
    home, place = divided.store.shard_of("x"), divided.store.keys.concurrency("x")[0]
    holder = divided.store.limits.holder("x", run.run)
    before = float(await home.backend.call("ZSCORE", place, holder))

    await divided.store.limits.hold([("x", holder)], 2 * MINUTE_US)
    assert float(await home.backend.call("ZSCORE", place, holder)) > before

    async with divided.store.leases() as leases:
        await leases.hold([("x", holder)], 3 * MINUTE_US)
    assert float(await home.backend.call("ZSCORE", place, holder)) > before + 1.5 * MINUTE_US


async def test_rates_and_cooldowns_count_over_all_shards(divided: Docket):
    ran: list[str] = []

    @divided.task
    @RateLimit(3, per=timedelta(minutes=1), drop=True)
    async def rated(key: str) -> None:
        ran.append(key)

    @divided.task
    @Cooldown(timedelta(minutes=1))
    async def cooled(key: str) -> None:
        ran.append("cooled " + key)

    for number in range(12):
        await divided.add(rated, key=f"r{number}")(f"r{number}")
        await divided.add(cooled, key=f"c{number}")(f"c{number}")
    async with Worker(divided) as worker:
        await worker.run_until_finished()

    assert len([key for key in ran if key.startswith("r")]) == 3
    assert len(ran) == 4


async def test_many_runs_of_all_shards_share_few_places(divided: Docket):
    at_once = most = done = 0

    @divided.task
    @ConcurrencyLimit(3)
    async def narrow() -> None:
        nonlocal at_once, most, done
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.001)
        at_once -= 1
        done += 1

    await divided.add_many(divided.call(narrow)() for _ in range(100))
    async with at_work(divided, concurrency=10), Worker(divided, concurrency=10) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 30)

    assert (most, done) == (3, 100)


@pytest.mark.parametrize(("why", "left"), [("running", 1), ("taken back", 1), ("cancelled", 0)])
async def test_a_refused_run_gives_up_its_place_in_another_shard_unless_it_still_counts(divided: Docket, why: str, left: int):
    """One that was taken back waits under another entry, for which the place is kept."""
    [key, *_] = foreign_to(divided, "x")
    run = await claimed(divided, key)
    home = divided.store.shard_of("x")
    places = divided.store.keys.concurrency("x")[0]
    await home.backend.call("ZADD", places, 2**52, run.run.generation)  # as it is kept for who is let in
    await home.backend.call("PEXPIRE", places, 60_000)
    crew = crew_of(divided)
    intake = intake_of(crew, Runs(1, never), report_of(crew), None)
    assert isinstance(intake, Intakes)
    reader = intake._all[divided.store.shard_of(key).index]

    await reader._refused(Delivery(run.message_id, key, run.run.generation, "x"), Refused(key, run.run.generation, why))

    assert len(await holders(divided)) == left


async def never(running: Running, runs: Runs) -> None:
    raise AssertionError("nothing is run here")


async def test_a_place_of_another_shard_that_seems_to_have_lapsed_is_taken_until_somebody_sweeps(divided: Docket):
    """After an outage all of them seem so; whoever sweeps has given their holders time to renew."""
    one, other, *_ = foreign_to(divided, "x")
    first, second = await claimed(divided, one), await claimed(divided, other)
    assert (await ask(divided, first)).word == "admitted"
    limits, keys = divided.store.shard_of("x"), divided.store.keys
    await limits.backend.call("ZADD", keys.concurrency("x")[0], 1, place_of(first))

    assert (await ask(divided, second)).word == "parked"
    assert await holders(divided) == [place_of(first)]

    assert await limits.limits.sweep(2**52) == 1
    assert await holders(divided) == [b"%d" % second.run.generation]


async def test_a_place_given_up_late_is_not_that_of_the_next_attempt(divided: Docket, monkeypatch: pytest.MonkeyPatch):
    """A retry may be under way again before its last attempt has given its place up, which is the second step of its settling."""
    key, other, *_ = foreign_to(divided, "x")
    run, waiting = await claimed(divided, key), await claimed(divided, other)
    assert (await ask(divided, run)).word == "admitted"
    forgo = ForeignLimits.forgo
    again: list[Claimed] = []

    async def late(self: ForeignLimits, of: RunId, requirements: Sequence[Requirement]) -> None:
        if not again:
            again.extend(await claim(divided, "w~2"))
            assert (await ask(divided, again[0])).word == "admitted"
            assert (await ask(divided, waiting)).word == "parked"
        await forgo(self, of, requirements)

    monkeypatch.setattr(ForeignLimits, "forgo", late)
    await divided.store.lifecycle.settle(Settlement(run.run, run.message_id, FAILED, again="retry", attempt=2, limit="x"))

    assert await holders(divided) == [place_of(again[0])]
    await divided.clear()


async def test_a_worker_that_was_written_off_gives_up_no_place_of_who_took_over(divided: Docket):
    key = foreign_to(divided, "x")[0]
    await dead_worker(divided, "dead~1")
    run = await claimed(divided, key, "dead~1")
    assert (await ask(divided, run)).word == "admitted"
    own = divided.store.shard_of(key)
    await own.delivery.reclaim("dead~1", await own.delivery.pending("dead~1"))
    [again] = await claim(divided, "w~2")
    assert (await ask(divided, again)).word == "admitted"

    assert await divided.store.lifecycle.settle(Settlement(run.run, run.message_id, COMPLETED, limit="x")) is None

    assert await holders(divided) == [place_of(again)]


async def test_one_that_is_moved_while_it_waits_and_begins_at_once_keeps_its_place(divided: Docket, monkeypatch: pytest.MonkeyPatch):
    """Its turn in line, and what was kept for it, is given up in a second step; by then it may have a place of its own."""
    first, second = foreign_to(divided, "x")[:2]
    one, two = await claimed(divided, first), await claimed(divided, second)
    await ask(divided, one)
    assert (await ask(divided, two)).word == "parked"
    left = ShardedLimits.left
    begun: list[Claimed] = []

    async def is_due() -> bool:
        moved, _, _ = await divided.store.shard_of(second).delivery.move_due([second])
        return moved == 1

    async def late(self: ShardedLimits, identity: str, key: str, generation: int, delivery: int = 0) -> None:
        if key == second and not begun:
            await left(self, "x", first, one.run.generation, one.run.delivery)
            await hand_on(divided)
            await eventually(is_due)
            begun.extend(run for run in await claim(divided, "w~2") if run.run.key == second)
            assert (await ask(divided, begun[0])).word == "admitted"
        await left(self, identity, key, generation, delivery)

    for shard in divided.store.shards:
        monkeypatch.setattr(shard.lifecycle, "on_left", partial(late, limits_of(divided)))
    moved = await divided.get_execution(second)
    assert moved is not None
    await moved.reschedule(divided.clock.now() + timedelta(milliseconds=20))

    assert await holders(divided) == [place_of(begun[0])]


async def test_one_that_is_replaced_while_it_waits_leaves_no_place_taken(divided: Docket):
    first, second, third = foreign_to(divided, "x")[:3]
    one, two, three = await claimed(divided, first), await claimed(divided, second), await claimed(divided, third)
    for run in (one, two, three):
        await ask(divided, run)

    await divided.replace(job, when=divided.clock.now() + timedelta(hours=1), key=second)()
    await limits_of(divided).left("x", first, one.run.generation, one.run.delivery)
    await hand_on(divided)
    await hand_on(divided)

    [again] = await claim(divided, "w~1")
    assert again.run.key == third and (await ask(divided, again)).word == "admitted"
    assert await holders(divided) == [place_of(again)]
    assert await divided.clear() == 1


@pytest.mark.parametrize("order", [("x", "y"), ("y", "x")])
async def test_two_runs_under_limits_of_two_shards_do_not_wait_for_each_other(divided: Docket, order: tuple[str, str]):
    """Whoever cannot pass one of them holds nothing of the other while it waits, whichever is asked first."""
    shards = {divided.store.shard_of(name) for name in "xy"}
    keys = [key for key in foreign_to(divided, "x") if divided.store.shard_of(key) not in shards][:2]
    one, two = [await claimed(divided, key) for key in keys]
    wanted = [Requirement("concurrency", name, "1") for name in order]
    assert (await ask(divided, one, *wanted)).word == "admitted"

    assert (await ask(divided, two, *reversed(wanted))).word == "parked"
    assert len(await holders(divided, "x")) == len(await holders(divided, "y")) == 1

    for name in order:
        await limits_of(divided).left(name, one.run.key, one.run.generation, one.run.delivery)
    await hand_on(divided)
    [again] = await claim(divided, "w~1")
    assert (await ask(divided, again, *reversed(wanted))).word == "admitted"


async def test_one_that_has_waited_for_quiet_does_not_wait_for_it_again_behind_a_limit_of_its_own_shard(divided: Docket):
    key = foreign_to(divided, "x")[0]
    near = next(name for name in map(str, range(50)) if divided.store.shard_of(name) is divided.store.shard_of(key))
    other = next(each for each in foreign_to(divided, near) if each != key)
    holder = await claimed(divided, other)
    await ask(divided, holder, Requirement("concurrency", near, "1"))
    quiet, place = Requirement("debounce", "x", "0"), Requirement("concurrency", near, "1")
    run = await claimed(divided, key)
    assert (await ask(divided, run, quiet, place)).word == "later"
    await divided.store.delivery.move_due([key])
    [again] = await claim(divided, "w~1")

    assert (await ask(divided, again, quiet, place)).word == "parked"

    own = divided.store.shard_of(key)
    assert await own.backend.call("HGET", divided.store.keys.run(key), "quiet") == b"1"
    await divided.clear()
