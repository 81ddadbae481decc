"""What the tests of the store share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from docket._clock import SYSTEM
from docket._store import Store
from docket._store.shard import Shard
from tests._proxy import Proxy
from tests._servers import RedisServer
from tests.conftest import SHARDS


@pytest.fixture
async def store(docket_name: str, url: str) -> AsyncIterator[Store]:
    """This is an open store with its consumer group, on both backends. It keeps three dead letters (of each shard), for a minute."""
    minute = timedelta(minutes=1)
    store = await Store.open(docket_name, url, execution_ttl=minute, clock=SYSTEM, dead_letter_retention=minute, dead_letter_count=3 * SHARDS, shards=SHARDS)
    await store.delivery.ensure_group()
    yield store
    await store.aclose()


@pytest.fixture
def shard(store: Store) -> Shard:
    """This is all of `store`; where it is divided, the shard of the key `k`, and of those that `together` makes."""
    return store.shard_of("k")


@pytest.fixture
async def far_store(docket_name: str, proxy: Proxy) -> AsyncIterator[Store]:
    """This is an open store with its consumer group, which reaches the server through `proxy`."""
    store = await Store.open(docket_name, proxy.url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    await store.delivery.ensure_group()
    yield store
    await store.aclose()


@pytest.fixture
def url_of_the_server(redis_server: RedisServer) -> str:
    """This is the server that `far_store` reaches, without the proxy."""
    return redis_server.url
