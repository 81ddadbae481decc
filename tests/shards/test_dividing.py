"""Into how many shards a docket is divided, and that everybody agrees on it."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import Docket, StrikeList, Worker
from docket._keys import SLOTS, Keys, shard_of, slot_of, tags
from docket._options import MOST_SHARDS
from docket._store.shard import STRIDE, Shard
from docket.errors import InvalidOption, LayoutMismatch
from tests._waiting import eventually
from tests.worker._hands import SOON

here = sys.modules[__name__]


async def job() -> None: ...


async def test_another_number_is_refused_with_advice(docket_name: str, url: str):
    async with Docket(docket_name, url, shards=4):
        pass

    for other in (1, 5):
        with pytest.raises(LayoutMismatch, match=rf"has 4 shard.*shards={other}.*`docket reshard --to {other}`"):
            async with Docket(docket_name, url, shards=other):
                pass
    async with Docket(docket_name, url, shards=4):
        pass


@pytest.mark.parametrize("said", [None, 1])
async def test_a_docket_in_one_piece_is_refused_to_who_wants_several(docket_name: str, url: str, said: int | None):
    async with Docket(docket_name, url, shards=said) as docket:
        if said is None:  # then it is not before something is in it
            await (await docket.add("job")()).cancel()

    with pytest.raises(LayoutMismatch, match=r"has 1 shard.*shards=4"):
        async with Docket(docket_name, url, shards=4):
            pass


async def test_whoever_reads_or_works_and_says_nothing_leaves_it_to_the_next_one(docket_name: str, url: str):
    async with Docket(docket_name, url) as docket, StrikeList(url, docket_name), Worker(docket) as worker:
        await worker.run_until_finished()
        assert [each async for each in docket.executions()] == []
        assert (await docket.snapshot()).running == []
        await docket.strike("send")
        assert await docket.clear() == 0

    async with Docket(docket_name, url, shards=4) as docket:
        assert len(docket.store.shards) == 4
        assert len(docket.strike_list.instructions) == 1


async def test_whoever_opened_it_before_it_was_divided_is_told_when_they_schedule_something(docket_name: str, url: str):
    async with Docket(docket_name, url) as early, Docket(docket_name, url, shards=4) as docket:
        for _ in range(2):
            with pytest.raises(LayoutMismatch, match=r"divided into 4 .*open it again"):
                await early.add("job", key="k")()

        assert (await docket.counts()).queued == 0
        await docket.add("job", key="k")()
        await docket.clear()


async def test_the_first_of_all_settles_it(docket_name: str, url: str):
    async with Docket(docket_name, url) as docket:
        await docket.add("job", key="k")()

        with pytest.raises(LayoutMismatch, match=r"has 1 shard"):
            async with Docket(docket_name, url, shards=4):
                pass
        await docket.clear()


async def test_whoever_opened_it_before_it_was_divided_is_told_when_they_strike_something(docket_name: str, url: str):
    """The shards would not be told."""
    async with StrikeList(url, docket_name) as early, Docket(docket_name, url, shards=4) as docket:
        with pytest.raises(LayoutMismatch, match=r"has 4 shard.*had 1.*open it again"):
            await early.strike("send")

        assert await docket.strike("send")


@pytest.mark.parametrize("when", ["before it begins", "while it is at work"])
async def test_a_worker_that_reads_where_nothing_comes_any_more_says_so(docket_name: str, url: str, when: str):
    soon = timedelta(milliseconds=20)
    async with Docket(docket_name, url, heartbeat_interval=soon) as early, Worker(early) as worker:
        if when == "while it is at work":
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: worker.not_ready() is None)
            async with Docket(docket_name, url, shards=4):
                pass
        else:
            async with Docket(docket_name, url, shards=4):
                running = asyncio.create_task(worker.run_forever())

        with pytest.raises(LayoutMismatch, match=r"has 4 shard.*had 1.*open it again"):
            await asyncio.wait_for(running, SOON.total_seconds())


async def test_a_worker_that_is_all_there_is_to_a_process_begins_anew(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    ran: list[str] = []
    soon = timedelta(milliseconds=20)

    async def job(name: str) -> None:
        ran.append(name)

    early = Docket(docket_name, url, heartbeat_interval=soon)
    early.register(job)
    monkeypatch.setattr(here, "early", early, raising=False)
    running = asyncio.create_task(Worker.run(tasks=[f"{__name__}:early"]))
    async with Docket(docket_name, url) as watching:
        await eventually(watching.workers)

    async with Docket(docket_name, url, shards=4) as docket:
        for name in "abcdefgh":
            await docket.add("job", key=name)(name)
        await eventually(lambda: len(ran) == 8)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(ran) == list("abcdefgh")


async def test_who_says_nothing_takes_it_as_it_is(docket_name: str, url: str):
    ran: list[str] = []
    async with Docket(docket_name, url, shards=4) as docket:

        @docket.task
        async def job(name: str) -> None:
            ran.append(name)

        for name in "abcdefgh":
            await docket.add(job, key=name)(name)

    async with Docket(docket_name, url) as another:
        another.register(job)
        async with Worker(another) as worker:
            await worker.run_until_finished()

    assert sorted(ran) == list("abcdefgh")


async def test_a_docket_of_one_shard_has_the_keys_it_always_had(docket_name: str, url: str):
    async with Docket(docket_name, url, shards=1) as docket:

        @docket.task
        async def job() -> None: ...

        await docket.add(job, key="k")()

        call, prefix = docket.store.backend.call, f"{{{docket_name}}}:"
        assert await call("HGET", prefix + "runs:k", "state") == b"queued"
        assert {*(await call("HGETALL", prefix + "meta"))[::2]} == {b"layout", b"generation"}
        assert await call("HGET", prefix + "meta", "layout") == b"1"


async def test_generations_of_two_shards_are_never_the_same(docket_name: str, url: str):
    async with Docket(docket_name, url, shards=4) as docket:

        @docket.task
        async def job() -> None: ...

        generations = [(await docket.add(job, key=f"k{number}")()).generation for number in range(40)]

    assert len(set(generations)) == 40
    assert [generation // STRIDE for generation in generations] == [shard_of(f"k{number}", 4) for number in range(40)]


async def test_nor_are_they_after_all_data_was_lost_while_the_docket_is_open(docket_name: str, url: str):
    """No worker need have said anew by then how many shards there are; and one server of several may have lost its part alone."""
    async with Docket(docket_name, url, shards=4) as docket:
        docket.register(job)
        await docket.add_many(docket.call(job, key=f"k{number}")() for number in range(40))
        await docket.clear()
        for keys in (docket.store.keys, *docket.store.keys.shards):
            await docket.store.shards[0].backend.call("DEL", keys.meta)

        generations = [(await docket.add(job, key=f"new{number}")()).generation for number in range(40)]

        assert [generation // STRIDE for generation in generations] == [shard_of(f"new{number}", 4) for number in range(40)]
        assert len(set(generations)) == 40
        assert [await shard.backend.call("HGET", shard.keys.meta, "layout") for shard in docket.store.shards] == [None] * 4
        await docket.clear()


@pytest.mark.parametrize("shards", [2, 7, 256])
@pytest.mark.parametrize("name", ["orders", "böse~4.x\n:meta", "~"])
async def test_each_shard_counts_from_a_number_of_its_own(docket_name: str, url: str, name: str, shards: int):
    async with Docket(docket_name + name, url, shards=shards) as docket:

        async def first(shard: Shard) -> int:
            return await shard.backend.script("number", [shard.keys.stream, shard.keys.meta], [shard.keys.state(""), 1])

        assert [await first(shard) for shard in docket.store.shards] == [index * STRIDE + 1 for index in range(shards)]
        assert [await first(shard) for shard in docket.store.shards] == [index * STRIDE + 2 for index in range(shards)]


@pytest.mark.parametrize("name", ["orders~4.1", "orders~16.007"])
def test_a_name_that_could_be_a_shard_of_another_docket_is_refused(name: str):
    with pytest.raises(InvalidOption, match="shard of another docket"):
        Docket(name)


def test_other_names_with_a_tilde_are_names():
    assert [Docket(name).name for name in ("orders~a1", "~", "1~x", "orders~1")] == ["orders~a1", "~", "1~x", "orders~1"]


@pytest.mark.parametrize("shards", [0, -1, True, 1.5, "4", MOST_SHARDS + 1])
def test_what_is_no_number_of_shards_is_refused(shards: object):
    with pytest.raises(InvalidOption, match="shards is"):
        Docket("orders", shards=shards)  # pyright: ignore[reportArgumentType]


@given(st.text(st.characters(codec="utf-8", exclude_characters="{}"), min_size=1, max_size=20), st.integers(2, 64))
def test_shards_lie_evenly_over_the_slots(name: str, shards: int):
    found = tags(name, shards)

    assert [slot_of(tag) * shards // SLOTS for tag in found] == list(range(shards))


@given(st.text(), st.integers(2, 64))
def test_all_keys_of_a_task_lie_in_its_shard(key: str, shards: int):
    keys = Keys("orders", shards)
    own = keys.shards[shard_of(key, shards)]

    for spelt in (keys.run(key), keys.payload(key), keys.successor(key), keys.outcome(key, 1)):
        assert spelt.startswith(own.prefix)
    assert keys.state(key) == own.state(key) == "{orders}:state:" + key


def test_where_a_key_belongs_never_changes():
    assert [shard_of(key, 16) for key in ("", "a", "order-1", "ö")] == [0, 3, 15, 11]
    assert tags("orders", 4) == ("orders~4.2", "orders~4.3", "orders~4.0", "orders~4.1")
