"""Logging: what the log says of a run, and how every logger inside it knows which run speaks."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

import pytest
import structlog

from docket import Docket, Logged, Worker


async def test_arguments_stand_in_the_log_only_where_they_are_said_to_be_logged(docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.worker")

    @docket.task
    async def charge(customer_id: Annotated[int, Logged], card: str, items: Annotated[list[str], Logged(length_only=True)]) -> None: ...

    await charge.schedule(7, "4111 1111", items=["a", "b"], key="k")
    await worker.run_until_finished()

    began, ended = [line for record in caplog.records if "charge(" in (line := record.getMessage()) and "{k}" in line]
    assert began.startswith("↪ [") and began.endswith("] charge(7, ..., items=[len 2]){k}")
    assert ended.startswith("↩ [") and ended.endswith("] charge(7, ..., items=[len 2]){k}")


async def test_any_structlog_logger_knows_which_run_speaks(docket: Docket, worker: Worker):
    lines: list[dict[str, Any]] = []
    log = structlog.wrap_logger(None, processors=[structlog.contextvars.merge_contextvars, lambda _logger, _method, event: lines.append(dict(event)) or ""])

    @docket.task
    async def charge(customer: str) -> None:
        await asyncio.sleep(0)
        log.msg("charged", customer=customer)

    @docket.task
    def refund(customer: str) -> None:
        log.msg("refunded", customer=customer)

    await charge.schedule("Jane", key="a")
    await charge.schedule("John", key="b")
    await refund.schedule("Jane", key="c")
    await worker.run_until_finished()
    log.msg("outside")

    told = sorted((line["docket.key"], line["docket.task"], line["customer"]) for line in lines[:-1])
    assert told == [("a", "charge", "Jane"), ("b", "charge", "John"), ("c", "refund", "Jane")]
    for line in lines[:-1]:
        assert (line["docket.name"], line["docket.worker"], line["docket.attempt"]) == (docket.name, worker.name, 1)
    assert lines[-1] == {"event": "outside"}
