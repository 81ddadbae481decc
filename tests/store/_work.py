"""Runs at any stage of their life, by the store's own calls."""

from __future__ import annotations

from collections.abc import Sequence

from docket._store import Store
from docket._store.records import Claimed, Delivery, Order, Outcome, Refused, Settlement
from docket._store.shards import ShardedLimits
from docket.states import ExecutionState

__all__ = ["HOUR_US", "INSTANCE", "claim", "end", "fetch", "order", "soon", "start"]

HOUR_US = 3600 * 1_000_000
INSTANCE = "w~1"


def order(key: str = "k", payload: bytes = b"args", *, when_us: int | None = None, replace: bool = False) -> Order:
    return Order(key, "send", payload, when_us, replace)


async def soon(store: Store) -> int:
    """This is an hour from now, by the clock of the scripts."""
    _, _, now = await store.delivery.move_due([])
    return now + HOUR_US


async def fetch(store: Store, count: int = 10, instance: str = INSTANCE) -> list[Delivery]:
    """This fetches what is ready, as a worker does: from one shard after another, and word that a run of another shard was let in goes there."""
    found: list[Delivery] = []
    is_told = True
    while is_told:
        is_told = False
        for shard in store.shards:
            if len(found) == count:
                break
            reader = shard.delivery.reader()
            try:
                entries = await shard.delivery.read(reader, instance, count - len(found), 1)
            finally:
                await reader.aclose()
            ours = await store.limits.forward_all(shard, entries) if isinstance(store.limits, ShardedLimits) else entries
            is_told |= len(ours) < len(entries)
            found += ours
    return found


async def claim(store: Store, deliveries: Sequence[Delivery], instance: str = INSTANCE) -> list[Claimed | Refused]:
    """This claims what was fetched, what is of one shard together."""
    answers: dict[int, Claimed | Refused] = {}
    for shard in store.shards:
        places = [place for place, delivery in enumerate(deliveries) if store.shard_of(delivery.key) is shard]
        if places:
            answers.update(zip(places, await shard.lifecycle.claim(instance, [deliveries[place] for place in places]), strict=True))
    return [answers[place] for place in range(len(deliveries))]


async def start(store: Store, given: Order | None = None) -> Claimed:
    """This schedules, fetches and claims one run."""
    await store.lifecycle.schedule(given or order())
    [claimed] = await claim(store, await fetch(store))
    assert isinstance(claimed, Claimed)
    return claimed


def end(
    claimed: Claimed,
    state: ExecutionState = ExecutionState.COMPLETED,
    *,
    error: str | None = None,
    value: bytes | None = None,
    again: str | None = None,
    wide: bool = False,
    failure: bytes = b"",
) -> Settlement:
    return Settlement(claimed.run, claimed.message_id, Outcome(state, error, value), again=again, wide=wide or claimed.large_payload, failure=failure)
