"""Takes work back from workers that died: whose lease has lapsed, or who hold entries without one."""

from __future__ import annotations

import logging

from docket._worker._service import Service

__all__ = ["Reclaimer"]

logger = logging.getLogger("docket.worker")

CHECKS_PER_LEASE = 4


class Reclaimer(Service):
    """This looks for lapsed leases."""

    name = "reclaimer"

    async def tick(self) -> float:
        crew = self._crew
        pause = crew.lease_seconds / CHECKS_PER_LEASE
        # After an outage all leases look lapsed. Their owners renew as soon as they can; that takes at most one lease.
        left = crew.lease_seconds - crew.store.backend.connected_for()
        if left > 0:
            return min(pause, left)
        for instance in [*await crew.store.delivery.lapsed(crew.server_now_us()), *await self._without_lease()]:
            if instance != crew.instance:
                await self._reclaim(instance)
        await crew.store.limits.sweep(crew.server_now_us() - int(pause * 1e6))
        return pause

    async def _without_lease(self) -> list[str]:
        consumers, leased = await self._crew.store.delivery.consumers(), await self._crew.store.delivery.leased()
        return [instance for instance in consumers if instance not in leased]

    async def _reclaim(self, instance: str) -> None:
        delivery = self._crew.store.delivery
        while entries := await delivery.pending(instance):
            taken = await delivery.reclaim(instance, entries)
            if taken is None:  # it renewed after all
                return
            if taken:
                logger.warning("Took back %d task(s) from %s, which is gone", taken, instance, extra=self._crew.labels)
        if await delivery.reclaim(instance, []) is not None:
            await delivery.forget_consumer(instance)
