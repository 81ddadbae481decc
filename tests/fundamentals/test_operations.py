"""What an operator does to one run: moves it, has it now, runs it again, cancels it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from docket import (
    ConcurrencyLimit,
    CurrentExecution,
    Disposition,
    Docket,
    Execution,
    ExecutionCancelled,
    ExecutionState,
    ExecutionSuperseded,
    Perpetual,
    RateLimit,
    Retry,
    Worker,
)
from docket.errors import InvalidSchedule, PayloadError, ResultUnavailable, WrongState
from docket.states import TERMINAL
from tests._waiting import eventually

LATER = timedelta(hours=1)
SOON = timedelta(milliseconds=50)


async def read(docket: Docket, key: str = "k") -> Execution:
    """This reads a run, as another process would."""
    found = await docket.get_execution(key)
    assert found is not None
    return found


class TestMoving:
    async def test_scheduled_work_is_moved_and_its_result_is_still_waited_for(self, docket: Docket, running_worker: Worker):
        @docket.task
        async def job() -> str:
            return "done"

        execution = await job.schedule(key="k", when=LATER)
        waiting = asyncio.create_task(execution.get_result())

        await (await read(docket)).reschedule(SOON)

        assert await waiting == "done"

    @pytest.mark.parametrize("when", [2 * LATER, datetime.now(timezone.utc) + 2 * LATER], ids=["from now", "at"])
    async def test_it_may_be_moved_further_away(self, docket: Docket, when: datetime | timedelta):
        execution = await docket.add("elsewhere", key="k", when=LATER)()

        await execution.reschedule(when)

        assert execution.state is ExecutionState.SCHEDULED
        assert (await read(docket)).when == execution.when > datetime.now(timezone.utc) + 1.5 * LATER
        await docket.clear()

    async def test_queued_work_is_moved_and_does_not_run_early(self, docket: Docket, worker: Worker):
        ran: list[str] = []

        @docket.task
        async def job(name: str) -> None:
            ran.append(name)

        execution = await job.schedule("k", key="k")
        await job.schedule("other")
        await execution.reschedule(LATER)

        assert execution.state is ExecutionState.SCHEDULED
        await self.run_what_is_ready(docket, worker)
        assert ran == ["other"]
        await execution.promote()
        await worker.run_until_finished()
        assert ran == ["other", "k"]

    async def run_what_is_ready(self, docket: Docket, worker: Worker) -> None:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: self.is_idle(docket))
        worker.stop()
        await running

    async def is_idle(self, docket: Docket) -> bool:
        counts = await docket.counts()
        return (counts.queued, counts.running) == (0, 0)

    async def test_to_a_moment_that_has_passed_means_at_once(self, docket: Docket, worker: Worker):
        @docket.task
        async def job() -> str:
            return "done"

        execution = await job.schedule(key="k", when=LATER)
        await execution.reschedule(datetime.now(timezone.utc) - LATER)

        assert execution.state is ExecutionState.QUEUED
        await worker.run_until_finished()
        assert await execution.get_result() == "done"

    async def test_a_retry_that_waits_is_moved_too(self, docket: Docket, running_worker: Worker):
        attempts: list[int] = []

        @docket.task
        async def flaky(retry: Retry = Retry(attempts=2, delay=LATER)) -> str:
            attempts.append(retry.attempt)
            if retry.attempt == 1:
                raise RuntimeError("not yet")
            return "done"

        execution = await flaky.schedule(key="k")
        await eventually(lambda: stands(execution, ExecutionState.SCHEDULED))
        await execution.reschedule(SOON)

        assert await execution.get_result() == "done"
        assert attempts == [1, 2]

    async def test_a_chain_goes_on_from_the_moment_its_link_was_moved_to(self, docket: Docket, running_worker: Worker):
        runs: list[str] = []

        @docket.task
        @Perpetual(every=LATER)
        async def beat() -> None:
            runs.append("beat")

        await (await beat.schedule(key="beat")).get_result()
        await (await read(docket, "beat")).promote()
        await eventually(lambda: len(runs) == 2)

        await eventually(self.is_scheduled(docket))
        await docket.clear()

    def is_scheduled(self, docket: Docket) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            return (await read(docket, "beat")).state is ExecutionState.SCHEDULED

        return holds

    async def test_who_waits_in_line_leaves_it_and_asks_again_when_it_is_due(self, docket: Docket, running_worker: Worker):
        ran: list[str] = []
        let_go = asyncio.Event()

        @docket.task
        async def one_at_a_time(name: str, limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> None:
            ran.append(name)
            await let_go.wait()

        await one_at_a_time.schedule("a")
        await eventually(lambda: ran == ["a"])
        b = await one_at_a_time.schedule("b")
        await eventually(lambda: waits(docket, 1))
        c = await one_at_a_time.schedule("c")
        await eventually(lambda: waits(docket, 2))

        await b.reschedule(LATER)
        assert (await docket.counts()).waiting == 1
        let_go.set()
        await c.get_result()
        await b.promote()
        await b.get_result()

        assert ran == ["a", "c", "b"]

    async def test_a_successor_that_was_asked_for_is_moved(self, docket: Docket, running_worker: Worker):
        ran: list[int] = []
        successors: list[Execution] = []
        let_go = asyncio.Event()

        @docket.task
        async def step(number: int) -> None:
            ran.append(number)
            if number == 1:
                successors.append(await docket.add(step, key="k", when=LATER)(2))
                await let_go.wait()

        await step.schedule(1, key="k")
        await eventually(lambda: successors)
        await successors[0].promote()
        let_go.set()

        await successors[0].get_result()
        assert ran == [1, 2]

    async def test_what_runs_or_has_ended_is_not_moved(self, docket: Docket, running_worker: Worker):
        began, let_go = asyncio.Event(), asyncio.Event()

        @docket.task
        async def job(fails: bool) -> None:
            began.set()
            await let_go.wait()
            if fails:
                raise RuntimeError("it broke")

        execution, failing = await job.schedule(False, key="k"), await job.schedule(True, key="f")
        await began.wait()
        with pytest.raises(WrongState, match=r"^job\{k\} cannot be rescheduled: it is running; cancel it, or put another run in its place with docket.replace"):
            await execution.reschedule(LATER)
        let_go.set()
        await execution.get_result()
        with pytest.raises(RuntimeError, match="it broke"):
            await failing.get_result()

        with pytest.raises(WrongState, match=r"it is completed; schedule it again with docket.add"):
            await execution.reschedule(LATER)
        with pytest.raises(WrongState, match=r"^job\{f\} cannot be promoted: it is failed; run it again with retry\(\)"):
            await failing.promote()

    async def test_a_moment_is_a_moment(self, docket: Docket):
        execution = await docket.add("elsewhere", when=LATER)()
        wrong: Any = None

        with pytest.raises(InvalidSchedule, match="when is None; give an aware datetime or a timedelta from now, or have it run now with promote"):
            await execution.reschedule(wrong)
        with pytest.raises(InvalidSchedule, match="without a time zone"):
            await execution.reschedule(datetime(2030, 1, 1))
        await docket.clear()


class TestPromoting:
    async def test_scheduled_work_runs_now(self, docket: Docket, running_worker: Worker):
        @docket.task
        async def job() -> str:
            return "done"

        execution = await job.schedule(key="k", when=LATER)
        await execution.promote()

        assert execution.state is ExecutionState.QUEUED
        assert await execution.get_result() == "done"
        assert execution.when < datetime.now(timezone.utc) + LATER / 2

    async def test_what_is_ready_or_runs_stays_as_it_is(self, docket: Docket, worker: Worker):
        runs: list[str] = []
        began, let_go = asyncio.Event(), asyncio.Event()

        @docket.task
        async def job() -> None:
            runs.append("job")
            began.set()
            await let_go.wait()

        execution = await job.schedule(key="k")
        await execution.promote()
        assert execution.state is ExecutionState.QUEUED
        working = asyncio.create_task(worker.run_until_finished())
        await began.wait()
        await execution.promote()
        let_go.set()
        await working

        assert execution.state is ExecutionState.RUNNING
        assert runs == ["job"]


class TestRunningAgain:
    async def test_what_failed_runs_again_from_the_first_attempt(self, docket: Docket, running_worker: Worker):
        attempts: list[tuple[int, int]] = []
        mended = asyncio.Event()

        @docket.task
        async def flaky(number: int, *, text: str, retry: Retry = Retry(attempts=2)) -> str:
            attempts.append((number, retry.attempt))
            if not mended.is_set():
                raise RuntimeError("it broke")
            return text

        execution = await flaky.schedule(1, text="x" * 200, key="k")
        with pytest.raises(RuntimeError, match="it broke"):
            await execution.get_result()
        mended.set()
        again = await (await read(docket)).retry()

        assert (again.key, again.args, again.kwargs, again.attempt) == ("k", (1,), {"text": "x" * 200}, 1)
        assert (again.state, again.disposition, again.function) == (ExecutionState.QUEUED, Disposition.SCHEDULED, flaky.function)
        assert again.generation > execution.generation
        assert await again.get_result() == "x" * 200
        assert attempts == [(1, 1), (1, 2), (1, 1)]
        with pytest.raises(RuntimeError, match="it broke"):
            await execution.get_result()

    @pytest.mark.parametrize("when", [None, LATER])
    async def test_what_was_cancelled_runs_after_all(self, docket: Docket, worker: Worker, when: timedelta | None):
        @docket.task
        async def job(number: int) -> int:
            return number

        execution = await job.schedule(7, key="k", when=when)
        await execution.cancel()

        again = await execution.retry()

        await worker.run_until_finished()
        assert await again.get_result() == 7
        with pytest.raises(ExecutionCancelled):
            await execution.get_result()

    async def test_it_needs_none_of_the_task_code(self, docket: Docket, worker: Worker):
        ran: list[tuple[Any, ...]] = []
        execution = await docket.add("elsewhere", key="k", when=LATER)("x" * 100, 2)
        await execution.cancel()

        again = await (await read(docket)).retry()
        assert again.call_repr() == "elsewhere(...){k}"

        async def elsewhere(*args: Any) -> None:
            ran.append(args)

        docket.register(elsewhere)
        await worker.run_until_finished()
        assert ran == [("x" * 100, 2)]
        assert again.args == ("x" * 100, 2)

    async def test_arguments_that_cannot_be_decoded_here_are_passed_on_as_they_are(self, docket: Docket):
        execution = await docket.add("elsewhere", key="k", when=LATER)(_Broken())
        await execution.cancel()

        again = await (await read(docket)).retry()

        with pytest.raises(PayloadError):
            again.args  # noqa: B018 - asking is what is tested
        await again.cancel()

    async def test_what_completed_or_has_not_ended_is_not_run_again(self, docket: Docket, worker: Worker):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k", when=LATER)
        with pytest.raises(WrongState, match=r"^job\{k\} cannot be retried: it is scheduled; have it run now with promote\(\)"):
            await execution.retry()
        await execution.promote()
        with pytest.raises(WrongState, match="it is queued; it runs as soon as a worker is free and its limits let it"):
            await execution.retry()
        await worker.run_until_finished()
        with pytest.raises(WrongState, match=r"it is completed; schedule it again with docket.add"):
            await execution.retry()

    async def test_it_runs_again_once_whoever_else_asks(self, docket: Docket):
        execution = await docket.add("elsewhere", key="k", when=LATER)()
        await execution.cancel()

        answers = await asyncio.gather(execution.retry(), execution.retry(), execution.retry(), return_exceptions=True)

        assert sorted(type(answer).__name__ for answer in answers) == ["Execution", "ExecutionSuperseded", "ExecutionSuperseded"]
        assert (await docket.counts()).queued == 1
        await docket.clear()


class _Broken:
    """This cannot be unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return int, ("no number",)


