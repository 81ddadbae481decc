"""Runs at any stage of their life, by the store's own calls."""

from __future__ import annotations

from docket._store import Store
from docket._store.records import Claimed, Delivery, Order, Outcome, Settlement
from docket.states import ExecutionState

__all__ = ["HOUR_US", "INSTANCE", "end", "fetch", "order", "soon", "start"]

HOUR_US = 3600 * 1_000_000
INSTANCE = "w~1"


def order(key: str = "k", payload: bytes = b"args", *, when_us: int | None = None, replace: bool = False) -> Order:
    return Order(key, "send", payload, when_us, replace)


async def soon(store: Store) -> int:
    """This is an hour from now, by the clock of the scripts."""
    _, _, now = await store.delivery.move_due([])
    return now + HOUR_US


async def fetch(store: Store, count: int = 10, instance: str = INSTANCE) -> list[Delivery]:
    reader = store.delivery.reader()
    try:
        return await store.delivery.read(reader, instance, count, 1)
    finally:
        await reader.aclose()


async def start(store: Store, given: Order | None = None) -> Claimed:
    """This schedules, fetches and claims one run."""
    await store.lifecycle.schedule(given or order())
    [claimed] = await store.lifecycle.claim(INSTANCE, await fetch(store))
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
