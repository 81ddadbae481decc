"""What every background duty of a worker is: a `tick`, and a loop that calls it through outages."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import anyio

from docket import instrumentation
from docket._redis.wire import backoff
from docket.errors import RedisUnavailable, ServerError

if TYPE_CHECKING:
    from docket._worker._crew import Crew

__all__ = ["Service"]

logger = logging.getLogger("docket.worker")

_FAILED = "The worker's %s failed and will be tried again"
_NO_SPAN = nullcontext()

_LOOK_UP = 5.0
"""Seconds between tries during an outage."""


class Service(ABC):
    """This does one thing again and again. Tests call `tick` and never the loop."""

    name: str
    at_start: bool = False
    """Whether a worker does this once before it fetches anything; see `begin`."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._nudge = anyio.Event()

    @abstractmethod
    async def tick(self) -> float:
        """This does the thing once and answers the seconds until it should be done again."""

    def nudge(self) -> None:
        """This has the next tick come at once."""
        self._nudge.set()

    async def begin(self) -> None:
        """This ticks once if it is to, before anything is fetched. A refusal by the server is logged, and left to `run`. Raises `RedisUnavailable`."""
        if not self.at_start:
            return
        try:
            await self.tick()
        except ServerError:  # a wrong type under one of our keys: the other duties are not to wait for that
            logger.exception(_FAILED, self.name, extra=self._crew.labels)

    async def run(self) -> None:
        """This ticks for ever; it is its owner's to start and to cancel. An outage is waited out; any other failure is logged, and the next tick comes."""
        failures = 0
        while True:
            self._nudge = anyio.Event()
            try:
                with self._span():
                    pause = await self.tick()
                failures = 0
            except RedisUnavailable:
                await self._available(_LOOK_UP)
                # Soon after the connection is back: a lease that is renewed late looks lapsed to the others
                pause = backoff(failures, min(_LOOK_UP, self._crew.lease_seconds / 8))
                failures += 1
            except Exception:  # a bug of ours, or a refusal by the server: either way the duty goes on, for nobody else does it
                logger.exception(_FAILED, self.name, extra=self._crew.labels)
                pause = backoff(failures) + 1
                failures += 1
            await self._wait(pause)

    async def _available(self, timeout: float) -> bool:
        """Waits for the connection that the ticks go through."""
        return await self._crew.store.backend.available(timeout)

    def _span(self) -> AbstractContextManager[object]:
        """A duty is of no interest to those who trace tasks; the options can ask for it."""
        if not self._crew.options.enable_internal_instrumentation or not instrumentation.is_traced():
            return _NO_SPAN
        return instrumentation.worker_tracer.start_as_current_span(f"docket.worker: {self.name}", attributes=self._crew.worker.labels())

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(max(0.0, seconds)):
            await self._nudge.wait()
