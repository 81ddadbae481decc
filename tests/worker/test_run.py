"""One run: what a body may do, and what then becomes of it."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import traceback
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Annotated, Any, cast

import anyio
import pytest

from docket import (
    CurrentDocket,
    CurrentExecution,
    CurrentWorker,
    Depends,
    Docket,
    Execution,
    ExecutionState,
    Logged,
    Perpetual,
    Retry,
    TaskKey,
    Timeout,
    Worker,
)
from docket._store.records import RunId
from docket._worker import _run
from docket._worker._settling import Settler
from docket.dependencies import Dependency
from docket.errors import ExecutionCancelled, ExecutionSuperseded, InvalidOption, NotSerializable
from docket.execution import ExecutionProgress
from tests._waiting import eventually
from tests.worker._hands import SOON, MovedClock, at_work, claim, lasts, record, take_over

HOUR = timedelta(hours=1)
CANCELLED, COMPLETED, FAILED = ExecutionState.CANCELLED, ExecutionState.COMPLETED, ExecutionState.FAILED

a_timeout: Any = getattr(asyncio, "timeout", contextlib.nullcontext)  # from Python 3.11


class Body:
    """A body that has begun, and lasts until it is let go or stopped."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.stopped = asyncio.Event()

    async def last(self) -> None:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise


@pytest.fixture
async def body() -> Body:
    return Body()


async def state_of(docket: Docket, key: str) -> ExecutionState:
    return (await record(docket, key)).state


class TestABody:
    async def test_it_knows_where_it_runs(self, docket: Docket, worker: Worker):
        async def where(
            here: Docket = CurrentDocket(), by: Worker = CurrentWorker(), run: Execution[Any] = CurrentExecution(), key: str = TaskKey()
        ) -> tuple[bool, bool, ExecutionState, str, int]:
            return here is docket, by is worker, run.state, key, run.delivery

        asked = await docket.add(where, key="k")()
        await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) == (True, True, ExecutionState.RUNNING, "k", 1)

    async def test_one_without_dependencies_is_just_called(self, docket: Docket, worker: Worker):
        async def add(a: int, b: int = 1) -> int:
            return a + b

        asked = [await docket.add(add)(1), await docket.add(add)(1, b=5)]
        await worker.run_until_finished()

        assert [await one.get_result(timeout=SOON) for one in asked] == [2, 6]

    async def test_a_failure_is_kept_and_raised_again_with_the_workers_traceback(self, docket: Docket, worker: Worker):
        async def fails() -> None:
            raise LookupError("nothing here")

        asked = await docket.add(fails)()
        await worker.run_until_finished()

        with pytest.raises(LookupError, match="nothing here") as caught:
            await asked.get_result(timeout=SOON)
        shown = "".join(traceback.format_exception(caught.value))
        assert "in fails" in shown
        assert 'raise LookupError("nothing here")' in shown

    @pytest.mark.parametrize("failure", [SystemExit(3), BaseException("odd")], ids=["SystemExit", "BaseException"])
    @pytest.mark.parametrize("in_thread", [False, True])
    async def test_whatever_is_raised_is_how_the_run_failed_and_the_worker_goes_on(
        self, docket: Docket, worker: Worker, failure: BaseException, in_thread: bool
    ):
        async def leaves() -> None:
            raise failure

        def leaves_a_thread() -> None:
            raise failure

        async def after() -> str:
            return "still here"

        left = await docket.add(leaves_a_thread if in_thread else leaves, key="left")()
        later = await docket.add(after)()
        await worker.run_until_finished()

        assert await later.get_result(timeout=SOON) == "still here"
        assert await state_of(docket, "left") is FAILED
        with pytest.raises(Exception, match=type(failure).__name__):
            await left.get_result(timeout=SOON)

    async def test_a_plain_function_runs_in_a_thread_and_holds_up_nobody(self, docket: Docket, worker: Worker):
        release = threading.Event()

        def blocks(key: str = TaskKey()) -> tuple[str, bool]:
            release.wait(10)
            return key, threading.current_thread() is threading.main_thread()

        async def frees() -> None:
            release.set()

        blocking = await docket.add(blocks, key="k")()
        await docket.add(frees)()
        await worker.run_until_finished()

        assert await blocking.get_result(timeout=SOON) == ("k", False)

    async def test_a_thread_that_is_told_to_stop_keeps_its_slot_until_it_ends(self, docket: Docket, caplog: pytest.LogCaptureFixture):
        begun, release = threading.Event(), threading.Event()
        ended: list[str] = []

        def blocks() -> None:
            begun.set()
            release.wait(10)
            ended.append("blocks")

        async def next_one() -> None:
            ended.append("next_one")

        await docket.add(blocks, key="k")()
        async with at_work(docket, concurrency=1):
            await eventually(begun.is_set)
            await docket.add(next_one)()
            await docket.cancel("k")
            await eventually(lambda: "told to stop" in caplog.text)
            release.set()
            await eventually(lambda: len(ended) == 2)

        assert ended == ["blocks", "next_one"]
        assert await state_of(docket, "k") is CANCELLED

    async def test_a_timeout_is_a_failure_that_is_tried_again(self, docket: Docket, worker: Worker):
        attempts: list[int] = []

        async def slow(retry: Retry = Retry(attempts=2), timeout: Timeout = Timeout(lasts(50))) -> str:
            attempts.append(retry.attempt)
            if retry.attempt == 1:
                await asyncio.Event().wait()
            return "in time"

        asked = await docket.add(slow)()
        await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) == "in time"
        assert attempts == [1, 2]

    @pytest.mark.only_server("whose clock counts")
    async def test_a_retry_is_due_by_the_servers_clock(self, docket_name: str, url: str):
        async with Docket(docket_name, url, clock=MovedClock(1800)) as docket, Worker(docket) as worker:

            async def fails_once(retry: Retry = Retry(attempts=2, delay=lasts(50))) -> str:
                if retry.attempt == 1:
                    raise ValueError
                return "again"

            asked = await docket.add(fails_once)()
            with anyio.fail_after(10):
                await worker.run_until_finished()

            assert await asked.get_result(timeout=SOON) == "again"


