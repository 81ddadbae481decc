"""The docket for blocking code: from any thread, beside event loops, across forks, and until the process ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from docket import CurrentDocket, Disposition, Docket, Execution, ExecutionCancelled, ExecutionState, Progress, SyncClient, TaskKey, Timeout
from docket.errors import InvalidArguments, NotEntered, RedisUnavailable, ResultTimeout, WouldBlock
from docket.testing import run_task
from tests._servers import RedisServer
from tests._telemetry import metered, traced
from tests._waiting import eventually
from tests.worker._hands import at_work
from tests.worker.test_poison import killed

ROOT = Path(__file__).parent.parent
SOON = timedelta(seconds=20)
HOUR = timedelta(hours=1)


def threads_of(docket: Docket) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"docket client {docket.name}"]


async def greet(name: str) -> str:
    return f"hello, {name}"


@pytest.fixture
def client(docket_name: str, url: str) -> Generator[SyncClient, None, None]:
    """This is a client whose docket nobody else has entered."""
    docket = Docket(docket_name, url=url)
    docket.register(greet)
    with docket.sync() as client:
        yield client


# Scheduling, in a program without any event loop


def test_it_schedules_as_the_docket_does(client: SyncClient):
    execution = client.add(greet, when=HOUR, key="k")("Ada")

    assert (execution.key, execution.function_name, execution.state) == ("k", "greet", ExecutionState.SCHEDULED)
    assert (execution.args, execution.kwargs, execution.attempt) == (("Ada",), {}, 1)
    assert execution.disposition is Disposition.SCHEDULED
    assert execution.when > datetime.now(timezone.utc) + timedelta(minutes=59)
    assert repr(execution) == f"<SyncExecution greet{{k}} scheduled, generation {execution.execution.generation}>"
    assert client.add("greet", key="k")("Grace").disposition is Disposition.ALREADY_SCHEDULED
    assert client.docket.name in repr(client)


def test_arguments_are_checked_before_anything_is_written(client: SyncClient):
    add: Any = client.add(greet)

    with pytest.raises(InvalidArguments):
        add("Ada", "Grace")

    assert client.counts().queued == 0


def test_it_replaces(client: SyncClient):
    first = client.add(greet, when=HOUR, key="k")("Ada")
    second = client.replace(greet, when=2 * HOUR, key="k")("Grace")

    assert first.is_superseded()
    assert not second.is_superseded()
    found = client.get_execution("k")
    assert found is not None and found.args == ("Grace",)
    assert client.get_execution("other") is None


def test_it_schedules_and_replaces_many(client: SyncClient):
    calls = [client.docket.call(greet, HOUR, f"k{number}")(str(number)) for number in range(3)]

    assert [execution.key for execution in client.add_many(calls)] == ["k0", "k1", "k2"]
    assert [execution.disposition for execution in client.add_many(calls, chunk_size=1)] == [Disposition.ALREADY_SCHEDULED] * 3
    assert [execution.disposition for execution in client.replace_many(calls)] == [Disposition.SCHEDULED] * 3
    failed = client.add_many([client.docket.call(greet)(threading.Lock())])  # pyright: ignore[reportArgumentType]
    assert failed[0].schedule_exception is not None


def test_a_handle_is_scheduled_by_its_call_or_by_its_own_method(client: SyncClient):
    handle = client.docket.task(greet)

    assert client.schedule(handle.options(key="one", when=HOUR).call("Ada")).key == "one"
    assert client.run(handle.schedule("Ada", key="two", when=HOUR)).key == "two"
    assert client.add(handle, HOUR, "three")(name="Ada").kwargs == {"name": "Ada"}


def test_it_changes_what_was_scheduled(client: SyncClient):
    execution = client.add(greet, when=HOUR, key="k")("Ada")

    execution.reschedule(2 * HOUR)
    assert execution.when > datetime.now(timezone.utc) + HOUR
    execution.promote()
    execution.sync()
    assert execution.state is ExecutionState.QUEUED
    execution.cancel()
    with pytest.raises(ExecutionCancelled):
        execution.get_result()
    again = execution.retry()
    assert again.state is ExecutionState.QUEUED
    client.cancel("k")
    again.sync()
    assert again.state is ExecutionState.CANCELLED


def test_it_lists_counts_and_clears(client: SyncClient):
    for number in range(3):
        client.add(greet, when=HOUR, key=f"k{number}")("Ada")

    assert {execution.key for execution in client.executions(state="scheduled")} == {"k0", "k1", "k2"}
    assert len(client.run(client.docket.executions(state="scheduled").page(size=2)).executions) == 2
    assert client.counts().scheduled == client.snapshot().total_tasks == 3
    assert client.workers() == client.task_workers("greet") == []
    assert client.clear() == 3


def test_it_strikes_and_restores(client: SyncClient):
    assert client.strike(greet, "name", "==", "Ada")
    assert client.add(greet)("Ada").disposition is Disposition.STRUCK
    assert client.restore(greet, "name", "==", "Ada")
    assert client.add(greet)("Ada").disposition is Disposition.SCHEDULED


def test_conditions_of_the_dockets_own_hold_as_well(client: SyncClient):
    def is_ada(execution: Execution[Any]) -> bool:
        return execution.args == ("Ada",)

    client.docket.strike_list.add_condition(is_ada)

    assert client.add(greet)("Ada").disposition is Disposition.STRUCK
    assert client.add(greet)("Grace").disposition is Disposition.SCHEDULED


# Results, from a worker in an event loop of this process


async def test_a_thread_waits_for_a_result_beside_the_event_loop_in_which_the_docket_is_entered(docket: Docket):
    docket.register(greet)

    def blocking() -> str:
        with docket.sync() as client:
            execution = client.add(greet)("Ada")
            result = execution.get_result(timeout=SOON)
            execution.sync()
            assert execution.started_at and execution.completed_at and execution.worker and execution.error is None
            return result

    async with at_work(docket):
        assert await asyncio.to_thread(blocking) == "hello, Ada"


async def test_failures_come_back_and_dead_letters_run_again(docket: Docket):
    lucky = False

    @docket.task
    async def fails() -> str:
        if not lucky:
            raise LookupError("not yet")
        return "now"

    def blocking() -> None:
        nonlocal lucky
        with docket.sync() as client:
            with pytest.raises(LookupError, match="not yet"):
                client.add(fails, key="k")().get_result(timeout=SOON)
            with pytest.raises(LookupError, match="not yet"):
                client.add(fails, key="other")().get_result(timeout=SOON)
            assert sorted(letter.key for letter in client.dead_letters()) == ["k", "other"]
            lucky = True
            [letter] = client.dead_letters(key_prefix="k")
            assert client.run(letter.retry()).get_result(timeout=SOON) == "now"
            [again] = client.retry_dead_letters()
            assert again.get_result(timeout=SOON) == "now"

    async with at_work(docket):
        await asyncio.to_thread(blocking)


async def test_a_wait_has_a_limit(docket: Docket):
    def blocking() -> None:
        with docket.sync() as client, pytest.raises(ResultTimeout):
            client.add("unheard of", when=HOUR)().get_result(timeout=timedelta(milliseconds=10))

    await asyncio.to_thread(blocking)


async def test_a_thread_follows_one_task_and_all(docket: Docket):
    @docket.task
    async def counts(progress: Any = Progress()) -> None:
        await progress.set_total(2)
        await progress.increment(2)

    def blocking() -> None:
        with docket.sync() as client:
            execution = client.add(counts, when=timedelta(milliseconds=100), key="k")()
            states: list[ExecutionState] = []
            for event in execution.subscribe():
                if event["type"] == "state":
                    states.append(event["state"])
                if states[-1] is ExecutionState.COMPLETED:
                    break
            assert states[-2:] == [ExecutionState.RUNNING, ExecutionState.COMPLETED]
            execution.sync()
            assert (execution.progress.current, execution.progress.total) == (2, 2)

            heard = threading.Event()

            def goes_on() -> None:  # what is scheduled before it listens, it does not hear
                while not heard.wait(0.05):
                    client.add(counts)()

            scheduling = threading.Thread(target=goes_on)
            scheduling.start()
            events = client.events(include_progress=True)
            missing = {"state", "progress"}
            while missing:
                missing -= {next(events)["type"]}
            events.close()
            heard.set()
            scheduling.join()

    async with at_work(docket):
        await asyncio.to_thread(blocking)


async def test_a_task_in_a_thread_schedules_and_may_schedule_its_successor(docket: Docket):
    @docket.task
    def count_down(number: int, key: str = TaskKey(), home: Docket = CurrentDocket()) -> int:
        if number:
            assert home.sync().add(count_down, key=key)(number - 1).disposition is Disposition.SCHEDULED
        return number

    @docket.task
    def asks(home: Docket = CurrentDocket()) -> str:
        return home.sync().add(greet)("Ada").get_result(timeout=SOON)

    docket.register(greet)
    async with at_work(docket):
        assert await (await docket.add(asks)()).get_result(timeout=SOON) == "hello, Ada"
        await docket.add(count_down, key="countdown")(3)

        async def is_down() -> bool:
            execution = await docket.get_execution("countdown")
            return execution is not None and execution.args == (0,) and execution.state is ExecutionState.COMPLETED

        await eventually(is_down)
    docket.sync().leave()


async def test_a_task_that_is_to_run_alone_lets_the_one_it_waits_for_run(docket: Docket):
    """Its worker died while it ran."""

    @docket.task
    def asks(home: Docket = CurrentDocket(), timeout: Timeout = Timeout(SOON)) -> str:
        return home.sync().add(greet)("Ada").get_result(timeout=SOON)

    docket.register(greet)
    execution = await docket.add(asks)()
    await killed(docket, alone=True)

    async with at_work(docket):
        assert await execution.get_result(timeout=SOON) == "hello, Ada"
    docket.sync().leave()


async def test_a_task_under_test_schedules_where_the_test_sees_it(docket: Docket):
    docket.register(greet)

    @docket.task
    def asks() -> str:
        return docket.sync().add(greet, when=HOUR)("Ada").key

    run = await run_task(asks)

    assert [later.key for later in run.scheduled] == [run.result]
    assert await docket.get_execution(str(run.result)) is None


# Connecting and disconnecting


def test_it_connects_when_it_is_first_used_and_stays_so(docket_name: str, url: str):
    client = (docket := Docket(docket_name, url=url)).sync()
    assert not client.is_open
    assert threads_of(docket) == []

    assert client.counts().queued == 0
    [thread] = threads_of(docket)
    assert docket.sync() is client
    assert docket.sync().counts().queued == 0
    assert threads_of(docket) == [thread]
    assert client.is_open

    client.close()
    client.close()
    assert threads_of(docket) == []
    assert client.counts().queued == 0
    client.close()


def test_it_is_connected_until_the_last_who_entered_it_has_left(docket_name: str, url: str):
    docket = Docket(docket_name, url=url)

    with docket.sync() as client:
        with docket.sync() as other:
            assert other is client
        assert client.is_open
    assert not client.is_open
    assert threads_of(docket) == []


async def test_a_client_that_is_closed_lets_calls_come_to_their_end(docket: Docket):
    begun = threading.Event()
    finish = asyncio.Event()

    @docket.task
    async def waits() -> str:
        await finish.wait()
        return "done"

    def blocking() -> str:
        execution = docket.sync().add(waits)()
        begun.set()
        return execution.get_result(timeout=SOON)

    async with at_work(docket):
        waiting = asyncio.create_task(asyncio.to_thread(blocking))
        await asyncio.to_thread(begun.wait)
        with ThreadPoolExecutor(1) as pool:
            await asyncio.wrap_future(pool.submit(docket.sync().close))
        assert len(threads_of(docket)) == 1
        finish.set()
        assert await waiting == "done"
    await eventually(lambda: threads_of(docket) == [])


def test_many_threads_share_one_connection(docket_name: str, url: str):
    docket = Docket(docket_name, url=url)
    docket.register(greet)
    seen: set[str] = set()

    def adds(number: int) -> str:
        execution = docket.sync().add(greet, when=HOUR, key=f"k{number}")("Ada")
        seen.update(thread.name for thread in threads_of(docket))
        assert len(threads_of(docket)) == 1
        return execution.key

    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(adds, range(200)))

    assert len(keys) == docket.sync().counts().scheduled == 200
    docket.sync().clear()
    docket.sync().close()


def test_nothing_is_left_of_a_client_that_could_not_connect(docket_name: str, redis_server: RedisServer):
    docket = Docket(docket_name, url="redis://127.0.0.1:1")

    for _ in range(2):
        with pytest.raises(RedisUnavailable):
            docket.sync().counts()
    threads = threads_of(docket)

    for thread in threads:
        thread.join()
    docket.reconfigure(url=redis_server.url)
    with docket.sync() as client:
        assert client.counts().queued == 0


async def test_where_an_event_loop_runs_it_says_what_to_do_instead(docket: Docket):
    client = docket.sync()

    attempts: list[Callable[[], object]] = [
        client.counts,
        client.__enter__,
        lambda: client.add(greet)("Ada"),
        lambda: client.run(docket.counts()),
        lambda: next(client.events()),
    ]
    for attempt in attempts:
        with pytest.raises(WouldBlock, match=r"await docket\.add"):
            attempt()
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with pytest.raises(WouldBlock):
        client.run(answered)


def test_options_do_not_change_while_it_is_connected(docket_name: str, url: str):
    docket = Docket(docket_name, url=url)

    with docket.sync(), pytest.raises(NotEntered):
        docket.reconfigure(execution_ttl=HOUR)
    docket.reconfigure(execution_ttl=HOUR)

    with docket.sync() as client:
        assert client.counts().queued == 0


def test_whatever_is_raised_there_is_raised_here(client: SyncClient):
    async def leaves() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        client.run(leaves())

    assert client.counts().queued == 0


def test_anything_that_is_iterated_asynchronously_can_be_followed(client: SyncClient):
    class CountDown:
        def __init__(self) -> None:
            self.left = 3

        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    assert list(client.each(CountDown)) == [2, 1, 0]


def test_who_is_interrupted_while_waiting_waits_no_more(client: SyncClient, monkeypatch: pytest.MonkeyPatch):
    cancelled = threading.Event()
    started = threading.Event()

    async def lasts() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    def interrupted(self: Future[Any], timeout: float | None = None) -> Any:
        if self.done():  # it is open
            return None
        started.wait()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.run(lasts())

    assert cancelled.wait(20)


# Spans and counters


def test_what_it_does_belongs_to_the_callers_trace_and_is_counted(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    with metered(monkeypatch) as metrics, traced(monkeypatch) as spans:
        docket = Docket(docket_name, url=url)
        docket.register(greet)
        with docket.sync() as client, trace.get_tracer_provider().get_tracer("test").start_as_current_span("view") as view:
            client.add(greet, when=HOUR)("Ada")
        assert metrics.total("docket_tasks_added", docket_name=docket_name) == 1
        context = spans.one("docket.add").context
        assert context is not None and context.trace_id == view.get_span_context().trace_id
    with docket.sync() as client:
        client.clear()


# Processes


def run(program: str, *arguments: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(program)
    return subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore:This process:DeprecationWarning",
            str(tmp_path / "program.py"),
            *arguments,
        ],  # which is multi-threaded, and forks
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


AT_EXIT = """
import asyncio, sys, threading, time
from datetime import timedelta
from docket import Docket

