"""Running one task in a test: through a worker, at once, on a docket that nobody else sees."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from docket import (
    Cancel,
    ConcurrencyLimit,
    Cooldown,
    Cron,
    CurrentDocket,
    CurrentExecution,
    CurrentWorker,
    Debounce,
    Depends,
    Discard,
    Docket,
    Execution,
    ExecutionCancelled,
    ExecutionState,
    Perpetual,
    Progress,
    RateLimit,
    Retry,
    Shared,
    Snooze,
    TaskKey,
    TaskLogger,
    Timeout,
    Worker,
    task,
)
from docket.dependencies import CompletionHandler, FailureHandler, TaskOutcome
from docket.errors import DependencyFailed, DependencyNotGiven, DocketError, InvalidArguments, NoDocket, NotEntered, NotSerializable, UnknownTask
from docket.testing import LogLine, ProgressReport, TaskProgress, assert_no_tasks, run_task

HOUR = timedelta(hours=1)
TOMORROW = datetime.now(timezone.utc) + timedelta(days=1)


@pytest.fixture
def app() -> Docket:
    """This is an application's docket, whose server is not there."""
    return Docket("app", "redis://localhost:1/0")


async def double(number: int) -> int:
    return 2 * number


# What may be run


async def test_a_handle_is_run_without_its_server(app: Docket):
    send = app.task(double)

    run = await run_task(send, 4)

    assert run.result == run.returned == 8
    assert (run.task, run.args, run.kwargs, run.attempt) == ("double", (4,), {}, 1)
    assert (run.state, run.exception, run.retry_at, run.next_at) == (ExecutionState.COMPLETED, None, None, None)
    assert (run.scheduled, run.logs, run.progress) == ([], [], TaskProgress())
    assert run.started_at == run.ended_at  # its clock stands still
    assert repr(run) == f"<TaskRun double{{{run.key}}} completed>"
    assert not app.is_entered


async def test_a_plain_function_and_a_handle_of_no_docket_are_run_too():
    @task
    async def ambient(number: int) -> int:
        return number + 1

    def in_a_thread(number: int) -> tuple[int, str]:
        return number, threading.current_thread().name

    assert (await run_task(double, number=4)).result == 8
    assert (await run_task(ambient, 1)).result == 2
    result = (await run_task(in_a_thread, 3)).result
    assert result[0] == 3 and result[1] != threading.current_thread().name


async def test_a_call_is_run_with_its_key_and_now_whatever_its_time(app: Docket):
    @app.task
    async def tell(docket: str, overrides: int, key: str = TaskKey()) -> tuple[str, int, str]:
        return docket, overrides, key

    run = await run_task(app.call(tell, when=TOMORROW, key="k")(docket="d", overrides=1))

    assert run.result == ("d", 1, "k")
    assert run.key == "k"
    assert (await run_task(tell.call("d", 1))).kwargs == {}
    with pytest.raises(InvalidArguments, match="has its arguments already"):
        await run_task(tell.call("d", 1), 1)


async def test_what_add_gives_is_run_on_its_docket(app: Docket):
    scheduler = app.add(double, when=TOMORROW)

    assert (await run_task(scheduler, 2)).result == 4


async def test_a_name_is_run_on_the_docket_given_or_entered(app: Docket, docket: Docket):
    app.task(name="twice")(double)
    docket.task(name="two times")(double)

    assert (await run_task("twice", 4, docket=app)).result == 8
    assert (await run_task("two times", 4)).result == 8
    with pytest.raises(UnknownTask, match="did you mean 'twice'"):
        await run_task("twise", 4, docket=app)


async def test_a_name_alone_needs_a_docket():
    with pytest.raises(NoDocket, match="docket=..."):
        await run_task("twice", 4)


async def test_a_task_of_another_docket_may_be_run_on_one(app: Docket):
    @task
    async def where(docket: Docket = CurrentDocket()) -> str:
        return docket.name

    assert (await run_task(where, docket=app)).result == "app"
    assert app.tasks["where"] is where.function


