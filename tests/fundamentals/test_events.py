"""Events: whoever subscribes to an execution sees every change, and always an end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any

import pytest

from docket import (
    Cancel,
    ConcurrencyLimit,
    CurrentExecution,
    Docket,
    Execution,
    ExecutionState,
    Perpetual,
    Progress,
    RateLimit,
    Retry,
    TaskKey,
    Worker,
)
from docket.errors import NotEntered, ResultUnavailable
from docket.states import TERMINAL
from tests._followers import Follower, following
from tests._waiting import eventually
from tests.worker._hands import claim, dead_worker, fetch

SOON = timedelta(milliseconds=50)
LATER = timedelta(hours=1)

SCHEDULED, QUEUED, RUNNING, COMPLETED = ExecutionState.SCHEDULED, ExecutionState.QUEUED, ExecutionState.RUNNING, ExecutionState.COMPLETED


async def states_of(execution: Execution[Any]) -> tuple[AsyncGenerator[Any, None], asyncio.Task[list[ExecutionState]]]:
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

    execution = await job.schedule(when=LATER)
    _, states = await states_of(execution)
    await execution.promote()

    assert await states == [SCHEDULED, QUEUED, RUNNING, COMPLETED]


async def test_a_retry_is_told_too(docket: Docket, running_worker: Worker):
    @docket.task
    async def flaky(retry: Retry = Retry(attempts=2, delay=SOON)) -> None:
        raise RuntimeError("never")

    execution = await flaky.schedule(when=LATER)
    _, states = await states_of(execution)
    await execution.promote()

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

        execution = await job.schedule(key="k", when=LATER)
        _, states = await states_of(execution)
        await execution.promote()
        await started.wait()
        await docket.cancel("k")

        assert await states == [SCHEDULED, QUEUED, RUNNING, ExecutionState.CANCELLED]

    async def test_replaced(self, docket: Docket):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k", when=LATER)
        _, states = await states_of(execution)
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
            _, states = await states_of(execution)
            running = asyncio.create_task(worker.run_forever())

            assert await states == [SCHEDULED, QUEUED, RUNNING, COMPLETED]
            assert await execution.get_result() is None
            await docket.cancel("k")
            worker.stop()
            await running


CANCELLED, FAILED = ExecutionState.CANCELLED, ExecutionState.FAILED


class TestEachTransitionIsToldOnce:
    """Whatever becomes of a run: by `subscribe` as by `Docket.events`."""

    @pytest.fixture
    async def told(self, docket: Docket) -> AsyncIterator[Follower]:
        async with following(docket.events) as told:
            yield told

    async def agree(self, told: Follower, execution: Execution[Any], work: Callable[[], Awaitable[object]], *states: ExecutionState) -> Follower:
        """This does the work, and checks what was told of it, to both."""
        async with following(execution.subscribe) as follower:
            await work()
            await eventually(lambda: len(told.states()) > len(states) <= len(follower.states()) - 1)
        assert follower.states() == [SCHEDULED, *states]
        assert told.states() == [SCHEDULED, *states]
        assert [event for event in follower.events if event["type"] == "state"] == told.events
        return follower

    async def test_a_run_that_ends_well(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k", when=4 * SOON)
        await self.agree(told, execution, worker.run_until_finished, QUEUED, RUNNING, COMPLETED)

    async def test_a_run_that_is_tried_again(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def flaky(retry: Retry = Retry(attempts=2)) -> None:
            raise RuntimeError(f"the {retry.attempt}. time, " + "and again " * 20)

        execution = await flaky.schedule(key="k", when=4 * SOON)
        follower = await self.agree(told, execution, worker.run_until_finished, QUEUED, RUNNING, QUEUED, RUNNING, FAILED)

        errors = [event["error"] and event["error"][:27] for event in follower.events if event["type"] == "state"]
        assert errors == [None, None, None, "RuntimeError: the 1. time, ", None, "RuntimeError: the 2. time, "]

    async def test_a_run_that_is_tried_again_later(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def flaky(retry: Retry = Retry(attempts=2, delay=SOON)) -> None:
            raise RuntimeError("never")

        execution = await flaky.schedule(key="k", when=4 * SOON)
        follower = await self.agree(told, execution, worker.run_until_finished, QUEUED, RUNNING, SCHEDULED, QUEUED, RUNNING, FAILED)

        # why it is tried again stands there for as long as it waits
        error = "RuntimeError: never"
        assert [event["error"] for event in follower.events if event["type"] == "state"] == [None, None, None, error, error, None, error]

    async def test_a_run_that_is_cancelled_as_it_runs(self, docket: Docket, told: Follower, running_worker: Worker):
        started = asyncio.Event()

        @docket.task
        async def job() -> None:
            started.set()
            await asyncio.sleep(3600)

        async def work() -> None:
            await execution.promote()
            await started.wait()
            await docket.cancel("k")
            await docket.cancel("k")

        execution = await job.schedule(key="k", when=LATER)
        await self.agree(told, execution, work, QUEUED, RUNNING, CANCELLED)

    async def test_a_run_that_is_replaced_as_it_waits(self, docket: Docket, told: Follower):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k", when=LATER)
        await self.agree(told, execution, lambda: job.replace(key="k", when=LATER), CANCELLED, SCHEDULED)
        await docket.cancel("k")

    async def test_a_run_that_is_replaced_as_it_runs(self, docket: Docket, told: Follower, running_worker: Worker):
        started, stopped = asyncio.Event(), asyncio.Event()

        @docket.task
        async def job() -> None:
            started.set()
            try:
                await asyncio.sleep(3600)
            finally:
                stopped.set()

        async def work() -> None:
            await execution.promote()
            await started.wait()
            await job.replace(key="k", when=LATER)
            await stopped.wait()

        execution = await job.schedule(key="k", when=LATER)
        await self.agree(told, execution, work, QUEUED, RUNNING, CANCELLED, SCHEDULED)
        await docket.cancel("k")

    async def test_a_run_with_a_successor_that_is_replaced(self, docket: Docket, told: Follower, running_worker: Worker):
        asked = asyncio.Event()

        @docket.task
        async def job(key: str = TaskKey()) -> None:
            await job.schedule(key=key, when=LATER)
            asked.set()
            await asyncio.sleep(3600)

        async def work() -> None:
            await execution.promote()
            await asked.wait()
            await job.replace(key="k", when=LATER)

        execution = await job.schedule(key="k", when=LATER)
        await self.agree(told, execution, work, QUEUED, RUNNING, CANCELLED, SCHEDULED)
        await docket.cancel("k")

    async def test_a_run_whose_successor_is_dropped_goes_on(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def job(retry: Retry = Retry(attempts=2), key: str = TaskKey()) -> None:
            await job.schedule(key=key, when=LATER)
            if retry.attempt == 1:
                raise RuntimeError("once more")
            raise Cancel("enough")

        execution = await job.schedule(key="k", when=4 * SOON)
        await self.agree(told, execution, worker.run_until_finished, QUEUED, RUNNING, QUEUED, RUNNING, CANCELLED)

    async def test_a_run_whose_successor_is_cancelled_goes_on(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def job(key: str = TaskKey()) -> None:
            successor = await job.schedule(key=key, when=LATER)
            await successor.cancel()

        execution = await job.schedule(key="k", when=4 * SOON)
        await self.agree(told, execution, worker.run_until_finished, QUEUED, RUNNING, COMPLETED)

    async def test_the_links_of_a_chain(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def beat(perpetual: Perpetual = Perpetual(every=SOON)) -> None: ...

        execution = await beat.schedule(key="k", when=4 * SOON)
        link = (QUEUED, RUNNING, COMPLETED)
        await self.agree(told, execution, lambda: worker.run_at_most({"k": 3}), *link, SCHEDULED, *link, SCHEDULED, *link)

    async def test_a_run_that_waits_for_a_place(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def job(number: int, limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> None:
            await asyncio.sleep(0.05)

        await docket.add_many(job.options(key=f"k{number}", when=SOON).call(number) for number in range(3))
        await worker.run_until_finished()
        await eventually(lambda: told.states().count(COMPLETED) == 3)

        for number in range(3):
            assert told.states(f"k{number}") in ([SCHEDULED, QUEUED, RUNNING, COMPLETED], [SCHEDULED, QUEUED, RUNNING, QUEUED, RUNNING, COMPLETED])

    async def test_a_run_that_comes_too_early(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def job(number: int, limit: RateLimit = RateLimit(1, per=4 * SOON)) -> None: ...

        await job.schedule(1, key="first")
        await job.schedule(2, key="second")
        await worker.run_until_finished()
        await eventually(lambda: told.states().count(COMPLETED) == 2)

        put_off = [QUEUED, RUNNING, QUEUED, RUNNING, COMPLETED]  # it is queued all the time until its moment has come
        assert sorted([told.states("first"), told.states("second")], key=len) == [[QUEUED, RUNNING, COMPLETED], put_off]

    async def test_a_run_whose_worker_died(self, docket: Docket, told: Follower):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k")
        [claimed] = await claim(docket, await dead_worker(docket))
        assert claimed.run.key == "k"
        async with Worker(docket, redelivery_timeout=timedelta(milliseconds=500)) as worker:
            await worker.run_until_finished()
        await told.until(COMPLETED)

        assert told.states() == [QUEUED, RUNNING, QUEUED, RUNNING, COMPLETED]
        assert told.events[1]["worker"] == "dead"
        assert await execution.get_result() is None

    async def test_work_that_is_handed_back_unclaimed(self, docket: Docket, told: Follower):
        @docket.task
        async def job() -> None: ...

        await job.schedule(key="k")
        entries = await fetch(docket, "w~1")
        await docket.store.shard_of("k").delivery.reclaim("w~1", entries, own=True)
        await docket.cancel("k")
        await told.until(CANCELLED)

        assert told.states() == [QUEUED, CANCELLED]

    async def test_work_that_is_moved_by_hand(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k", when=LATER)

        async def work() -> None:
            await execution.promote()
            await execution.reschedule(LATER)
            await execution.promote()
            await worker.run_until_finished()

        await self.agree(told, execution, work, QUEUED, SCHEDULED, QUEUED, RUNNING, COMPLETED)

    async def test_a_run_that_is_run_again_by_hand(self, docket: Docket, told: Follower, worker: Worker):
        @docket.task
        async def job() -> None:
            raise RuntimeError("bad luck")

        execution = await job.schedule(key="k", when=4 * SOON)

        async def work() -> None:
            await worker.run_until_finished()
            await execution.retry()
            await worker.run_until_finished()

        await self.agree(told, execution, work, QUEUED, RUNNING, FAILED, QUEUED, RUNNING, FAILED)


class TestProgressAmongTheStates:
    async def test_an_attempt_begins_with_none_and_the_reset_is_told(self, docket: Docket, worker: Worker):
        @docket.task
        async def job(retry: Retry = Retry(attempts=2), progress: Progress = Progress()) -> None:
            if retry.attempt == 1:
                await progress.set_total(7)
                await progress.increment(3)
                raise RuntimeError("once more")

        execution = await job.schedule(key="k", when=4 * SOON)
        async with following(execution.subscribe) as follower:
            await worker.run_until_finished()
            await follower.until(COMPLETED)

        told = [event["state"].value if event["type"] == "state" else (event["current"], event["total"]) for event in follower.events]
        assert told[:4] == ["scheduled", (None, 100), "queued", "running"]
        assert told[-5:] == [(3, 7), "queued", (None, 100), "running", "completed"]


class TestTheSuccessor:
    """Whoever subscribes to the run that a run asked for hears of that, and of nothing before it."""

    async def test_its_events_are_its_own(self, docket: Docket, running_worker: Worker):
        go_on = asyncio.Event()
        successors: list[Execution[Any]] = []

        @docket.task
        async def job(left: int, key: str = TaskKey()) -> None:
            if left:
                successors.append(await job.schedule(left - 1, key=key, when=SOON))
                await go_on.wait()

        await job.schedule(1, key="k")
        await eventually(lambda: successors)
        async with following(successors[0].subscribe) as follower:
            go_on.set()
            await follower.until(COMPLETED)

        assert follower.states() == [SCHEDULED, QUEUED, RUNNING, COMPLETED]

    @pytest.mark.parametrize("how", ["dropped", "cancelled"])
    async def test_one_that_never_begins_has_an_end(self, docket: Docket, running_worker: Worker, how: str):
        go_on = asyncio.Event()
        successors: list[Execution[Any]] = []

        @docket.task
        async def job(key: str = TaskKey()) -> None:
            successors.append(await job.schedule(key=key, when=LATER))
            await go_on.wait()
            raise Cancel("enough")

        await job.schedule(key="k")
        await eventually(lambda: successors)
        async with following(successors[0].subscribe) as follower:
            if how == "cancelled":
                await successors[0].cancel()
                await follower.until(CANCELLED)
            go_on.set()
            await follower.until(CANCELLED)

        assert follower.states() == [SCHEDULED, CANCELLED]

    async def test_one_that_never_began_is_cancelled_for_who_comes_late(self, docket: Docket, worker: Worker):
        successors: list[Execution[Any]] = []

        @docket.task
        async def job(key: str = TaskKey(), retry: Retry = Retry(attempts=2, delay=LATER)) -> None:
            successors.append(await job.schedule(key=key, when=LATER))
            raise RuntimeError("once more")

        await job.schedule(key="k")
        running = asyncio.create_task(worker.run_until_finished())
        await eventually(lambda: successors)
        await eventually(lambda: is_superseded(successors[0]))
        async with aclosing(successors[0].subscribe()) as events:
            state = await anext(events)
        await docket.cancel("k")
        await running

        assert state.get("state") is CANCELLED


async def is_superseded(execution: Execution[Any]) -> bool:
    return await execution.is_superseded()


class TestWhoComesLate:
    """The end is told first, to whoever subscribes after it, for as long as anything of it is kept."""

    async def test_the_end_is_in_the_first_event(self, docket: Docket, worker: Worker):
        @docket.task
        async def job() -> None:
            raise RuntimeError("bad luck")

        execution = await job.schedule(key="k")
        await worker.run_until_finished()
        async with following(execution.subscribe) as follower:
            assert follower.states() == [FAILED]

        assert follower.last["error"] == "RuntimeError: bad luck"
        assert follower.last["worker"] == worker.name
        assert None not in (follower.last["started_at"], follower.last["completed_at"])

    @pytest.mark.parametrize(
        ("how", "kept"),
        [("chain", 900), ("chain", 0), ("replaced", 900), ("replaced", 0), ("scheduled again", 900), ("run again", 900)],
    )
    async def test_the_end_of_a_run_that_another_followed(self, docket_name: str, url: str, how: str, kept: int):
        ttl = timedelta(seconds=kept)
        async with Docket(docket_name, url, execution_ttl=ttl) as docket, Worker(docket) as worker:

            @docket.task
            async def job(perpetual: Perpetual = Perpetual(every=LATER)) -> None:
                if how != "chain":
                    perpetual.cancel()
                if how == "run again":
                    raise RuntimeError("bad luck")

            execution = await job.schedule(key="k")
            if how == "replaced":
                await job.replace(key="k", when=LATER)
            else:
                await run_once(worker)
            if how == "scheduled again":
                await job.schedule(key="k", when=LATER)
            if how == "run again":
                await (await found(docket, "k")).retry()
            async with following(execution.subscribe) as follower:
                follows = QUEUED if how == "run again" else SCHEDULED
                await follower.until(follows)
            await docket.cancel("k")

        end = {"chain": COMPLETED, "replaced": CANCELLED, "scheduled again": COMPLETED, "run again": FAILED}[how]
        assert follower.states() == [end, follows]
        assert follower.events[0]["completed_at"] is not None
        assert follower.events[0]["error"] == ("RuntimeError: bad luck" if how == "run again" else None)

    @pytest.mark.parametrize("ttl", [timedelta(minutes=15), timedelta(0)], ids=["expired", "nothing kept"])
    async def test_where_nothing_is_kept_of_the_end_that_is_said(self, docket_name: str, url: str, ttl: timedelta):
        async with Docket(docket_name, url, execution_ttl=ttl) as docket, Worker(docket) as worker:

            @docket.task
            async def job() -> None: ...

            execution = await job.schedule(key="k")
            await worker.run_until_finished()
            if ttl:
                await docket.store.backend.call("DEL", docket.store.keys.run("k"))  # as time does
            async with aclosing(execution.subscribe()) as events:
                state, progress = await anext(events), await anext(events)
                with pytest.raises(ResultUnavailable, match="has ended, and nothing is known of how"):
                    await anext(events)

        assert state.get("state") is QUEUED  # the last that this execution knows of itself
        assert progress["type"] == "progress"

    async def test_a_key_whose_end_was_told_is_followed_on_after_its_record_went(self, docket: Docket, worker: Worker):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k")
        await worker.run_until_finished()
        async with following(execution.subscribe) as follower:
            await docket.store.backend.call("DEL", docket.store.keys.run("k"))
            await job.schedule(key="k", when=LATER)
            await follower.until(COMPLETED, SCHEDULED)
        await docket.cancel("k")


async def run_once(worker: Worker) -> None:
    running = asyncio.create_task(worker.run_forever())
    with suppress(RuntimeError):
        await (await found(worker.docket, "k")).get_result()
    worker.stop()
    await running


async def found(docket: Docket, key: str) -> Execution[Any]:
    execution = await docket.get_execution(key)
    assert execution is not None
    return execution


class TestAllTasks:
    """`Docket.events` gives the transitions of all tasks."""

    async def test_every_event_has_its_full_shape(self, docket: Docket, worker: Worker):
        @docket.task
        async def job() -> None:
            raise RuntimeError("bad luck")

        async with following(docket.events) as told:
            await job.schedule(key="a")
            await job.schedule(key="b", when=2 * SOON)
            await worker.run_until_finished()
            await eventually(lambda: told.states().count(FAILED) == 2)

        assert all(list(event) == ["type", "key", "state", "when", "worker", "started_at", "completed_at", "error"] for event in told.events)
        assert told.states("a") == [QUEUED, RUNNING, FAILED]
        assert told.states("b") == [SCHEDULED, QUEUED, RUNNING, FAILED]
        last = told.last
        assert (last["worker"], last["error"]) == (worker.name, "RuntimeError: bad luck")
        assert last["when"] <= last["started_at"] <= last["completed_at"]

    @pytest.mark.parametrize("wanted", [False, True])
    async def test_progress_comes_along_where_asked_for(self, docket: Docket, worker: Worker, wanted: bool):
        @docket.task
        async def job(execution: Execution = CurrentExecution()) -> None:
            await execution.progress.set_total(3)
            await execution.progress.increment()
            await execution.progress.set_message("one of three")

        async with following(docket.events, include_progress=wanted) as told:
            await job.schedule(key="k")
            await worker.run_until_finished()
            await told.until(COMPLETED)

        assert told.progress == ([(0, 3, None), (1, 3, None), (1, 3, "one of three")] if wanted else [])
        assert told.states() == [QUEUED, RUNNING, COMPLETED]

    async def test_nobody_need_be_told_that_it_is_ready(self, docket: Docket):
        subscriber = docket.store.backend.subscriber
        await eventually(lambda: subscriber.listening == 1)  # to what is struck
        keys = docket.store.keys
        channels = len(keys.shards) if keys.own_channels else 1
        async with aclosing(docket.events()) as events:
            first = asyncio.create_task(anext(events))
            await eventually(lambda: subscriber.listening == 1 + channels)
            await docket.add("job", key="k", when=LATER)()

            assert (await first)["type"] == "state"
        await docket.cancel("k")

    async def test_what_was_before_is_not_told(self, docket: Docket):
        @docket.task
        async def job() -> None: ...

        await job.schedule(key="before", when=LATER)
        async with following(docket.events) as told:
            await docket.cancel("before")
            await told.until(CANCELLED)

        assert told.states() == [CANCELLED]

    async def test_many_may_listen_and_each_is_told_everything(self, docket: Docket):
        @docket.task
        async def job() -> None: ...

        async with following(docket.events) as one, following(docket.events) as other:
            await job.schedule(key="k", when=LATER)
            await one.until(SCHEDULED)
            await other.until(SCHEDULED)
            async with following(docket.events) as later:
                await docket.cancel("k")
                for each in (one, other, later):
                    await each.until(CANCELLED)

        assert one.states() == other.states() == [SCHEDULED, CANCELLED]

    async def test_whoever_is_slow_is_told_that_some_are_missing(self, docket: Docket, monkeypatch: pytest.MonkeyPatch):
        @docket.task
        async def job() -> None: ...

        monkeypatch.setattr("docket._store.inbox.ROOM", 3000)
        ready = asyncio.Event()
        events = docket.events(ready=ready)
        first = asyncio.create_task(anext(events))
        await ready.wait()
        await job.schedule(key="k", when=LATER)
        assert (await first)["type"] == "state"
        last = await job.replace(key="k", when=LATER)
        for _ in range(49):
            last = await job.replace(key="k", when=LATER)

        seen: list[Any] = [await anext(events)]
        while seen[-1]["type"] == "state":
            seen.append(await anext(events))
        missing = seen.pop()
        await docket.cancel("k")  # from here on everything is told again
        while not seen or (seen[-1]["state"], seen[-1]["when"]) != (CANCELLED, last.when.isoformat()):
            seen.append(await anext(events))
        await events.aclose()

        assert (missing["type"], missing["reason"]) == ("interruption", "overflow")
        assert missing["missed"] > 80
        assert missing["missed"] + len(seen) == 101

    async def test_it_ends_when_the_docket_is_left(self, docket_name: str, url: str):
        async with Docket(docket_name, url) as docket:
            execution = await docket.add("job", key="k", when=LATER)()
            async with following(docket.events) as told, following(execution.subscribe) as follower, following(execution.progress.subscribe) as progress:
                await docket.cancel("k")
                await told.until(CANCELLED)
                await follower.until(CANCELLED)
                await docket.__aexit__(None, None, None)
                try:
                    await eventually(lambda: told.error and follower.error and progress.error)
                finally:
                    await docket.__aenter__()

        assert {type(told.error), type(follower.error), type(progress.error)} == {NotEntered}

    def test_it_needs_an_entered_docket(self):
        with pytest.raises(NotEntered):
            Docket("nowhere", "memory://nowhere").events()


class TestNothingIsLeftBehind:
    """Whoever stops listening takes its subscription along, however it stops."""

    @pytest.mark.parametrize("how", ["closed", "cancelled", "forgotten", "failed"])
    @pytest.mark.parametrize("what", ["execution", "progress", "docket"])
    async def test_of_a_subscription(self, docket: Docket, how: str, what: str):
        execution = await docket.add("job", key="k", when=LATER)()
        subscriber = docket.store.backend.subscriber
        await eventually(lambda: subscriber.listening == 1)  # to what is struck
        ready = asyncio.Event()
        source: Any = {"execution": execution, "progress": execution.progress}.get(what)
        events = docket.events(ready=ready) if source is None else source.subscribe(ready=ready)

        async def follow(events: AsyncGenerator[Any, None]) -> None:
            async for event in events:
                if event["type"] == "state" and event["state"] is CANCELLED:
                    if how == "failed":
                        raise RuntimeError("a consumer that fails")
                    break

        running = asyncio.create_task(follow(events))
        await ready.wait()
        assert subscriber.listening > 1

        if how == "closed" or what == "progress":
            running.cancel()
            await asyncio.wait([running])
            await events.aclose()
        elif how == "cancelled":
            running.cancel()
        await docket.cancel("k")
        await asyncio.wait([running])
        assert running.cancelled() or (running.exception() is None) == (how != "failed")  # looked at: else it is logged, and kept with the log
        del events, running, follow, source
        gc.collect()

        await eventually(lambda: subscriber.listening == 1)