class TestCancelling:
    @pytest.mark.parametrize("when", [None, LATER], ids=["queued", "scheduled"])
    async def test_this_very_run_is_cancelled(self, docket: Docket, worker: Worker, when: timedelta | None):
        @docket.task
        async def job() -> None: ...

        execution = await job.schedule(key="k", when=when)
        await execution.cancel()
        await worker.run_until_finished()

        await execution.sync()
        assert execution.state is ExecutionState.CANCELLED

    async def test_running_work_is_stopped(self, docket: Docket, running_worker: Worker):
        began = asyncio.Event()

        @docket.task
        async def job() -> None:
            began.set()
            await asyncio.sleep(3600)

        execution = await job.schedule(key="k")
        await began.wait()
        await (await read(docket)).cancel()

        with pytest.raises(ExecutionCancelled):
            await execution.get_result()

    async def test_one_that_was_replaced_leaves_its_replacement_alone(self, docket: Docket, worker: Worker):
        @docket.task
        async def job(number: int) -> int:
            return number

        first = await job.schedule(1, key="k", when=LATER)
        second = await docket.replace(job, None, "k")(2)

        await first.cancel()

        await worker.run_until_finished()
        assert await second.get_result() == 2

    async def test_one_that_has_ended_stays_as_it_ended(self, docket: Docket, worker: Worker):
        @docket.task
        async def job() -> str:
            return "done"

        execution = await job.schedule(key="k")
        await worker.run_until_finished()

        await execution.cancel()

        assert await execution.get_result() == "done"

    async def test_a_successor_is_cancelled_and_the_run_that_asked_for_it_goes_on(self, docket: Docket, running_worker: Worker):
        ran: list[int] = []
        successors: list[Execution] = []
        let_go = asyncio.Event()

        @docket.task
        async def step(number: int) -> str:
            ran.append(number)
            if number == 1:
                successors.append(await docket.add(step, key="k")(2))
                await let_go.wait()
            return "done"

        execution = await step.schedule(1, key="k")
        await eventually(lambda: successors)
        await successors[0].cancel()
        with pytest.raises(ExecutionCancelled):
            await successors[0].get_result()
        let_go.set()

        assert await execution.get_result() == "done"
        assert ran == [1]

    async def test_one_that_was_never_scheduled_need_not_be(self, docket: Docket):
        standing = await docket.add("elsewhere", key="k", when=LATER)()

        await Execution(docket, print, (), {}, "k", None, 1).cancel()

        await standing.sync()
        assert standing.state is ExecutionState.SCHEDULED
        await docket.clear()


