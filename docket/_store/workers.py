"""Who is at work: heartbeats and which tasks each worker knows."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from docket._keys import OWN_CHANNELS
from docket._redis.errors import divided
from docket._store.base import Base, as_dict
from docket._store.records import Announcement

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["WorkersStore"]

_FORGET_US = 24 * 3600 * 1_000_000
_MOST = 1000


class WorkersStore(Base):
    """This keeps the list of live workers."""

    async def heartbeat(self, instance: str, name: str, tasks: Iterable[str] | None, ttl_ms: int) -> bool:
        """This says that an instance can claim work; `tasks` None: the same as last time. False when they have to be said again.

        Raises `LayoutMismatch` where the docket has another number of shards by now: then nothing more comes where the instance reads.
        """
        known = "" if tasks is None else json.dumps(sorted(tasks), separators=(",", ":"))
        keys, shards = [self._keys.workers, self._keys.worker(instance), self._keys.meta], len(self._keys.shards)
        channels = OWN_CHANNELS if self._keys.own_channels else ""
        is_known, there = await self._script("heartbeat", keys, instance, name, known, ttl_ms, _FORGET_US, shards, channels)
        if int(there) != shards:
            raise divided(self._keys.prefix, shards, int(there))
        return bool(is_known)

    async def depart(self, instance: str) -> None:
        """This takes an instance off every list. Safe to repeat."""
        await self._script("depart", [self._keys.workers, self._keys.worker(instance), self._keys.leases], instance)

    async def live(self, *, since_us: int) -> list[Announcement]:
        """This lists workers heard of since that moment, at most 1,000."""
        lead_us = self._backend.lead_us()
        flat = await self._backend.call("ZRANGEBYSCORE", self._keys.workers, since_us - lead_us, "+inf", "WITHSCORES", "LIMIT", 0, _MOST)
        seen = {instance.decode(): int(float(score)) + lead_us for instance, score in zip(flat[::2], flat[1::2], strict=True)}
        descriptions = await asyncio.gather(*(self._backend.call("HGETALL", self._keys.worker(instance)) for instance in seen))
        workers: list[Announcement] = []
        for (instance, score), flat_description in zip(seen.items(), descriptions, strict=True):
            description = as_dict(flat_description)
            tasks: list[str] = json.loads(description.get(b"tasks", b"[]"))
            workers.append(Announcement(instance, description.get(b"name", b"").decode(), score, frozenset(tasks)))
        return workers
