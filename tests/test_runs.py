"""What callers see of runs: results, failures, progress, chains, and the docket that is meant inside one."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import docket as package
from docket import (
    CurrentDocket,
    CurrentExecution,
    Disposition,
    Docket,
    Execution,
    ExecutionProgress,
    ExecutionState,
    ExecutionSuperseded,
    Perpetual,
    TaskKey,
    Worker,
)
from docket._context import docket_named
from docket.docket import TaskCollection
from docket.execution import ProgressEvent, StateEvent

SOON = timedelta(seconds=10)


class Storage:
    def __init__(self) -> None:
        self.kept: dict[tuple[str | None, str], dict[str, Any]] = {}

    async def put(self, key: str, value: dict[str, Any], *, collection: str | None = None, ttl: float | None = None) -> None:
        self.kept[collection, key] = value

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return self.kept.get((collection, key))


async def double(number: int) -> int:
    return number * 2


async def explode() -> None:
    raise ValueError("bad")  # here it was raised


class TestResults:
    async def test_a_result_is_there_after_the_run(self, docket: Docket, worker: Worker):
        execution = await docket.add(double)(4)
        await worker.run_until_finished()

        assert await execution.get_result(timeout=SOON) == 8
        await execution.sync()
        assert (execution.state, execution.worker, execution.error) == (ExecutionState.COMPLETED, worker.name, None)
        assert execution.started_at is not None
        assert execution.completed_at is not None

    async def test_a_waiter_gets_the_result_of_a_run_that_is_yet_to_come(self, docket: Docket, worker: Worker):
        execution = await docket.add(double)(4)
        waiting = asyncio.create_task(execution.get_result(timeout=SOON))
        await asyncio.sleep(0.02)
        await worker.run_until_finished()

        assert await waiting == 8

    async def test_a_failure_is_raised_again_and_shows_where_it_was_raised(self, docket: Docket, worker: Worker):
        execution = await docket.add(explode)()
        await worker.run_until_finished()

        with pytest.raises(ValueError, match="bad") as caught:
            await execution.get_result(timeout=SOON)
        assert "here it was raised" in "".join(traceback.format_exception(caught.value))

    async def test_results_are_kept_where_the_docket_keeps_them(self, docket_name: str, url: str):
        storage = Storage()
        async with Docket(docket_name, url, result_storage=storage) as docket, Worker(docket) as worker:
            execution = await docket.add(double, key="k")(4)
            await worker.run_until_finished()

            assert list(storage.kept) == [(docket.results_collection, f"k:{execution.generation}")]
            assert await execution.get_result(timeout=SOON) == 8

    async def test_a_waiter_learns_of_an_end_that_is_not_kept(self, docket_name: str, url: str):
        async with Docket(docket_name, url, execution_ttl=timedelta(0)) as docket, Worker(docket) as worker:
            execution = await docket.add(double, key="k")(4)
            waiting = asyncio.create_task(execution.get_result(timeout=SOON))
            await asyncio.sleep(0.02)
            await worker.run_until_finished()

            assert await waiting is None
            assert await docket.get_execution("k") is None


class TestChains:
    async def test_each_link_of_a_perpetual_chain_has_its_own_result(self, docket: Docket, worker: Worker):
        results = iter(["first", "second", "third"])

        @docket.task
        @Perpetual()
        async def tick() -> str:
            return next(results)

        execution = await tick.schedule(key="tick")
        await worker.run_at_most({"tick": 2})

        assert await execution.get_result(timeout=SOON) == "first"
        await execution.sync()
        assert execution.state is ExecutionState.COMPLETED
        assert not await execution.is_superseded()

    async def test_a_run_schedules_the_successor_under_its_own_key(self, docket: Docket, worker: Worker):
        asked: list[Execution[None]] = []

        async def poll(left: int, key: str = TaskKey(), docket: Docket = CurrentDocket()) -> None:
            if left:
                asked.append(await docket.add(poll, when=timedelta(milliseconds=5), key=key)(left - 1))
                asked.append(await docket.add(poll, key=key)(left - 1))
                await asked[-1].sync()
                assert asked[-1].state is ExecutionState.SCHEDULED

        first = await docket.add(poll, key="poll")(2)
        await worker.run_until_finished()

        assert [execution.disposition for execution in asked] == [Disposition.SCHEDULED, Disposition.ALREADY_SCHEDULED] * 2
        assert first.generation < asked[0].generation == asked[1].generation < asked[2].generation
        for execution in (first, *asked):
            assert await execution.get_result(timeout=SOON) is None

    async def test_a_successor_is_waited_for_before_it_is_live(self, docket: Docket, worker: Worker):
        waiting: list[asyncio.Task[int]] = []

        async def count(number: int, key: str = TaskKey(), docket: Docket = CurrentDocket()) -> int:
            if number == 1:
                successor = await docket.add(count, key=key)(2)
                waiting.append(asyncio.create_task(successor.get_result(timeout=SOON)))
                await asyncio.sleep(0.05)
            return number

        await docket.add(count, key="count")(1)
        await worker.run_until_finished()

        assert await waiting[0] == 2

    async def test_from_anywhere_else_a_running_key_stays_as_it_is(self, docket: Docket, worker: Worker):
        async def add_other(docket: Docket = CurrentDocket()) -> Disposition:
            return (await docket.add(double, key="other")(1)).disposition

        await docket.add(double, key="other", when=timedelta(milliseconds=50))(1)
        execution = await docket.add(add_other)()
        await worker.run_until_finished()

        assert await execution.get_result(timeout=SOON) is Disposition.ALREADY_SCHEDULED

    async def test_a_run_that_replaces_itself_has_no_result_and_its_replacement_has(self, docket: Docket, worker: Worker):
        replacements: list[Execution[int]] = []

        async def again(number: int, key: str = TaskKey(), docket: Docket = CurrentDocket()) -> int:
            if number == 1:
                replacements.append(await docket.replace(again, None, key)(2))
            return number

        first = await docket.add(again, key="again")(1)
        await worker.run_until_finished()

        assert await replacements[0].get_result(timeout=SOON) == 2
        with pytest.raises(ExecutionSuperseded):
            await first.get_result(timeout=SOON)

    async def test_the_same_key_of_another_docket_is_another_key(self, docket: Docket, worker: Worker):
        async def cross(key: str = TaskKey()) -> Disposition:
            async with Docket("across", f"memory://{docket.name}-across") as other:
                return (await other.add(double, key=key)(1)).disposition

        execution = await docket.add(cross, key="k")()
        await worker.run_until_finished()

        assert await execution.get_result(timeout=SOON) is Disposition.SCHEDULED


class TestProgress:
    async def test_a_subscriber_sees_the_run_and_its_progress(self, docket: Docket, worker: Worker):
        async def work(execution: Execution = CurrentExecution()) -> None:
            await execution.progress.set_total(3)
            await execution.progress.increment(2)
            await execution.progress.set_message("nearly")

        execution = await docket.add(work, key="k")()
        subscribed, watching = asyncio.Event(), asyncio.Event()
        states: list[ExecutionState] = []
        reports: list[tuple[int | None, int, str | None]] = []

        async def watch(events: AsyncGenerator[StateEvent | ProgressEvent, None]) -> None:
            async for event in events:
                if event["type"] == "progress":
                    reports.append((event["current"], event["total"], event["message"]))
                    continue
                states.append(event["state"])
                if event["state"] is ExecutionState.COMPLETED:
                    break
            await events.aclose()

        async def watch_progress() -> list[str | None]:
            messages: list[str | None] = []
            async for event in ExecutionProgress(docket, "k").subscribe(ready=watching):
                messages.append(event["message"])
                if event["message"]:
                    break
            return messages

        watchers: list[asyncio.Task[Any]] = [asyncio.create_task(watch(execution.subscribe(ready=subscribed))), asyncio.create_task(watch_progress())]
        await subscribed.wait()
        await watching.wait()
        await worker.run_until_finished()
        await asyncio.wait_for(asyncio.gather(*watchers), 5)

        assert states == [ExecutionState.QUEUED, ExecutionState.RUNNING, ExecutionState.COMPLETED]
        assert reports[0] == (None, 100, None)
        assert reports[-1] == (2, 3, "nearly")
        progress = await ExecutionProgress.create(docket, "k")
        assert (progress.current, progress.total, progress.message) == (2, 3, "nearly")
        assert progress.updated_at is not None
        assert progress.event()["updated_at"] == progress.updated_at.isoformat()


class TestInsideARun:
    async def test_the_docket_of_the_run_is_meant(self, docket_name: str, url: str):
        other = package.task(double)
        found: list[Docket] = []

        async def look() -> None:
            found.append(other.docket)
            assert docket_named(docket_name) is found[0]
            async with Docket("inner", "memory://inner") as inner:
                assert other.docket is inner
            found.append((await other.schedule(1)).docket)

        docket = Docket(docket_name, url)
        async with docket, Docket("around", "memory://around"), Worker(docket) as worker:
            execution = await docket.add(look)()
            await worker.run_until_finished()
            await execution.get_result(timeout=SOON)

        assert found == [docket, docket]

    async def test_dockets_and_handles_are_arguments(self, docket: Docket, worker: Worker):
        handle = docket.task(double)

        @docket.task
        async def take(given: Docket, task: Any) -> tuple[bool, bool]:
            return given is docket, task is handle

        execution = await take.schedule(docket, handle)
        await worker.run_until_finished()

        assert await execution.get_result(timeout=SOON) == (True, True)


class TestStandardTasks:
    async def test_they_trace_fail_and_sleep(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        collection: TaskCollection = docket.tasks.values()
        assert len(list(collection)) == 3
        with caplog.at_level("INFO"):
            traced = await docket.add("trace", key="t")("hello")
            slept = await docket.add("sleep")(0.01)
            failed = await docket.add("fail", key="f")("oh no")
            started = datetime.now(timezone.utc)
            await worker.run_until_finished()

        assert await traced.get_result() is await slept.get_result() is None
        with pytest.raises(RuntimeError, match="oh no: 'f' of docket .* attempt 2 of 2"):
            await failed.get_result()
        assert f"hello: 't' of docket {docket.name!r} ran on worker {worker.name!r}" in caplog.text
        assert "Sleeping for 0.01 seconds" in caplog.text
        assert datetime.now(timezone.utc) - started < SOON
