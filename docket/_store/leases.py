"""Keeping a worker's lease and places from another event loop than the docket's, through a connection of its own.

When to keep them and when to let go is the worker's business.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from docket._keys import shard_of
from docket._store.delivery import DeliveryStore
from docket._store.limits import LimitsStore
from docket._store.workers import WorkersStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend, OpenableBackend

__all__ = ["LeaseStore"]


class LeaseStore:
    """This keeps leases, in the event loop it was opened in. It listens to nothing, so one connection is all it has (to each server it needs)."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        self._backend = backend
        self._workers = WorkersStore(backend.at(keys.prefix), keys)
        self._deliveries = [DeliveryStore(backend.at(shard.prefix), shard, 0) for shard in keys.shards]
        self._limits = [LimitsStore(backend.at(shard.prefix), shard) for shard in keys.shards]

    @classmethod
    @asynccontextmanager
    async def open(cls, make_backend: Callable[[], OpenableBackend], keys: Keys) -> AsyncGenerator[LeaseStore]:
        """This connects for as long as it is entered, and again after every loss of the connection. Raises `RedisUnavailable` when it is entered."""
        backend = make_backend()
        await backend.open()
        try:
            async with anyio.create_task_group() as group:
                for service in backend.services():
                    group.start_soon(service)
                yield cls(backend, keys)
                group.cancel_scope.cancel()
        finally:
            await backend.aclose()

    async def renew(self, instance: str, lease_us: int) -> bool:
        """This keeps an instance's lease, in every shard; False when it is lost in one of them."""
        kept = await asyncio.gather(*(delivery.renew(instance, lease_us, []) for delivery in self._deliveries))
        return None not in kept

    async def hold(self, places: Sequence[tuple[str, int | str]], lease_us: int) -> None:
        """This keeps places that running tasks hold: pairs of a concurrency limit's identity and a holder."""
        shards = len(self._limits)
        for index, limits in enumerate(self._limits):
            await limits.hold([place for place in places if shard_of(place[0], shards) == index], lease_us)

    async def let_go(self, instance: str) -> None:
        """This gives a lease up at once: others take over what the instance holds, and it can never renew again."""
        await self._workers.depart(instance)
        if len(self._deliveries) > 1:  # of a docket of one shard, that was it
            for delivery in self._deliveries:
                await delivery.let_go(instance)

    async def available(self, timeout: float) -> bool:
        """This waits for the connection and says whether there is one."""
        return await self._backend.available(timeout)
