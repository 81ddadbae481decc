"""One shard of a docket: everything that is known of the runs whose keys belong in it. A docket that is not divided has one, and that is all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docket._store.clearing import Clearing
from docket._store.delivery import DeliveryStore
from docket._store.glance import Glance
from docket._store.inspection import Inspection
from docket._store.letters import Letters
from docket._store.lifecycle import Lifecycle
from docket._store.limits import LimitsStore
from docket._store.listing import Listing
from docket._store.progress import ProgressStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from docket._keys import Keys
    from docket._redis.backend import Backend
    from docket._store.lifecycle import KnowsStrikes
    from docket._store.records import Retention

__all__ = ["STRIDE", "Shard"]

STRIDE = 10**11
"""Generations that a shard gives before it would come to those of the next one: no two runs of a docket have the same, whatever their shards are.
Lua writes numbers of up to 14 digits in full, and so many shards as there may be have room below that."""


class Shard:
    """This holds a shard's data."""

    def __init__(self, index: int, backend: Backend, keys: Keys, retention: Retention, strikes: KnowsStrikes) -> None:
        self.index = index
        self.backend = backend
        self.keys = keys
        self.lifecycle = Lifecycle(backend, keys, retention.ttl_ms, retention.letters_ms, strikes, retention.replicas)
        self.letters = Letters(backend, keys, retention.letters_ms, retention.most_letters)
        self.delivery = DeliveryStore(backend, keys, retention.ttl_ms)
        self.limits = LimitsStore(backend, keys)
        self.inspection = Inspection(backend, keys)
        self.listing = Listing(backend, keys)
        self.glance = Glance(backend, keys, self.listing, self.letters)
        self.clearing = Clearing(backend, keys, retention.ttl_ms, self.listing)
        self.progress = ProgressStore(backend, keys)

    def services(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """This names what has to run for calls to be answered."""
        return (*self.lifecycle.services(), *self.limits.services())
