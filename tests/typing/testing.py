"""What type checkers make of the testing kit. Read by pyright and mypy; never run."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from typing_extensions import assert_type

from docket import Docket, Execution, ExecutionState, Worker, testing
from docket.testing import Drain, LogLine, MovableClock, TaskProgress, TaskRun, assert_task_scheduled, drain, run_task

docket = Docket("orders", "memory://orders", clock=MovableClock())


async def plain(number: int) -> bool:
    return bool(number)


def plain_sync(number: int) -> bytes:
    return bytes(number)


@docket.task
async def send(customer_id: int, name: str) -> bool:
    return bool(customer_id and name)


@docket.task
def resize(width: int) -> bytes:
    return bytes(width)


@docket.task
async def notify() -> None: ...


def get_db() -> str:
    return "db"


async def one_run() -> None:
    assert_type(await run_task(send, 12, name="x"), TaskRun[bool])
    assert_type(await run_task(resize, 12), TaskRun[bytes])
    assert_type(await run_task(plain, 12), TaskRun[bool])
    assert_type(await run_task(plain_sync, 12), TaskRun[bytes])
    assert_type(await run_task(notify), TaskRun[None])
    assert_type(await run_task(send.call(12, name="x"), overrides={get_db: lambda: "fake"}), TaskRun[bool])
    assert_type(await run_task(docket.add(send), 12, "x", docket=docket, raises=False), TaskRun[bool])
    assert_type(await testing.run_task("send", 12, "x"), TaskRun[Any])
    await run_task(12)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await run_task(send.call("twelve", name="x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    run = await run_task(send, 12, "x")
    assert_type(run.result, bool)
    assert_type(run.state, ExecutionState)
    assert_type(run.exception, BaseException | None)
    assert_type(run.retry_at, datetime | None)
    assert_type(run.scheduled, Sequence[Execution[Any]])
    assert_type(run.logs, Sequence[LogLine])
    assert_type(run.progress, TaskProgress)


async def all_that_is_due(worker: Worker, fixture: Drain, clock: MovableClock) -> None:
    assert_type(await drain(docket), list[TaskRun[Any]])
    assert_type(await drain(worker, days=3, hours=0.5), list[TaskRun[Any]])
    assert_type(await fixture(until=clock.now(), raises=False, at_most=3, automatic=True), list[TaskRun[Any]])
    await drain("docket")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(clock.advance(days=3), datetime)
    await assert_task_scheduled(docket, send, args=(12,), kwargs={"name": "x"}, key="k")
    await assert_task_scheduled(docket, "send")
    await assert_task_scheduled(docket, 12)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
