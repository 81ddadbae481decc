"""Keys: at most one run of a key is scheduled, queued or running."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from docket import Disposition, Docket, ExecutionState, Perpetual, Worker

SOON = timedelta(milliseconds=100)


async def test_without_a_key_every_call_has_one_of_its_own(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None: ...

    executions = [await job.schedule() for _ in range(10)]
    await worker.run_until_finished()

    assert len({execution.key for execution in executions}) == 10


@pytest.mark.parametrize("when", [None, SOON], ids=["queued", "scheduled"])
async def test_adding_to_a_key_that_waits_changes_nothing(docket: Docket, worker: Worker, when: timedelta | None):
    ran: list[str] = []

    @docket.task
    async def job(name: str) -> None:
        ran.append(name)

    first = await job.schedule("first", key="k", when=when)
    second = await job.schedule("second", key="k", when=when)
    await worker.run_until_finished()

    assert (first.disposition, second.disposition) == (Disposition.SCHEDULED, Disposition.ALREADY_SCHEDULED)
    assert second.generation == first.generation
    assert ran == ["first"]


async def test_adding_to_a_key_that_runs_changes_nothing(docket: Docket, running_worker: Worker):
    ran: list[str] = []
    started, finish = asyncio.Event(), asyncio.Event()

    @docket.task
    async def job(name: str) -> None:
        ran.append(name)
        started.set()
        await finish.wait()

    first = await job.schedule("first", key="k")
    await started.wait()
    second = await job.schedule("second", key="k")
    finish.set()
    await second.get_result()  # of the run that stands under the key

    assert second.disposition is Disposition.ALREADY_SCHEDULED
    assert second.generation == first.generation
    assert ran == ["first"]


async def test_many_who_add_the_same_key_at_once_get_one_run(docket: Docket, worker: Worker):
    ran: list[int] = []

    @docket.task
    async def job(number: int) -> None:
        ran.append(number)

    executions = await asyncio.gather(*(job.schedule(number, key="k") for number in range(50)))
    await worker.run_until_finished()

    assert [execution.disposition for execution in executions].count(Disposition.SCHEDULED) == 1
    assert len(ran) == 1


async def test_a_key_is_free_again_when_its_run_has_ended(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def job(name: str) -> None:
        ran.append(name)
        if name == "failing":
            raise RuntimeError(name)

    for name in ("first", "failing", "third"):
        execution = await job.schedule(name, key="k")
        assert execution.disposition is Disposition.SCHEDULED
        await worker.run_until_finished()

    assert ran == ["first", "failing", "third"]


async def test_generations_are_never_used_again(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None: ...

    generations: list[int] = []
    for _ in range(3):
        generations.append((await job.schedule(key="k")).generation)
        await worker.run_until_finished()

    assert generations == sorted(set(generations))


INTERNAL = ["stream", "queue", "workers", "leases", "strikes", "runs", "meta", "limits", "results", "runs:k", "{docket}:stream", "docket-workers"]


@pytest.mark.parametrize("key", [*INTERNAL, "with spaces", "ключ", "a:b:c", "{braces}", "*", "\x00\n", "long" * 500])
async def test_a_key_may_be_any_text_and_meets_nothing_of_dockets_own(docket: Docket, worker: Worker, key: str):
    @docket.task
    async def job(number: int) -> int:
        return number

    later = await job.schedule(1, key=key, when=SOON)
    at_once = await job.schedule(2)
    await worker.run_until_finished()

    assert (await later.get_result(), await at_once.get_result()) == (1, 2)
    found = await docket.get_execution(key)
    assert found is not None
    assert (found.key, found.state) == (key, ExecutionState.COMPLETED)


async def test_an_automatic_task_may_have_any_name_too(docket: Docket, worker: Worker):
    @docket.task
    @Perpetual(every=SOON, automatic=True)
    async def stream() -> str:
        return "harmless"

    await worker.run_at_most({"stream": 2})

    found = await docket.get_execution("stream")
    assert found is not None
    assert await found.get_result() == "harmless"


async def test_dockets_share_a_server_and_no_keys(docket_name: str, url: str):
    async def name_of(docket: Docket) -> str:
        async def job() -> str:
            return docket.name

        execution = await docket.add(job, key="k")()
        assert execution.disposition is Disposition.SCHEDULED
        async with Worker(docket) as worker:
            await worker.run_until_finished()
        return await execution.get_result()

    async with Docket(f"{docket_name}-a", url) as first, Docket(f"{docket_name}-b", url) as second:
        names = await asyncio.gather(name_of(first), name_of(second))

    assert names == [f"{docket_name}-a", f"{docket_name}-b"]
