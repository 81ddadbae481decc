"""Measures what counters cannot tell: how much work waits, strikes in effect, caches. Costs nothing while nobody listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docket import instrumentation
from docket._signatures import cached_signatures
from docket._worker._service import Service

if TYPE_CHECKING:
    from docket._worker._crew import Crew

__all__ = ["Gauges"]


class Gauges(Service):
    """This sets the gauges, as often as the worker says that it is alive."""

    name = "gauges"

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew)
        self._strikes = 0

    async def tick(self) -> float:
        docket = self._crew.docket
        if instrumentation.is_metered():
            counts = await docket.counts()
            labels = docket.labels()
            instrumentation.QUEUE_DEPTH.set(counts.queued + counts.overdue, labels)
            instrumentation.SCHEDULE_DEPTH.set(counts.scheduled - counts.overdue, labels)
            instrumentation.DEAD_LETTERS.set(counts.dead_letters, labels)
            instrumentation.CACHE_SIZE.set(cached_signatures(), {**labels, "cache": "signature"})
            instrumentation.CACHE_SIZE.set(len(self._crew.registry), {**labels, "cache": "annotation"})
            self._tell_strikes(len(docket.strike_list.instructions))
        return docket.heartbeat_interval.total_seconds()

    def _tell_strikes(self, strikes: int) -> None:
        if strikes != self._strikes:
            instrumentation.STRIKES_IN_EFFECT.add(strikes - self._strikes, self._crew.worker.labels())
            self._strikes = strikes

    def leave(self) -> None:
        """This takes back what only stands while the worker runs."""
        self._tell_strikes(0)
