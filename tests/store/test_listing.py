"""Listing runs a page at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from docket._clock import SYSTEM
from docket._store import Store, listing
from docket._store.listing import Parked, place_of_entry
from docket._store.records import Applicant, Claimed, Order, Outcome, Requirement
from docket._store.shard import Shard
from docket.states import ExecutionState
from tests._shards import nth, only_shard, together
from tests.store._interleaving import after_command
from tests.store._work import HOUR_US, claim, end, fetch, order, soon, start

LARGE = b"x" * 100
MINUTE_US = 60_000_000


async def plan(store: Store, *moments: tuple[str, int]) -> None:
    """This schedules keys, so many microseconds after the first moment."""
    first = await soon(store)
    await store.lifecycle.schedule_many([order(key, when_us=first + after) for key, after in moments])


async def all_scheduled(store: Store, size: int, after: tuple[int, str] | None = None) -> list[str]:
    keys: list[str] = []
    while page := await store.listing.scheduled(after, size):
        assert len(page) <= size
        keys += [key for _, key in page]
        after = page[-1]
    return keys


class TestSchedule:
    @pytest.mark.parametrize("size", [1, 2, 3, 10])
    async def test_it_is_listed_in_order_of_due_time_and_then_of_keys(self, store: Store, size: int):
        await plan(store, ("late", 9), ("b", 5), ("a", 5), ("c", 5), ("B", 5), ("ü", 5), ("early", 0))

        assert await all_scheduled(store, size) == ["early", "B", "a", "b", "c", "ü", "late"]

    async def test_nothing_is_no_page(self, store: Store):
        assert await store.listing.scheduled(None, 5) == []
        assert await store.listing.scheduled((1, "k"), 5) == []

    @pytest.mark.parametrize("gone", ["a", "b", "c", "d"])
    async def test_it_goes_on_behind_a_key_that_has_gone(self, store: Store, gone: str):
        await plan(store, *[(key, 5) for key in "abcd"], ("e", 6))
        first = await store.listing.scheduled(None, "abcd".index(gone) + 1)
        await store.lifecycle.cancel(gone)

        assert await all_scheduled(store, 2, first[-1]) == [key for key in "abcde" if key > gone]

    @pytest.mark.parametrize("by", [-HOUR_US, HOUR_US], ids=["earlier", "later"])
    async def test_it_goes_on_behind_the_place_of_a_key_that_has_moved(self, store: Store, by: int):
        await plan(store, *[(key, 5) for key in "abcd"])
        page = await store.listing.scheduled(None, 2)
        await store.backend.call("ZADD", store.shard_of("b").keys.queue, page[-1][0] + by, "b")

        assert await all_scheduled(store, 2, page[-1]) == ["c", "d"] if by < 0 else ["c", "d", "b"]

    @pytest.mark.parametrize("command", ["ZRANK", "ZCARD"])
    async def test_what_goes_in_front_while_it_looks_for_its_place_does_not_make_it_miss_any(self, store: Store, command: str, monkeypatch: pytest.MonkeyPatch):
        await plan(store, *[(f"{number:02}", 5) for number in range(20)])
        page = await store.listing.scheduled(None, 10)
        if command == "ZCARD":
            await store.lifecycle.cancel("09")

        async def go() -> None:
            for number in range(5):
                await store.lifecycle.cancel(f"{number:02}")

        after_command(monkeypatch, store, command, go)

        assert [key for _, key in await store.listing.scheduled(page[-1], 5)] == ["10", "11", "12", "13", "14"]

    async def test_all_that_goes_while_it_looks_for_its_place_is_not_listed(self, store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch):
        keys = together(store, *"abcd")
        await plan(store, *[(key, 5) for key in keys])
        page = await store.listing.scheduled(None, 2)

        async def go() -> None:
            await store.backend.call("DEL", shard.keys.queue, *map(shard.keys.run, keys))

        after_command(monkeypatch, store, "ZRANK", go, about=shard.keys.queue)

        assert await store.listing.scheduled(page[-1], 2) == []

    async def test_it_is_listed_by_rank_for_those_who_take_away_what_they_find(self, store: Store, shard: Shard):
        keys = together(store, *"abcd")
        await plan(store, *[(key, 5) for key in keys])

        assert await shard.listing.scheduled_from(1, 2) == keys[1:3]


class TestStream:
    async def test_entries_are_listed_as_they_came_also_those_that_are_with_workers(self, store: Store):
        keys = together(store, *"abcde")
        for key in keys:
            await store.lifecycle.schedule(order(key))
        await fetch(store, 2)

        first = await store.listing.entries(None, 3)
        second = await store.listing.entries(first[-1].message_id.decode(), 3)

        assert [entry.key for entry in [*first, *second]] == keys

    async def test_what_workers_have_fetched_so_far_is_known_by_its_last_entry(self, store: Store, shard: Shard):
        assert await shard.listing.fetched_up_to() == (0, 0)
        for key in together(store, *"abc"):
            await store.lifecycle.schedule(order(key))
        assert await shard.listing.fetched_up_to() == (0, 0)

        await store.backend.call("XGROUP", "CREATE", shard.keys.stream, "another", "0", "MKSTREAM")
        _, second = await fetch(store, 2)

        assert await shard.listing.fetched_up_to() == place_of_entry(second.message_id)

    async def test_before_the_first_worker_nothing_was_fetched(self, docket_name: str, url: str):
        store = await Store.open(docket_name, url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
        assert await only_shard(store).listing.fetched_up_to() is None

        await store.lifecycle.schedule(order())
        assert await only_shard(store).listing.fetched_up_to() is None
        await store.lifecycle.cancel("k")
        await store.aclose()


class TestLines:
    async def wait_in_line(self, store: Store, **lines: int) -> None:
        """This has so many runs wait before each limit, `x0`, `x1`, ... before the limit `x`."""
        for identity, count in lines.items():
            keys = [f"{identity}{number}" for number in range(-1, count)]
            for key in keys:
                await store.lifecycle.schedule(order(key))
            claims = {claimed.run.key: claimed for claimed in await claim(store, await fetch(store, 100)) if isinstance(claimed, Claimed)}
            for claimed in map(claims.__getitem__, keys):
                await store.limits.admit(Applicant(claimed.run, claimed.message_id, (Requirement("concurrency", identity, "1"),), MINUTE_US))

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 10])
    async def test_who_waits_is_listed_by_limit_and_in_order_of_arrival(self, store: Store, size: int):
        await self.wait_in_line(store, b=3, a=2, c=1)

        found: list[Parked] = []
        after = None
        while page := await store.listing.parked(after, size):
            assert len(page) <= size
            found += page
            after = page[-1].identity, page[-1].arrival

        assert [each.key for each in found] == ["a0", "a1", "b0", "b1", "b2", "c0"]
        records = [await store.inspection.load(each.key) for each in found]
        assert [each.generation for each in found] == [record.generation for record in records if record is not None]

    async def test_it_goes_on_behind_a_line_that_has_gone(self, store: Store):
        await self.wait_in_line(store, a=1, b=1)
        [first] = await store.listing.parked(None, 1)
        await store.backend.call("ZREM", store.shard_of("a").keys.waiting, "a")

        assert [each.key for each in await store.listing.parked((first.identity, first.arrival), 5)] == ["b0"]


class TestScanning:
    async def all_keys(self, store: Store, prefix: str = "", size: int = 3) -> list[str]:
        found: list[str] = []
        cursor: str | None = "0"
        while cursor is not None:
            keys, cursor = await store.listing.scan(cursor, size, prefix)
            found += keys
        return sorted(set(found))

    async def test_every_run_is_found_wherever_it_is(self, store: Store):
        expected = sorted(f"k{number}" for number in range(50))
        for key in expected[::2]:
            await store.lifecycle.schedule(order(key))
        for key in expected[1::2]:
            await store.lifecycle.schedule(order(key, when_us=await soon(store)))

        assert await self.all_keys(store) == expected
        assert await self.all_keys(store, "k1") == [key for key in expected if key.startswith("k1")]

    @pytest.mark.parametrize("prefix", ["*", "?", "[ab]", "a\\b", "a*", "a^-]", "ü"])
    async def test_a_prefix_is_taken_as_it_is(self, store: Store, prefix: str):
        for key in (f"{prefix}1", "ab1", "b1", "-1"):
            await store.lifecycle.schedule(order(key))

        assert await self.all_keys(store, prefix) == [f"{prefix}1"]

    async def test_a_name_of_a_docket_is_taken_as_it_is_too(self, docket_name: str, url: str):
        odd = await Store.open(f"{docket_name}[a-z]*?\\", url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
        other = await Store.open(f"{docket_name}abc", url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
        await odd.lifecycle.schedule(order("mine"))
        await other.lifecycle.schedule(order("theirs"))

        assert await self.all_keys(odd) == ["mine"]
        for store in (odd, other):
            await store.aclose()

    async def test_what_else_the_docket_keeps_is_no_run(self, store: Store):
        claimed = await start(store, order("runs:k", LARGE))
        await store.lifecycle.settle(end(claimed, value=LARGE))

        assert await self.all_keys(store) == ["runs:k"]


class TestReading:
    async def test_many_are_read_at_once_those_that_are_wanted(self, store: Store):
        await store.lifecycle.schedule_many([Order(f"k{number}", "send" if number % 2 else "other", b"args") for number in range(450)])

        records = await store.listing.select([(f"k{number}", None) for number in range(460)], (ExecutionState.QUEUED,), "send")

        assert [index for index, record in enumerate(records) if record is not None] == list(range(1, 450, 2))
        assert all(record.payload == b"args" for record in records if record is not None)

    async def test_one_of_another_state_or_generation_is_not_wanted(self, store: Store):
        await store.lifecycle.schedule(order())

        read = store.listing.select
        assert await read([("k", nth(store, 2))]) == [None]
        assert await read([("k", nth(store, 1))], (ExecutionState.RUNNING, ExecutionState.SCHEDULED)) == [None]
        [record] = await read([("k", nth(store, 1))], (ExecutionState.RUNNING, ExecutionState.QUEUED))
        assert record == await store.inspection.load("k")

    @pytest.mark.parametrize("value", [None, b"v", LARGE], ids=["none", "small", "large"])
    @pytest.mark.parametrize("error", ["why", "ü" * 100, "w" * 5000], ids=["short", "long", "very long"])
    async def test_what_failed_tells_its_error(self, store: Store, error: str, value: bytes | None):
        claimed = await start(store)
        await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, error=error, value=value))

        [record] = await store.listing.select([("k", None)])

        assert record is not None
        assert record.error is not None
        assert error.startswith(record.error.rstrip("�"))
        assert len(record.error) == len(error) if len(error) < 500 else len(record.error) > 900

    async def test_large_arguments_come_along_unless_there_are_too_many_of_them(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(listing, "PAYLOAD_BYTES", 1_000)
        half = b"x" * 600
        keys = together(store, *"abcd")
        await store.lifecycle.schedule_many([order(key, payload) for key, payload in zip(keys, (half, half, LARGE, b"y" * 2_000), strict=True)])

        records = await store.listing.select([(key, None) for key in keys])

        assert [record and record.payload for record in records] == [half, None, LARGE, None]

    async def test_what_was_not_written_by_us_is_passed_over(self, store: Store):
        call, run = store.backend.call, store.keys.run
        await call("SET", run("text"), "no hash")
        await call("HSET", run("stateless"), "function", "f")
        await call("HSET", run("strange"), "state", "asleep")
        await call("HSET", run("numberless"), "state", "queued", "generation", "many")
        await call("HSET", run("garbled"), "state", "failed", "generation", "1", "outcome", "???")

        records = await store.listing.select([(key, None) for key in ("text", "stateless", "strange", "numberless", "garbled")])

        assert records[:4] == [None] * 4
        assert records[4] is not None
        assert records[4].outcome == Outcome(ExecutionState.FAILED)
        await call("DEL", *map(run, ("text", "stateless", "strange", "numberless", "garbled")))
