"""Tasks this worker does not know: how long they wait before another try, and how often the log says so."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docket._store.records import Claimed
    from docket._worker._crew import Crew

__all__ = ["Strangers"]

logger = logging.getLogger("docket.worker")

FIRST_DELAY = 0.25
LONGEST_DELAY = 60.0
SAY_AGAIN_AFTER = 60.0
_REMEMBERED = 10_000


class Strangers:
    """This hands unknown tasks back for a worker that knows them, after delays that grow."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._times: dict[str, int] = {}
        self._said: dict[str, float] = {}

    def delay(self, claimed: Claimed) -> float:
        """This gives the seconds after which the task may be claimed again."""
        if len(self._times) >= _REMEMBERED:
            self._times.clear()
        times = self._times[claimed.run.key] = self._times.get(claimed.run.key, -1) + 1
        self._say(claimed.function)
        return min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(times, 20))

    def _say(self, function: str) -> None:
        now = self._crew.clock.monotonic()
        if now - self._said.get(function, float("-inf")) < SAY_AGAIN_AFTER:
            return
        self._said[function] = now
        logger.warning(
            "Unknown task %r received - handed back for a worker that knows it. Register via CLI (--tasks your.module:tasks) or API (docket.register(func)).",
            function,
            extra={**self._crew.labels, "docket.task": function},
        )
