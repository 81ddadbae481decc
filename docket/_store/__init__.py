"""The store: the only code that issues Redis commands. A `Store` is one docket's, open in one event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio

from docket._keys import Keys
from docket._redis import make_backend
from docket._store.clearing import Clearing
from docket._store.delivery import DeliveryStore
from docket._store.events import Events
from docket._store.glance import Glance
from docket._store.inspection import Inspection
from docket._store.lifecycle import Lifecycle
from docket._store.limits import LimitsStore
from docket._store.listing import Listing
from docket._store.progress import ProgressStore
from docket._store.strikes import StrikesStore
from docket._store.workers import WorkersStore
from docket.errors import LayoutMismatch, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import timedelta

    from redis.credentials import CredentialProvider
    from typing_extensions import Self

    from docket._clock import Clock
    from docket._redis.backend import Backend

__all__ = ["LAYOUT", "Store"]

logger = logging.getLogger("docket.redis")

LAYOUT = 1
"""The version of the data's layout in Redis. A docket written by a newer one is refused."""


class Store:
    """This holds one docket's data, connected, for as long as it is open."""

    def __init__(self, name: str, backend: Backend, ttl_ms: int) -> None:
        keys = self.keys = Keys(name)
        self.backend = backend
        self.is_memory = backend.is_memory
        self.strikes = StrikesStore(backend, keys)
        self.lifecycle = Lifecycle(backend, keys, ttl_ms, self.strikes)
        self.delivery = DeliveryStore(backend, keys, ttl_ms)
        self.limits = LimitsStore(backend, keys)
        self.inspection = Inspection(backend, keys)
        self.listing = Listing(backend, keys)
        self.glance = Glance(backend, keys, self.listing)
        self.clearing = Clearing(backend, keys, ttl_ms, self.listing)
        self.progress = ProgressStore(backend, keys)
        self.workers = WorkersStore(backend, keys)
        self.events = Events(backend, keys, self.inspection)
        self._host: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    @classmethod
    async def open(cls, name: str, url: str, *, execution_ttl: timedelta, clock: Clock, credential_provider: CredentialProvider | None = None) -> Self:
        """This connects. Raises `InvalidURL`, `RedisUnavailable` or `LayoutMismatch`."""
        backend = make_backend(url, clock=clock, credential_provider=credential_provider)
        store = cls(name, backend, int(execution_ttl.total_seconds() * 1000))
        await backend.open()
        # One host task holds the group: it must be left in the task that entered it, which `async with docket` cannot promise
        store._host = asyncio.create_task(store._serve(), name=f"docket {name}: store")
        try:
            await asyncio.gather(store._check_layout(), store.strikes.read())
        except BaseException:
            await store.aclose()
            raise
        return store

    async def _check_layout(self) -> None:
        found = int(await self.backend.script("open", [self.keys.meta], [self.keys.state(""), LAYOUT]))
        if found > LAYOUT:
            raise LayoutMismatch(
                f"the docket {self.keys.prefix!r} was written in layout {found}, and this version of docket knows layouts up to {LAYOUT}. "
                "Upgrade pydocket here, or use another docket name."
            )
        if self.is_memory:
            return
        await self._warn_of_eviction()

    async def _warn_of_eviction(self) -> None:
        try:
            info: Any = await self.backend.call("INFO", "memory")
        except ServerError as exc:  # an ACL user without the dangerous commands has no INFO, and needs none
            logger.debug("Whether this Redis evicts live tasks when it is full cannot be known: %s", exc)
            return
        for line in info.splitlines():
            if line.startswith(b"maxmemory_policy:allkeys-"):
                logger.warning(
                    "This Redis evicts any key when it is full (%s), live tasks among them. Set maxmemory-policy to noeviction.", line.decode().strip()
                )

    async def _serve(self) -> None:
        services: list[Callable[[], Coroutine[Any, Any, None]]] = [
            *self.backend.services(),
            *self.lifecycle.services(),
            *self.limits.services(),
            *self.strikes.services(),
        ]
        async with anyio.create_task_group() as group:
            for service in services:
                group.start_soon(service)
            await self._closing.wait()
            group.cancel_scope.cancel()

    async def aclose(self) -> None:
        """This lets go of everything, in milliseconds. Calls under way fail."""
        self.events.close()
        self._closing.set()
        host, self._host = self._host, None
        if host is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([host])
        await self.backend.aclose()
