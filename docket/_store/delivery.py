"""How work reaches workers: reading the stream, moving what is due, leases, and taking back from the dead."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from docket._redis.batcher import BATCH_ITEMS
from docket._store.base import Base, as_dict, chunks, number, whole
from docket._store.records import Delivery, RunId
from docket.errors import RedisUnavailable, ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend, Reader

__all__ = ["DeliveryStore", "deliveries"]

logger = logging.getLogger("docket.redis")


class DeliveryStore(Base):
    """This brings runs to workers."""

    def __init__(self, backend: Backend, keys: Keys, ttl_ms: int) -> None:
        super().__init__(backend, keys)
        self._ttl_ms = ttl_ms
        self.function_of: Callable[[str], Awaitable[bytes | None]] = self.function
        """Tells the task of a key; those that wait for a limit may be of other shards."""

    async def function(self, key: str) -> bytes | None:
        """This tells the task of a key."""
        return await self._backend.call("HGET", self._keys.run(key), "function")

    async def ensure_group(self) -> None:
        """This makes the stream and its consumer group, unless they are there. Entries added before are delivered too."""
        try:
            await self._backend.call("XGROUP", "CREATE", self._keys.stream, self._keys.group, "0", "MKSTREAM")
        except ServerError as exc:
            if "BUSYGROUP" not in str(exc):
                raise
        except RedisUnavailable:  # a full server refuses to make a group, whether or not there is one; but it is to be drained
            if await self._script("begin", [self._keys.stream], self._keys.group) != b"ready":
                raise

    def reader(self) -> Reader:
        """This makes a connection of its own for `read`."""
        return self._backend.reader()

    async def read(self, reader: Reader, instance: str, count: int, block_ms: int | None) -> list[Delivery]:
        """This waits for new entries; with `block_ms` None it takes what there is. A call that was cancelled or broke may have fetched some: see `pending`."""
        patience = () if block_ms is None else ("BLOCK", block_ms)
        reply = await reader.call(
            "XREADGROUP", "GROUP", self._keys.group, instance, "COUNT", count, *patience, "STREAMS", self._keys.stream, ">", timeout=(block_ms or 0) / 1000
        )  # fmt: skip
        return [] if reply is None else deliveries(reply[0][1])

    async def pending(self, instance: str, *, beyond: Container[bytes] = ()) -> list[Delivery]:
        """This names entries an instance has fetched and not yet had acknowledged, except those of `beyond`; at most 200."""
        ids: list[bytes] = []
        start = "-"
        while not ids:
            reply = await self._backend.call("XPENDING", self._keys.stream, self._keys.group, start, "+", BATCH_ITEMS, instance)
            if not reply:
                return []
            ids = [entry[0] for entry in reply if entry[0] not in beyond]
            start = _following(reply[-1][0])
        found = await asyncio.gather(*(self._backend.call("XRANGE", self._keys.stream, identity, identity) for identity in ids))
        vanished = [identity for identity, entries in zip(ids, found, strict=True) if not entries]
        if vanished:
            await self._backend.call("XACK", self._keys.stream, self._keys.group, *vanished)
        return deliveries([entry for entries in found for entry in entries])

    async def due(self, until_us: int) -> list[str]:
        """This lists candidates for `move_due`: scheduled keys, the earliest first, at most 200."""
        reply = await self._backend.call("ZRANGEBYSCORE", self._keys.queue, "-inf", until_us, "LIMIT", 0, BATCH_ITEMS)
        keys, strays = _readable(reply)
        if strays:  # nobody schedules such a key, and what cannot be named cannot be moved
            logger.warning("Threw %d entries out of the schedule whose keys are no text: %r", len(strays), strays[0][:100])
            await self._backend.call("ZREM", self._keys.queue, *strays)
        return keys

    async def move_due(self, candidates: Sequence[str]) -> tuple[int, int | None, int]:
        """This moves what is due to the stream. It answers how many, the microseconds until the next is due (None: none is scheduled), and the time."""
        keys = [self._keys.stream, self._keys.queue, *map(self._keys.run, candidates)]
        moved, wait, now = await self._script("move_due", keys, *candidates)
        return moved, number(wait), int(now)

    async def renew(self, instance: str, lease_us: int, held: Sequence[RunId], *, first: bool = False) -> list[str] | None:
        """This keeps an instance's lease and answers of each run `held`, `cancelled` or `replaced`; None when the lease is lost."""
        words: list[str] = []
        for part in list(chunks(held, BATCH_ITEMS)) or [[]]:
            args = [value for run in part for value in (run.generation, run.delivery)]
            keys = [self._keys.leases, *(self._keys.run(run.key) for run in part)]
            reply = await self._script("renew", keys, instance, lease_us, "1" if first else "", *args)
            if reply[0] == b"lost":
                return None
            words += [word.decode() for word in reply[1:]]
        return words

    async def lapsed(self, now_us: int) -> list[str]:
        """This names instances whose lease has lapsed, at most 10."""
        now_us -= self._backend.lead_us()
        return [instance.decode() for instance in await self._backend.call("ZRANGEBYSCORE", self._keys.leases, "-inf", now_us, "LIMIT", 0, 10)]

    async def leased(self) -> set[str]:
        """This names every instance that has a lease, lapsed or not."""
        return {instance.decode() for instance in await self._backend.call("ZRANGE", self._keys.leases, 0, -1)}

    async def consumers(self) -> list[str]:
        """This names every instance that the consumer group knows."""
        reply = await self._backend.call("XINFO", "CONSUMERS", self._keys.stream, self._keys.group)
        return [as_dict(consumer)[b"name"].decode() for consumer in reply]

    async def reclaim(self, instance: str, entries: Sequence[Delivery], *, own: bool = False) -> int | None:
        """This takes entries back from an instance whose lease has lapsed; None when it has not after all.

        With `own`, an instance gives back what it fetched and does not run. It answers how many will run again.
        """
        spell = self._keys
        keys = [spell.stream, spell.leases, spell.queue, spell.meta]
        args: list[Any] = [spell.group, instance, "1" if own else "", self._ttl_ms]
        for entry in entries:
            keys += (spell.run(entry.key), spell.payload(entry.key), spell.successor(entry.key))
            args += (entry.message_id, entry.key, entry.generation, entry.limit)
        reply = await self._script("reclaim", keys, *args)
        return None if reply[0] == b"alive" else reply[1]

    async def let_go(self, instance: str) -> None:
        """This gives an instance's lease up."""
        await self._backend.call("ZREM", self._keys.leases, instance)

    async def forget_consumer(self, instance: str) -> bool:
        """This removes an instance from the consumer group, unless entries are still pending with it, which would be thrown away; it answers whether it did."""
        return await self._script("forget", [self._keys.stream], self._keys.group, instance) == b"forgotten"

    async def depth(self) -> tuple[int, int]:
        """This counts work: in the stream (ready or under way), and scheduled for later.

        What moves from one to the other meanwhile is counted at least once, whichever way it moves: the stream is looked at before and after.
        """
        call, spell = self._backend.call, self._keys
        before, later, after = await asyncio.gather(call("XLEN", spell.stream), call("ZCARD", spell.queue), call("XLEN", spell.stream))
        return max(before, after), later

    async def contended(self) -> int:
        """This counts the concurrency limits that some run waits for."""
        return await self._backend.call("ZCARD", self._keys.waiting)

    async def work_for(self, tasks: Container[str]) -> tuple[bool, set[str]]:
        """This looks whether any work, ready or scheduled, is for one of these tasks, and names the tasks it passed over."""
        strangers: set[str] = set()
        start, cursor = 0, "-"
        while keys := await self._backend.call("ZRANGE", self._keys.queue, start, start + BATCH_ITEMS - 1):
            if await self._any_known([key.decode() for key in keys], tasks, strangers):
                return True, strangers
            start += BATCH_ITEMS
        while entries := await self._backend.call("XRANGE", self._keys.stream, cursor, "+", "COUNT", BATCH_ITEMS):
            if await self._any_known([entry.key for entry in deliveries(entries)], tasks, strangers):
                return True, strangers
            cursor = "(" + entries[-1][0].decode()
        for identity in await self._backend.call("ZRANGE", self._keys.waiting, 0, BATCH_ITEMS - 1):
            _, waiters, _ = self._keys.concurrency(identity.decode())
            members = await self._backend.call("ZRANGE", waiters, 0, BATCH_ITEMS - 1)
            if await self._any_known([member.decode().partition("|")[2] for member in members], tasks, strangers):
                return True, strangers
        return False, strangers

    async def _any_known(self, keys: Sequence[str], tasks: Container[str], strangers: set[str]) -> bool:
        functions = await asyncio.gather(*(self.function_of(key) for key in keys))
        names = {function.decode() for function in functions if function is not None}
        if any(name in tasks for name in names):
            return True
        strangers |= names
        return False


def _following(identity: bytes) -> str:
    """The least id behind this one."""
    milliseconds, _, sequence = identity.decode().partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"


def _readable(keys: Sequence[bytes]) -> tuple[list[str], list[bytes]]:
    """Keys as text, and those that are none."""
    found: list[str] = []
    strays: list[bytes] = []
    for key in keys:
        try:
            found.append(key.decode())
        except UnicodeDecodeError:
            strays.append(key)
    return found, strays


def deliveries(entries: Sequence[Any]) -> list[Delivery]:
    """This reads entries of the stream."""
    found: list[Delivery] = []
    for identity, flat in entries:
        fields = as_dict(flat or ())
        found.append(
            Delivery(
                identity,
                fields.get(b"key", b"").decode("utf-8", "replace"),
                whole(fields.get(b"generation")),
                fields.get(b"limit", b"").decode("utf-8", "replace"),
            )
        )
    return found
