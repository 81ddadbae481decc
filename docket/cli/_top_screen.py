"""The live screen of `docket top`: looks every so often, draws, and does what the keys say. What it shows is `_top_frame`'s business."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from docket._redis.urls import mask
from docket.cli._display import Display
from docket.cli._top_frame import View, frame, rows_for
from docket.cli._top_reading import Collector, History, Reading
from docket.errors import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from docket.docket import Docket

__all__ = ["Screen", "print_frame"]

INTERVALS = tuple(timedelta(seconds=seconds) for seconds in (0.5, 1, 2, 5, 10, 30, 60))
"""What `+` and `-` step through."""

_LEAST = 0.2
"""Seconds between two looks, at least."""

_HICCUP = 1.0
"""Seconds without a connection that are not worth a word."""


class Screen:
    """This is the screen of one docket."""

    def __init__(self, docket: Docket, now_us: Callable[[], int], interval: timedelta, console: Console) -> None:
        self._docket = docket
        self._now_us = now_us
        self._interval = interval
        self._console = console
        self._collector = Collector(docket)
        self._history = History()
        self._reading: Reading | None = None
        self._is_paused = False
        self._away_since_us: int | None = None
        self._is_asked = False
        self._woken = asyncio.Event()
        self._over = asyncio.Event()
        self._display = Display(self._live, on_key=self._pressed, on_resize=self._draw, on_return=self._returned)

    async def show(self) -> None:
        """This shows the docket until somebody presses `q`. Raises what a look raises, but for outages, which are shown and waited out."""
        logging.getLogger("docket").addHandler(logging.NullHandler())  # a warning would be written across the screen
        looking = asyncio.create_task(self._keep_looking())
        over = asyncio.create_task(self._over.wait())
        try:
            with self._display:
                self._draw()
                await asyncio.wait([looking, over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            looking.cancel()
            await asyncio.wait([looking, over])
        if not looking.cancelled():
            looking.result()

    # Looking

    async def _keep_looking(self) -> None:
        while True:
            await self.look()
            self._draw()
            await self._until_next(asyncio.get_running_loop().time)

    async def _until_next(self, time: Callable[[], float]) -> None:
        """Waits for the interval, which may be changed meanwhile, or for somebody to ask; who leans on the key is not served more often for it."""
        begun = time()
        while True:
            pauses = ([] if self._is_paused else [self._interval.total_seconds()]) + ([_LEAST] if self._is_asked else [])
            left = min(pauses) - (time() - begun) if pauses else None
            if left is not None and left <= 0:
                self._is_asked = False
                return
            with anyio.move_on_after(left):
                await self._woken.wait()
            self._woken.clear()

    async def look(self) -> None:
        """This looks once; what it sees, or that Redis is away, is in the next view."""
        try:
            if await self._docket.store.backend.available(_HICCUP):
                self._reading = await self._collector.look(rows_for(self._console.height))
                self._history.add(self._reading)
                self._away_since_us = None
                return
        except RedisUnavailable:  # it has been tried for seconds
            pass
        if self._away_since_us is None:
            self._away_since_us = self._now_us()

    # Drawing

    def _live(self) -> Live:
        return Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def _draw(self) -> None:
        width, height = self._console.size
        self._display.live.update(Text("\n", no_wrap=True).join(frame(self.view(), width, height)), refresh=True)

    def view(self) -> View:
        """This is what the next frame shows."""
        return View(
            docket=self._docket.name,
            url=mask(self._docket.url),
            reading=self._reading,
            history=self._history,
            now_us=self._now_us(),
            interval=self._interval,
            paused=self._is_paused,
            away_since_us=self._away_since_us,
            unicode=_speaks_unicode(self._console),
        )

    # Keys

    def _returned(self) -> None:
        self._is_asked = True
        self._woken.set()
        self._draw()

    def _pressed(self, key: str) -> None:
        if key in "qQ":
            self._over.set()
        elif key in "pP":
            self._is_paused = not self._is_paused
            self._is_asked = not self._is_paused
        elif key == " ":
            self._is_asked = True
        elif key in "+=":
            self._interval = next((longer for longer in INTERVALS if longer > self._interval), self._interval)
        elif key in "-_":
            self._interval = next((shorter for shorter in reversed(INTERVALS) if shorter < self._interval), self._interval)
        else:
            return
        self._woken.set()
        self._draw()


async def print_frame(docket: Docket, now_us: Callable[[], int], interval: timedelta, console: Console) -> None:
    """This prints one frame, after two looks: rates need both. Raises `RedisUnavailable`."""
    collector, history = Collector(docket), History()
    width, height = console.size
    history.add(await collector.look(rows_for(height)))
    await docket.clock.sleep(interval.total_seconds())
    reading = await collector.look(rows_for(height))
    history.add(reading)
    view = View(docket.name, mask(docket.url), reading, history, now_us(), interval, is_live=False, unicode=_speaks_unicode(console))
    for line in frame(view, width, height):
        line.rstrip()
        console.print(line, no_wrap=True, crop=False, overflow="ignore")


def _speaks_unicode(console: Console) -> bool:
    return console.encoding.startswith("utf")
