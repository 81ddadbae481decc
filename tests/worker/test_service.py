"""The loop of every duty: the one place where it is tested."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from docket import Docket
from docket._worker._service import Service
from docket.errors import RedisUnavailable
from tests._waiting import eventually
from tests.worker._hands import crew_of

FOR_EVER = 3600.0


class Scripted(Service):
    name = "test duty"

    def __init__(self, docket: Docket, *script: float | Exception) -> None:
        super().__init__(crew_of(docket))
        self.script = list(script)
        self.ticks = 0

    async def tick(self) -> float:
        self.ticks += 1
        step = self.script.pop(0) if self.script else FOR_EVER
        if isinstance(step, Exception):
            raise step
        return step


@asynccontextmanager
async def on_duty(service: Service) -> AsyncGenerator[None, None]:
    running = asyncio.create_task(service.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()


async def test_it_ticks_at_once_and_after_every_pause(docket: Docket):
    service = Scripted(docket, 0.001, 0.0, -1.0)

    async with on_duty(service):
        await eventually(lambda: service.ticks == 4)


async def test_a_nudge_ends_the_pause(docket: Docket):
    service = Scripted(docket)

    async with on_duty(service):
        await eventually(lambda: service.ticks == 1)
        service.nudge()
        await eventually(lambda: service.ticks == 2)


async def test_a_nudge_during_a_tick_counts_for_the_pause_after_it(docket: Docket):
    class Nudged(Scripted):
        async def tick(self) -> float:
            if not self.ticks:
                self.nudge()
            return await super().tick()

    service = Nudged(docket)

    async with on_duty(service):
        await eventually(lambda: service.ticks == 2)


async def test_an_outage_is_waited_out_in_silence(docket: Docket, caplog: pytest.LogCaptureFixture):
    service = Scripted(docket, RedisUnavailable("away"), RedisUnavailable("away"))

    async with on_duty(service):
        await eventually(lambda: service.ticks == 3)

    assert not caplog.records


async def test_any_other_failure_is_logged_and_the_duty_goes_on(docket: Docket, caplog: pytest.LogCaptureFixture):
    service = Scripted(docket, ValueError("a bug"))

    async with on_duty(service):
        await eventually(lambda: caplog.records)
        service.nudge()
        await eventually(lambda: service.ticks == 2)

    assert caplog.messages == ["The worker's test duty failed and will be tried again"]
    assert caplog.records[0].exc_info
