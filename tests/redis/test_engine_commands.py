"""Commands that the in-process engine's Lua does not speak, answered as a server answers them. Every test here runs on both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from docket._clock import SYSTEM
from docket._store import Store
from docket._store.base import as_dict
from tests._shards import only_shard

KEY = "{test}:k"


@pytest.fixture
async def store(docket_name: str, url: str) -> AsyncIterator[Store]:
    store = await Store.open(docket_name, url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    yield store
    await store.backend.call("DEL", KEY)
    await store.aclose()


async def test_a_rank_is_the_place_by_score_and_then_by_bytes(store: Store):
    call = store.backend.call
    for member, score in (("b", 5), ("a", 5), ("c", 5), ("z", 1), ("y", 1_795_339_213_809_001)):
        await call("ZADD", KEY, score, member)

    assert [await call("ZRANK", KEY, member) for member in "zabcyx"] == [0, 1, 2, 3, 4, None]
    assert await call("ZRANK", "{test}:other", "a") is None


@pytest.mark.parametrize(("least", "most", "count"), [("-inf", 5, 3), ("-inf", 4, 1), (5, "+inf", 3), ("-inf", "+inf", 4)])
async def test_scores_are_counted_bounds_included(store: Store, least: Any, most: Any, count: int):
    for member, score in (("a", 5), ("b", 5), ("c", 9), ("d", 1)):
        await store.backend.call("ZADD", KEY, score, member)

    assert await store.backend.call("ZCOUNT", KEY, least, most) == count


@pytest.mark.parametrize(("start", "end", "found"), [(0, 2, b"val"), (3, 100, b"ue"), (9, 10, b"")])
async def test_a_part_of_a_text_is_read(store: Store, start: int, end: int, found: bytes):
    await store.backend.call("SET", KEY, "value")

    assert await store.backend.call("GETRANGE", KEY, start, end) == found
    assert await store.backend.call("GETRANGE", "{test}:other", start, end) == b""


async def test_keys_are_scanned_to_the_end(store: Store):
    names = {f"{store.keys.prefix}state:{number}".encode() for number in range(25)}
    for name in names:
        await store.backend.call("SET", name, "1")

    found: list[bytes] = []
    cursor: Any = "0"
    while True:
        following, page = await store.backend.call("SCAN", cursor, "MATCH", f"{store.keys.prefix}state:*", "COUNT", 10)
        found += page
        cursor = following.decode()
        if cursor == "0":
            break

    assert set(found) == names
    await store.backend.call("DEL", *names)


@pytest.mark.only_memory("a server keeps less of a promise")
async def test_on_memory_what_stands_throughout_a_scan_comes_once_whatever_else_comes_and_goes(store: Store):
    call, prefix = store.backend.call, store.keys.prefix

    async def page(cursor: str) -> tuple[str, list[str]]:
        following, keys = await call("SCAN", cursor, "MATCH", f"{prefix}state:*", "COUNT", 2)
        return following.decode(), [key.decode().removeprefix(f"{prefix}state:") for key in keys]

    for name in "bcdfg":
        await call("SET", f"{prefix}state:{name}", "1")

    cursor, first = await page("0")
    await call("DEL", f"{prefix}state:c")
    await call("SET", f"{prefix}state:a", "1")
    await call("SET", f"{prefix}state:e", "1")
    cursor, second = await page(cursor)
    cursor, third = await page(cursor)

    assert (first, second, third, cursor) == (["b", "c"], ["d", "e"], ["f", "g"], "0")
    await call("DEL", *[f"{prefix}state:{name}" for name in "abdefg"])


async def test_what_a_group_has_fetched_is_told_and_counted(store: Store):
    call, keys = store.backend.call, store.keys
    delivery = only_shard(store).delivery
    await delivery.ensure_group()
    entries = [await call("XADD", keys.stream, "*", "key", "k", "generation", number) for number in range(3)]
    assert (await call("XPENDING", keys.stream, keys.group))[0] == 0

    reader = delivery.reader()
    await delivery.read(reader, "w~1", 2, 1)
    await reader.aclose()

    assert (await call("XPENDING", keys.stream, keys.group))[0] == 2
    [group] = await call("XINFO", "GROUPS", keys.stream)
    assert (as_dict(group)[b"name"], as_dict(group)[b"last-delivered-id"]) == (keys.group.encode(), entries[1])