# What is the same for all of them

ASKED: dict[str, Callable[[Execution], Awaitable[object]]] = {
    "rescheduled": lambda execution: execution.reschedule(LATER),
    "promoted": lambda execution: execution.promote(),
    "retried": lambda execution: execution.retry(),
}


@pytest.mark.parametrize("asked", ASKED)
async def test_a_run_whose_place_another_has_taken_is_superseded(docket: Docket, asked: str):
    first = await docket.add("elsewhere", key="k", when=LATER)()
    second = await docket.replace("elsewhere", LATER, "k")()

    with pytest.raises(ExecutionSuperseded, match=rf"elsewhere{{k}} cannot be {asked}: another run has taken its place .* docket.get_execution\('k'\)"):
        await ASKED[asked](first)

    await second.sync()
    assert second.state is ExecutionState.SCHEDULED
    await docket.clear()


@pytest.mark.parametrize("asked", ASKED)
async def test_of_a_run_whose_record_is_gone_nothing_can_be_asked(docket_name: str, url: str, asked: str):
    async with Docket(docket_name, url, execution_ttl=timedelta(0)) as docket:
        execution = await docket.add("elsewhere", key="k", when=LATER)()
        await docket.cancel("k")

        with pytest.raises(ResultUnavailable, match=rf"elsewhere{{k}} cannot be {asked}: nothing is known of it .* raise execution_ttl, or schedule it anew"):
            await ASKED[asked](execution)


