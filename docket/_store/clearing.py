"""Cancels all work that has not begun, a batch at a time. What may be cancelled is decided by the script, item by item; here is only where to look."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from docket._redis.batcher import BATCH_ITEMS
from docket._store.base import Base, chunks, number
from docket._store.lifecycle import SCHEDULE_PATIENCE
from docket._store.listing import place_of_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend
    from docket._store.listing import Listing

__all__ = ["Clearing"]

_PAGE = 5 * BATCH_ITEMS


class _Item(NamedTuple):
    key: str
    generation: int | None = None  # None: whichever has the key, found in the schedule
    entry: bytes = b""  # its entry in the stream, where no worker has fetched that
    limit: str = ""  # the concurrency limit before which it waits, or that keeps a place for it


class Clearing(Base):
    """This cancels everything that has not begun."""

    def __init__(self, backend: Backend, keys: Keys, ttl_ms: int, listing: Listing) -> None:
        super().__init__(backend, keys)
        self._ttl_ms = ttl_ms
        self._listing = listing
        self.is_ours: Callable[[str], bool] = lambda key: True
        """Says whether a key belongs in this shard; others may wait for limits here."""

    async def newest(self) -> int:
        """This is the newest generation so far."""
        return number(await self._read("HGET", self._keys.meta, "generation")) or 0

    async def clear(self, newest: int | None = None) -> int:
        """This cancels what has not begun, of everything that was scheduled before it was called, and answers how many.

        It looks again until it finds nothing more, because work moves on meanwhile: out of the schedule, into the line before a limit, and back.
        """
        newest = await self.newest() if newest is None else newest
        total = 0
        while found := await self._once(newest):
            total += found
        return total

    async def _once(self, newest: int) -> int:
        cleared, left = 0, 0
        while keys := await self._listing.scheduled_from(left, _PAGE):
            gone = await self._clear([_Item(key) for key in keys], newest)
            cleared += gone
            left += len(keys) - gone
        for source in (self._in_line(newest), self._in_stream(newest)):
            async for items in source:
                cleared += await self._clear(items, newest)
        return cleared

    async def _in_line(self, newest: int) -> AsyncIterator[list[_Item]]:
        after: tuple[str, int] | None = None
        while found := await self._listing.parked(after, _PAGE):
            yield [_Item(each.key, each.generation, limit=each.identity) for each in found if each.generation <= newest and self.is_ours(each.key)]
            after = found[-1].identity, found[-1].arrival

    async def _in_stream(self, newest: int) -> AsyncIterator[list[_Item]]:
        after: str | None = None
        while entries := await self._listing.entries(after, _PAGE):
            fetched = await self._listing.fetched_up_to() or (0, 0)
            yield [
                _Item(each.key, each.generation, b"" if place_of_entry(each.message_id) <= fetched else each.message_id, each.limit)
                for each in entries
                if each.generation <= newest and self.is_ours(each.key)
            ]
            after = entries[-1].message_id.decode()

    async def foreign(self) -> AsyncIterator[tuple[str, int]]:
        """This lists runs of other shards that wait for limits of this one, or were let in by them and do not know yet: keys and generations."""
        after: tuple[str, int] | None = None
        while found := await self._listing.parked(after, _PAGE):
            for each in found:
                if not self.is_ours(each.key):
                    yield each.key, each.generation
            after = found[-1].identity, found[-1].arrival
        behind: str | None = None
        while entries := await self._listing.entries(behind, _PAGE):
            for each in entries:
                if not self.is_ours(each.key):
                    yield each.key, each.generation
            behind = entries[-1].message_id.decode()

    async def _clear(self, items: Sequence[_Item], newest: int) -> int:
        return sum([await self._clear_batch(batch, newest) for batch in chunks(items, BATCH_ITEMS)])

    async def _clear_batch(self, items: Sequence[_Item], newest: int) -> int:
        spell = self._keys
        keys = [spell.stream, spell.queue, spell.meta, spell.waiting]
        args: list[Any] = [self._ttl_ms, secrets.randbits(62), newest]
        for item in items:
            keys += (spell.run(item.key), spell.payload(item.key))
            if item.limit:
                keys += spell.concurrency(item.limit)
            args += (item.key, "" if item.generation is None else item.generation, item.entry, item.limit)
        reply = await self._persist(lambda: self._script("clear", keys, *args), SCHEDULE_PATIENCE)
        return reply[0]
