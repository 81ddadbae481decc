"""How little a worker asks of Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from docket import Docket, Worker
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.worker._hands import at_work, command, lasts

pytestmark = pytest.mark.only_server("whose commands are counted")

TASKS = 1000


def commands(server: RedisServer) -> dict[str, int]:
    """How often each command was called since the count was started over."""
    stats: dict[str, dict[str, Any]] = command(server, "INFO", "commandstats")
    return {name.removeprefix("cmdstat_"): int(entry["calls"]) for name, entry in stats.items()}


def start_over(server: RedisServer) -> None:
    command(server, "CONFIG", "RESETSTAT")


async def noop() -> None: ...


@pytest.mark.only_undivided("each shard is read and asked apart")
@pytest.mark.parametrize(("concurrency", "most"), [(10, 0.8), (32, 0.3), (100, 0.12)])
async def test_round_trips_per_task(docket: Docket, redis_server: RedisServer, concurrency: int, most: float):
    await docket.add_many(docket.call(noop)() for _ in range(TASKS))

    async with Worker(docket, concurrency=concurrency, schedule_automatic_tasks=False) as worker:
        start_over(redis_server)
        await worker.run_until_finished()

    counted = commands(redis_server)
    assert (counted["evalsha"] + counted["xreadgroup"]) / TASKS <= most
    assert counted.get("eval", 0) == 0


@pytest.mark.only_undivided("there is a call for each shard")
async def test_adding_many_takes_one_script_call_for_two_hundred(docket: Docket, redis_server: RedisServer):
    start_over(redis_server)

    await docket.add_many(docket.call(noop)() for _ in range(TASKS))

    assert commands(redis_server)["evalsha"] == TASKS // 200
    async with Worker(docket, concurrency=100) as worker:
        await worker.run_until_finished()


async def test_an_idle_worker_asks_for_little(docket: Docket, redis_server: RedisServer):
    async with at_work(docket) as worker:
        await eventually(worker.is_claiming)
        await asyncio.sleep(0.2)
        start_over(redis_server)
        await asyncio.sleep(3)
        counted = commands(redis_server)

    ours = {name: calls for name, calls in counted.items() if name not in {"info", "config|resetstat"}}
    assert sum(ours.values()) <= 15, ours


@pytest.mark.parametrize("concurrency", [10, 100, 1000])
async def test_connections_do_not_grow_with_concurrency(docket: Docket, redis_server: RedisServer, concurrency: int):
    begun = 0
    go = asyncio.Event()

    async def held() -> int:
        nonlocal begun
        begun += 1
        await go.wait()
        return 1

    before = len(command(redis_server, "CLIENT", "LIST").splitlines())  # the test's own, and the docket's
    asked = await docket.add_many(docket.call(held)() for _ in range(concurrency))
    async with at_work(docket, concurrency=concurrency, redelivery_timeout=lasts(60_000)):
        waiters = [asyncio.ensure_future(one.get_result()) for one in asked]
        await eventually(lambda: begun == concurrency)
        connections = len(command(redis_server, "CLIENT", "LIST").splitlines())
        go.set()
        await asyncio.gather(*waiters)

    assert before >= 2
    assert connections - 1 <= 6
