"""Moves due work to the stream. Sleeps until the next due time, and is woken when something earlier is scheduled."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from docket._redis.batcher import BATCH_ITEMS
from docket._worker._service import Service

if TYPE_CHECKING:
    from docket._store.shard import Shard
    from docket._worker._crew import Crew

__all__ = ["Mover"]

FALLBACK = 5.0
"""Seconds after which a mover looks although nothing woke it. While messages cannot arrive, `scheduling_resolution` bounds the wait."""


class Mover(Service):
    """This brings the future about."""

    name = "mover"

    def __init__(self, crew: Crew, shard: Shard | None = None) -> None:
        super().__init__(crew)
        self._shard = crew.store.shards[0] if shard is None else shard
        self._earlier_us: int | None = None
        self._at_once = False

    def wake(self, due_us: int | None) -> None:
        """This learns that something is due at that moment (None: something may be due)."""
        if due_us is None:
            self._at_once = True
        elif self._earlier_us is None or due_us < self._earlier_us:
            self._earlier_us = due_us
        self.nudge()

    async def run(self) -> None:
        with self._crew.clock.on_jump(partial(self.wake, None)):
            await super().run()

    async def tick(self) -> float:
        self._at_once, self._earlier_us = False, None
        delivery, clock = self._shard.delivery, self._crew.clock
        candidates = await delivery.due(self._crew.server_now_us())
        before = clock.now_us()
        _, next_us, now_us = await delivery.move_due(candidates)
        if not self._crew.store.is_memory:  # where there is a second clock
            self._crew.server_offset_us = now_us - (before + clock.now_us()) // 2
        if len(candidates) == BATCH_ITEMS:
            return 0.0
        return self._fallback() if next_us is None else min(clock.takes(next_us / 1e6), self._fallback())

    def _fallback(self) -> float:
        if self._crew.store.backend.subscriber.connected:
            return FALLBACK
        return self._crew.options.scheduling_resolution.total_seconds()

    async def _wait(self, seconds: float) -> None:
        """Waits for the due time; word of something due earlier only moves it, without asking Redis."""
        until = anyio.current_time() + seconds
        while not self._at_once:
            if self._earlier_us is not None:
                until = min(until, anyio.current_time() + self._crew.clock.takes((self._earlier_us - self._crew.server_now_us()) / 1e6))
            left = until - anyio.current_time()
            if left <= 0:
                return
            await super()._wait(left)
            self._nudge = anyio.Event()