async def test_names_of_run_tasks_own_are_not_passed_on_unnoticed(app: Docket):
    @app.task
    async def report(docket: str = "main", raises: int = 0, overrides: str = "") -> tuple[str, int]:
        return docket, raises

    not_a_docket: Any = "d"
    assert (await run_task(report)).result == ("main", 0)
    given: list[dict[str, Any]] = [{"docket": not_a_docket}, {"docket": app}, {"raises": False}, {"overrides": {}}]
    for own in given:
        with pytest.raises(InvalidArguments, match=r"is run_task's own; .* write run_task\(task.call"):
            await run_task(report, **own)


async def test_arguments_are_checked_and_travel_as_in_production(app: Docket):
    send = app.task(double)

    with pytest.raises(InvalidArguments, match="missing a required argument: 'number'"):
        await run_task(send, numbre=4)
    with pytest.raises(NotSerializable):
        await run_task(send, threading.Lock())


async def test_the_message_for_a_direct_call_leads_here(app: Docket):
    @app.task
    async def where(docket: Docket = CurrentDocket()) -> str:
        return docket.name

    with pytest.raises(DependencyNotGiven, match=r"testing\.run_task\(where, \.\.\.\)"):
        await where()
    assert (await run_task(where)).result == "app"


# How it is run


async def test_dependencies_are_resolved_and_closed(app: Docket):
    steps: list[str] = []

    @asynccontextmanager
    async def session(key: str = TaskKey()) -> AsyncGenerator[str, None]:
        steps.append(f"open {key}")
        yield "session"
        steps.append("close")

    async def pool() -> str:
        steps.append("pool")
        return "pool"

    @app.task
    async def store(
        number: int,
        db: str = Depends(session),
        shared: str = Shared(pool),
        docket: Docket = CurrentDocket(),
        worker: Worker = CurrentWorker(),
        execution: Execution[Any] = CurrentExecution(),
    ) -> tuple[str, str, bool, str]:
        steps.append("body")
        return db, shared, docket is app and docket.is_entered and execution.docket is app, worker.name

    run = await run_task(store.call(1))

    assert run.result == ("session", "pool", True, "run_task")
    assert sorted(steps) == sorted([f"open {run.key}", "pool", "body", "close"])


async def test_overrides_stand_in_for_dependencies(app: Docket):
    async def get_db() -> str:
        raise AssertionError("the real one")

    async def users(db: str = Depends(get_db)) -> str:
        return f"users of {db}"

    @app.task
    async def load(found: str = Depends(users)) -> str:
        return found

    assert (await run_task(load, overrides={get_db: lambda: "a fake"})).result == "users of a fake"
    with app.override(users, lambda: "nobody"):
        assert (await run_task(load)).result == "nobody"
    with pytest.raises(DependencyFailed):
        await run_task(load)


async def test_behaviours_act_as_in_production(app: Docket):
    @app.task
    @ConcurrencyLimit(1)
    @Cooldown(HOUR)
    @RateLimit(1, per=HOUR)
    async def limited() -> str:
        return "ran"

    @app.task
    async def slow(timeout: Timeout = Timeout(timedelta(milliseconds=20))) -> None:
        await asyncio.sleep(10)

    assert [(await run_task(limited)).result for _ in range(2)] == ["ran"] * 2  # one run knows nothing of another
    with pytest.raises(asyncio.TimeoutError, match="longer than its timeout"):
        await run_task(slow)


async def test_a_debounce_is_taken_to_be_quiet(app: Docket):
    @app.task
    @Debounce(HOUR)
    async def reindex(docket: Docket = CurrentDocket()) -> datetime:
        return docket.clock.now()

    before = datetime.now(timezone.utc)

    assert (await run_task(reindex)).result >= before + HOUR


