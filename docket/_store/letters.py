"""Dead letters: what ended FAILED for good, kept for an operator to look at, run again or throw away. They are written as runs are settled."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from docket._redis.batcher import BATCH_ITEMS
from docket._store.base import READ_PATIENCE, Base, chunks
from docket._store.records import Letter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend

__all__ = ["ROOM", "Letters"]

ROOM = 8 * 1024 * 1024
"""Bytes of arguments and attempts that come along with so many."""


class Letters(Base):
    """This reads and removes dead letters."""

    def __init__(self, backend: Backend, keys: Keys, retention_ms: int, most: int) -> None:
        super().__init__(backend, keys)
        self._retention_ms = retention_ms
        self._most = most

    async def newest(self, before: tuple[int, str] | None, count: int) -> list[tuple[int, str]]:
        """This lists moments of death and generations, the latest first, those that died before `before`."""
        floor = "-inf" if before is None else -before[0]
        skipped = 0
        found: list[tuple[int, str]] = []
        while len(found) < count:
            flat = await self._read("ZRANGEBYSCORE", self._keys.dead, floor, "+inf", "WITHSCORES", "LIMIT", skipped, count)
            listed = [(float(score), _text(generation)) for generation, score in zip(flat[::2], flat[1::2], strict=True)]
            page = [(-int(score), generation) for score, generation in listed if isfinite(score)]  # anybody may have written there
            found += [each for each in page if before is None or (-each[0], each[1]) > (-before[0], before[1])]
            skipped += len(listed)
            if len(listed) < count:
                break
        return found[:count]

    async def read(self, generations: Sequence[str], *, task: str | None = None, key_prefix: str = "", room: int = ROOM) -> list[Letter | None]:
        """This reads letters; None for one that is gone, not wanted, or none that can be read.

        Of what goes beyond so many bytes in 200 letters, the arguments and all attempts but the last are left out; `whole` reads them.
        """
        found: list[Letter | None] = []
        for part in chunks(generations, BATCH_ITEMS):
            keys = [self._keys.letter(generation) for generation in part]
            args = (task or "", key_prefix, room)
            replies = await self._persist(lambda keys=keys, args=args: self._script("letters", keys, *args), READ_PATIENCE)
            found += map(_letter, replies)
        return found

    async def whole(self, generation: str) -> Letter | None:
        """This reads one with all there is of it, however much."""
        [letter] = await self.read([generation], room=2**53)
        return letter

    async def discard(self, generations: Sequence[str]) -> int:
        """This throws letters away, and says how many there were. Safe to repeat."""
        gone = 0
        for part in chunks(generations, BATCH_ITEMS):
            keys = [self._keys.dead, *(self._keys.letter(generation) for generation in part)]
            gone += await self._persist(lambda keys=keys, part=part: self._script("discard", keys, *part), READ_PATIENCE)
        return gone

    async def trim(self, now_us: int) -> int:
        """This throws away, of what is too old and of what is too much at most 200 each, and says how many.

        A process that keeps none leaves alone what others keep: it expires by itself.
        """
        if not self._retention_ms:
            return 0
        oldest_us = now_us - self._retention_ms * 1000
        old = await self._backend.call("ZRANGEBYSCORE", self._keys.dead, -oldest_us, "+inf", "LIMIT", 0, BATCH_ITEMS)
        surplus = await self._backend.call("ZRANGE", self._keys.dead, self._most, self._most + BATCH_ITEMS - 1)
        return await self.discard([generation.decode() for generation in dict.fromkeys([*old, *surplus])])


def _letter(reply: Any) -> Letter | None:
    """What somebody else has written under a letter's key can make none, and is to fail no listing."""
    if reply == 0 or reply[0] == b"error":
        return None
    key, function, when, attempt, generation, died, trace, size, history, is_whole, *payload = reply
    try:
        return Letter(
            key=_text(key),
            generation=int(generation),
            function=_text(function),
            payload=payload[0] if payload else None,
            payload_bytes=int(size),
            when_us=int(when or b"0"),
            attempt=int(attempt),
            died_us=int(died),
            trace=trace,
            history=tuple(history.split(b"\n")),
            is_whole=is_whole == b"1",
        )
    except ValueError:
        return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
