"""What asks all shards of a docket, and puts together what they say: in order, a page at a time, and not at all where one of them fails."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from docket._clock import SYSTEM
from docket._store import Store
from docket._store.events import Reading
from docket._store.listing import Parked
from docket._store.records import Applicant, Claimed, Requirement, RunId
from docket._store.shards import ShardedLimits
from docket.errors import InvalidOption, ServerError
from docket.states import ExecutionState
from tests.store._interleaving import after_command
from tests.store._work import INSTANCE, claim, end, fetch, order, soon, start

SHARDS = 4
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def store(docket_name: str, url: str) -> AsyncIterator[Store]:
    """This is an open store of a docket of four shards, with its consumer groups."""
    store = await Store.open(docket_name, url, execution_ttl=MINUTE, clock=SYSTEM, dead_letter_retention=MINUTE, dead_letter_count=100, shards=SHARDS)
    await store.delivery.ensure_group()
    yield store
    await store.aclose()


def one_each(store: Store, name: str = "k") -> list[str]:
    """These are keys, one in each shard, in the order of the shards."""
    return [next(key for key in (f"{name}{number}" for number in count()) if store.shard_of(key) is shard) for shard in store.shards]


def one_at_a_time(claimed: Claimed, limit: str) -> Applicant:
    """This is a run that asks for the only place under a limit."""
    return Applicant(claimed.run, claimed.message_id, (Requirement("concurrency", limit, "1"),), 60_000_000)


async def test_where_one_shard_fails_nothing_is_told_and_the_others_were_asked_all_the_same(store: Store):
    broken, *_ = store.shards
    await store.backend.call("DEL", broken.keys.stream)
    await store.backend.call("SET", broken.keys.stream, "no stream")

    with pytest.raises(ServerError):
        await store.inspection.counts(0)

    await store.backend.call("DEL", broken.keys.stream)


class TestLeases:
    async def test_what_became_of_runs_is_told_in_the_order_in_which_they_were_asked_for(self, store: Store):
        held = [(await start(store, order(key))).run for key in reversed(one_each(store))]
        await store.lifecycle.cancel(held[1].key)

        words = await store.delivery.renew(INSTANCE, 60_000_000, [*held, RunId("none", 1, 1)], first=True)

        assert words == ["held", "cancelled", "held", "held", "replaced"]

    async def test_one_that_is_lost_in_one_shard_is_lost(self, store: Store):
        await store.delivery.renew(INSTANCE, 60_000_000, [], first=True)
        *_, last = store.shards
        await last.delivery.let_go(INSTANCE)

        assert await store.delivery.renew(INSTANCE, 60_000_000, []) is None


class TestMoving:
    async def test_what_is_due_is_moved_in_every_shard_and_the_next_moment_is_that_of_all(self, store: Store):
        later = await soon(store)
        due, waiting = one_each(store, "due"), one_each(store, "waiting")
        await store.lifecycle.schedule_many([order(key, when_us=later) for key in due])
        await store.lifecycle.schedule_many([order(key, when_us=later + number) for number, key in enumerate(waiting)])
        for shard, key in zip(store.shards, due, strict=True):
            await store.backend.call("ZADD", shard.keys.queue, 1, key)

        moved, wait, now = await store.delivery.move_due(due)

        assert (moved, wait) == (SHARDS, later - now)
        assert await store.delivery.depth() == (SHARDS, SHARDS)
        assert await store.clearing.clear() == 2 * SHARDS


class TestListing:
    @pytest.mark.parametrize("size", [1, 3, 50])
    async def test_the_schedules_are_listed_as_one_in_order_of_due_time_and_then_of_keys(self, store: Store, size: int):
        later = await soon(store)
        planned = [(later + number % 3, key) for number, key in enumerate([*one_each(store, "b"), *one_each(store, "a")])]
        await store.lifecycle.schedule_many([order(key, when_us=moment) for moment, key in planned])

        found: list[tuple[int, str]] = []
        while page := await store.listing.scheduled(found[-1] if found else None, size):
            assert len(page) <= size
            found += page

        assert found == sorted(planned)

    @pytest.mark.parametrize("size", [1, 2, 50])
    async def test_the_lines_before_limits_are_listed_as_one_by_limit_and_then_in_order_of_arrival(self, store: Store, size: int):
        limits, keys = one_each(store, "limit"), one_each(store)
        for limit in limits:
            for key in (limit, *(f"{limit} {key}" for key in keys)):
                await store.limits.admit(one_at_a_time(await start(store, order(key)), limit))

        found: list[Parked] = []
        while page := await store.listing.parked((found[-1].identity, found[-1].arrival) if found else None, size):
            assert len(page) <= size
            found += page

        assert [each.key for each in found] == [f"{limit} {key}" for limit in sorted(limits) for key in keys]
        assert await store.clearing.clear() == len(found)

    @pytest.mark.parametrize("size", [1, 2, 3, 50])
    async def test_the_streams_are_listed_as_one_in_order_of_time_each_entry_once(self, store: Store, size: int):
        written: list[tuple[int, int, int, str]] = []
        for shard, key in zip(store.shards, one_each(store), strict=True):
            await store.backend.call("DEL", shard.keys.stream)
            for milliseconds, sequence in ((0, 1), (5, 0), (5, 1), (5 + shard.index, 2), (9, 0)):
                await store.backend.call("XADD", shard.keys.stream, f"{milliseconds}-{sequence}", "key", key, "generation", 1)
                written.append((milliseconds, sequence, shard.index, key))

        found: list[str] = []
        after: str | None = None
        while page := await store.listing.entries(after, size):
            assert len(page) <= size
            found += [entry.key for entry in page]
            after = page[-1].message_id.decode()

        assert found == [key for *_, key in sorted(written)]
        await store.backend.call("DEL", *(shard.keys.stream for shard in store.shards))

    async def test_what_workers_have_is_listed_of_every_shard(self, store: Store):
        keys, ready = one_each(store), one_each(store, "ready")
        await store.lifecycle.schedule_many([order(key) for key in keys])
        await fetch(store)
        await store.lifecycle.schedule_many([order(key) for key in ready])

        assert {entry.key for entry in await store.listing.fetched(None, 50)} == {*keys}

    @pytest.mark.parametrize("size", [1, 100])
    async def test_runs_are_found_in_one_shard_after_another(self, store: Store, size: int):
        keys = one_each(store)
        await store.lifecycle.schedule_many([order(key) for key in keys])

        found: set[str] = set()
        cursor: str | None = "0"
        seen: set[str] = set()
        while cursor is not None:
            assert cursor not in seen
            seen.add(cursor)
            page, cursor = await store.listing.scan(cursor, size, "")
            found |= {*page}

        assert found == {*keys}

    @pytest.mark.parametrize("cursor", ["", "4.0", "9999.0"])
    async def test_a_cursor_of_no_shard_is_refused(self, store: Store, cursor: str):
        with pytest.raises(InvalidOption, match="is no cursor of this docket"):
            await store.listing.scan(cursor, 10, "")

    async def test_records_come_in_the_order_in_which_they_were_asked_for(self, store: Store):
        keys = [*one_each(store, "b"), *reversed(one_each(store, "a"))]
        await store.lifecycle.schedule_many([order(key) for key in keys])

        records = await store.listing.select([("none", None), *((key, None) for key in keys)], iter([ExecutionState.QUEUED]))

        assert [record and record.key for record in records] == [None, *keys]


class TestGlance:
    async def test_what_runs_is_listed_longest_first_and_so_much_of_it(self, store: Store):
        keys = [(await start(store, order(key))).run.key for key in reversed(one_each(store))]

        assert [run.key for run in await store.glance.underway(10)] == keys
        assert [run.key for run in await store.glance.underway(3)] == keys[:3]

    async def test_the_oldest_that_is_ready_and_the_first_that_is_due_are_those_of_all(self, store: Store):
        assert (await store.glance.ready_since_us(), await store.glance.next_due_us()) == (None, None)
        for number, shard in enumerate(reversed(store.shards)):
            await store.backend.call("XADD", shard.keys.stream, f"{number + 7}-1", "key", "k", "generation", 1)
            await store.backend.call("ZADD", shard.keys.queue, number + 5, "k")

        assert (await store.glance.ready_since_us(), await store.glance.next_due_us()) == (7000, 5)
        await store.backend.call("DEL", *(key for shard in store.shards for key in (shard.keys.stream, shard.keys.queue)))

    async def test_who_holds_how_many_is_added_up(self, store: Store):
        await store.lifecycle.schedule_many([order(key) for key in one_each(store)])
        await fetch(store, 3)
        await fetch(store, 1, "other~2")

        assert await store.glance.held() == {INSTANCE: 3, "other~2": 1}

    async def test_the_last_failures_of_all_come_last_first(self, store: Store):
        for key in (keys := one_each(store)):
            failure = json.dumps({"worker": "w", "error": key}).encode()
            await store.lifecycle.settle(end(await start(store, order(key)), ExecutionState.FAILED, failure=failure))

        assert [failure.error for failure in await store.glance.failures(3)] == keys[:0:-1]


class TestEvents:
    async def test_a_record_is_read_in_its_place_among_the_events_of_its_shard(self, store: Store):
        for key in one_each(store):
            async with store.events.track(key) as track:
                assert await track.get() == Reading(None, in_place=True)
                await store.lifecycle.schedule(order(key))
                change = await track.get()
                assert not isinstance(change, Reading)
                assert (change.key, change.generation) == (key, store.shard_of(key).index * 10**11 + 1)


class TestStrikes:
    async def test_a_shard_that_cannot_be_told_what_is_struck_holds_no_claim_up(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        await store.strikes.change(b"a")
        [key, *_] = one_each(store)
        await store.backend.call("HSET", store.shard_of(key).keys.meta, "strikes", 12345)
        await store.lifecycle.schedule(order(key))
        entries = await fetch(store)
        script = store.backend.script

        async def refuses(name: str, keys: Any, args: Any) -> Any:
            if name == "hand":
                raise ServerError("not now")
            return await script(name, keys, args)

        monkeypatch.setattr(store.backend, "script", refuses)
        with caplog.at_level(logging.DEBUG, "docket.redis"):
            [claimed] = await claim(store, entries)

        assert isinstance(claimed, Claimed)
        assert "A shard could not be told which strikes stand" in caplog.text


class TestProgress:
    async def test_each_run_has_its_own_wherever_it_is(self, store: Store):
        for number, key in enumerate(one_each(store)):
            claimed = await start(store, order(key))
            await store.progress.update(key, claimed.run, add=number)
            change = await store.progress.land(key, claimed.run, 1, add=10, total=100, message="landed")

            assert change is not None
            assert (change.key, change.current, change.message) == (key, number + 10, "landed")
            record = await store.inspection.load(key)
            assert record is not None and record.progress_current == number + 10


class TestLimits:
    """A limit of another shard than the run's."""

    async def waits(self, store: Store, limit: str, key: str) -> Claimed:
        """This has a run hold the only place under a limit, and claims another, which has not asked yet."""
        for name in (limit, key):
            await store.lifecycle.schedule(order(name))
        holder, other = [each for each in await claim(store, await fetch(store)) if isinstance(each, Claimed)]
        await store.limits.admit(one_at_a_time(holder, limit))
        return other

    @pytest.mark.parametrize("how", ["replaced", "cancelled"])
    async def test_who_is_gone_before_it_is_set_aside_stands_in_no_line(self, store: Store, how: str, monkeypatch: pytest.MonkeyPatch):
        limit, key, *_ = one_each(store)
        other = await self.waits(store, limit, key)

        async def goes() -> None:
            await (store.lifecycle.schedule(order(key, replace=True)) if how == "replaced" else store.lifecycle.cancel(key))

        after_command(monkeypatch, store, "ask", goes)

        admission = await store.limits.admit(one_at_a_time(other, limit))

        assert admission.word == ("superseded" if how == "replaced" else "cancelled")
        assert await store.delivery.contended() == 0

    async def test_a_place_that_cannot_be_given_up_fails_no_run(self, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
        limit, key, *_ = one_each(store)
        claimed = await start(store, order(key))
        await store.limits.admit(one_at_a_time(claimed, limit))
        script = store.backend.script

        async def refuses(name: str, keys: Any, args: Any) -> Any:
            if name == "forgo":
                raise ServerError("not now")
            return await script(name, keys, args)

        monkeypatch.setattr(store.backend, "script", refuses)

        assert await store.lifecycle.settle(replace(end(claimed), limit=limit)) is ExecutionState.COMPLETED
        assert "could not be given up, and lapses" in caplog.text

    async def test_what_waits_no_longer_is_forgotten_by_who_looks_after_it(self, store: Store):
        [key, *_] = one_each(store)
        shard = store.shard_of(key)
        claimed = await start(store, order(key))
        await store.backend.call("ZADD", shard.keys.away, 1, key)
        assert isinstance(store.limits, ShardedLimits)

        assert await store.limits.sweep_away(shard, 2, 3) == 0

        assert await store.backend.call("ZCARD", shard.keys.away) == 0
        await store.lifecycle.settle(end(claimed))


class TestClearing:
    async def test_who_comes_to_wait_elsewhere_meanwhile_is_left_alone(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        limit, key, *_ = one_each(store)
        beside, *_ = one_each(store, "beside")

        async def comes_to_wait() -> None:
            for name in (limit, beside, key):
                await store.lifecycle.schedule(order(name))
            for each in await claim(store, await fetch(store)):
                assert isinstance(each, Claimed)
                await store.limits.admit(one_at_a_time(each, limit))

        after_command(monkeypatch, store, "HGET", comes_to_wait, about=store.shard_of(key).keys.meta)

        assert await store.clearing.clear() == 0

        assert await store.delivery.contended() == 1
        assert await store.clearing.clear() == 2

    async def test_who_waits_for_a_place_elsewhere_or_was_let_in_and_does_not_know_yet_is_cancelled(self, store: Store):
        keys = one_each(store)
        await store.lifecycle.schedule_many([order(key) for key in keys])
        holder, *_ = claims = [each for each in await claim(store, await fetch(store)) if isinstance(each, Claimed)]
        limit = keys[0]
        for claimed in claims:
            await store.limits.admit(one_at_a_time(claimed, limit))
        await store.lifecycle.settle(replace(end(holder), limit=limit))  # lets one of them in

        assert await store.clearing.clear() == SHARDS - 1

        records = await asyncio.gather(*map(store.inspection.load, keys[1:]))
        assert [record and record.state for record in records] == [ExecutionState.CANCELLED] * (SHARDS - 1)
        assert await fetch(store) == []
        assert await store.delivery.contended() == 0
        assert await store.delivery.depth() == (0, 0)