async def test_the_results_stay_out_of_the_applications_storage():
    class Storage:
        async def put(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("put")

        async def get(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("get")

    app = Docket("app", "redis://localhost:1/0", result_storage=Storage(), execution_ttl=timedelta(0))

    assert (await run_task(app.task(double), 2)).result == 4
    assert app.result_storage is not None


async def test_several_run_at_the_same_time_and_know_nothing_of_each_other(app: Docket):
    @app.task
    async def outer(number: int, logger: TaskLogger = TaskLogger()) -> int:
        logger.info("outer", number=number)
        await asyncio.sleep(0.01)
        await outer.schedule(number)
        return (await run_task(inner, number)).result

    @app.task
    async def inner(number: int, logger: TaskLogger = TaskLogger()) -> int:
        logger.info("inner", number=number)
        await inner.schedule(number)
        return number

    runs = await asyncio.gather(*(run_task(outer, number) for number in range(5)))

    assert [run.result for run in runs] == list(range(5))
    assert [[line.fields["number"] for line in run.logs] for run in runs] == [[number] for number in range(5)]
    assert [[(each.function_name, each.args) for each in run.scheduled] for run in runs] == [[("outer", (number,))] for number in range(5)]


# What it scheduled


async def test_what_it_scheduled_is_told_and_goes_nowhere(docket: Docket):
    """The docket is entered, on a server too, and stays empty."""

    @docket.task
    async def charge(order: int) -> None: ...

    @docket.task
    async def remind(order: int, *, polite: bool) -> None: ...

    @docket.task
    async def place(order: int, here: Docket = CurrentDocket()) -> None:
        await charge.schedule(order)
        await docket.add(remind, when=HOUR, key="remind")(order, polite=True)
        await here.add_many([docket.call(charge)(7)])
        await here.add("elsewhere")(1)
        await charge.replace(8, key="remind")
        await charge.schedule(9, key="remind")  # live already: nothing is scheduled
        async with docket:
            await docket.cancel("remind")

    run = await run_task(place, 12)

    told = [(each.function_name, each.args, each.kwargs) for each in run.scheduled]
    assert told == [
        ("charge", (12,), {}),
        ("remind", (12,), {"polite": True}),
        ("charge", (7,), {}),
        ("elsewhere", (1,), {}),
        ("charge", (8,), {}),
    ]
    assert run.scheduled[1].key == "remind"
    assert run.scheduled[0].when == run.started_at
    assert run.scheduled[1].when == run.started_at + HOUR
    assert await docket.store.delivery.depth() == (0, 0)
    await assert_no_tasks(docket)


async def test_afterwards_the_docket_is_where_it_was(app: Docket):
    run = await run_task(app.task(double), 1)

    assert run.result == 2
    with pytest.raises(NotEntered, match="not entered"):
        await app.get_execution(run.key)


# Logs and progress


async def test_its_logs_are_told_whatever_the_level(app: Docket, caplog: pytest.LogCaptureFixture):
    around, below = logging.getLogger("docket.task"), logging.getLogger("docket.task.orders")

    def helper() -> None:
        below.warning("In a thread", extra={"place": "thread"})

    @app.task
    async def place(order: int, logger: TaskLogger = TaskLogger()) -> None:
        logger.debug("Order placed", order=order, name="x")
        logger.bind(user="ada").info("Charged %d %%", 5, amount=100, extra={"currency": "EUR"})
        below.info("A plain line %s", 1)
        await asyncio.to_thread(helper)
        try:
            raise ValueError("broken")
        except ValueError:
            logger.exception("It broke")
        logging.getLogger("elsewhere").warning("not a task's")

    handlers, level = around.handlers, around.level
    with caplog.at_level(logging.WARNING, "docket.task"):
        run = await run_task(place, 12)
        assert (around.handlers, around.level, around.propagate) == (handlers, logging.WARNING, True)
    assert around.level == level

    assert run.logs == [
        LogLine("DEBUG", "Order placed", {"order": 12, "name": "x"}),
        LogLine("INFO", "Charged 5 %", {"user": "ada", "amount": 100, "currency": "EUR"}),
        LogLine("INFO", "A plain line 1"),
        LogLine("WARNING", "In a thread", {"place": "thread"}),
        LogLine("ERROR", "It broke"),
    ]
    assert run.logs[0].logger == "docket.task.place"
    assert isinstance(run.logs[4].exception, ValueError)
    assert [record.message for record in caplog.records] == ["In a thread", "It broke", "not a task's"]


async def test_the_applications_logging_sees_what_it_would_see_anyway(app: Docket, caplog: pytest.LogCaptureFixture):
    own: list[str] = []

    class Own(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            own.append(record.getMessage())

    around, chatty = logging.getLogger("docket.task"), logging.getLogger("docket.task.chatty")
    handler, deaf = Own(), Own(logging.CRITICAL)
    caplog.set_level(logging.WARNING, "docket.task")
    caplog.set_level(logging.DEBUG, "docket.task.chatty")
    around.addHandler(handler)
    around.addHandler(deaf)

    @app.task
    async def talk(logger: TaskLogger = TaskLogger()) -> None:
        logger.info("unheard")
        chatty.debug("heard: its logger is on")
        logger.warning("heard")
        logging.getLogger("docket.task.chatty.deeper").debug("heard too")

    try:
        run = await run_task(talk)
        around.propagate = False
        again = await run_task(talk)
    finally:
        around.propagate = True
        around.removeHandler(handler)
        around.removeHandler(deaf)

    heard = ["heard: its logger is on", "heard", "heard too"]
    assert own == heard * 2
    assert [record.message for record in caplog.records] == heard
    assert [line.event for line in run.logs] == [line.event for line in again.logs] == ["unheard", *heard]


async def test_its_progress_is_told_report_by_report(app: Docket):
    @app.task
    async def copy(progress: Progress = Progress()) -> None:
        await progress.set_total(3)
        await progress.set_message("copying")
        await asyncio.to_thread(progress.increment)
        await progress.increment(2)

    @app.task
    async def by_hand(execution: Execution[Any] = CurrentExecution()) -> None:
        await execution.progress.set_message("by hand")
        other = await copy.schedule()
        await other.progress.set_message("not mine")

    run = await run_task(copy)

    assert (run.progress.current, run.progress.total, run.progress.message) == (3, 3, "copying")
    assert run.progress.history == [
        ProgressReport(0, 3),
        ProgressReport(0, 3, "copying"),
        ProgressReport(1, 3, "copying"),
        ProgressReport(3, 3, "copying"),
    ]
    assert (await run_task(by_hand)).progress == TaskProgress(0, 100, "by hand", [ProgressReport(0, 100, "by hand")])


# How it ends


class OutOfStock(Exception):
    def __init__(self, item: str) -> None:
        super().__init__(item)
        self.lock = threading.Lock()  # which no pickle takes


async def test_a_failure_is_raised_as_it_is(app: Docket):
    failure = OutOfStock("shoes")

    @app.task
    async def place() -> None:
        raise failure

    with pytest.raises(OutOfStock) as raised:
        await run_task(place)
    assert raised.value is failure


async def test_or_is_told(app: Docket):
    failure = OutOfStock("shoes")

    @app.task
    async def place(logger: TaskLogger = TaskLogger()) -> None:
        logger.info("about to fail")
        raise failure

    run = await run_task(place, raises=False)

    assert run.exception is failure
    assert (run.state, run.retry_at) == (ExecutionState.FAILED, None)
    assert [line.event for line in run.logs] == ["about to fail"]
    assert repr(run) == f"<TaskRun place{{{run.key}}} failed: OutOfStock('shoes')>"
    with pytest.raises(OutOfStock):
        _ = run.result


async def test_a_task_that_leaves_the_process_leaves_its_run_only(app: Docket):
    @app.task
    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await run_task(leave)


async def test_there_is_one_attempt_and_word_of_the_next(app: Docket):
    attempts: list[int] = []

    @app.task
    async def flaky(retry: Retry = Retry(attempts=3, delay=HOUR)) -> None:
        attempts.append(retry.attempt)
        raise ConnectionError

    @app.task
    async def at_once(retry: Retry = Retry(attempts=3)) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await run_task(flaky)
    run = await run_task(flaky, raises=False)

    assert attempts == [1, 1]
    assert run.state is ExecutionState.SCHEDULED
    assert run.retry_at == run.started_at + HOUR
    again = await run_task(at_once, raises=False)
    assert (again.state, again.retry_at) == (ExecutionState.QUEUED, again.ended_at)


async def test_a_body_that_decides_what_becomes_of_its_run_has_not_failed(app: Docket):
    @app.task
    async def later(retry: Retry = Retry(attempts=2)) -> None:
        retry.after(HOUR)

    @app.task
    async def snooze() -> None:
        raise Snooze(HOUR)

    @app.task
    async def cancel() -> None:
        raise Cancel("no longer wanted")

    @app.task
    async def cancel_itself() -> None:
        raise asyncio.CancelledError

    for waits in (later, snooze):
        run = await run_task(waits)
        assert run.retry_at == run.started_at + HOUR
        assert run.exception is not None
    run = await run_task(cancel)
    assert (run.state, str(run.exception)) == (ExecutionState.CANCELLED, "no longer wanted")
    run = await run_task(cancel_itself)
    assert run.state is ExecutionState.CANCELLED


async def test_one_that_gives_itself_up_has_failed(app: Docket):
    @app.task
    async def last(retry: Retry = Retry(attempts=1)) -> None:
        retry.after(HOUR)

    @app.task
    async def discard() -> None:
        raise Discard("the customer is gone")

    with pytest.raises(Discard, match="the customer is gone"):
        await run_task(discard)
    with pytest.raises(Exception, match="Retry after"):
        await run_task(last)


async def test_word_of_the_next_run_of_a_chain(app: Docket):
    @app.task
    async def beat(perpetual: Perpetual = Perpetual(every=HOUR)) -> None: ...

    @app.task
    async def ended(perpetual: Perpetual = Perpetual(every=HOUR)) -> None:
        perpetual.cancel()

    @app.task
    @Cron("30 2 * * *")
    async def nightly(docket: Docket = CurrentDocket()) -> datetime:
        return docket.clock.now()

    @app.task
    async def with_successor(key: str = TaskKey(), perpetual: Perpetual = Perpetual(every=HOUR)) -> None:
        await with_successor.schedule(key=key, when=2 * HOUR)

    run = await run_task(beat)
    assert run.next_at == run.started_at + HOUR
    assert (await run_task(ended)).next_at is None
    run = await run_task(nightly)
    assert run.next_at == Cron("30 2 * * *").next_time(run.result)
    run = await run_task(with_successor)
    assert run.next_at is None
    assert [each.when for each in run.scheduled] == [run.started_at + 2 * HOUR]


async def test_a_run_that_is_cancelled_or_replaced_by_its_own_body(app: Docket):
    @app.task
    async def cancel(docket: Docket = CurrentDocket(), key: str = TaskKey()) -> None:
        await docket.cancel(key)
        await asyncio.sleep(10)

    @app.task
    async def cancel_late(docket: Docket = CurrentDocket(), key: str = TaskKey(), retry: Retry = Retry(attempts=2)) -> None:
        try:
            await docket.cancel(key)
            await asyncio.sleep(10)
        finally:
            raise RuntimeError

    @app.task
    async def replace(key: str = TaskKey()) -> str:
        await replace.replace(key=key, when=HOUR)
        return "seen out"

    run = await run_task(cancel)
    assert run.state is ExecutionState.CANCELLED
    run = await run_task(cancel_late)
    assert (run.state, run.retry_at) == (ExecutionState.CANCELLED, None)
    run = await run_task(replace)
    assert (run.state, run.returned, len(run.scheduled)) == (ExecutionState.CANCELLED, "seen out", 1)
    with pytest.raises(ExecutionCancelled):
        _ = run.result


async def test_handlers_of_ones_own_are_asked(app: Docket):
    told: list[str] = []

    class Failed(FailureHandler):
        async def handle_failure(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
            told.append(repr(outcome.exception))
            return True

    class Ended(CompletionHandler):
        async def on_complete(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
            told.append("ended")
            return False

    @app.task
    async def place(failed: Failed = Failed(), ended: Ended = Ended()) -> None:
        raise OutOfStock("shoes")

    with pytest.raises(OutOfStock):
        await run_task(place)
    assert told == ["OutOfStock('shoes')", "ended"]


async def test_what_surrounds_a_run_and_fails_is_raised_too(app: Docket):
    class Broken(Retry):
        def next_attempt(self, outcome: TaskOutcome, now: datetime | None = None) -> timedelta | None:
            raise LookupError("in the behaviour")

    @app.task
    async def place(retry: Broken = Broken()) -> None:
        raise OutOfStock("shoes")

    with pytest.raises(LookupError, match="in the behaviour"):
        await run_task(place)


async def test_a_run_that_does_not_come_to_its_end_is_an_error(app: Docket, monkeypatch: pytest.MonkeyPatch):
    from docket._store.lifecycle import Lifecycle

    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Lifecycle, "settle", broken)

    with pytest.raises(DocketError, match="did not come to an end"):
        await run_task(app.task(double), 1)
