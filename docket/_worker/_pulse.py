"""Whether the event loop still turns. Another thread may ask, for a loop that is stuck cannot answer."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["NOTABLE", "Pulse"]

INTERVAL = 0.25
"""Seconds between beats."""

NOTABLE = 1.0
"""Seconds for which an event loop may stand still without anybody speaking of it."""


class Pulse:
    """This beats for as long as it is entered, in the event loop it was entered in."""

    def __init__(self) -> None:
        self.last = monotonic()
        """When it beat last."""
        self.late: tuple[float, float] | None = None
        """The last beat that came more than a second late: when it came, and how late it was. Only the loop writes it."""
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self.last = monotonic()
        self._next = self._after(asyncio.get_running_loop())
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        assert self._next is not None
        self._next.cancel()

    def _after(self, loop: asyncio.AbstractEventLoop) -> asyncio.TimerHandle:
        return loop.call_later(INTERVAL, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        late = now - self.last - INTERVAL
        if late >= NOTABLE:
            self.late = now, late
        self.last = now
        self._next = self._after(loop)

    def silence(self) -> float:
        """This gives the seconds since the last beat. Any thread may ask."""
        return monotonic() - self.last

    def overdue(self) -> float:
        """This gives the seconds for which the next beat is overdue, below zero while it is not: for so long, at least, the loop has stood still. Any thread may ask."""
        return self.silence() - INTERVAL