class TestCancelling:
    async def test_its_finally_runs_whole_whatever_it_awaits(self, docket: Docket, body: Body):
        closed: list[str] = []

        async def closes() -> None:
            try:
                await body.last()
            finally:
                await asyncio.sleep(0.01)
                with anyio.CancelScope():
                    await anyio.sleep(0.01)
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep, 0)
                closed.append("whole")

        asked = await docket.add(closes, key="k")()
        async with at_work(docket):
            await body.begun.wait()
            await docket.cancel("k")
            with pytest.raises(ExecutionCancelled):
                await asked.get_result(timeout=SOON)

        assert closed == ["whole"]

    async def test_its_dependencies_are_closed_whole(self, docket: Docket, body: Body):
        closed: list[str] = []

        @contextlib.asynccontextmanager
        async def connection() -> AsyncGenerator[str, None]:
            try:
                yield "open"
            finally:
                await asyncio.sleep(0.01)
                closed.append("whole")

        async def uses(with_it: str = Depends(connection)) -> None:
            await body.last()

        await docket.add(uses, key="k")()
        async with at_work(docket):
            await body.begun.wait()
            await docket.cancel("k")
            await eventually(lambda: closed)
        assert await state_of(docket, "k") is CANCELLED

    async def test_what_comes_while_dependencies_close_cuts_nothing_short(self, docket: Docket):
        closing, go_on = asyncio.Event(), asyncio.Event()
        closed: list[str] = []

        @contextlib.asynccontextmanager
        async def connection() -> AsyncGenerator[str, None]:
            yield "open"
            closing.set()
            await go_on.wait()
            closed.append("whole")

        async def uses(with_it: str = Depends(connection)) -> int:
            return 5

        await docket.add(uses, key="k")()
        async with at_work(docket, redelivery_timeout=lasts(1000)):
            await closing.wait()
            await docket.cancel("k")
            await asyncio.sleep(0)
            go_on.set()
            await eventually(lambda: closed)
        assert await state_of(docket, "k") is COMPLETED  # the body had ended before anybody cancelled

    async def test_a_run_that_is_told_before_its_body_begins_never_begins(self, docket: Docket):
        ran: list[str] = []

        async def never() -> None:
            ran.append("it did")

        asked = await docket.add(never)()
        async with Worker(docket) as worker:

            class Stopping(logging.Handler):
                def emit(self, record: logging.LogRecord) -> None:
                    if "never" in record.getMessage() and "↪" in record.getMessage():
                        assert worker._intake is not None
                        worker._intake._runs.stop_all("cancelled")

            handler, logger = Stopping(), logging.getLogger("docket.worker")
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            try:
                await worker.run_until_finished()
            finally:
                logger.removeHandler(handler)
                logger.setLevel(logging.NOTSET)

        assert ran == []
        with pytest.raises(ExecutionCancelled):
            await asked.get_result(timeout=SOON)

    @pytest.mark.parametrize("by_itself", ["raises it", "cancels its own task"])
    async def test_a_body_that_cancels_itself_ends_alone(self, docket: Docket, worker: Worker, by_itself: str):
        together = asyncio.Event()

        async def cancels_itself() -> None:
            together.set()
            if by_itself == "raises it":
                raise asyncio.CancelledError
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        async def sibling() -> str:
            await together.wait()
            await asyncio.sleep(0.05)
            return "well"

        beside = await docket.add(sibling)()
        await docket.add(cancels_itself, key="k")()
        await worker.run_until_finished()

        assert await beside.get_result(timeout=SOON) == "well"
        assert await state_of(docket, "k") is CANCELLED

    async def test_neither_a_retry_nor_a_chain_follows(self, docket: Docket, body: Body):
        async def stubborn(retry: Retry = Retry(attempts=None), perpetual: Perpetual = Perpetual()) -> None:
            await body.last()

        async def turns_it_into_a_failure(retry: Retry = Retry(attempts=None)) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ValueError("no, failed") from None

        await docket.add(stubborn, key="a")()
        await docket.add(turns_it_into_a_failure, key="b")()
        async with Worker(docket) as worker:
            running = asyncio.create_task(worker.run_until_finished())
            await body.begun.wait()
            await docket.cancel("a")
            await docket.cancel("b")
            await running

        assert [await state_of(docket, key) for key in "ab"] == [CANCELLED, CANCELLED]

    async def test_one_that_swallows_it_ends_as_it_ends(self, docket: Docket, body: Body):
        async def swallows(timeout: Timeout = Timeout(HOUR)) -> str:
            with contextlib.suppress(asyncio.CancelledError):
                await body.last()
            async with a_timeout(1):  # which would take a cancellation that was not taken back for its own
                await asyncio.sleep(0)
            return "all the same"

        asked = await docket.add(swallows, key="k")()
        async with at_work(docket):
            await body.begun.wait()
            await docket.cancel("k")

            assert await asked.get_result(timeout=SOON) == "all the same"


