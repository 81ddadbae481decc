"""Result storage: results may be kept somewhere else than in Redis."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from docket import Docket, Perpetual, Worker
from docket.errors import InvalidOption


class Storage:
    """This satisfies docket's protocol, as the stores of py-key-value do."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.ttls: list[float | None] = []

    async def put(self, key: str, value: dict[str, Any], *, collection: str | None = None, ttl: float | None = None) -> None:
        self.kept[f"{collection}/{key}"] = value
        self.ttls.append(ttl)

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return self.kept.get(f"{collection}/{key}")


async def send(customer_id: int) -> str:
    return f"sent to {customer_id}"


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
async def docket(docket_name: str, url: str, storage: Storage) -> AsyncIterator[Docket]:
    async with Docket(docket_name, url, result_storage=storage, execution_ttl=timedelta(minutes=1)) as docket:
        yield docket


async def test_results_go_there_and_come_from_there(docket: Docket, worker: Worker, storage: Storage):
    @docket.task
    async def job() -> str:
        return "a long story"

    execution = await job.schedule(key="k")
    await worker.run_until_finished()

    assert len(storage.kept) == 1
    assert storage.ttls == [60]
    assert await execution.get_result() == "a long story"


async def test_failures_too(docket: Docket, worker: Worker, storage: Storage):
    @docket.task
    async def job() -> None:
        raise LookupError("nothing found")

    execution = await job.schedule()
    await worker.run_until_finished()

    assert len(storage.kept) == 1
    with pytest.raises(LookupError, match="nothing found"):
        await execution.get_result()


async def test_every_run_has_a_place_of_its_own(docket: Docket, worker: Worker, storage: Storage):
    runs: list[int] = []

    @docket.task
    @Perpetual(every=timedelta(0))
    async def count() -> int:
        runs.append(len(runs) + 1)
        return runs[-1]

    first = await count.schedule(key="k")
    await worker.run_at_most({"k": 3})

    assert len(storage.kept) == 3
    assert await first.get_result() == 1


async def test_a_task_that_returns_nothing_takes_no_place(docket: Docket, worker: Worker, storage: Storage):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule()
    await worker.run_until_finished()

    assert storage.kept == {}
    assert await execution.get_result() is None


async def test_a_result_that_is_lost_there_is_none(docket: Docket, worker: Worker, storage: Storage):
    @docket.task
    async def job() -> str:
        return "a long story"

    execution = await job.schedule()
    await worker.run_until_finished()
    storage.kept.clear()

    assert await execution.get_result() is None


async def test_a_worker_that_makes_its_own_docket_is_told_where_it_is(docket: Docket, storage: Storage, monkeypatch: pytest.MonkeyPatch):
    settings: Any = ModuleType("settings")
    settings.storage, settings.tasks = storage, [send]
    monkeypatch.setitem(sys.modules, "settings", settings)
    execution = await docket.add(send)(1)

    await Worker.run(docket.name, docket.url, tasks=["settings:tasks"], result_storage="settings:storage", until_finished=True)

    assert len(storage.kept) == 1
    assert await execution.get_result() == "sent to 1"


def test_what_cannot_keep_results_is_refused():
    with pytest.raises(InvalidOption, match="result_storage is a dict; give an object with put and get"):
        Docket(result_storage={})  # pyright: ignore[reportArgumentType]
