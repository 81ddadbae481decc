"""The few commands that the in-process engine's Lua does not speak, in the words of its Python client, with a server's replies."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["SPECIAL", "read_group"]


async def read_group(database: Any, *args: Any) -> Any:
    """XREADGROUP GROUP group consumer COUNT n STREAMS stream id."""
    _, group, consumer, _, count, _, stream, last = args
    reply = await database.xreadgroup(group, consumer, {stream: last}, count=count)
    if not reply:
        return None
    return [[name, [[identity, _flat(fields)] for identity, fields in entries]] for name, entries in reply]


def _flat(fields: dict[bytes, bytes] | None) -> list[bytes] | None:
    return None if fields is None else [part for field in fields.items() for part in field]


async def _group(database: Any, _create: str, stream: str, group: str, start: str, _mkstream: str) -> Any:
    """XGROUP CREATE stream group id MKSTREAM."""
    return await database.xgroup_create(stream, group, start, mkstream=True)


async def _pending(database: Any, stream: str, group: str, *rest: Any) -> Any:
    """XPENDING stream group [start end count consumer]; without them how many there are, from where to where, and how many each consumer has."""
    if not rest:
        all_of_them = await database.xpending(stream, group)
        holders = [[consumer["name"], str(consumer["pending"]).encode()] for consumer in all_of_them["consumers"]]
        return [all_of_them["pending"], all_of_them["min"], all_of_them["max"], holders]
    start, end, count, consumer = rest
    entries = await database.xpending_range(stream, group, start, end, count, consumername=consumer)
    return [[entry[b"message_id"], entry[b"consumer"], entry[b"time_since_delivered"], entry[b"times_delivered"]] for entry in entries]


async def _info(database: Any, what: str, stream: str, group: str = "") -> Any:
    """XINFO CONSUMERS stream group: those that hold entries, for the engine keeps the names of all there ever were. XINFO GROUPS stream."""
    if what == "GROUPS":
        groups = await database.xinfo_groups(stream)
        return [[b"name", each["name"], b"last-delivered-id", each["last-delivered-id"]] for each in groups]
    consumers = await database.xinfo_consumers(stream, group)
    return [[b"name", consumer["name"], b"pending", consumer["pending"]] for consumer in consumers if consumer["pending"]]


async def _scan(database: Any, cursor: str, _match: str, pattern: str, _count: str, count: int) -> Any:
    """SCAN cursor MATCH pattern COUNT n: in order of the keys. A cursor names the last one given, so that what stands throughout comes exactly once."""
    keys = sorted(await database.keys(pattern))
    start = 0 if cursor == "0" else bisect_left(keys, cursor[1:].encode() + b"\0")
    page = keys[start : start + count]
    return [b">" + page[-1] if start + count < len(keys) else b"0", page]


async def _rank(database: Any, key: str, member: str) -> Any:
    """ZRANK key member."""
    score = await database.zscore(key, member)
    if score is None:
        return None
    ties: list[bytes] = await database.zrangebyscore(key, score, score)
    return await database.zcount(key, "-inf", score) - len(ties) + ties.index(member.encode())


async def _count_scores(database: Any, key: str, least: Any, most: Any) -> Any:
    """ZCOUNT key min max."""
    return await database.zcount(key, least, most)


async def _range(database: Any, key: str, start: int, end: int) -> Any:
    """GETRANGE key start end."""
    return ((await database.get(key)) or b"")[start : end + 1]


SPECIAL: dict[str, Callable[..., Awaitable[Any]]] = {
    "GETRANGE": _range,
    "SCAN": _scan,
    "XGROUP": _group,
    "XINFO": _info,
    "XPENDING": _pending,
    "XREADGROUP": read_group,
    "ZCOUNT": _count_scores,
    "ZRANK": _rank,
}