class TestReplacing:
    @pytest.mark.parametrize("ending", ["finishes", "fails", "is tried again", "goes on", "reports", "asks for a successor"])
    async def test_whatever_the_old_run_does_leaves_its_replacement_alone(self, docket: Docket, ending: str):
        begun, replaced, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        reported: list[int | None] = []

        async def old(run: Execution[Any] = CurrentExecution()) -> str:
            return await act(run)

        async def old_with_retry(run: Execution[Any] = CurrentExecution(), retry: Retry = Retry(attempts=5)) -> str:
            return await act(run)

        async def old_of_a_chain(run: Execution[Any] = CurrentExecution(), perpetual: Perpetual = Perpetual()) -> str:
            return await act(run)

        async def act(run: Execution[Any]) -> str:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await replaced.wait()
            ended.set()
            if ending in {"fails", "is tried again"}:
                raise ValueError
            if ending == "reports":
                await run.progress.increment(50)
                reported.append(run.progress.current)
            if ending == "asks for a successor":
                await docket.add(old, key="k")()
            return "old"

        async def new() -> str:
            return "new"

        task = {"is tried again": old_with_retry, "goes on": old_of_a_chain}.get(ending, old)
        asked = await docket.add(task, key="k")()
        async with at_work(docket) as worker:
            await begun.wait()
            replacement = await docket.replace(new, when=lasts(300), key="k")()
            replaced.set()
            await ended.wait()

            with pytest.raises(ExecutionSuperseded):
                await asked.get_result(timeout=SOON)
            assert await replacement.get_result(timeout=SOON) == "new"
            await eventually(lambda: worker._intake is not None and worker._intake._runs.idle)

        found = await record(docket, "k")
        assert (found.generation, found.state, found.function) == (replacement.generation, COMPLETED, "new")
        assert reported in ([], [None])
        assert await docket.store.delivery.depth() == (0, 0)

    async def test_its_body_is_told_to_stop(self, docket: Docket, body: Body):
        async def old() -> None:
            await body.last()

        async def new() -> str:
            return "new"

        await docket.add(old, key="k")()
        async with at_work(docket):
            await body.begun.wait()
            replacement = await docket.replace(new, when=None, key="k")()

            await asyncio.wait_for(body.stopped.wait(), 10)
            assert await replacement.get_result(timeout=SOON) == "new"

    async def test_a_run_that_replaces_itself_sees_itself_out(self, docket: Docket):
        seen: list[str] = []

        async def replaces_itself(times: int) -> str:
            if times:
                await docket.replace(replaces_itself, when=None, key="k")(times - 1)
                await asyncio.sleep(0.05)
            seen.append(f"{times} to the end")
            return "last"

        await docket.add(replaces_itself, key="k")(1)
        async with Worker(docket, redelivery_timeout=lasts(60)) as worker:
            await worker.run_until_finished()

        assert sorted(seen) == ["0 to the end", "1 to the end"]
        found = await docket.get_execution("k")
        assert found is not None and await found.get_result(timeout=SOON) == "last"


