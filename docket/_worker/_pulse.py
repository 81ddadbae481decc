"""Whether the event loop still turns. Another thread may ask, for a loop that is stuck cannot answer."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Pulse"]

INTERVAL = 1.0
"""Seconds between beats."""


class Pulse:
    """This beats for as long as it is entered, in the event loop it was entered in."""

    def __init__(self) -> None:
        self._beat = monotonic()
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._tick(asyncio.get_running_loop())
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        assert self._next is not None
        self._next.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beat = monotonic()
        self._next = loop.call_later(INTERVAL, self._tick, loop)

    def silence(self) -> float:
        """This gives the seconds since the last beat. Any thread may ask."""
        return monotonic() - self._beat
