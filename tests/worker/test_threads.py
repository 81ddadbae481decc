"""Synchronous functions in threads: of tasks, of their dependencies, and of what a worker shares."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest

from docket import Depends, Docket, ExecutionState, Shared, Worker
from docket._threads import Thread, Threads
from docket.dependencies import SharedContext
from docket.dependencies._resolution import compile_plan
from docket.errors import DependencyFailed
from tests._waiting import eventually
from tests.dependencies._runs import DOCKET, WORKER, an_execution
from tests.worker._hands import at_work

seen: ContextVar[str] = ContextVar("seen", default="nothing")


def here() -> str:
    return "loop" if threading.current_thread() is threading.main_thread() else "thread"


def owner() -> str:
    return "a test"


class Client:
    def __init__(self) -> None:
        self.where = here()

    async def __aenter__(self) -> str:
        return self.where

    async def __aexit__(self, *details: object) -> None: ...


class CountedThread(Thread):
    """Counts its visits to threads."""

    __slots__ = ("visits",)

    @classmethod
    def of(cls, threads: Threads) -> CountedThread:
        thread = threads.thread(owner, {})
        counted = cls(thread._slots, owner, {})
        counted.visits = 0
        return counted

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.visits += 1
        return await super().call(function, *args, **kwargs)


async def run(function: Callable[..., Any], thread: Thread) -> Any:
    """This runs a coroutine function as a worker does, its synchronous dependencies in threads."""
    resolved = compile_plan(function, "task").begin(an_execution(function))
    async with resolved.dependencies(docket=DOCKET, worker=WORKER, thread=thread) as arguments:
        return await function(**arguments)


@pytest.fixture
async def thread() -> CountedThread:
    return CountedThread.of(Threads(2))


class TestCalls:
    async def test_a_function_gives_its_result_or_what_it_raises(self, thread: Thread):
        def divide(one: int, *, by: int) -> float:
            return one / by

        assert await thread.call(divide, 6, by=4) == 1.5
        with pytest.raises(ZeroDivisionError):
            await thread.call(divide, 6, by=0)

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, StopIteration, asyncio.CancelledError, GeneratorExit])
    async def test_nothing_that_it_raises_harms_the_loop(self, thread: Thread, error: type[BaseException]):
        def fail() -> None:
            raise error("as asked")

        with pytest.raises((error, RuntimeError)) as raised:  # a coroutine that raises StopIteration raises RuntimeError
            await thread.call(fail)

        assert isinstance(raised.value, error) or isinstance(raised.value.__cause__, error)

    @pytest.mark.parametrize("counts", [True, False])
    async def test_what_waits_for_a_free_thread_can_be_cancelled_and_has_no_end_that_could_count(self, counts: bool):
        slots = anyio.CapacityLimiter(1)
        begun, finish = threading.Event(), threading.Event()
        ran: list[str] = []

        def work() -> None:
            begun.set()
            assert finish.wait(20)

        working = asyncio.create_task(Thread(slots, owner, {}).call(work))
        await eventually(begun.is_set)
        waiting = asyncio.create_task(Thread(slots, owner, {}).call_out(lambda: counts, ran.append, "ran"))
        await eventually(lambda: slots.statistics().tasks_waiting)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        finish.set()
        await working

        assert ran == []

    async def test_what_is_about_to_begin_can_be_cancelled(self, thread: Thread):
        ran: list[str] = []
        outcomes: set[str] = set()

        for ticks in range(8):  # from before anything to when it ran
            ran.clear()
            calling = asyncio.create_task(thread.call(ran.append, "ran"))
            for _ in range(ticks):
                await asyncio.sleep(0)
            calling.cancel()
            outcome = (await asyncio.gather(calling, return_exceptions=True))[0]
            outcomes.add(f"{type(outcome).__name__}, {'ran' if ran else 'did not run'}")

        assert "CancelledError, did not run" in outcomes
        assert outcomes <= {"CancelledError, did not run", "CancelledError, ran", "NoneType, ran"}

    async def test_what_has_begun_is_waited_for_however_often_it_is_cancelled(self, thread: Thread, caplog: pytest.LogCaptureFixture):
        begun, finish = threading.Event(), threading.Event()
        asked: list[str] = []

        def work() -> None:
            begun.set()
            assert finish.wait(20)
            try:
                anyio.from_thread.check_cancelled()
            except BaseException as exc:
                asked.append(type(exc).__name__)

        working = asyncio.create_task(thread.call(work))
        await eventually(begun.is_set)
        working.cancel()
        await eventually(lambda: caplog.records)
        working.cancel()
        await asyncio.wait([working], timeout=0.05)
        assert not working.done()
        finish.set()
        with pytest.raises(asyncio.CancelledError):
            await working

        assert asked == ["CancelledError"]
        assert [record.getMessage() for record in caplog.records] == ["a test was told to stop, and a thread cannot be stopped: its slot is held until it ends"]

    @pytest.mark.parametrize("counts", [True, False])
    async def test_the_end_of_what_was_told_to_stop_counts_where_that_is_said(self, thread: Thread, counts: bool, caplog: pytest.LogCaptureFixture):
        begun, finish = threading.Event(), threading.Event()

        def work() -> str:
            begun.set()
            assert finish.wait(20)
            return "whole"

        working = asyncio.create_task(thread.call_out(lambda: counts, work))
        await eventually(begun.is_set)
        working.cancel()
        await eventually(lambda: caplog.records)  # that it was told
        finish.set()
        ending = (await asyncio.gather(working, return_exceptions=True))[0]

        assert ending == "whole" if counts else isinstance(ending, asyncio.CancelledError)

    async def test_what_a_function_sets_is_seen_by_the_loop_and_by_the_next_one(self, thread: Thread):
        def set_to(value: str) -> None:
            seen.set(value)

        await thread.call(set_to, "by a thread")
        assert (seen.get(), await thread.call(seen.get)) == ("by a thread", "by a thread")

        seen.set("by the loop")
        assert await thread.call(seen.get) == "by the loop"


class TestDependencies:
    async def test_synchronous_functions_run_in_threads_and_the_rest_in_the_loop(self, thread: CountedThread):
        class Settings:
            def __init__(self) -> None:
                self.where = here()

        def make_client() -> Client:
            return Client()

        def make_unannounced():  # nobody knows what it gives until it is called
            return Client()

        def later() -> Awaitable[str]:
            return connect()

        def unannounced_later():
            return connect()

        async def connect() -> str:
            return here()

        @asynccontextmanager
        async def manage_async() -> AsyncGenerator[str, None]:
            yield here()

        def generate_async():
            async def generate() -> AsyncGenerator[str, None]:
                yield here()

            return generate()

        @contextmanager
        def manage() -> Generator[str, None, None]:
            yield here()

        def generate() -> Generator[str, None, None]:
            yield here()

        def give_generator():
            return generate()

        def plainly() -> str:
            return here()

        async def task(
            settings: Settings = Depends(Settings),
            made: Any = Depends(make_client),
            unannounced: Any = Depends(make_unannounced),
            later: str = Depends(later),
            unannounced_later: Any = Depends(unannounced_later),
            connected: str = Depends(connect),
            managed_async: str = Depends(manage_async),
            generated_async: Any = Depends(generate_async),
            managed: str = Depends(manage),
            generated: str = Depends(generate),
            given: Any = Depends(give_generator),
            plain: str = Depends(plainly),
            part: str = Depends(partial(plainly)),
        ) -> list[Any]:
            return [
                settings.where, made, unannounced, later, unannounced_later, connected, managed_async, generated_async,
                managed, generated, given, plain, part,
            ]  # fmt: skip

        assert await run(task, thread) == ["loop", "loop", "thread", "loop", "loop", "loop", "loop", "loop", "thread", "thread", "thread", "thread", "thread"]

    async def test_a_class_that_is_a_context_manager_is_entered_in_a_thread(self, thread: CountedThread):
        class File:
            def __enter__(self) -> str:
                return here()

            def __exit__(self, *details: object) -> None:
                left.append(here())

        left: list[str] = []

        async def task(file: str = Depends(File)) -> str:
            return file

        assert (await run(task, thread), left) == ("thread", ["thread"])

    async def test_neighbours_share_one_visit_to_a_thread(self, thread: CountedThread):
        def settings() -> str:
            return "settings"

        def connect(settings: str = Depends(settings)) -> Generator[str, None, None]:
            told.append("connect")
            yield f"connection by {settings}"
            told.append("disconnect")

        def begin(connection: str = Depends(connect)) -> Generator[str, None, None]:
            told.append("begin")
            yield f"transaction on a {connection}"
            told.append("commit")

        told: list[str] = []

        async def task(transaction: str = Depends(begin)) -> str:
            told.append("task")
            return transaction

        assert await run(task, thread) == "transaction on a connection by settings"
        assert told == ["connect", "begin", "task", "commit", "disconnect"]
        assert thread.visits == 2

    async def test_failures_are_told_by_parameter_and_what_was_entered_is_left(self, thread: CountedThread):
        def connect() -> Generator[str, None, None]:
            yield "connection"
            raise AssertionError("not left by an error")

        def careful() -> Generator[str, None, None]:
            try:
                yield "careful"
            except DependencyFailed as exc:
                told.append(type(exc).__name__)
                raise OSError("left badly") from exc

        def broken() -> str:
            raise ConnectionError("nobody there")

        def on_broken(broken: str = Depends(broken)) -> str:
            raise AssertionError("called")

        async def late_failure(broken: str = Depends(broken)) -> str:
            raise AssertionError("called")

        told: list[str] = []

        async def task(
            connection: str = Depends(connect), careful: str = Depends(careful), one: str = Depends(on_broken), other: str = Depends(late_failure)
        ) -> None: ...

        with pytest.raises(OSError, match="left badly") as raised:
            await run(task, thread)

        assert told == ["DependencyFailed"]
        assert "parameter(s): one, other (ConnectionError: nobody there)" in str(raised.value.__cause__)

    async def test_a_verdict_of_a_dependency_passes_through_a_thread(self, thread: CountedThread):
        from docket.dependencies._base import Verdict

        class Enough(Verdict): ...

        def decide() -> str:
            raise Enough

        async def task(decision: str = Depends(decide)) -> None: ...

        with pytest.raises(Enough):
            await run(task, thread)

    async def test_a_generator_may_reset_what_it_set(self, thread: CountedThread):
        def by_thread() -> Generator[str, None, None]:
            token = seen.set("set in a thread")
            yield seen.get()
            seen.reset(token)

        async def by_loop(before: str = Depends(by_thread)) -> AsyncGenerator[str, None]:
            token = seen.set(f"{seen.get()}, then in the loop")
            yield seen.get()
            seen.reset(token)

        def look(before: str = Depends(by_loop)) -> str:
            return seen.get()

        async def task(seen_there: str = Depends(look)) -> tuple[str, str]:
            return seen_there, seen.get()

        assert await run(task, thread) == ("set in a thread, then in the loop",) * 2

    async def test_what_a_worker_shares_is_made_and_closed_in_threads_too(self, thread: CountedThread):
        def pool() -> Generator[str, None, None]:
            yield here()
            closed.append(here())

        async def task(pool: str = Shared(pool)) -> str:
            return pool

        closed: list[str] = []
        async with SharedContext(thread) as shared:
            resolved = compile_plan(task, "task").begin(an_execution(task))
            async with resolved.dependencies(docket=DOCKET, worker=WORKER, shared=shared) as arguments:
                made = await task(**arguments)

        assert (made, closed) == ("thread", ["thread"])


class TestWorkers:
    async def test_a_task_that_exits_its_thread_fails_and_the_worker_goes_on(self, docket: Docket, worker: Worker):
        @docket.task
        def leave() -> None:
            sys.exit("enough")

        @docket.task
        def stay() -> str:
            return "here"

        left, stayed = await leave.schedule(), await stay.schedule()
        await worker.run_until_finished()

        await left.sync()
        assert (left.state, left.error) == (ExecutionState.FAILED, "SystemExit: enough")
        assert await stayed.get_result() == "here"

    async def test_a_cancelled_task_ends_cancelled_once_its_thread_has_ended(self, docket: Docket):
        begun, finish = threading.Event(), threading.Event()

        @docket.task
        def work() -> str:
            begun.set()
            assert finish.wait(20)
            return "of no use"

        async with at_work(docket, concurrency=1):
            execution = await work.schedule()
            await eventually(begun.is_set)
            await docket.cancel(execution.key)
            await asyncio.sleep(0.1)
            await execution.sync()
            assert execution.state is ExecutionState.RUNNING
            finish.set()

            async def ended() -> bool:
                await execution.sync()
                return execution.state is ExecutionState.CANCELLED

            await eventually(ended)

    async def test_leaving_a_worker_waits_for_its_threads(self, docket: Docket):
        begun, finish = threading.Event(), threading.Event()

        @docket.task
        def work() -> str:
            begun.set()
            assert finish.wait(20)
            return "done"

        async with at_work(docket) as worker:
            execution = await work.schedule()
            await eventually(begun.is_set)
            worker.stop()
            asyncio.get_running_loop().call_later(0.1, finish.set)

        assert await execution.get_result() == "done"

    @pytest.mark.parametrize(("options", "count"), [({"concurrency": 7}, 7), ({"concurrency": 7, "threads": 3}, 3)])
    async def test_a_worker_has_as_many_threads_as_it_runs_tasks_unless_it_is_told(self, docket: Docket, options: dict[str, Any], count: int):
        running, most, enough = 0, 0, threading.Event()
        lock = threading.Lock()

        @docket.task
        def work() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                if running == count:
                    enough.set()
            assert enough.wait(20)
            with lock:
                running -= 1

        await docket.add_many(work.call() for _ in range(10))
        async with Worker(docket, **options) as worker:
            await worker.run_until_finished()

        assert most == count

    async def test_a_fallback_may_be_synchronous_and_give_way_to_a_context_manager(self, docket: Docket):
        def manage() -> AbstractAsyncContextManager[str]:
            @asynccontextmanager
            async def managed() -> AsyncGenerator[str, None]:
                yield here()

            return managed()

        def fallback(*args: Any, where: str = Depends(manage)) -> list[str]:
            return [here(), where]

        async with Worker(docket, fallback_task=fallback) as worker:
            execution = await docket.add("stranger")(1)
            await worker.run_until_finished()

        assert await execution.get_result() == ["thread", "loop"]
