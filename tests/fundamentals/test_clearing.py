"""Clearing a docket: what has not begun is cancelled, and what runs goes on."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from docket import ConcurrencyLimit, Docket, ExecutionCancelled, ExecutionState, Perpetual, RateLimit, Worker, instrumentation
from tests._waiting import eventually

LATER = timedelta(hours=1)


async def test_what_has_not_begun_is_cancelled_and_counted(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def job(name: str) -> None:
        ran.append(name)

    executions = [await job.schedule("now"), await job.schedule("later", when=LATER), await docket.add("elsewhere", when=LATER)()]

    assert await docket.clear() == 3

    await worker.run_until_finished()
    assert ran == []
    for execution in executions:
        with pytest.raises(ExecutionCancelled):
            await execution.get_result()
    counts = await docket.counts()
    assert (counts.live, counts.cancelled) == (0, 3)
    assert await docket.clear() == 0


async def test_whoever_waits_learns_of_it(docket: Docket):
    execution = await docket.add("elsewhere", when=LATER)()
    waiting = asyncio.create_task(execution.get_result())
    await eventually(lambda: docket.store.backend.subscriber.listening == 2)  # to what is struck, and to the end of this run

    await docket.clear()

    with pytest.raises(ExecutionCancelled):
        await waiting


async def test_what_runs_goes_on_and_so_does_its_chain(docket: Docket, running_worker: Worker):
    began, let_go = asyncio.Event(), asyncio.Event()

    @docket.task
    @Perpetual(every=LATER)
    async def beat() -> str:
        began.set()
        await let_go.wait()
        return "done"

    execution = await beat.schedule(key="beat")
    await began.wait()

    assert await docket.clear() == 0
    let_go.set()

    assert await execution.get_result() == "done"
    found = await docket.get_execution("beat")
    assert found is not None
    assert found.state is ExecutionState.SCHEDULED
    assert await docket.clear() == 1


async def test_what_a_running_task_asked_for_under_its_own_key_stays(docket: Docket, running_worker: Worker):
    began, let_go = asyncio.Event(), asyncio.Event()
    ran: list[int] = []

    @docket.task
    async def step(number: int) -> None:
        ran.append(number)
        if number == 1:
            await docket.add(step, key="k")(2)
            began.set()
            await let_go.wait()

    await step.schedule(1, key="k")
    await began.wait()
    assert await docket.clear() == 0
    let_go.set()

    await eventually(lambda: ran == [1, 2])


async def test_what_waits_for_a_limit_is_cancelled_and_the_limit_goes_on(docket: Docket, running_worker: Worker):
    let_go = asyncio.Event()
    ran: list[str] = []

    @docket.task
    async def one_at_a_time(name: str, limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> None:
        ran.append(name)
        await let_go.wait()

    @docket.task
    async def once_an_hour(name: str, limit: RateLimit = RateLimit(1, per=LATER)) -> None:
        ran.append(name)

    async def set_aside() -> bool:
        counts = await docket.counts()
        return (counts.waiting, counts.scheduled) == (2, 1)

    await one_at_a_time.schedule("first")
    await once_an_hour.schedule("first of the hour")
    await eventually(lambda: len(ran) == 2)
    waiting = [await one_at_a_time.schedule(name) for name in ("second", "third")]
    waiting.append(await once_an_hour.schedule("second of the hour"))
    await eventually(set_aside)

    assert await docket.clear() == 3

    for execution in waiting:
        with pytest.raises(ExecutionCancelled):
            await execution.get_result()
    let_go.set()
    await (await one_at_a_time.schedule("fourth")).get_result()
    assert sorted(ran) == ["first", "first of the hour", "fourth"]


async def test_beside_busy_workers_every_task_runs_once_or_is_cancelled(docket: Docket):
    ran: list[int] = []

    @docket.task
    async def job(number: int) -> None:
        ran.append(number)
        await asyncio.sleep(0)

    async with Worker(docket, name="one", concurrency=5) as one, Worker(docket, name="two", concurrency=5) as two:
        executions = await docket.add_many([docket.call(job)(number) for number in range(1000)])
        working = [asyncio.create_task(worker.run_until_finished()) for worker in (one, two)]
        await eventually(lambda: len(ran) > 20)

        cleared = await docket.clear()

        await asyncio.gather(*working)
    for execution in executions:
        await execution.sync()
    cancelled = [execution for execution in executions if execution.state is ExecutionState.CANCELLED]
    assert len(cancelled) == cleared
    assert len(ran) == len(set(ran)) == 1000 - cleared
    counts = await docket.counts()
    assert (counts.live, counts.completed, counts.cancelled) == (0, 1000 - cleared, cleared)


async def test_it_is_a_span(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(instrumentation, "tracer", provider.get_tracer("docket.docket"))
    monkeypatch.setattr(instrumentation, "is_traced", lambda: True)

    await docket.clear()

    [span] = exporter.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == ("docket.clear", {"docket.name": docket.name})
