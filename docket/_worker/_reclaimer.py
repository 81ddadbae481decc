"""Takes work back from workers that died: whose lease has lapsed, or who hold entries without one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from docket._store.shards import ShardedLimits
from docket._worker._service import Service
from docket.errors import ServerError

if TYPE_CHECKING:
    from docket._store.shard import Shard
    from docket._worker._crew import Crew

__all__ = ["Reclaimer"]

logger = logging.getLogger("docket.worker")

CHECKS_PER_LEASE = 4


class Reclaimer(Service):
    """This looks for lapsed leases."""

    name = "reclaimer"

    def __init__(self, crew: Crew, shard: Shard | None = None) -> None:
        super().__init__(crew)
        self._shard = crew.store.shards[0] if shard is None else shard
        limits = crew.store.limits
        self._limits = limits if isinstance(limits, ShardedLimits) else None
        """Knows of runs that wait for limits of other shards, where there are any."""
        self._stood_still_until = float("-inf")
        """When the server last took long to answer, by the loop's clock."""

    async def tick(self) -> float:
        crew, shard = self._crew, self._shard
        pause = crew.lease_seconds / CHECKS_PER_LEASE
        # After an outage all leases look lapsed. Their owners renew as soon as they can; that takes at most one lease.
        asked_at = anyio.current_time()
        left = crew.lease_seconds - min(shard.backend.connected_for(), asked_at - self._stood_still_until)
        if left > 0:
            return min(pause, left)
        silent = await self._silent()
        answered_at = anyio.current_time()
        if answered_at - asked_at > pause:  # the server, or this process, stood still, and renewals that came meanwhile may be behind this very question
            self._stood_still_until = answered_at
            return pause
        for instance in silent:
            if instance != crew.instance:
                await self._reclaim(instance)
        now_us = crew.server_now_us()
        await shard.limits.sweep(now_us - int(pause * 1e6))
        if self._limits is not None:
            await self._limits.sweep_away(shard, now_us - int(pause * 1e6), now_us)
        return pause

    async def _silent(self) -> list[str]:
        """Who has not renewed their lease in time, or holds entries without one."""
        delivery = self._shard.delivery
        lapsed = await delivery.lapsed(self._crew.server_now_us())
        try:
            consumers = await delivery.consumers()
        except ServerError as exc:
            if "NOGROUP" not in str(exc):
                raise
            await delivery.ensure_group()  # a worker without a free slot does not read, and would not notice
            return lapsed
        leased = await delivery.leased()
        return [*lapsed, *[instance for instance in consumers if instance not in leased]]

    async def _reclaim(self, instance: str) -> None:
        delivery = self._shard.delivery
        while entries := await delivery.pending(instance):
            if self._limits is not None:
                entries = await self._limits.forward_all(self._shard, entries)
            taken = await delivery.reclaim(instance, entries)
            if taken is None:  # it renewed after all
                return
            if taken:
                logger.warning("Took back %d task(s) from %s, which is gone", taken, instance, extra=self._crew.labels)
        if await delivery.reclaim(instance, []) is not None:
            await delivery.forget_consumer(instance)
