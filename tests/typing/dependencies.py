"""What type checkers make of dependencies and behaviours. Read by pyright and mypy; never run."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime, timedelta, timezone
from logging import Logger, LoggerAdapter
from random import Random
from typing import Annotated

from typing_extensions import Self, assert_type

from docket import (
    Agenda,
    CallArgument,
    Cancel,
    Cron,
    CurrentDocket,
    CurrentExecution,
    CurrentWorker,
    Depends,
    Discard,
    Docket,
    Execution,
    ExecutionProgress,
    ExponentialRetry,
    Perpetual,
    Progress,
    Retry,
    Shared,
    Snooze,
    SyncTask,
    Task,
    TaskArgument,
    TaskKey,
    TaskLogger,
    Timeout,
    Worker,
)
from docket.dependencies import CompletionHandler, Dependency, FailureHandler, TaskOutcome

SECOND = timedelta(seconds=1)


class Connection:
    """Stands for whatever a dependency gives."""


class Session:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *details: object) -> None: ...


class Settings:
    def __init__(self, url: str = "") -> None: ...


class Opened(Dependency):
    async def __aenter__(self) -> Connection:
        return Connection()


def connect() -> Connection:
    raise NotImplementedError


async def connect_async() -> Connection:
    raise NotImplementedError


def connect_later() -> Awaitable[Connection]:
    raise NotImplementedError


def generate() -> Generator[Connection, None, None]:
    raise NotImplementedError


def iterate() -> Iterator[Connection]:
    raise NotImplementedError


async def generate_async() -> AsyncGenerator[Connection, None]:
    yield Connection()


async def iterate_async() -> AsyncIterator[Connection]:
    yield Connection()


@contextmanager
def manage() -> Generator[Connection, None, None]:
    yield Connection()


@asynccontextmanager
async def manage_async() -> AsyncGenerator[Connection, None]:
    yield Connection()


def give_manager() -> AbstractContextManager[Connection]:
    raise NotImplementedError


def give_async_manager() -> AbstractAsyncContextManager[Connection]:
    raise NotImplementedError


async def connect_to(url: str, logger: TaskLogger = Depends(TaskLogger)) -> Connection:
    raise NotImplementedError


assert_type(Depends(connect), Connection)
assert_type(Depends(connect_async), Connection)
assert_type(Depends(connect_later), Connection)
assert_type(Depends(generate), Connection)
assert_type(Depends(iterate), Connection)
assert_type(Depends(generate_async), Connection)
assert_type(Depends(iterate_async), Connection)
assert_type(Depends(manage), Connection)
assert_type(Depends(manage_async), Connection)
assert_type(Depends(give_manager), Connection)
assert_type(Depends(give_async_manager), Connection)
assert_type(Depends(connect_to, url="db"), Connection)
assert_type(Depends(Settings, url="db"), Settings)
assert_type(Depends(Session), Session)
assert_type(Depends(Opened), Connection)
assert_type(Depends(Retry, attempts=3), Retry)
assert_type(Depends(ExponentialRetry), ExponentialRetry)
assert_type(Depends(Timeout, base=SECOND), Timeout)
assert_type(Depends(Perpetual), Perpetual)
assert_type(Depends(Cron), Cron)
assert_type(Depends(Cron, expression="@daily", missed="skip"), Cron)
assert_type(Cron("@daily").next_time(), datetime)
assert_type(Depends(TaskLogger), TaskLogger)
assert_type(Shared(connect), Connection)
assert_type(Shared(connect_async), Connection)
assert_type(Shared(generate), Connection)
assert_type(Shared(generate_async), Connection)
assert_type(Shared(manage), Connection)
assert_type(Shared(manage_async), Connection)
assert_type(Shared(Settings), Settings)


async def every_form(
    order: int,
    annotated: Annotated[Connection, Depends(connect)],
    db: Connection = Depends(connect_async),
    pool: Connection = Shared(manage_async),
    logger: TaskLogger = Depends(TaskLogger),
    direct_logger: TaskLogger = TaskLogger(),
    adapter: LoggerAdapter[Logger] = TaskLogger(),
    retry: Retry = Retry(attempts=3),
    other_retry: Retry = Depends(Retry, attempts=3),
    backing_off: Retry = ExponentialRetry(attempts=3),
    picky: Retry = Retry(5, SECOND, on=OSError, not_on=(FileNotFoundError, PermissionError), jitter=True, max_elapsed=SECOND),
    picky_too: ExponentialRetry = ExponentialRetry(5, on=(OSError,), not_on=FileNotFoundError, jitter=Random(7), max_elapsed=SECOND),
    perpetual: Perpetual = Perpetual(every=SECOND),
    after_end: Perpetual = Perpetual(every=SECOND, after_end=True),
    fixed: Perpetual = Perpetual(every=SECOND, fixed=True),
    cron: Cron = Cron("@daily", tz=timezone.utc, missed="run_once"),
    cron_too: Perpetual = Cron("0 9 * * MON-FRI", automatic=False),
    timeout: Timeout = Timeout(SECOND),
    key: str = TaskKey(),
    docket: Docket = CurrentDocket(),
    worker: Worker = CurrentWorker(),
    execution: Execution = CurrentExecution(),
    argument: int = TaskArgument("order"),
    call_argument: int = CallArgument("order"),
    progress: Progress = Progress(),
    other_progress: ExecutionProgress = Progress(),
    dependent_progress: Progress = Depends(Progress),
) -> None:
    await progress.increment()
    await other_progress.set_message(None)
    logger.info("event", field=1)
    adapter.info("x %s", 1, extra={"field": 1})


@Retry(attempts=3)
@Timeout(SECOND)
async def decorated(a: int, /) -> str:
    return str(a)


@Perpetual(interval=SECOND)
def decorated_sync(a: int, /) -> str:
    return str(a)


@Retry(attempts=3)
def in_a_thread(a: int, progress: Progress = Progress()) -> int | None:
    progress.set_total(a)
    progress.increment()  # nothing to await in a thread
    progress.set_message("begun")
    return progress.current


async def scatter(docket: Docket, agenda: Agenda) -> None:
    agenda.add(decorated)(1)
    agenda.add(in_a_thread, key="k")(1)
    agenda.add("elsewhere")("anything", at="all")
    agenda.add(decorated)("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await agenda.scatter(docket, over=SECOND, jitter=SECOND), list[Execution])
    with docket.override(connect, connect_async):
        pass


decorated_task: Task[[int], str] = decorated
decorated_sync_task: SyncTask[[int], str] = decorated_sync


@Cron("@daily")
async def decorated_cron() -> None: ...


decorated_cron_task: Task[[], None] = decorated_cron

Cron("@daily", missed="twice")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Retry(on=OSError())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def verdicts(number: int, retry: Retry) -> int:
    if number == 0:
        raise Snooze(SECOND)
    if number == 1:
        raise Discard("why")
    if number == 2:
        raise Cancel
    if number > 3:
        return number
    return retry.after(SECOND)  # never returns


class Handler(FailureHandler, CompletionHandler):
    async def handle_failure(self, execution: Execution, outcome: TaskOutcome) -> bool:
        return outcome.exception is not None

    async def on_complete(self, execution: Execution, outcome: TaskOutcome) -> bool:
        return False


@Handler()
async def handled() -> int:
    return 1


handled_task: Task[[], int] = handled
