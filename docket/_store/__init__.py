"""The store: the only code that issues Redis commands. A `Store` is one docket's, open in one event loop."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from docket._keys import Keys
from docket._redis import anchored, make_backend
from docket._store.clearing import Clearing
from docket._store.delivery import DeliveryStore
from docket._store.events import Events
from docket._store.glance import Glance
from docket._store.inspection import Inspection
from docket._store.leases import LeaseStore
from docket._store.letters import Letters
from docket._store.lifecycle import Lifecycle
from docket._store.limits import LimitsStore
from docket._store.listing import Listing
from docket._store.progress import ProgressStore
from docket._store.strikes import StrikesStore
from docket._store.workers import WorkersStore
from docket.errors import LayoutMismatch, ServerError, ServerTooOld

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from redis.credentials import CredentialProvider
    from typing_extensions import Self

    from docket._clock import Clock
    from docket._redis.backend import Backend

__all__ = ["LAYOUT", "Store"]

logger = logging.getLogger("docket.redis")

NO_RETENTION = timedelta(0)

OLDEST_SERVER = (6, 2)
"""The oldest Redis that docket runs on: before it, ranges of a stream had no open end. A Valkey calls itself Redis 7.2."""

LAYOUT = 1
"""The version of the data's layout in Redis. A docket written by a newer one is refused."""


class Store:
    """This holds one docket's data, connected, for as long as it is open."""

    def __init__(self, name: str, backend: Backend, ttl_ms: int, retention_ms: int = 0, most_letters: int = 0, replicas: int = 0) -> None:
        keys = self.keys = Keys(name)
        self.backend = backend
        self.is_memory = backend.is_memory
        self.strikes = StrikesStore(backend, keys)
        self.lifecycle = Lifecycle(backend, keys, ttl_ms, retention_ms, self.strikes, replicas)
        self.letters = Letters(backend, keys, retention_ms, most_letters)
        self.delivery = DeliveryStore(backend, keys, ttl_ms)
        self.limits = LimitsStore(backend, keys)
        self.inspection = Inspection(backend, keys)
        self.listing = Listing(backend, keys)
        self.glance = Glance(backend, keys, self.listing, self.letters)
        self.clearing = Clearing(backend, keys, ttl_ms, self.listing)
        self.progress = ProgressStore(backend, keys)
        self.workers = WorkersStore(backend, keys)
        self.events = Events(backend, keys, self.inspection)
        self._host: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._make_another: Callable[[], Backend] | None = None

    @classmethod
    async def open(
        cls,
        name: str,
        url: str,
        *,
        execution_ttl: timedelta,
        clock: Clock,
        credential_provider: CredentialProvider | None = None,
        dead_letter_retention: timedelta = NO_RETENTION,
        dead_letter_count: int = 0,
        replicas: int = 0,
    ) -> Self:
        """This connects. Raises `InvalidURL`, `RedisUnavailable`, `ServerTooOld` or `LayoutMismatch`."""
        make = partial(make_backend, anchored(url), key=Keys(name).prefix, clock=clock, credential_provider=credential_provider)
        backend = make()
        store = cls(name, backend, int(execution_ttl.total_seconds() * 1000), int(dead_letter_retention.total_seconds() * 1000), dead_letter_count, replicas)
        store._make_another = partial(make, quiet=True)
        await backend.open()
        # One host task holds the group: it must be left in the task that entered it, which `async with docket` cannot promise
        store._host = asyncio.create_task(store._serve(), name=f"docket {name}: store")
        try:
            await asyncio.gather(store._check_version(), store._check_layout(), store.strikes.read())
        except BaseException:
            await store.aclose()
            raise
        return store

    def leases(self) -> AbstractAsyncContextManager[LeaseStore]:
        """This is what keeps leases through a connection of its own, to be entered in whichever event loop wants to keep them."""
        assert self._make_another is not None
        return LeaseStore.open(self._make_another, self.keys)

    async def _check_version(self) -> None:
        """Asked before anything else goes over the connection, so that its answer comes before what an old server says of commands it does not know."""
        if self.is_memory:
            return
        found = re.search(rb"^redis_version:((\d+)\.(\d+)\S*)", await self._told("server"), flags=re.MULTILINE)
        if found is not None and (int(found[2]), int(found[3])) < OLDEST_SERVER:
            oldest = ".".join(map(str, OLDEST_SERVER))
            raise ServerTooOld(
                f"this server is Redis {found[1].decode()}, and docket needs Redis {oldest} or newer, or any Valkey. Upgrade the server, or use another."
            )

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
        for line in (await self._told("memory")).splitlines():
            if line.startswith(b"maxmemory_policy:allkeys-"):
                logger.warning(
                    "This Redis evicts any key when it is full (%s), live tasks among them. Set maxmemory-policy to noeviction.", line.decode().strip()
                )

    async def _told(self, section: str) -> bytes:
        """What the server says of itself; nothing where it does not tell us."""
        try:
            told: bytes = await self.backend.call("INFO", section)
        except ServerError as exc:  # an ACL user without the dangerous commands has no INFO, and needs none
            logger.debug("What this Redis says of itself (%s) cannot be known: %s", section, exc)
            return b""
        return told

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
