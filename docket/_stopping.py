"""Whether a worker was told to stop: asked and waited for from any coroutine of any event loop, and from any thread.

What stopping means, and for how long what runs may go on, is the worker's business.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Stopping"]


class Stopping:
    """This says whether the worker of a run was told to stop, so that a task can see it coming: `execution.stopping`.

    What runs then may go on for the worker's `grace_period`; after that it is cancelled and handed back to the other workers. A task that
    comes to a good place to stop by itself, and returns or raises `Snooze`, is spared that. Outside a worker it is never set.
    """

    __slots__ = ("_lock", "_told", "_waiting")

    def __init__(self) -> None:
        self._told = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<Stopping: {'told to stop' if self.is_set() else 'not told to stop'}>"

    def is_set(self) -> bool:
        """This says whether the worker was told to stop. Any thread may ask, as often as it likes."""
        return self._told.is_set()

    async def wait(self) -> None:
        """This waits until the worker is told to stop."""
        loop = asyncio.get_running_loop()
        entry = loop, loop.create_future()
        with self._lock:
            if self._told.is_set():
                return
            self._waiting.append(entry)
        try:
            await entry[1]
        finally:
            with self._lock:
                self._waiting.remove(entry)

    def wait_in_thread(self, timeout: timedelta | None = None) -> bool:
        """This blocks a thread until the worker is told to stop, or for so long, and says whether it was: for `def` tasks that pause."""
        return self._told.wait(None if timeout is None else timeout.total_seconds())

    def set(self) -> None:
        """This tells everybody. It is the worker's to call; it is safe to repeat."""
        with self._lock:
            self._told.set()
            waiting = list(self._waiting)
        for loop, future in waiting:
            with suppress(RuntimeError):  # that loop was closed, and nobody waits there any more
                loop.call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
