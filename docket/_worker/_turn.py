"""The turn of a suspect: a run whose worker died runs alone, so that a death, if it comes, is its own doing. Who may start when is `_runs`' business."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from docket._context import while_waiting

if TYPE_CHECKING:
    from types import TracebackType

    from docket._worker._crew import Crew
    from docket._worker._runs import Running, Runs

__all__ = ["Turn"]

logger = logging.getLogger("docket.worker")


class Turn:
    """This is one suspect's."""

    def __init__(self, crew: Crew, running: Running, runs: Runs) -> None:
        self._crew = crew
        self._running = running
        self._runs = runs
        self._waits = 0
        """For how many other runs its body waits now."""

    async def begin(self) -> None:
        """This waits until the body may start, alone unless other tasks take too long for that."""
        while_waiting.set(self)
        await self._take()

    async def _take(self) -> None:
        if not await self._runs.turn_alone(self._running, self._crew.lease_seconds):
            logger.warning(
                "A worker died while it ran %s, which should therefore run alone now; other tasks here take too long for that, so it runs beside them",
                self._running.claimed.run.key, extra=self._crew.labels,
            )  # fmt: skip
        elif self._running.stopped is None and not await self._crew.store.lifecycle.suspect(self._running.claimed.run):
            self._running.stop("lost")

    async def __aenter__(self) -> None:
        """For as long as its body waits for the end of another run nothing else would start here, that run among it. A death meanwhile is nobody's fault."""
        self._waits += 1
        if self._waits == 1 and self._runs.is_alone(self._running):
            await self._crew.store.lifecycle.suspect(self._running.claimed.run, alone=False)
            self._runs.give_way(self._running)

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self._waits -= 1
        is_stopped = exc is not None and not isinstance(exc, Exception)
        if not is_stopped and not self._waits and self._running.gave_way:
            self._runs.end_waiting(self._running)
            await self._take()
