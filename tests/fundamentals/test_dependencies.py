"""Dependencies: what a worker puts into a task's parameters."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Annotated

import pytest

from docket import CurrentDocket, CurrentExecution, CurrentWorker, Depends, Docket, Execution, TaskKey, TaskLogger, Worker
from docket.errors import DependencyFailed, DependencyNotGiven, InvalidArguments


async def test_a_run_can_ask_for_what_surrounds_it(docket: Docket, worker: Worker):
    seen: list[object] = []

    @docket.task
    async def job(
        customer_id: int,
        current_docket: Docket = CurrentDocket(),
        current_worker: Worker = CurrentWorker(),
        execution: Execution = CurrentExecution(),
        key: str = TaskKey(),
    ) -> None:
        seen.extend([current_docket, current_worker, execution.args, execution.key, key])

    await job.schedule(1, key="k")
    await worker.run_until_finished()

    assert seen == [docket, worker, (1,), "k", "k"]


async def test_a_parameter_can_depend_on_a_function(docket: Docket, worker: Worker):
    def settings() -> dict[str, str]:
        return {"url": "db://main"}

    async def connect(settings: dict[str, str] = Depends(settings)) -> str:
        return f"connection to {settings['url']}"

    @docket.task
    async def load(table: str, db: str = Depends(connect)) -> str:
        return f"{table} from a {db}"

    execution = await load.schedule("orders")
    await worker.run_until_finished()

    assert await execution.get_result() == "orders from a connection to db://main"


def connect_to_main() -> str:
    return "connection to main"


async def export(table: str, db: Annotated[str, Depends(connect_to_main)], limit: int = 10) -> str:
    return f"{limit} of {table} from a {db}"


async def test_an_annotation_can_say_what_a_parameter_depends_on(docket: Docket, worker: Worker):
    handle = docket.task(export)

    by_handle = await handle.schedule("orders")
    by_name = await docket.add("export")("orders", limit=5)
    given = await handle.schedule("orders", "connection of mine", 1)
    await worker.run_until_finished()

    assert await by_handle.get_result() == "10 of orders from a connection to main"
    assert await by_name.get_result() == "5 of orders from a connection to main"
    assert await given.get_result() == "1 of orders from a connection of mine"
    with pytest.raises(InvalidArguments, match=r"export\(table: str, limit: int = 10, \.\.\.\) cannot be called like that"):
        await handle.schedule()


async def test_what_was_opened_is_closed_after_the_body_in_reverse_order(docket: Docket, worker: Worker):
    told: list[str] = []

    @asynccontextmanager
    async def connection() -> AsyncGenerator[str, None]:
        told.append("connect")
        yield "connection"
        told.append("disconnect")

    def transaction(db: str = Depends(connection)) -> Generator[str, None, None]:
        told.append("begin")
        yield f"transaction on a {db}"
        told.append("commit")

    @docket.task
    async def save(transaction: str = Depends(transaction), db: str = Depends(connection)) -> None:
        told.append(f"save in a {transaction}")

    await save.schedule()
    await worker.run_until_finished()

    assert told == ["connect", "begin", "save in a transaction on a connection", "commit", "disconnect"]


async def test_what_was_opened_is_closed_when_the_body_fails(docket: Docket, worker: Worker):
    told: list[str] = []

    async def connection() -> AsyncGenerator[str, None]:
        try:
            yield "connection"
        except RuntimeError as exc:
            told.append(f"closed after: {exc}")
            raise

    @docket.task
    async def save(db: str = Depends(connection)) -> None:
        raise RuntimeError("disk full")

    await save.schedule()
    await worker.run_until_finished()

    assert told == ["closed after: disk full"]


async def test_what_a_caller_passes_is_taken_instead(docket: Docket, worker: Worker):
    def connect() -> str:
        raise AssertionError("nobody asked for this")

    @docket.task
    async def load(db: str = Depends(connect)) -> str:
        return db

    execution = await load.schedule(db="given")
    await worker.run_until_finished()

    assert await execution.get_result() == "given"


async def test_a_dependency_that_fails_fails_the_task_and_names_the_parameter(docket: Docket, worker: Worker):
    runs: list[str] = []

    def connect() -> str:
        raise ConnectionError("nobody there")

    @docket.task
    async def load(db: str = Depends(connect)) -> None:
        runs.append("load")

    execution = await load.schedule()
    await worker.run_until_finished()

    with pytest.raises(DependencyFailed, match=r"parameter\(s\): db \(ConnectionError: nobody there\)"):
        await execution.get_result()
    assert runs == []


async def test_a_direct_call_resolves_nothing_and_says_so(docket: Docket):
    def connect() -> str:
        return "connection"

    @docket.task
    async def load(table: str, db: str = Depends(connect)) -> str:
        return f"{table} from {db}"

    assert await load("orders", db="elsewhere") == "orders from elsewhere"
    with pytest.raises(DependencyNotGiven, match=r"'db'.*testing\.run_task\(load"):
        await load("orders")


async def test_a_task_logs_with_fields_or_as_the_standard_library_does(docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)

    @docket.task
    async def monitor_service(service_id: str, logger: TaskLogger = Depends(TaskLogger)) -> None:
        logger.info("Service status", service_id=service_id)
        logger.warning("Service %s is %s", service_id, "slow")

    await monitor_service.schedule("main", key="k")
    await worker.run_until_finished()

    with_fields, classic = [record for record in caplog.records if record.name == "docket.task.monitor_service"]
    assert (vars(with_fields)["service_id"], vars(with_fields)["docket.key"]) == ("main", "k")
    assert "Service status" in with_fields.getMessage()
    assert (classic.levelname, classic.getMessage()) == ("WARNING", "Service main is slow")