@pytest.mark.parametrize("asked", ASKED)
async def test_of_what_was_never_scheduled_nothing_can_be_asked(docket: Docket, asked: str):
    execution: Execution = Execution(docket, print, (), {}, "k", None, 1)

    with pytest.raises(WrongState, match=rf"print{{k}} cannot be {asked}: it was never scheduled; schedule it first"):
        await ASKED[asked](execution)


# All of it at once


async def test_whatever_operators_do_at_once_nothing_runs_early_or_too_often_and_everything_ends(docket: Docket):
    chance = random.Random(4)
    early: list[Execution] = []
    inside: list[int] = []
    most: list[int] = []
    ran: list[int] = []

    def note(execution: Execution) -> None:
        ran.append(execution.generation)
        if execution.started_at is None or execution.started_at < execution.when:
            early.append(execution)

    @docket.task
    async def plain(execution: Execution = CurrentExecution()) -> None:
        note(execution)
        await asyncio.sleep(0.001)
        if chance.random() < 0.3:
            raise ValueError

    @docket.task
    async def two_at_a_time(execution: Execution = CurrentExecution(), limit: ConcurrencyLimit = ConcurrencyLimit(2)) -> None:
        note(execution)
        inside.append(execution.generation)
        most.append(len(inside))
        try:
            await asyncio.sleep(0.001)
        finally:
            inside.remove(execution.generation)

    @docket.task
    async def not_so_fast(execution: Execution = CurrentExecution(), limit: RateLimit = RateLimit(5, per=timedelta(milliseconds=50))) -> None:
        note(execution)

    @docket.task
    async def tried_again(execution: Execution = CurrentExecution(), retry: Retry = Retry(attempts=3, delay=timedelta(milliseconds=5))) -> None:
        note(execution)
        raise ValueError

    def moment() -> timedelta:
        return timedelta(milliseconds=chance.randrange(-5, 30))

    async def do(key: str) -> None:
        task = chance.choice([plain, two_at_a_time, two_at_a_time, not_so_fast, tried_again])
        found = await docket.get_execution(key)
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: task.schedule(key=key, when=moment()),
            lambda: task.replace(key=key),
            lambda: docket.cancel(key),
        ]
        if found is not None:
            steps += [lambda: found.reschedule(moment()), found.promote, found.retry, found.cancel]
        try:
            await chance.choice(steps)()
        except (WrongState, ExecutionSuperseded, ResultUnavailable):
            pass

    async def operator(number: int) -> None:
        for step in range(100):
            await do(f"k{chance.randrange(12)}")
            if step % 30 == 10 * number:
                await docket.clear()

    async with Worker(docket, name="one", concurrency=4) as one, Worker(docket, name="two", concurrency=4) as two:
        working = [asyncio.create_task(worker.run_forever()) for worker in (one, two)]
        await asyncio.gather(*(operator(number) for number in range(4)))
        await eventually(lambda: is_done(docket))
        for worker in (one, two):
            worker.stop()
        await asyncio.gather(*working)

    assert ran
    assert early == []
    assert max(most) <= 2
    assert await docket.store.delivery.depth() == (0, 0)
    for execution in [execution async for execution in docket.executions()]:
        assert execution.state in TERMINAL


async def is_done(docket: Docket) -> bool:
    return (await docket.counts()).live == 0


async def stands(execution: Execution, state: ExecutionState) -> bool:
    await execution.sync()
    return execution.state is state


async def waits(docket: Docket, count: int) -> bool:
    return (await docket.counts()).waiting == count
