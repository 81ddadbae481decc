"""What was heard and not yet taken: at most so much of it, and a gap where something is missing."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from docket.errors import NotEntered

__all__ = ["DISCONNECTED", "UNDECODABLE", "Gap", "Inbox", "Mark"]

ROOM = 8_000_000
"""Bytes of messages that are kept for whoever takes them more slowly than they come: about 25,000 events."""

_OVERHEAD = 200
"""Bytes that a message weighs beyond its own."""

_AT_ONCE = 100
"""Messages that are taken before others in the event loop have their turn."""


@dataclass(frozen=True, slots=True)
class Gap:
    """This stands where messages are missing."""

    reason: Literal["disconnected", "overflow", "undecodable"]
    missed: int | None = None
    """How many; None: nobody knows."""


@dataclass(frozen=True, slots=True)
class Mark:
    """This was published to be recognised, by the one who asked for it."""

    number: int


DISCONNECTED = Gap("disconnected")
UNDECODABLE = Gap("undecodable", 1)
_OVERFLOW = Gap("overflow")


class Inbox:
    """This keeps messages for one who takes them one at a time."""

    def __init__(self) -> None:
        self._items: deque[bytes | Mark | Gap] = deque()
        self._room = ROOM
        self._left_out = 0
        """Messages that there was no room for; none has been kept since the first of them."""
        self._arrived = asyncio.Event()
        self._in_a_row = 0
        self._is_closed = False

    def put(self, message: bytes) -> None:
        """This keeps a message, if there is room."""
        if self._left_out:
            self._left_out += 1
            return
        self._room -= len(message) + _OVERHEAD
        if self._room >= 0:
            self._add(message)
        else:
            self._left_out = 1
            self._add(_OVERFLOW)

    def mark(self, number: int) -> None:
        """This keeps a mark."""
        self._add(Mark(number))

    def interrupt(self) -> None:
        """This notes that messages may have been missed."""
        if not self._items or self._items[-1] is not DISCONNECTED:
            self._add(DISCONNECTED)

    def close(self) -> None:
        """This tells whoever takes messages that no more will come."""
        self._is_closed = True
        self._arrived.set()

    def _add(self, item: bytes | Mark | Gap) -> None:
        self._items.append(item)
        self._arrived.set()

    async def get(self, timeout: float | None) -> bytes | Mark | Gap | None:
        """This takes the next one, and waits for it at most that many seconds; None: none came. Raises `NotEntered` when none will come any more."""
        if self._items:
            self._in_a_row += 1
            if self._in_a_row >= _AT_ONCE:
                self._in_a_row = 0
                await asyncio.sleep(0)
        elif not self._is_closed:
            self._in_a_row = 0
            await self._wait(timeout)
        if self._items:
            return self._taken(self._items.popleft())
        if self._is_closed:
            raise NotEntered("this docket has been left; use it inside its `async with` block")
        return None

    async def _wait(self, timeout: float | None) -> None:
        self._arrived.clear()
        alarm = None if timeout is None else asyncio.get_running_loop().call_later(timeout, self._arrived.set)
        try:
            await self._arrived.wait()
        finally:
            if alarm is not None:
                alarm.cancel()

    def _taken(self, item: bytes | Mark | Gap) -> bytes | Mark | Gap:
        if isinstance(item, bytes):
            self._room += len(item) + _OVERHEAD
        elif item is _OVERFLOW:  # from here on messages are kept again, so whoever reads up now misses nothing
            item = replace(_OVERFLOW, missed=self._left_out)
            self._left_out = 0
            self._room = ROOM  # behind it stand marks at most
        return item
