"""How a worker stops: what runs may finish for a while, and what does not goes to another worker at once. Nothing is lost."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from docket import ConcurrencyLimit, CurrentExecution, Depends, Docket, Execution, ExecutionState, Retry, Snooze, Worker
from docket._worker import _drain
from docket._worker._drain import abandoned
from docket.dependencies import FailureHandler, TaskOutcome
from tests._proxy import running_proxy
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.worker._hands import SOON, Long, at_work, claim, lasts, leased, read_all, record, take_over

AT_ONCE = timedelta()


async def stop(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """This stops a worker, and returns once it has told what goes on to stop."""
    with caplog.at_level(logging.INFO, "docket.worker"):
        worker.stop()
        await eventually(lambda: "Cancelling running task" in caplog.text)


async def test_one_that_is_cancelled_stops_fetching_and_what_runs_is_finished_as_it_is_left(docket: Docket, long: Long, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.worker")
    asked = await docket.add(long.task)(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: long.begun == [1])

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        left = await docket.add(long.task, key="left")(2)
        assert long.ended == []
        asyncio.get_running_loop().call_later(0.05, long.go.set)

    assert long.ended == [1]
    assert await asked.get_result(timeout=timedelta(seconds=1)) == 1
    assert long.begun == [1]
    assert (await record(docket, "left")).state is ExecutionState.QUEUED
    assert "Shutdown requested, finishing 1 active tasks..." in caplog.messages
    assert await read_all(docket) == {}

    async with Worker(docket) as another:
        await another.run_until_finished()
    assert await left.get_result(timeout=SOON) == 2


async def test_one_in_a_cancelled_scope_of_anyio_does_the_same(docket: Docket, long: Long):
    asked = await docket.add(long.task)(1)
    async with Worker(docket) as worker:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run_forever)
                await eventually(lambda: long.begun == [1])
                scope.cancel()
        assert long.ended == []
        long.go.set()

    assert await asked.get_result(timeout=timedelta(seconds=1)) == 1


async def test_stop_ends_the_run_after_what_is_running(docket: Docket, long: Long):
    asked = await docket.add(long.task)(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: long.begun == [1])

        worker.stop()
        worker.stop()
        done, _ = await asyncio.wait([running], timeout=0.05)
        assert not done
        long.go.set()
        await running

        assert await asked.get_result(timeout=SOON) == 1


async def test_stopped_before_it_began_it_does_nothing(docket: Docket, long: Long):
    await docket.add(long.task, key="k")(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await asyncio.sleep(0)
        worker.stop()
        await running

    assert long.begun == []
    await docket.cancel("k")


async def test_stopped_before_it_was_run_it_does_nothing_either(docket: Docket, long: Long):
    await docket.add(long.task, key="k")(1)
    async with Worker(docket) as worker:
        worker.stop()
        await worker.run_forever()

    assert long.begun == []
    await docket.cancel("k")


async def test_a_run_cancelled_before_it_began_leaves_nothing_behind(docket: Docket):
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await asyncio.sleep(0)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    assert await leased(docket) == set()


async def test_a_run_after_a_cancelled_one_waits_for_what_that_left(docket: Docket, long: Long):
    first = await docket.add(long.task)(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: long.begun == [1])
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

        second = await docket.add(long.task)(2)
        again = asyncio.create_task(worker.run_until_finished())
        done, _ = await asyncio.wait([again], timeout=0.05)
        assert not done and long.begun == [1]
        long.go.set()
        await again

        assert [await one.get_result(timeout=SOON) for one in (first, second)] == [1, 2]


async def test_leases_are_kept_while_it_finishes_what_runs(docket: Docket, long: Long):
    lease = lasts(400)
    asked = await docket.add(long.task)(1)
    async with Worker(docket, redelivery_timeout=lease) as leaving, Worker(docket, redelivery_timeout=lease) as staying:
        first = asyncio.create_task(leaving.run_forever())
        await eventually(lambda: long.begun == [1])
        second = asyncio.create_task(staying.run_forever())
        leaving.stop()

        await asyncio.wait([first], timeout=3 * lease.total_seconds())
        assert long.begun == [1]
        long.go.set()
        await first
        staying.stop()
        await second

    assert await asked.get_result(timeout=SOON) == 1
    assert long.begun == [1]


async def test_what_is_cancelled_while_it_finishes_is_cancelled(docket: Docket, long: Long):
    await docket.add(long.task, key="k")(1)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: long.begun == [1])
        worker.stop()

        await docket.cancel("k")
        await asyncio.wait_for(running, 10)

    assert (await record(docket, "k")).state is ExecutionState.CANCELLED


async def test_threads_are_waited_for(docket: Docket):
    begun, release = threading.Event(), threading.Event()

    def blocks() -> str:
        begun.set()
        release.wait(10)
        return "whole"

    asked = await docket.add(blocks)()
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(begun.is_set)
        running.cancel()
        asyncio.get_running_loop().call_later(0.05, release.set)

    assert await asked.get_result(timeout=timedelta(seconds=1)) == "whole"


async def test_nothing_is_lost_however_often_workers_come_and_go(docket: Docket):
    ran: list[int] = []

    async def noted(number: int) -> None:
        await asyncio.sleep(0.001)
        ran.append(number)

    await docket.add_many(docket.call(noted)(number) for number in range(300))
    for _ in range(15):
        async with Worker(docket, concurrency=5, schedule_automatic_tasks=False) as worker:
            running = asyncio.create_task(worker.run_forever())
            before = len(ran)
            await eventually(lambda before=before: len(ran) > before)
            running.cancel()
    async with Worker(docket, concurrency=50) as worker:
        await worker.run_until_finished()

    assert sorted(ran) == list(range(300))


def test_a_loop_that_is_torn_down_settles_nothing_and_the_work_is_given_to_another(docket_name: str, caplog: pytest.LogCaptureFixture):
    url = f"memory://{docket_name}"
    begun = threading.Event()

    async def long() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def begin() -> None:
        async with contextlib.AsyncExitStack() as kept:
            docket = await kept.enter_async_context(Docket(docket_name, url))
            worker = await kept.enter_async_context(Worker(docket))
            await docket.add(long, key="k")()
            beside.append(asyncio.create_task(worker.run_forever()))
            await eventually(begun.is_set)
            kept.pop_all()  # as in a process that ends without leaving anything

    async def look() -> ExecutionState:
        async with Docket(docket_name, url) as docket:
            return (await record(docket, "k")).state

    beside: list[asyncio.Task[None]] = []
    asyncio.run(begin())

    assert asyncio.run(look()) in {ExecutionState.RUNNING, ExecutionState.QUEUED}
    if sys.version_info >= (3, 11):  # before, nobody can tell a loop that ends from a body that cancels itself: settling is tried, and fails
        assert "Settling" not in caplog.text


async def test_a_worker_says_goodbye(docket: Docket):
    async with Worker(docket) as worker:
        await worker.run_until_finished()

        assert await leased(docket) == set()
        assert await docket.store.workers.live(since_us=0) == []


class Stubborn:
    """Lasts until it is let go, whatever it is told."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.go = asyncio.Event()
        self.ended: list[str] = []

    async def __call__(self) -> str:
        self.begun.append(len(self.begun))
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.ended.append("told")
        self.ended.append("ended")
        return "of no use"


