"""The store: the only code that issues Redis commands. A `Store` is one docket's, open in one event loop."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from docket._keys import OWN_CHANNELS, Keys, shard_of
from docket._redis import anchored, make_backend
from docket._store.events import Events
from docket._store.leases import LeaseStore
from docket._store.records import Retention
from docket._store.shard import Shard
from docket._store.shards import (
    ShardedClearing,
    ShardedDelivery,
    ShardedGlance,
    ShardedInspection,
    ShardedLetters,
    ShardedLifecycle,
    ShardedLimits,
    ShardedListing,
    ShardedProgress,
    ShardedWorkers,
    Shards,
    ShardStrikes,
    take_own_channels,
)
from docket._store.strikes import StrikesStore
from docket._store.workers import WorkersStore
from docket.errors import LayoutMismatch, ServerError, ServerTooOld

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from redis.credentials import CredentialProvider
    from typing_extensions import Self

    from docket._clock import Clock
    from docket._redis.backend import Backend, OpenableBackend
    from docket._store.clearing import Clearing
    from docket._store.delivery import DeliveryStore
    from docket._store.glance import Glance
    from docket._store.inspection import Inspection
    from docket._store.letters import Letters
    from docket._store.lifecycle import Lifecycle
    from docket._store.limits import LimitsStore
    from docket._store.listing import Listing
    from docket._store.progress import ProgressStore

__all__ = ["LAYOUT", "Store"]

logger = logging.getLogger("docket.redis")

NO_RETENTION = timedelta(0)

OLDEST_SERVER = (6, 2)
"""The oldest Redis that docket runs on: before it, ranges of a stream had no open end. A Valkey calls itself Redis 7.2."""

LAYOUT = 2
"""The version of the data's layout in Redis, as far as it is known here. A docket written by a newer one is refused."""

_UNDIVIDED = 1
"""The layout of a docket of one shard, which versions that know nothing of shards can read, too."""


