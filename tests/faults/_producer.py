"""Producers: they order what the schedule says, and write down what was acknowledged, and when. An order that fails in doubt may have been carried out."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

from docket import Disposition, Docket, DocketError, Execution
from docket.errors import InDoubt, RedisUnavailable
from tests.faults._history import Ack, Wait
from tests.faults._schedule import Order, Story

__all__ = ["Producers"]

WAITED_FOR = 5
"""One of so many runs has somebody who waits for its result."""


class Producers:
    """This carries out the stories of a schedule through one docket."""

    def __init__(self, docket: Docket, began: float) -> None:
        self.acks: list[Ack] = []
        self.waits: list[Wait] = []
        self._docket = docket
        self._began = began
        self._waiting: dict[tuple[str, int], asyncio.Task[None]] = {}

    async def tell(self, story: Story) -> None:
        """This makes the orders of a story, each at its time and after the one before it was answered."""
        for order in story.orders:
            await asyncio.sleep(self._began + order.at - time.monotonic())
            await self.ask(story.key, order)

    async def ask(self, key: str, order: Order) -> None:
        """This makes one order."""
        began, execution, answer, error = time.monotonic(), None, "cancelled", ""
        try:
            if order.verb == "cancel":
                await self._docket.cancel(key)
            else:
                execution = await self._schedule(key, order)
                answer = "created" if execution.disposition is Disposition.SCHEDULED else "exists"
        except DocketError as exc:
            nothing_was_written = isinstance(exc, RedisUnavailable) and not isinstance(exc, InDoubt)
            answer, error = "refused" if nothing_was_written else "unknown", f"{type(exc).__name__}: {exc}"
        ended, ended_wall = time.monotonic(), time.time()
        generation = 0 if execution is None else execution.generation
        due = 0.0 if execution is None else execution.when.timestamp() - ended_wall + ended
        self.acks.append(Ack(key, order.verb, order.task, began, ended, ended_wall, answer, generation, due, error))
        if execution is not None and answer == "created" and generation % WAITED_FOR == 0:
            self._waiting[key, generation] = asyncio.create_task(self._wait(execution))

    async def _schedule(self, key: str, order: Order) -> Execution[Any]:
        when = timedelta(seconds=order.delay)
        if order.verb == "replace":
            return await self._docket.replace(order.task, when, key)(*order.arguments)
        return await self._docket.add(order.task, when if order.delay else None, key)(*order.arguments)

    async def _wait(self, execution: Execution[Any]) -> None:
        answer = "result"
        while True:
            try:
                await execution.get_result()
            except RedisUnavailable:
                await asyncio.sleep(0.1)
                continue
            except Exception as exc:
                answer = type(exc).__name__
            break
        self.waits.append(Wait(execution.key, execution.generation, answer))

    async def waited(self, seconds: float) -> None:
        """This gives those who wait so many more seconds. Who waits then still waits for ever."""
        if self._waiting:
            await asyncio.wait(self._waiting.values(), timeout=seconds)
        for (key, generation), task in self._waiting.items():
            if not task.done():
                self.waits.append(Wait(key, generation, "nothing"))
                task.cancel()
