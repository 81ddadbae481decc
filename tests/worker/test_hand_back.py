"""What a worker that leaves says of the runs it hands back, and what becomes of one that it cannot hand back."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from docket import Docket, Worker
from docket._store.records import Settlement
from docket.errors import ServerError
from docket.states import ExecutionState
from tests._telemetry import traced
from tests._waiting import eventually
from tests.worker._hands import SOON, at_work, lasts, record

AT_ONCE = timedelta(0)


class Long:
    """A task that runs until it is cancelled, and the next time ends."""

    def __init__(self, docket: Docket) -> None:
        self.begun = 0

        @docket.task
        async def long() -> str:
            self.begun += 1
            if self.begun == 1:
                await asyncio.sleep(3600)
            return "done"

        self.task = long


async def leave(docket: Docket, long: Long, **options: Any) -> None:
    """A worker begins the task, and leaves at once."""
    async with Worker(docket, grace_period=AT_ONCE, **options) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(lambda: long.begun)
        worker.stop()
        await running


async def test_a_run_that_cannot_be_handed_back_waits_for_the_lease_to_lapse(docket: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    long = Long(docket)
    execution = await long.task.schedule(key="k")
    settle = docket.store.lifecycle.settle

    async def refused(settlement: Settlement) -> ExecutionState | None:
        if settlement.again == "release":
            raise ServerError("WRONGTYPE")
        return await settle(settlement)

    monkeypatch.setattr(docket.store.lifecycle, "settle", refused)
    with caplog.at_level(logging.INFO, logger="docket.worker"):
        await leave(docket, long, redelivery_timeout=lasts(200))
    assert "Settling k failed" in caplog.text
    assert "handed back" not in caplog.text
    assert (await record(docket, "k")).state is ExecutionState.RUNNING

    async with at_work(docket, redelivery_timeout=lasts(200)):
        assert await execution.get_result(timeout=SOON) == "done"


async def test_its_span_is_fine_and_is_ended(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    long = Long(docket)
    with traced(monkeypatch) as spans:
        execution = await long.task.schedule()
        await leave(docket, long)
        assert spans.one("long").status.is_ok

        async with at_work(docket):
            assert await execution.get_result() == "done"


async def test_where_such_lines_are_not_wanted_it_says_nothing(docket: Docket, caplog: pytest.LogCaptureFixture):
    long = Long(docket)
    execution = await long.task.schedule()
    with caplog.at_level(logging.WARNING, logger="docket.worker"):
        await leave(docket, long)

        assert caplog.text == ""
    assert (await record(docket, execution.key)).state is ExecutionState.QUEUED
    await docket.cancel(execution.key)