class TestHandingBack:
    """What has not finished when its grace is over."""

    async def test_it_goes_to_another_worker_at_once_as_though_it_had_not_been_claimed(self, docket: Docket, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.INFO, "docket.worker")
        begun: list[tuple[int, bool]] = []
        closed: list[str] = []
        go = asyncio.Event()

        @contextlib.asynccontextmanager
        async def connection() -> AsyncGenerator[str]:
            try:
                yield "connection"
            finally:
                await asyncio.sleep(0)
                closed.append("connection")

        async def long(execution: Execution[str] = CurrentExecution(), retry: Retry = Retry(attempts=2), connected: str = Depends(connection)) -> str:
            begun.append((execution.attempt, execution.redelivered))
            try:
                await go.wait()
            finally:
                await asyncio.sleep(0)
                closed.append("body")
            return "whole"

        asked = await docket.add(long, key="k")()
        async with Worker(docket, grace_period=lasts(50)) as leaving:  # of a lease of 5 minutes
            running = asyncio.create_task(leaving.run_forever())
            await eventually(lambda: begun)
            async with at_work(docket):
                leaving.stop()
                await running
                await eventually(lambda: len(begun) == 2)
                assert (await record(docket, "k")).crashes == 0
                go.set()
                assert await asked.get_result(timeout=SOON) == "whole"

        assert begun == [(1, False), (1, False)]
        assert closed == ["body", "connection", "body", "connection"]
        lines = [line for line in caplog.messages if "k" in line and ("Cancelling" in line or "handed back" in line)]
        assert lines[0] == "Cancelling running task 'k'"
        assert lines[1].startswith("↫ [") and lines[1].endswith("long(){k} (handed back)")
        assert len(lines) == 2

    async def test_a_shorter_grace_counts_from_when_it_is_asked_for_and_a_longer_one_changes_nothing(self, docket: Docket, long: Long):
        await docket.add(long.task, key="k")(1)
        async with Worker(docket) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: long.begun == [1])

            worker.stop()
            done, _ = await asyncio.wait([running], timeout=0.05)
            assert not done
            worker.stop(grace=AT_ONCE)
            worker.stop(grace=timedelta(hours=1))
            await asyncio.wait_for(running, 10)

        assert long.ended == []
        assert (await record(docket, "k")).state is ExecutionState.QUEUED
        await docket.cancel("k")

    async def test_leaving_one_that_was_cancelled_gives_it_its_grace_and_no_more(self, docket: Docket, long: Long):
        await docket.add(long.task, key="k")(1)
        async with Worker(docket, grace_period=lasts(50)) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: long.begun == [1])
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            assert (await record(docket, "k")).state is ExecutionState.RUNNING

        assert (await record(docket, "k")).state is ExecutionState.QUEUED
        assert await leased(docket) == set()
        await docket.cancel("k")

    async def test_whoever_is_cancelled_while_leaving_leaves_it_no_time(self, docket: Docket, long: Long):
        left = False

        async def work() -> None:
            nonlocal left
            async with Worker(docket) as worker:
                running = asyncio.create_task(worker.run_forever())
                await eventually(lambda: long.begun == [1])
                running.cancel()
            left = True  # pragma: no cover - the point is that it does not come to this

        await docket.add(long.task, key="k")(1)
        working = asyncio.create_task(work())
        await eventually(lambda: long.begun == [1])
        await asyncio.sleep(0.02)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(working, 10)

        assert not left
        assert (await record(docket, "k")).state is ExecutionState.QUEUED
        await docket.cancel("k")

    async def test_its_place_under_a_limit_is_free(self, docket: Docket):
        begun: list[str] = []
        go = asyncio.Event()

        async def limited(name: str, limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> str:
            begun.append(name)
            await go.wait()
            return name

        first = await docket.add(limited)("first")
        async with Worker(docket, grace_period=AT_ONCE) as leaving:
            running = asyncio.create_task(leaving.run_forever())
            await eventually(lambda: begun == ["first"])
            second = await docket.add(limited)("second")

            async def is_parked() -> bool:
                return bool(await docket.store.delivery.contended())

            await eventually(is_parked)
            leaving.stop()
            await running
            async with at_work(docket):
                await eventually(lambda: begun == ["first", "second"])
                go.set()
                assert await second.get_result(timeout=SOON) == "second"
                assert await first.get_result(timeout=SOON) == "first"

    async def test_what_was_cancelled_or_replaced_meanwhile_is_not_handed_back(self, docket: Docket, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.INFO, "docket.worker")
        told, go = asyncio.Event(), asyncio.Event()

        async def slow_to_stop() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                told.set()
                await go.wait()

        async def waits() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await go.wait()
            raise asyncio.CancelledError

        for key in ("cancelled", "replaced"):
            await docket.add(slow_to_stop, key=key)()
        async with Worker(docket, grace_period=AT_ONCE) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: worker._intake is not None and len(worker._intake._runs) == 2)
            await asyncio.sleep(0.01)
            worker.stop()
            await told.wait()
            await docket.cancel("cancelled")
            replacement = await docket.replace(waits, when=timedelta(hours=1), key="replaced")()
            go.set()
            await running

        assert (await record(docket, "cancelled")).state is ExecutionState.CANCELLED
        assert (await record(docket, "replaced")).generation == replacement.generation
        assert "slow_to_stop(){cancelled} (cancelled)" in caplog.text
        assert "slow_to_stop(){replaced} (superseded)" in caplog.text
        await docket.cancel("replaced")

    async def test_a_body_that_fails_because_it_is_told_to_stop_has_not_failed(self, docket: Docket):
        begun = asyncio.Event()

        async def fails() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise RuntimeError("connection closed") from None

        await docket.add(fails, key="k")()
        async with Worker(docket, grace_period=AT_ONCE) as worker:
            running = asyncio.create_task(worker.run_forever())
            await begun.wait()
            worker.stop()
            await running

        assert (await record(docket, "k")).state is ExecutionState.QUEUED
        await docket.cancel("k")

    async def test_a_body_that_comes_to_its_end_all_the_same_has_finished(self, docket: Docket):
        begun = asyncio.Event()

        async def saves_itself(retry: Retry = Retry(attempts=3)) -> str:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
            return "saved"

        async def snoozes() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise Snooze(timedelta(hours=1)) from None

        asked, snoozed = await docket.add(saves_itself)(), await docket.add(snoozes, key="snoozed")()
        async with Worker(docket, grace_period=AT_ONCE) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: worker._intake is not None and len(worker._intake._runs) == 2)
            await begun.wait()
            worker.stop()
            await running

        assert await asked.get_result(timeout=lasts(1000)) == "saved"
        assert (await record(docket, snoozed.key)).state is ExecutionState.SCHEDULED
        await docket.cancel(snoozed.key)

    async def test_what_has_ended_and_is_only_to_be_settled_is_settled(self, docket: Docket, long: Long, caplog: pytest.LogCaptureFixture):
        deciding, go = asyncio.Event(), asyncio.Event()

        class Slow(FailureHandler):
            async def handle_failure(self, execution: Execution[object], outcome: TaskOutcome) -> bool:
                deciding.set()
                await go.wait()
                return False

        async def fails(handler: Slow = Slow()) -> None:
            raise ValueError("honestly")

        asked = await docket.add(fails)()
        async with Worker(docket, grace_period=AT_ONCE) as worker:
            running = asyncio.create_task(worker.run_forever())
            await deciding.wait()
            await docket.add(long.task, key="long")(1)
            await eventually(lambda: long.begun == [1])
            await stop(worker, caplog)  # the other, and with it all
            go.set()
            await running

        with pytest.raises(ValueError, match="honestly"):
            await asked.get_result(timeout=lasts(1000))
        await docket.cancel("long")

    async def test_what_has_not_begun_does_not_begin(self, docket: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
        begun: list[str] = []
        admitting, go = asyncio.Event(), asyncio.Event()
        admit = docket.store.limits.admit

        async def slowly(applicant: Any) -> Any:
            admitting.set()
            await go.wait()
            return await admit(applicant)

        async def limited(limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> None:
            begun.append("limited")

        monkeypatch.setattr(docket.store.limits, "admit", slowly)
        await docket.add(limited, key="k")()
        async with Worker(docket, grace_period=AT_ONCE) as worker:
            running = asyncio.create_task(worker.run_forever())
            await admitting.wait()
            await stop(worker, caplog)
            go.set()
            await running

        assert begun == []
        assert (await record(docket, "k")).state is ExecutionState.QUEUED
        await docket.cancel("k")


class TestAbandoning:
    """What does not stop when it is cancelled."""

    async def test_a_body_that_swallows_its_cancellation_is_left_behind_and_counts_for_nothing(self, docket: Docket, caplog: pytest.LogCaptureFixture):
        stubborn = Stubborn()
        after: list[str] = []

        async def once() -> str:
            if stubborn.begun:
                return "run again"
            return await stubborn()

        async def work() -> str:
            after.append("begun")
            return await once()

        asked = await docket.add(work, key="k")()
        async with Worker(docket, grace_period=AT_ONCE, cleanup_timeout=lasts(50)) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: stubborn.begun)
            worker.stop()
            await asyncio.wait_for(running, 10)

        assert stubborn.ended == ["told"]
        assert "work(){k} has not stopped within 0:00:00.050000 of being cancelled, so it is abandoned and its run handed back" in caplog.text
        assert abandoned() == 1
        async with Worker(docket) as another:
            await another.run_until_finished()
        assert after == ["begun", "begun"]
        stubborn.go.set()
        await eventually(lambda: "work(){k} has come to an end after it was abandoned; that counts for nothing" in caplog.messages)
        assert await asked.get_result(timeout=SOON) == "run again"
        await eventually(lambda: not abandoned())

    async def test_also_while_nobody_has_it_yet(self, docket: Docket):
        stubborn = Stubborn()

        async def work(execution: Execution[str] = CurrentExecution()) -> str:
            await stubborn()
            await docket.add(work, key=execution.key)()  # would be its successor, if it were still its run
            return "of no use"

        await docket.add(work, key="k")()
        async with Worker(docket, grace_period=AT_ONCE, cleanup_timeout=AT_ONCE) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: stubborn.begun)
            worker.stop()
            await asyncio.wait_for(running, 10)
        before = await record(docket, "k")

        stubborn.go.set()
        await eventually(lambda: not abandoned())

        assert await record(docket, "k") == before
        assert before.state is ExecutionState.QUEUED
        [again] = await claim(docket, "another~1")
        assert (again.attempt, again.crashes) == (1, 0)
        await docket.cancel("k")
        await take_over(docket, "another~1", own=True)

    async def test_a_thread_that_ends_within_the_time_to_close_has_finished(self, docket: Docket):
        begun, go = threading.Event(), threading.Event()

        def work() -> str:
            begun.set()
            assert go.wait(20)
            return "whole"

        asked = await docket.add(work)()
        async with Worker(docket, grace_period=AT_ONCE) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(begun.is_set)
            worker.stop()
            asyncio.get_running_loop().call_later(0.05, go.set)
            await running

        assert await asked.get_result(timeout=lasts(1000)) == "whole"

    async def test_a_thread_that_does_not_is_left_behind(self, docket: Docket):
        begun: list[int] = []
        go = threading.Event()

        def work() -> str:
            begun.append(len(begun))
            if len(begun) == 1:
                assert go.wait(20)
            return f"run {len(begun)}"

        asked = await docket.add(work)()
        async with Worker(docket, grace_period=AT_ONCE, cleanup_timeout=lasts(50)) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: begun)
            worker.stop()
            await asyncio.wait_for(running, 10)
        async with Worker(docket) as another:
            await another.run_until_finished()
        go.set()
        await eventually(lambda: not abandoned())

        assert await asked.get_result(timeout=SOON) == "run 2"

    async def test_what_surrounds_a_body_is_not_waited_for_either(self, docket: Docket):
        deciding = asyncio.Event()

        class Hangs(FailureHandler):
            async def handle_failure(self, execution: Execution[object], outcome: TaskOutcome) -> bool:
                deciding.set()
                await asyncio.Event().wait()
                raise AssertionError  # pragma: no cover - it does not come to this

        async def fails(handler: Hangs = Hangs()) -> None:
            raise ValueError("honestly")

        await docket.add(fails, key="k")()
        async with Worker(docket, grace_period=AT_ONCE, cleanup_timeout=lasts(50)) as worker:
            running = asyncio.create_task(worker.run_forever())
            await deciding.wait()
            worker.stop()
            await asyncio.wait_for(running, 10)
        await eventually(lambda: not abandoned())

        assert (await record(docket, "k")).state is ExecutionState.QUEUED
        await docket.cancel("k")

    async def test_one_that_fails_in_the_end_fails_for_nothing(self, docket: Docket, caplog: pytest.LogCaptureFixture):
        stubborn = Stubborn()

        async def work(retry: Retry = Retry(attempts=2)) -> None:
            await stubborn()
            raise ValueError("too late")

        await docket.add(work, key="k")()
        async with Worker(docket, grace_period=AT_ONCE, cleanup_timeout=AT_ONCE) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(lambda: stubborn.begun)
            worker.stop()
            await asyncio.wait_for(running, 10)
        stubborn.go.set()
        await eventually(lambda: not abandoned())

        assert (await record(docket, "k")).attempt == 1
        assert "too late" not in caplog.text
        await docket.cancel("k")

    @pytest.mark.only_server("an outage")
    async def test_while_redis_is_away_it_is_left_to_the_lease(
        self, docket: Docket, docket_name: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(_drain, "HAND_BACK_TIMEOUT", 0.1)
        stubborn = Stubborn()
        await docket.add(stubborn.__call__, key="k")()
        async with running_proxy(redis_server.port) as proxy, Docket(docket_name, proxy.url) as leaving:
            leaving.register(stubborn.__call__)
            async with Worker(leaving, grace_period=AT_ONCE, cleanup_timeout=lasts(50)) as worker:
                running = asyncio.create_task(worker.run_forever())
                await eventually(lambda: stubborn.begun)
                await proxy.stop()
                worker.stop()
                await asyncio.wait_for(running, 20)
        stubborn.go.set()
        await eventually(lambda: not abandoned())

        assert "what was abandoned could not be handed back; it runs again when the lease lapses" in caplog.text
        assert (await record(docket, "k")).state is ExecutionState.RUNNING
        await docket.cancel("k")


class TestSeeingItComing:
    async def test_a_coroutine_may_wait_for_it(self, docket: Docket):
        begun = asyncio.Event()

        async def polite(execution: Execution[str] = CurrentExecution()) -> str:
            assert not execution.stopping.is_set()
            begun.set()
            await execution.stopping.wait()
            return "in time"

        asked = await docket.add(polite)()
        async with Worker(docket) as worker:
            running = asyncio.create_task(worker.run_forever())
            await begun.wait()
            worker.stop()
            await running

        assert await asked.get_result(timeout=lasts(1000)) == "in time"

    async def test_a_thread_may_ask_now_and_then(self, docket: Docket):
        begun = threading.Event()

        def polite(execution: Execution[str] = CurrentExecution()) -> str:
            begun.set()
            while not execution.stopping.wait_in_thread(lasts(5)):
                pass
            return "in time"

        asked = await docket.add(polite)()
        async with Worker(docket) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(begun.is_set)
            worker.stop()
            await running

        assert await asked.get_result(timeout=lasts(1000)) == "in time"

    async def test_the_next_run_of_a_worker_is_not_told_to_stop_by_the_last_one(self, docket: Docket):
        seen: list[bool] = []

        async def looks(execution: Execution[None] = CurrentExecution()) -> None:
            seen.append(execution.stopping.is_set())

        async with Worker(docket) as worker:
            for _ in range(2):
                await docket.add(looks)()
                await worker.run_until_finished()

        assert seen == [False, False]
