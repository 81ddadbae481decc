"""Brings what a worker holds to an end: it may finish for a while, is then cancelled and handed back, and what does not stop is abandoned.

When a worker stops is the worker's business, and how a run is handed back that of `_run`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from docket._worker._report import called

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from docket._worker._crew import Crew
    from docket._worker._runs import Running, Runs

__all__ = ["Drain", "Grace", "abandoned"]

logger = logging.getLogger("docket.worker")

HAND_BACK_TIMEOUT = 5.0
"""Seconds for which handing back abandoned runs is tried. What that does not reach is taken over as from a worker that died."""

_abandoned: set[asyncio.Task[None]] = set()


def abandoned() -> int:
    """This counts the runs that this process abandoned and that still go on in it: a process that only worked may as well end."""
    _abandoned.difference_update([task for task in _abandoned if task.get_loop().is_closed()])
    return len(_abandoned)


class Grace:
    """This is for how long what runs may go on, once it was said. Whoever says less later has their way; more changes nothing."""

    def __init__(self) -> None:
        self._ends: float | None = None

    def give(self, period: timedelta) -> None:
        """This gives so much from now."""
        ends = monotonic() + period.total_seconds()
        self._ends = ends if self._ends is None else min(self._ends, ends)

    def left(self) -> float:
        """This is how many seconds are left."""
        return math.inf if self._ends is None else self._ends - monotonic()


class Drain:
    """This ends what a worker holds. It is done once fetching has stopped."""

    def __init__(self, crew: Crew, runs: Runs, grace: Grace, hand_back: Callable[[Running], Awaitable[object]]) -> None:
        self._crew = crew
        self._runs = runs
        self._grace = grace
        self._hand_back = hand_back

    def hurry(self) -> None:
        """This has it look again at how long what runs may go on."""
        self._runs.look_again()

    async def run(self) -> None:
        """This returns once nothing is held, at the latest after the grace period and twice the `cleanup_timeout`, and some seconds where Redis is away."""
        crew, runs = self._crew, self._runs
        if runs.idle:
            return
        logger.info("Shutdown requested, finishing %d active tasks...", len(runs), extra=crew.labels)
        if await self._has_ended(self._grace.left):
            return
        for running in runs.hand_back():
            logger.info("Cancelling running task %r", running.claimed.run.key, extra=crew.labels)
        cleaning = Grace()
        cleaning.give(crew.options.cleanup_timeout)
        if not await self._has_ended(cleaning.left):
            await self._abandon()

    def _is_out(self) -> bool:
        return not self._crew.store.backend.is_connected

    async def _has_ended(self, left: Callable[[], float]) -> bool:
        runs, options = self._runs, self._crew.options
        ended = await runs.drained(is_out=self._is_out, patience=options.cleanup_timeout.total_seconds(), left=left)
        if not ended and runs.idle:
            logger.warning("Redis is away, so what had finished here could not be settled; it runs again when the lease lapses", extra=self._crew.labels)
        return runs.idle

    async def _abandon(self) -> None:
        """Whatever still goes on is not waited for; its runs go to the other workers all the same."""
        timeout, labels = self._crew.options.cleanup_timeout, self._crew.labels
        left = self._runs.abandon()
        for task in [running.task for running in left if running.task is not None]:
            _abandoned.add(task)
            task.add_done_callback(_abandoned.discard)
        for running in left:
            name = running.claimed.run.key if running.execution is None else called(running.execution)
            logger.warning(
                "%s has not stopped within %s of being cancelled, so it is abandoned and its run handed back: whatever it still does counts for nothing",
                name, timeout, extra=labels,
            )  # fmt: skip
        with anyio.move_on_after(HAND_BACK_TIMEOUT) as trying:
            await asyncio.gather(*(self._hand_back(running) for running in left))
        if trying.cancelled_caught:
            logger.warning("Redis is away, so what was abandoned could not be handed back; it runs again when the lease lapses", extra=labels)
