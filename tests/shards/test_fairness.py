"""A worker reads all shards, and takes no more than it has slots for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from docket import Docket, Worker
from docket._worker import _intakes
from docket._worker._intakes import Slots
from docket._worker._runs import Runs
from tests._waiting import eventually
from tests.worker._hands import at_work, ignored

SHARDS = 4


@pytest.fixture
async def divided(docket_name: str, url: str) -> AsyncIterator[Docket]:
    """This is a docket of several shards."""
    async with Docket(docket_name, url, shards=SHARDS) as docket:
        yield docket


def of(docket: Docket, shard: int, count: int) -> list[str]:
    """So many keys of one shard."""
    return [key for key in (f"k{number}" for number in range(40 * count)) if docket.store.shard_of(key).index == shard][:count]


class Gate:
    """A task that waits, and who runs it."""

    def __init__(self, docket: Docket) -> None:
        self.running: list[str] = []
        self.open = asyncio.Event()

        @docket.task
        async def waits(key: str) -> None:
            self.running.append(key)
            await self.open.wait()

        self.task: Any = waits


async def pending(docket: Docket) -> int:
    """Entries that were fetched and are still with a worker."""
    found = 0
    for shard in docket.store.shards:
        found += sum((await shard.glance.held()).values())
    return found


async def test_work_of_one_shard_gets_all_the_slots(divided: Docket):
    gate = Gate(divided)
    for key in of(divided, 2, 8):
        await divided.add(gate.task, key=key)(key)

    async with at_work(divided, concurrency=8):
        await eventually(lambda: len(gate.running) == 8)
        gate.open.set()


async def test_shards_share_the_slots_when_all_have_work(divided: Docket):
    gate = Gate(divided)
    for shard in range(SHARDS):
        for key in of(divided, shard, 40):
            await divided.add(gate.task, key=key)(key)

    async with at_work(divided, concurrency=32):
        await eventually(lambda: len(gate.running) == 32)
        shares = Counter(divided.store.shard_of(key).index for key in gate.running)
        gate.open.set()

    assert [shares[shard] for shard in range(SHARDS)] == [8] * SHARDS


async def test_with_one_slot_shards_take_turns(divided: Docket):
    order: list[int] = []

    @divided.task
    async def quick(key: str) -> None:
        order.append(divided.store.shard_of(key).index)

    for shard in range(SHARDS):
        for key in of(divided, shard, 10):
            await divided.add(quick, key=key)(key)
    async with Worker(divided, concurrency=1) as worker:
        await worker.run_until_finished()

    assert all(set(order[start : start + 8]) == set(range(SHARDS)) for start in range(0, 32, 8))


async def test_what_comes_while_all_slots_are_taken_goes_to_the_others(divided: Docket):
    """A busy worker waits for entries of shards that had none; those it cannot run are not kept from who can."""
    gate = Gate(divided)
    first, *others = [of(divided, shard, 1)[0] for shard in range(SHARDS)]
    async with at_work(divided, concurrency=1):
        await asyncio.sleep(0.1)  # until it waits for all shards; if it does not yet, the test is only weaker
        await divided.add(gate.task, key=first)(first)
        await eventually(lambda: gate.running == [first])
        for key in others:
            await divided.add(gate.task, key=key)(key)

        await eventually(lambda: is_left(divided))
        async with at_work(divided, concurrency=10):
            await eventually(lambda: len(gate.running) == SHARDS)
            gate.open.set()


async def is_left(docket: Docket) -> bool:
    return await pending(docket) == 1


async def test_an_idle_docket_is_not_polled(divided: Docket, monkeypatch: pytest.MonkeyPatch):
    reads: list[int | None] = []
    for shard in divided.store.shards:
        read = shard.delivery.read

        async def watched(reader: Any, instance: str, count: int, block_ms: int | None, read: Any = read) -> Any:
            reads.append(block_ms)
            return await read(reader, instance, count, block_ms)

        monkeypatch.setattr(shard.delivery, "read", watched)
    async with at_work(divided, schedule_automatic_tasks=False):
        await asyncio.sleep(0.3)

        assert reads.count(None) == SHARDS and reads.count(_intakes.BLOCK_MS) == SHARDS


async def test_slots_are_promised_once_and_in_turn():
    runs = Runs(4, perform=ignored)  # pyright: ignore[reportArgumentType]
    slots = Slots(runs)
    took: list[tuple[str, int]] = []

    async def take(name: str) -> None:
        took.append((name, await slots.share(name, 2)))

    await asyncio.gather(take("a"), take("b"))
    waiting = [asyncio.create_task(take(name)) for name in "cd"]
    await asyncio.sleep(0)
    assert took == [("a", 2), ("b", 2)]

    slots.give_back(3)
    await asyncio.gather(*waiting)
    assert took[2:] == [("c", 2), ("d", 1)]

    slots.forget("a")
    slots.give_back(2)
    late = [asyncio.create_task(take(name)) for name in "ba"]
    await eventually(lambda: len(took) == 5)
    assert took[4] == ("a", 2)  # who found nothing the last time has not had a turn
    slots.give_back(1)
    await asyncio.gather(*late)
    assert took[5] == ("b", 1)


async def test_a_worker_whose_lease_is_lost_in_one_shard_begins_anew_in_all(divided: Docket):
    gate = Gate(divided)
    keys = [of(divided, shard, 1)[0] for shard in range(SHARDS)]
    for key in keys:
        await divided.add(gate.task, key=key)(key)
    async with at_work(divided, name="w") as worker:
        await eventually(lambda: len(gate.running) == SHARDS)
        [[instance]] = [await shard.delivery.leased() for shard in divided.store.shards[:1]]

        await divided.store.shards[-1].delivery.let_go(instance)
        assert await divided.store.delivery.renew(instance, 60_000_000, []) is None
        assert await divided.store.workers.depart(instance) is None
        assert {name for shard in divided.store.shards for name in await shard.delivery.leased()} == set()
        gate.open.set()
        assert worker.name == "w"