class Store:
    """This holds one docket's data, connected, for as long as it is open.

    Of a docket of one shard, every part is that shard's own; of a docket of several, one that finds the right shard or asks them all.
    """

    def __init__(self, name: str, backend: OpenableBackend, retention: Retention, shards: int = 1, *, own_channels: bool = False) -> None:
        keys = self.keys = Keys(name, shards, own_channels=own_channels and not backend.is_memory)
        self.backend = backend
        self.is_memory = backend.is_memory
        home = backend.at(keys.prefix)
        self.strikes = StrikesStore(home, keys)
        if shards == 1:
            [shard] = self.shards = (Shard(0, home, keys, retention, self.strikes),)
            self.lifecycle: Lifecycle | ShardedLifecycle = shard.lifecycle
            self.letters: Letters | ShardedLetters = shard.letters
            self.delivery: DeliveryStore | ShardedDelivery = shard.delivery
            self.limits: LimitsStore | ShardedLimits = shard.limits
            self.inspection: Inspection | ShardedInspection = shard.inspection
            self.listing: Listing | ShardedListing = shard.listing
            self.glance: Glance | ShardedGlance = shard.glance
            self.clearing: Clearing | ShardedClearing = shard.clearing
            self.progress: ProgressStore | ShardedProgress = shard.progress
            self.workers = WorkersStore(home, keys)
        else:
            each = replace(retention, most_letters=-(-retention.most_letters // shards))
            self.shards = tuple(
                Shard(index, at := backend.at(own.prefix), own, each, ShardStrikes(at, own, self.strikes)) for index, own in enumerate(keys.shards)
            )
            parts = Shards(self.shards)
            self.strikes.hand_to([(shard.backend, shard.keys) for shard in self.shards])
            self.limits = ShardedLimits(parts)
            self.lifecycle = ShardedLifecycle(parts, self.limits)
            self.letters = ShardedLetters(parts)
            self.delivery = ShardedDelivery(parts)
            self.inspection = ShardedInspection(parts, home, keys)
            self.listing = ShardedListing(parts)
            self.glance = ShardedGlance(parts, home, keys)
            self.clearing = ShardedClearing(parts, self.lifecycle)
            self.progress = ShardedProgress(parts)
            self.workers = ShardedWorkers(home, keys, parts)
        self.events = Events(home, keys, self.inspection, [shard.keys.wake for shard in self.shards])
        self._host: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._make_another: Callable[[], OpenableBackend] | None = None

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
        shards: int | None = None,
    ) -> Self:
        """This connects. `shards` None: as many as there are. Raises `InvalidURL`, `RedisUnavailable`, `ServerTooOld` or `LayoutMismatch`."""
        letters_ms = int(dead_letter_retention.total_seconds() * 1000)
        retention = Retention(int(execution_ttl.total_seconds() * 1000), letters_ms, dead_letter_count, replicas)
        url = anchored(url)
        found = shards
        own_channels = (shards or 1) > 1  # as far as the servers can
        while True:
            keys = Keys(name, found or 1)
            prefixes = [*dict.fromkeys((keys.prefix, *(shard.prefix for shard in keys.shards)))]
            make = partial(make_backend, url, keys=prefixes, clock=clock, credential_provider=credential_provider, own_channels=own_channels)
            backend = make()
            store = cls(name, backend, retention, found or 1, own_channels=own_channels)
            store._make_another = partial(make, quiet=True)
            await backend.open()
            # One host task holds the group: it must be left in the task that entered it, which `async with docket` cannot promise
            store._host = asyncio.create_task(store._serve(), name=f"docket {name}: store")
            try:
                _, (there, recorded), _ = await asyncio.gather(store._check_version(), store._check_layout(shards), store.strikes.read())
                if there == len(store.shards) and recorded == store.keys.own_channels:
                    return store
            except BaseException:
                await store.aclose()
                raise
            await store.aclose()
            found, own_channels = there, recorded

    def shard_of(self, key: str) -> Shard:
        """This is the shard that a user's key, or a limit's identity, belongs in."""
        return self.shards[shard_of(key, len(self.shards))]

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

    async def _check_ground(self, home: Backend) -> None:
        """Whoever schedules here counts generations in `meta`, so that work without it is none of ours: pydocket's, which has these very keys on a cluster."""
        keys = self.keys
        waiting = await asyncio.gather(home.call("XLEN", keys.stream), home.call("ZCARD", keys.queue))
        if any(waiting) and not await home.call("HLEN", keys.meta):  # in this order, as one who schedules just now writes `meta` in the same step
            raise LayoutMismatch(
                f"work waits under {keys.prefix!r} that docket did not write, such as pydocket's before version 1, which has the same keys on a cluster. "
                "Give the docket another name, and let the old workers finish, or carry the work over: see 'Migrating from pydocket'."
            )

    async def _check_layout(self, shards: int | None) -> tuple[int, bool]:
        """Answers how many shards the docket has, and whether they have channels of their own; where nothing is there yet, it is begun with so many."""
        ours = LAYOUT if (shards or 1) > 1 else _UNDIVIDED
        home = self.backend.at(self.keys.prefix)
        if not self.is_memory:
            await self._check_ground(home)
        can = shards is not None and self.keys.own_channels and await take_own_channels([(shard.keys, shard.backend) for shard in self.shards])
        arguments = [self.keys.state(""), ours, "" if shards is None else shards, OWN_CHANNELS if can else ""]
        *found, moving, channels = await home.script("open", [self.keys.meta], arguments)
        layout, there = map(int, found)
        if layout > LAYOUT:
            raise LayoutMismatch(
                f"the docket {self.keys.prefix!r} was written in layout {layout}, and this version of docket knows layouts up to {LAYOUT}. "
                "Upgrade pydocket here, or use another docket name."
            )
        if moving:
            raise LayoutMismatch(
                f"the docket {self.keys.prefix!r} is being moved from {there} shard(s) to {int(moving)}. Wait until that is done; "
                f"if whoever did it died, `docket reshard --to {int(moving)}` begins it again."
            )
        if shards not in (None, there):
            raise LayoutMismatch(
                f"the docket {self.keys.prefix!r} has {there} shard(s) in Redis, and this process was told shards={shards}. "
                f"Give shards={there} or leave it out; or move the docket, while nothing uses it, with `docket reshard --to {shards}`."
            )
        if not self.is_memory:
            await self._warn_of_eviction()
        return there, bytes(channels) == OWN_CHANNELS.encode()

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
            *(service for shard in self.shards for service in shard.services()),
            *(self.limits.services() if isinstance(self.limits, ShardedLimits) else ()),
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
