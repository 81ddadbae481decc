"""Keeps this worker's lease, which says that what it holds is under way, and learns what was cancelled or replaced meanwhile.

While the event loop is blocked, `_keeper` keeps the lease from a thread; learning and stopping bodies is done here alone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from docket._worker._service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from docket._worker._crew import Crew
    from docket._worker._runs import Runs

__all__ = ["Leases"]

logger = logging.getLogger("docket.worker")

RENEWALS_PER_LEASE = 4


class Leases(Service):
    """This renews the worker's lease, a quarter of its length at a time."""

    name = "lease renewal"

    def __init__(self, crew: Crew, runs: Runs, on_loss: Callable[[], None], on_start: Callable[[str], object] | None = None) -> None:
        super().__init__(crew)
        self._runs = runs
        self._on_loss = on_loss
        self._on_start = on_start
        """Told of each instance whose lease was taken out."""

    async def start(self) -> None:
        """This takes the lease out. Nothing may be fetched before."""
        await self._take_out(self._crew.instance)

    async def tick(self) -> float:
        await self._renew()
        return self._crew.lease_seconds / RENEWALS_PER_LEASE

    async def _take_out(self, instance: str) -> None:
        await self._crew.store.delivery.renew(instance, int(self._crew.lease_seconds * 1e6), [], first=True)
        if self._on_start is not None:
            self._on_start(instance)

    async def _renew(self) -> None:
        crew = self._crew
        held = self._runs.held()
        words = await crew.store.delivery.renew(crew.instance, int(crew.lease_seconds * 1e6), held)
        if words is None:
            await self._lose()
            return
        for run, word in zip(held, words, strict=True):
            if word != "held":
                self._runs.stop(run.key, run.generation, word)
        if places := self._runs.places():
            await crew.store.limits.hold(places, int(crew.lease_seconds * 1e6))

    async def _lose(self) -> None:
        """Another worker has taken over what this one held, so its bodies stop and nothing of theirs is settled."""
        self._runs.stop_all("lost")
        instance = self._crew.another_instance()
        await self._take_out(instance)  # first: what is fetched without a lease may be taken back before it is claimed
        former = self._crew.begin_anew(instance)
        logger.warning(
            "The lease of %s lapsed and its work was taken over; stopping it here and starting again as %s",
            former,
            self._crew.instance,
            extra=self._crew.labels,
        )
        self._runs.stop_all("lost")  # again: claims that were under way are of the former instance, too
        self._on_loss()
