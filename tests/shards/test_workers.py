"""A worker of a divided docket is one worker: it begins anew in every shard, waits out what any of them has, and takes word of places to where it belongs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Container
from datetime import timedelta
from itertools import count, cycle
from typing import Any

import pytest

from docket import ConcurrencyLimit, Docket, Worker
from docket._store.shards import ShardedDelivery, ShardedLimits
from docket._worker._intakes import ShardIntake
from docket.errors import RedisUnavailable
from tests._waiting import eventually
from tests.worker._hands import at_work, claim, dead_worker, lasts, leased

SHARDS = 4
HOUR = timedelta(hours=1)


@pytest.fixture
async def divided(docket_name: str, url: str) -> AsyncIterator[Docket]:
    """This is a docket of several shards."""
    async with Docket(docket_name, url, shards=SHARDS) as docket:
        yield docket


async def job(number: int) -> int:
    return number


async def test_one_that_has_lost_its_lease_in_one_shard_begins_anew_in_all(divided: Docket):
    async with at_work(divided, redelivery_timeout=timedelta(seconds=1)) as worker:
        await eventually(worker.is_claiming)
        [former] = await leased(divided)
        *_, last = divided.store.shards

        await last.delivery.let_go(former)

        async def has_another() -> bool:
            each = [await shard.delivery.leased() - {former} for shard in divided.store.shards]
            return all(len(instances) == 1 for instances in each)

        await eventually(has_another)
        executions = [await divided.add(job)(number) for number in range(4 * SHARDS)]
        assert [await execution.get_result() for execution in executions] == list(range(4 * SHARDS))


async def test_a_lease_that_is_let_go_is_gone_from_all_shards(divided: Docket):
    async with at_work(divided) as worker, divided.store.leases() as leases:
        await eventually(worker.is_claiming)
        [instance] = await leased(divided)

        await leases.let_go(instance)

        assert not await leases.renew(instance, 20_000_000)
        assert [instance in await shard.delivery.leased() for shard in divided.store.shards] == [False] * SHARDS


async def test_what_a_dead_worker_held_is_taken_back_in_each(divided: Docket):
    executions = [await divided.add(job)(number) for number in range(4 * SHARDS)]
    await claim(divided, await dead_worker(divided))

    async with at_work(divided, redelivery_timeout=lasts(400)):
        assert [await execution.get_result() for execution in executions] == list(range(4 * SHARDS))


async def test_it_waits_until_all_shards_are_there_before_it_begins(divided: Docket, monkeypatch: pytest.MonkeyPatch):
    asked = 0
    ensure = ShardedDelivery.ensure_group

    async def is_away_at_first(self: ShardedDelivery) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise RedisUnavailable("one of them is away")
        await ensure(self)

    monkeypatch.setattr(ShardedDelivery, "ensure_group", is_away_at_first)
    execution = await divided.add(job)(1)

    async with Worker(divided, reconnection_delay=timedelta(milliseconds=10)) as worker:
        await worker.run_until_finished()

    assert asked == 2
    assert await execution.get_result() == 1


async def test_it_is_ready_as_long_as_it_can_read_one_of_them(divided: Docket, monkeypatch: pytest.MonkeyPatch):
    async with at_work(divided) as worker:
        await eventually(worker.is_claiming)

        for troubles, told in ((["away", "away", "away", None], None), (["away", "away too", "away", "away"], "away")):
            each = cycle(troubles)  # all are asked, in order
            monkeypatch.setattr(ShardIntake, "trouble", property(lambda _, each=each: next(each)))
            assert worker.not_ready() == told

        monkeypatch.undo()
        assert worker.is_claiming()


async def test_word_that_cannot_be_taken_where_it_belongs_is_taken_there_later(
    divided: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    failures = [RedisUnavailable("that shard is away"), RedisUnavailable("still")]
    forward = ShardedLimits.forward

    async def fails_at_first(self: ShardedLimits, *args: Any) -> None:
        if failures:
            raise failures.pop()
        await forward(self, *args)

    monkeypatch.setattr(ShardedLimits, "forward", fails_at_first)
    ran: list[str] = []

    @divided.task
    async def one_by_one(key: str, limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> None:
        ran.append(key)

    keys = [next(key for key in map(str, count()) if divided.store.shard_of(key) is shard) for shard in divided.store.shards]
    async with at_work(divided, reconnection_delay=timedelta(milliseconds=10), redelivery_timeout=timedelta(seconds=1)):
        executions = [await divided.add(one_by_one, key=key)(key) for key in keys]
        await asyncio.gather(*(execution.get_result(timeout=timedelta(seconds=30)) for execution in executions))

    assert sorted(ran) == sorted(keys)
    assert failures == []
    assert "Runs that were let in could not be told of, and will be" in caplog.text


async def test_what_it_leaves_to_others_is_told_once_nobody_has_found_anything_meanwhile(
    divided: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "docket.worker")
    divided.register(job)
    looks = 0
    work_for = ShardedDelivery.work_for

    async def is_overtaken_at_first(self: ShardedDelivery, tasks: Container[str]) -> tuple[bool, set[str]]:
        nonlocal looks
        looks += 1
        found = await work_for(self, tasks)
        if looks == 1:  # the reader of another shard than the one that asks finds something, and all is idle again
            elsewhere = next(key for key in map(str, count()) if divided.store.shard_of(key).index == 1)
            await (await divided.add(job, key=elsewhere)(1)).get_result()
            await divided.cancel("left")
            await divided.add("foreign", when=HOUR, key="left too")()
        return found

    monkeypatch.setattr(ShardedDelivery, "work_for", is_overtaken_at_first)
    await divided.add("alien", when=HOUR, key="left")()

    async with Worker(divided) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 30)

    assert looks > 1
    assert [line for line in caplog.messages if line.startswith("Finished;")] == ["Finished; tasks left for workers that know them: foreign"]
    await divided.cancel("left too")
