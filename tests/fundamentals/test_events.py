"""Events: whoever subscribes to an execution sees every change, and always an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from docket import CurrentExecution, Docket, Execution, ExecutionState, Perpetual, Retry, Worker
from docket.states import TERMINAL
from tests._waiting import eventually

SOON = timedelta(milliseconds=50)
LATER = timedelta(hours=1)

SCHEDULED, QUEUED, RUNNING, COMPLETED = ExecutionState.SCHEDULED, ExecutionState.QUEUED, ExecutionState.RUNNING, ExecutionState.COMPLETED


async def following(execution: Execution[Any]) -> tuple[AsyncGenerator[Any, None], asyncio.Task[list[ExecutionState]]]:
    """This starts to follow an execution: the task gives the states it goes through, up to the first that is final."""
    ready = asyncio.Event()
    events = execution.subscribe(ready=ready)

    async def follow() -> list[ExecutionState]:
        states: list[ExecutionState] = []
        async with aclosing(events):
            async for event in events:
                if event["type"] == "state":
                    states.append(event["state"])
                    if states[-1] in TERMINAL:
                        break
        return states

    task = asyncio.create_task(follow())
    await ready.wait()
    return events, task


async def test_the_states_of_a_run_are_told_one_after_another(docket: Docket, running_worker: Worker):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule(when=4 * SOON)
    _, states = await following(execution)

    assert await states == [SCHEDULED, QUEUED, RUNNING, COMPLETED]


async def test_a_retry_is_told_too(docket: Docket, running_worker: Worker):
    @docket.task
    async def flaky(retry: Retry = Retry(attempts=2, delay=SOON)) -> None:
        raise RuntimeError("never")

    execution = await flaky.schedule(when=4 * SOON)
    _, states = await following(execution)

    assert await states == [SCHEDULED, QUEUED, RUNNING, SCHEDULED, QUEUED, RUNNING, ExecutionState.FAILED]


async def test_every_event_has_its_full_shape(docket: Docket, running_worker: Worker):
    @docket.task
    async def job(execution: Execution = CurrentExecution()) -> None:
        await execution.progress.set_message("busy")
        raise RuntimeError("bad luck")

    execution = await job.schedule(key="k", when=2 * SOON)
    seen: list[Any] = []
    async with aclosing(execution.subscribe()) as events:
        async for event in events:
            seen.append(event)
            if event["type"] == "state" and event["state"] in TERMINAL:
                break

    for event in seen:
        if event["type"] == "state":
            assert list(event) == ["type", "key", "state", "when", "worker", "started_at", "completed_at", "error"]
        else:
            assert list(event) == ["type", "key", "current", "total", "message", "updated_at"]
    assert [event["type"] for event in seen[:2]] == ["state", "progress"]
    last = seen[-1]
    assert (last["key"], last["worker"], last["error"]) == ("k", running_worker.name, "RuntimeError: bad luck")
    assert last["when"] <= last["started_at"] <= last["completed_at"]


async def test_the_first_events_tell_how_things_stand(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule(key="k")
    await worker.run_until_finished()
    async with aclosing(execution.subscribe()) as events:
        state, progress = await anext(events), await anext(events)

    assert (state["type"], progress["type"]) == ("state", "progress")
    assert state.get("state") is COMPLETED
    assert progress.get("current") == 0


class TestEveryWaiterLearnsOfTheEnd:
    """Also of a run that was dropped, replaced or cancelled."""

    async def test_cancelled_before_it_ran_and_told_once(self, docket: Docket):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k", when=LATER)
        told: list[ExecutionState] = []
        ready = asyncio.Event()

        async def follow() -> None:
            async with aclosing(execution.subscribe(ready=ready)) as events:
                async for event in events:
                    if event["type"] == "state":
                        told.append(event["state"])  # noqa: PERF401 - it never ends

        following = asyncio.create_task(follow())
        await ready.wait()
        await docket.cancel("k")
        await docket.cancel("k")
        await job.schedule(key="k", when=LATER)  # whatever came before this has been told when this is
        await eventually(lambda: len(told) >= 3)
        following.cancel()

        assert told == [SCHEDULED, ExecutionState.CANCELLED, SCHEDULED]
        await docket.cancel("k")

    async def test_cancelled_while_it_ran(self, docket: Docket, running_worker: Worker):
        started = asyncio.Event()

        @docket.task
        async def job() -> None:
            started.set()
            await asyncio.sleep(3600)

        execution = await job.schedule(key="k", when=2 * SOON)
        _, states = await following(execution)
        await started.wait()
        await docket.cancel("k")

        assert await states == [SCHEDULED, QUEUED, RUNNING, ExecutionState.CANCELLED]

    async def test_replaced(self, docket: Docket):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k", when=LATER)
        _, states = await following(execution)
        await job.replace(key="k", when=LATER)

        assert await states == [SCHEDULED, ExecutionState.CANCELLED]
        await docket.cancel("k")

    @pytest.mark.parametrize("ttl", [timedelta(minutes=15), timedelta(0)], ids=["kept", "nothing kept"])
    async def test_a_link_of_a_perpetual_chain(self, docket_name: str, url: str, ttl: timedelta):
        async with Docket(docket_name, url, execution_ttl=ttl) as docket, Worker(docket) as worker:

            @docket.task
            @Perpetual(every=LATER)
            async def beat() -> None: ...

            execution = await beat.schedule(key="k", when=4 * SOON)
            _, states = await following(execution)
            running = asyncio.create_task(worker.run_forever())

            assert await states == [SCHEDULED, QUEUED, RUNNING, COMPLETED]
            assert await execution.get_result() is None
            await docket.cancel("k")
            worker.stop()
            await running
