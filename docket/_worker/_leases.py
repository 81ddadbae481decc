"""Keeps this worker's lease, which says that what it holds is under way, and learns what was cancelled or replaced meanwhile."""

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

    def __init__(self, crew: Crew, runs: Runs, on_loss: Callable[[], None]) -> None:
        super().__init__(crew)
        self._runs = runs
        self._on_loss = on_loss

    async def start(self) -> None:
        """This takes the lease out. Nothing may be fetched before."""
        await self._renew(first=True)

    async def tick(self) -> float:
        await self._renew()
        return self._crew.lease_seconds / RENEWALS_PER_LEASE

    async def _renew(self, *, first: bool = False) -> None:
        crew = self._crew
        held = self._runs.held()
        words = await crew.store.delivery.renew(crew.instance, int(crew.lease_seconds * 1e6), held, first=first)
        if words is None:
            self._lose()
            await self._renew(first=True)
            return
        for run, word in zip(held, words, strict=True):
            if word != "held":
                self._runs.stop(run.key, run.generation, word)
        if places := self._runs.places():
            await crew.store.limits.hold(places, int(crew.lease_seconds * 1e6))

    def _lose(self) -> None:
        """Another worker has taken over what this one held, so its bodies stop and nothing of theirs is settled."""
        former = self._crew.begin_anew()
        logger.warning(
            "The lease of %s lapsed and its work was taken over; stopping it here and starting again as %s",
            former,
            self._crew.instance,
            extra=self._crew.labels,
        )
        self._runs.stop_all("lost")
        self._on_loss()
