"""Looks into the one shard of a docket that is not divided, or into one of several."""

from __future__ import annotations

from docket._keys import shard_of
from docket._store import Store
from docket._store.shard import STRIDE, Shard

__all__ = ["nth", "only_shard", "together"]


def only_shard(store: Store) -> Shard:
    """This is all of a docket that is not divided. A test that means one of several shards names it: `store.shard_of(key)`, or one of `store.shards`."""
    [shard] = store.shards
    return shard


def together(store: Store, *names: str) -> list[str]:
    """These are keys that belong in one shard, that of `k`: the names, with a number behind them where the docket is divided."""
    shards = len(store.shards)
    wanted = shard_of("k", shards)
    tails = ("", *(f"-{number}" for number in range(50 * shards))) if shards > 1 else ("",)
    return [next(name + tail for tail in tails if shard_of(name + tail, shards) == wanted) for name in names]


def nth(store: Store, number: int) -> int:
    """This is the generation of the so many-th run that was scheduled in the shard of `k`: each shard has numbers of its own."""
    return store.shard_of("k").index * STRIDE + number