docket = Docket(sys.argv[1], url=sys.argv[2])

@docket.task
def job() -> None: ...

execution = docket.sync().add(job, when=timedelta(hours=1), key="k")()
began = threading.Event()

def waits():
    began.set()
    execution.get_result()

threading.Thread(target=waits, daemon=True).start()
threading.Thread(target=lambda: docket.sync().run(asyncio.sleep(60)), daemon=True).start()
began.wait()
time.sleep(0.05)
print("scheduled", execution.key)
"""


def test_a_script_ends_although_it_never_closed_its_client(docket_name: str, url: str, tmp_path: Path):
    done = run(AT_EXIT, docket_name, url, tmp_path=tmp_path)

    assert (done.returncode, done.stdout) == (0, "scheduled k\n"), done.stderr
    assert done.stderr == ""


PREFORK = """
import os, sys
from datetime import timedelta
from docket import Docket

docket = Docket(sys.argv[1], url=sys.argv[2])

@docket.task
def job(number: int) -> None: ...

def add(number):
    assert docket.sync().add(job, when=timedelta(hours=1), key=f"k{number}")(number).args == (number,)

add(0)
children = []
for number in range(1, 4):
    child = os.fork()
    if not child:
        add(number)
        if number == 3:
            sys.exit(0)
        os._exit(0)
    children.append(child)
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
add(4)
print(docket.sync().counts().scheduled)
docket.sync().clear()
"""


@pytest.mark.only_server("what a child adds to an engine in memory stays in the child")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_forked_children_connect_for_themselves(docket_name: str, redis_server: RedisServer, tmp_path: Path):
    """As a server does that loads the application and then forks its workers."""
    done = run(PREFORK, docket_name, redis_server.url, tmp_path=tmp_path)

    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