class TestBadInput:
    async def test_a_payload_that_cannot_be_decoded_ends_failed_and_the_rest_is_run(self, docket: Docket, worker: Worker):
        async def task(x: int) -> int:
            return x

        bad = await docket.add(task, key="bad")(1)
        async with docket.redis() as redis:
            await redis.execute_command("HSET", docket.store.keys.run("bad"), "payload", "no pickle")
        good = await docket.add(task)(2)

        await worker.run_until_finished()

        assert await good.get_result(timeout=SOON) == 2
        found = await record(docket, "bad")
        assert found.state is FAILED
        assert "cannot be decoded" in found.error
        with pytest.raises(Exception, match="cannot be decoded"):
            await bad.get_result(timeout=SOON)

    async def test_an_entry_of_a_run_that_is_gone_is_passed_over(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.DEBUG, "docket.worker")

        async def task() -> int:
            return 1

        async with docket.redis() as redis:
            await docket.add(task, key="gone")()
            await redis.execute_command("DEL", docket.store.keys.run("gone"))
        await docket.add(task, key="cancelled")()
        await docket.cancel("cancelled")
        asked = await docket.add(task)()

        await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) == 1
        assert "↬ gone (superseded: gone)" in caplog.messages
        assert "✗ cancelled (cancelled)" in caplog.messages
        assert await docket.store.delivery.depth() == (0, 0)

    async def test_a_record_that_cannot_be_read_is_passed_over(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        async def task() -> int:
            return 1

        async with docket.redis() as redis:
            await docket.add(task, key="broken")()
            await redis.execute_command("DEL", docket.store.keys.run("broken"))
            await redis.execute_command("SET", docket.store.keys.run("broken"), "not a hash", "PX", "60000")
        asked = await docket.add(task)()

        await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) == 1
        assert "The record of broken cannot be read" in caplog.text

    async def test_a_clash_with_the_workers_own_dependencies_fails_that_task_only(self, docket: Docket):
        async def impatient(timeout: Timeout = Timeout(HOUR)) -> str:
            return "clash"

        async def patient() -> str:
            return "fine"

        clash = await docket.add(impatient)()
        fine = await docket.add(patient)()
        async with Worker(docket, dependencies={"limit": Timeout(HOUR)}) as worker:
            await worker.run_until_finished()

        assert await fine.get_result(timeout=SOON) == "fine"
        with pytest.raises(InvalidOption, match="impatient"):
            await clash.get_result(timeout=SOON)

    async def test_what_a_user_prints_badly_is_his_own_affair(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.INFO, "docket.worker")

        class Shy:
            def __repr__(self) -> str:
                raise ValueError("not to be seen")

        class ShyError(Exception):
            def __str__(self) -> str:
                raise ValueError("not to be heard")

        async def task(shy: Annotated[Any, Logged]) -> int:
            return 5

        async def fails() -> None:
            raise ShyError

        asked = await docket.add(task, key="k")(Shy())
        await docket.add(fails, key="f")()
        await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) == 5
        assert (await record(docket, "f")).error == "ShyError (which cannot be printed)"
        assert "task(which cannot be printed){k}" in caplog.text

    async def test_a_behaviour_that_fails_outside_the_body_fails_its_run_alone(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        class Unready(Dependency):
            def for_run(self, execution: Execution[Any]) -> Any:
                raise ValueError("not ready")

        async def task(unready: Unready = Unready()) -> None: ...
        async def after() -> str:
            return "fine"

        await docket.add(task, key="k")()
        later = await docket.add(after)()
        await worker.run_until_finished()

        assert await later.get_result(timeout=SOON) == "fine"
        found = await record(docket, "k")
        assert (found.state, found.error) == (FAILED, "ValueError: not ready")
        assert "What surrounds the run of k failed" in caplog.text

    async def test_a_decision_that_fails_after_a_successor_was_asked_for_leaves_the_successor(self, docket: Docket, worker: Worker):
        class Undecided(Perpetual):
            def next_run(self, started: Any, now: Any) -> Any:
                raise ValueError("when?")

        ran: list[int] = []

        async def following(number: int) -> None:
            ran.append(number)

        async def link(payload: bytes, perpetual: Perpetual = Undecided()) -> None:
            await docket.add(following, key="k")(2)

        await docket.add(link, key="k")(b"large" * 1000)
        await worker.run_until_finished()

        assert ran == [2]

    async def test_such_a_run_that_was_lost_meanwhile_settles_nothing(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        class Lost(Perpetual):
            def next_run(self, started: Any, now: Any) -> Any:
                assert worker._intake is not None
                worker._intake._runs.stop_all("lost")
                raise ValueError("when?")

        async def is_lost(perpetual: Perpetual = Lost()) -> None: ...

        await docket.add(is_lost, key="k")()
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: "What surrounds the run of k failed" in caplog.text)
        assert await state_of(docket, "k") is ExecutionState.RUNNING
        worker.stop()
        await running

        assert await state_of(docket, "k") is ExecutionState.QUEUED  # a worker that leaves gives back what it holds and does not run
        await docket.cancel("k")

    async def test_a_next_link_whose_arguments_cannot_be_pickled_is_a_failure_and_the_chain_goes_on_as_before(self, docket: Docket, worker: Worker):
        async def chain(value: int, perpetual: Perpetual = Perpetual(every=lasts(1))) -> int:
            if value == 1 and not failed:
                failed.append(value)
                perpetual.perpetuate(threading.Lock())
            else:
                perpetual.cancel()
            return value

        failed: list[int] = []
        asked = await docket.add(chain, key="k")(1)
        await worker.run_until_finished()

        with pytest.raises(NotSerializable):
            await asked.get_result(timeout=SOON)
        found = await docket.get_execution("k")
        assert found is not None and await found.get_result(timeout=SOON) == 1


class Storage:
    """Keeps nothing."""

    async def put(self, key: str, value: dict[str, Any], *, collection: str | None = None, ttl: float | None = None) -> None:
        raise OSError("disk full")

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return None


class TestResults:
    async def test_one_that_cannot_be_pickled_is_not_kept_and_the_run_is_completed(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        async def locks() -> Any:
            return threading.Lock()

        asked = await docket.add(locks, key="k")()
        await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) is None
        found = await record(docket, "k")
        assert found.state is COMPLETED
        assert "cannot be pickled" in found.error
        assert "The result of locks(){k} is not kept" in caplog.text

    async def test_of_a_failure_that_says_a_book_only_the_beginning_is_told(self, docket: Docket, worker: Worker):
        async def fails() -> None:
            raise ValueError("x" * 2_000_000)

        asked = await docket.add(fails, key="k")()
        await worker.run_until_finished()

        told = (await record(docket, "k")).error
        assert told.startswith("ValueError: xxx") and told.endswith("xxx... (2,000,012 characters)")
        assert len(told) < 11_000
        with pytest.raises(Exception, match="2,000,012 characters"):
            await asked.get_result(timeout=SOON)

    async def test_one_that_the_storage_does_not_take_is_not_kept(self, docket_name: str, url: str, caplog: pytest.LogCaptureFixture):
        async def five() -> int:
            return 5

        async def fails() -> None:
            raise ValueError("no")

        async with Docket(docket_name, url, result_storage=Storage()) as docket, Worker(docket) as worker:
            await docket.add(five, key="five")()
            await docket.add(fails, key="fails")()
            await worker.run_until_finished()

            found = await record(docket, "five")
            assert (found.state, found.error) == (COMPLETED, "the result is not kept: OSError: disk full")
            found = await record(docket, "fails")
            assert (found.state, found.error) == (FAILED, "ValueError: no")
        assert "The result of five(){five} is not kept" in caplog.text


class Dizzy(Storage):
    """Cancels whoever puts something in: a scope of its own that leaks, say."""

    async def put(self, key: str, value: dict[str, Any], *, collection: str | None = None, ttl: float | None = None) -> None:
        raise asyncio.CancelledError


async def test_a_cancellation_that_nobody_asked_for_does_not_keep_a_run_from_its_end(docket_name: str, url: str, caplog: pytest.LogCaptureFixture):
    async def five() -> int:
        return 5

    async def cancelled_behind_its_back() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async with Docket(docket_name, url, result_storage=Dizzy()) as docket, at_work(docket):
        await docket.add(five, key="five")()
        await docket.add(cancelled_behind_its_back, key="k")()
        await eventually(lambda: has_ended(docket, "five"))
        await eventually(lambda: has_ended(docket, "k"))
        assert await state_of(docket, "five") is FAILED
    assert "What surrounds the run of five failed" in caplog.text


async def has_ended(docket: Docket, key: str) -> bool:
    return await state_of(docket, key) in (COMPLETED, FAILED, CANCELLED)


async def test_settling_that_is_refused_is_logged_and_the_worker_goes_on(docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
    async def breaks_its_record(run: Execution[Any] = CurrentExecution()) -> None:
        async with docket.redis() as redis:
            await redis.execute_command("DEL", docket.store.keys.run("k"))
            await redis.execute_command("SET", docket.store.keys.run("k"), "not a hash", "PX", "60000")

    async def after() -> int:
        return 1

    await docket.add(breaks_its_record, key="k")()
    running = asyncio.create_task(worker.run_forever())
    await eventually(lambda: "Settling k failed" in caplog.text)
    asked = await docket.add(after)()
    assert await asked.get_result(timeout=SOON) == 1
    worker.stop()
    await running


def test_a_keyboard_interrupt_in_a_body_ends_the_loop_and_the_run_is_not_settled(docket_name: str):
    url = f"memory://{docket_name}"

    async def interrupted() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        async with Docket(docket_name, url) as docket, Worker(docket) as worker:
            await docket.add(interrupted, key="k")()
            await worker.run_forever()

    async def look() -> ExecutionState:
        async with Docket(docket_name, url) as docket:
            return await state_of(docket, "k")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert asyncio.run(look()) is ExecutionState.RUNNING


async def test_progress_from_a_run_is_fenced(docket: Docket):
    async def task() -> None: ...

    await docket.add(task, key="k")()
    [claimed] = await claim(docket, "one~1")
    mine = ExecutionProgress(docket, "k", claimed.run)
    others = ExecutionProgress(docket, "k", RunId("k", claimed.run.generation, claimed.run.delivery + 1))

    await mine.increment(5)
    await others.increment(5)

    assert (mine.current, others.current) == (5, None)
    await docket.cancel("k")
    await take_over(docket, "one~1")
    assert cast("Any", mine).key == "k"


async def test_what_fails_around_a_run_that_was_replaced_is_no_failure_of_its_replacement(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    real, broken = _run.decide, [LookupError("decide")]
    give_up = Settler.give_up

    def decide(*args: Any, **kwargs: Any) -> Any:
        if broken:
            raise broken.pop()
        return real(*args, **kwargs)

    async def overtaken(self: Settler, *args: Any) -> None:
        await job.replace("new", key="k", when=timedelta(0))
        await give_up(self, *args)

    @docket.task
    async def job(word: str, retry: Retry = Retry(attempts=1)) -> str:
        return word

    monkeypatch.setattr(_run, "decide", decide)
    monkeypatch.setattr(Settler, "give_up", overtaken)
    old = await job.schedule("old", key="k")
    async with Worker(docket) as worker:
        await worker.run_until_finished()

    new = await docket.get_execution("k")
    assert new is not None
    assert (broken, await new.get_result()) == ([], "new")
    with pytest.raises(ExecutionSuperseded):
        await old.get_result()
