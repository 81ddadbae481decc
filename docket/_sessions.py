"""Entering and leaving a docket: where it stands, and in which process and event loop it is entered there.

Who is entered around the code that runs now is `_context`'s to remember; what entering opens is a `Store`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import anyio

from docket import _context
from docket._clock import Clock
from docket._redis import forget
from docket._scheduling import Scheduling
from docket._store import Store
from docket._sync import SyncClient
from docket._uuid7 import uuid7
from docket.errors import NotEntered
from docket.strikelist import StrikeList

if TYPE_CHECKING:
    from docket.docket import Docket

__all__ = ["Sessions"]


class Session:
    """This is one stretch of a docket's being entered: in one process, in one event loop, with one store."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.opening = anyio.Lock()
        self.entered = 0
        self.store: Store | None = None

    @property
    def is_abandoned(self) -> bool:
        """This says whether nobody is in it, or only somebody who cannot come back to leave it: a forked child's parent, a loop that was closed."""
        return self.pid != os.getpid() or self.loop.is_closed() or not (self.entered or self.opening.locked())


class Place:
    """This is where a docket stands: at its own URL; beside that, in an event loop of its client for blocking code; or apart from it, in memory, for a test.

    All but the first are seen by what runs in some contexts only.
    """

    def __init__(self, docket: Docket, clock: Clock, strike_list: StrikeList, memory_url: str | None = None) -> None:
        self.clock = clock
        self.strike_list = strike_list
        self.memory_url = memory_url
        self.session: Session | None = None
        self.scheduling = Scheduling(docket)
        self.client = SyncClient(docket)

    @property
    def is_taken(self) -> bool:
        """This says whether somebody is in it now."""
        return (self.session is not None and not self.session.is_abandoned) or self.client.is_open


_apart: ContextVar[Mapping[Docket, Place]] = ContextVar("dockets that stand apart", default={})  # noqa: B039 - never changed


class Sessions:
    """This enters and leaves one docket, which may be entered more than once, in one event loop after another, and in forked children."""

    def __init__(self, docket: Docket, clock: Clock) -> None:
        self._docket = docket
        self._place = Place(docket, clock, StrikeList.of_docket(docket))

    @property
    def here(self) -> Place:
        """This is where the docket stands for what runs in this context."""
        apart = _apart.get()
        return apart.get(self._docket, self._place) if apart else self._place

    @property
    def own_clock(self) -> Clock:
        """This is the clock where the docket stands for all who have not set it apart."""
        return self._place.clock

    @property
    def is_under_way(self) -> bool:
        """This says whether the docket is entered anywhere in this process, apart aside, or its client for blocking code is connected."""
        return self._place.is_taken

    def begin_anew(self, clock: Clock) -> None:
        """This has the docket entered afresh, with this clock, the next time; it is not under way."""
        self._place = Place(self._docket, clock, self._place.strike_list)

    async def enter(self) -> None:
        """This enters the docket, and connects if it is the first to. Raises `NotEntered` where it is entered in another event loop."""
        docket, here = self._docket, self.here
        session = here.session
        if session is None or session.is_abandoned:
            session = here.session = Session()
        elif session.loop is not asyncio.get_running_loop():
            raise NotEntered(f"docket {docket.name!r} is entered in another event loop; leave it there first, or make another Docket for this loop")

        async with session.opening:
            if session.store is None:
                session.store = await Store.open(
                    docket.name, here.memory_url or docket.url, execution_ttl=docket.execution_ttl, clock=here.clock,
                    credential_provider=docket.credential_provider, dead_letter_retention=docket.options.dead_letter_retention,
                    dead_letter_count=docket.options.dead_letter_count, replicas=docket.options.durable_adds, shards=docket.options.shards,
                )  # fmt: skip
                here.strike_list.follow(session.store.strikes)
            session.entered += 1
        _context.enter(docket)

    async def leave(self) -> None:
        """This leaves the docket, and disconnects if it is the last to. Raises `NotEntered`."""
        session = self.entered()
        session.entered -= 1
        _context.leave(self._docket)
        if session.entered:
            return
        store, session.store = session.store, None
        assert store is not None
        here = self.here
        here.strike_list.unfollow(store.strikes)
        here.scheduling.flush()
        await store.aclose()

    @asynccontextmanager
    async def apart(self, clock: Clock) -> AsyncGenerator[None, None]:
        """This has what runs in this context find the docket entered, empty, in memory and with this clock."""
        url = f"memory://apart-{uuid7()}"
        place = Place(self._docket, clock, StrikeList.of_docket(self._docket), url)
        former = _apart.set({**_apart.get(), self._docket: place})
        try:
            async with self._docket:
                yield
        finally:
            _apart.reset(former)
            place.client.leave()
            forget(url)

    def beside(self) -> Callable[[], None]:
        """This gives what has the code of a context find the docket beside where it stands: the same one, to be entered in another event loop at the same time."""
        docket, here = self._docket, self.here
        place = Place(docket, here.clock, here.strike_list.beside(), here.memory_url)

        def stand() -> None:
            _apart.set({**_apart.get(), docket: place})

        return stand

    @property
    def is_entered(self) -> bool:
        """This says whether the docket is entered in the running event loop."""
        session = self.here.session
        return session is not None and session.store is not None and session.pid == os.getpid() and session.loop is _running_loop()

    @property
    def is_connected(self) -> bool:
        """This says whether the docket is entered and its connection stands. Any thread may ask."""
        session = self.here.session
        return session is not None and session.store is not None and session.pid == os.getpid() and session.store.backend.is_connected

    def entered(self) -> Session:
        """This is what the docket is entered in, here; it has a store. Raises `NotEntered`."""
        session, name = self.here.session, self._docket.name
        if session is None or session.store is None:
            raise NotEntered(f"docket {name!r} is not entered; do this inside `async with docket:`, which connects it")
        if session.pid != os.getpid():
            raise NotEntered(f"docket {name!r} was entered before this process was forked; enter it again here, with `async with docket:`")
        if session.loop is not _running_loop():
            raise NotEntered(f"docket {name!r} is entered in another event loop; do this there, or make another Docket for this loop")
        return session


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
