"""A clock that tests move: wall time that can jump forward, while leases, heartbeats and timeouts go on as though it had not."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import ClassVar

import anyio
import anyio.lowlevel

from docket._clock import SYSTEM, Clock, from_us, to_us
from docket._when import aware
from docket.errors import InvalidOption

__all__ = ["MovableClock", "span"]

_MICROSECOND = timedelta(microseconds=1)


def span(
    by: timedelta | None = None, *, weeks: float = 0, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0, milliseconds: float = 0
) -> timedelta:
    """This adds up how far time is to go. Raises `InvalidOption` where that is backwards."""
    whole = (by or timedelta()) + timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    if whole < timedelta():
        raise InvalidOption(f"time goes forward only, and {whole} is backwards")
    return whole


class MovableClock(Clock):
    """This is a clock for `Docket(url="memory://...", clock=...)` that a test moves: `clock.advance(days=3)`.

    It runs as the system's does, from `start` (by default now); with `ticking=False` it stands still wherever it is put, so that every time is exact.

    With it moves what happens at a time: scheduled work, retries, perpetuals and crons, rate windows, cooldowns and debounces. What lapses after a time
    does not: leases, heartbeats and places of work under way, `Timeout`, `execution_ttl` and whoever waits for a result. Any thread may move it.
    """

    jumps: ClassVar[bool] = True

    def __init__(self, start: datetime | None = None, *, ticking: bool = True) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = {}
        self._is_ticking = ticking
        self._holds = 0
        real_us = SYSTEM.now_us()
        self._state: tuple[int, int | None] = real_us if start is None else to_us(aware("start", start)), real_us if ticking else None
        """A time, and when it was that, by the system's clock; None: it stands there. Replaced as a whole, so that any thread reads it whole."""

    def __repr__(self) -> str:
        return f"<MovableClock at {self.now().isoformat()}{'' if self.is_ticking else ', standing'}>"

    @property
    def is_ticking(self) -> bool:
        """This says whether time goes on by itself."""
        return self._is_ticking

    def advance(
        self,
        by: timedelta | None = None,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
    ) -> datetime:
        """This moves the time forward in one jump, and gives the time that it then is. What became due runs as soon as a worker gets to it.

        A jump passes over what lies between: a daily cron that is three days late runs once. `drain(days=3)` goes from due time to due time.
        Raises `InvalidOption` where that would be backwards.
        """
        by_us = span(by, weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds) // _MICROSECOND
        with self._lock:
            start_us, real_start_us = self._state
            self._state = start_us + by_us, real_start_us
            now_us = self.now_us()
        self._tell()
        return from_us(now_us)

    def move_to(self, moment: datetime) -> datetime:
        """This moves the time forward to a moment, an aware datetime, in one jump, and gives it. Raises `InvalidOption` for one that has passed."""
        now = self.now()
        if aware("moment", moment) < now:
            raise InvalidOption(f"time goes forward only, and {moment.isoformat()} has passed: it is {now.isoformat()}")
        return self.advance(moment - now)

    def reach_us(self, moment_us: int) -> None:
        """This moves the time forward to a moment, unless it has passed; not part of the public interface."""
        self.advance(max(0, moment_us - self.now_us()) * _MICROSECOND)

    def hold(self) -> None:
        """This has the time stand still, until `go_on` was called as often as this; not part of the public interface."""
        with self._lock:
            self._holds += 1
            self._state = self.now_us(), None

    def go_on(self) -> None:
        """This has the time go on from where it stands, if nobody else holds it; not part of the public interface."""
        with self._lock:
            self._holds -= 1
            if self._is_ticking and not self._holds:
                self._state = self._state[0], SYSTEM.now_us()
        self._tell()

    def now_us(self) -> int:
        start_us, real_start_us = self._state
        return start_us if real_start_us is None else start_us + SYSTEM.now_us() - real_start_us

    def now(self) -> datetime:
        return from_us(self.now_us())

    def lead_us(self) -> int:
        start_us, real_start_us = self._state
        return start_us - (SYSTEM.now_us() if real_start_us is None else real_start_us)

    def stamp(self) -> str:
        (start_us, real_start_us), real_us = self._state, SYSTEM.now_us()
        return f"{start_us if real_start_us is None else start_us + real_us - real_start_us} {real_us}"

    def takes(self, seconds: float) -> float:
        return math.inf if self._state[1] is None and seconds > 0 else seconds

    def _tell(self) -> None:
        """Tells whoever waits for a time that it may have come, or comes sooner or later than it seemed."""
        with self._lock:
            listeners = list(self._listeners.values())
        here = _running_loop()
        for loop, callback in listeners:
            if loop is here:
                callback()
            else:
                with suppress(RuntimeError):  # that loop was closed, and nobody listens there any more
                    loop.call_soon_threadsafe(callback)

    @contextmanager
    def on_jump(self, callback: Callable[[], object]) -> Generator[None, None, None]:
        entry = object()
        with self._lock:
            self._listeners[entry] = asyncio.get_running_loop(), callback
        try:
            yield
        finally:
            with self._lock:
                del self._listeners[entry]

    async def sleep(self, seconds: float) -> None:
        """This waits until so many seconds later by this clock: a jump ends it early."""
        until_us = self.now_us() + int(seconds * 1e6)
        jumped = anyio.Event()
        with self.on_jump(lambda: jumped.set()):  # noqa: PLW0108 - whichever event stands there then
            await anyio.lowlevel.checkpoint()
            while (left_us := until_us - self.now_us()) > 0:
                jumped = anyio.Event()
                with anyio.move_on_after(self.takes(left_us / 1e6)):
                    await jumped.wait()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
