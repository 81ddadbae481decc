"""Keeps the worker's lease, and the places its runs hold, from a thread: also while the event loop is blocked.

A body that calls `time.sleep(30)`, or computes for a minute, stops everything in the event loop, but it lets go of the GIL now and then, and that is
enough for this thread. So what it runs is not given to another worker. Code that holds the GIL (some C extensions) stops this thread, too: then
the lease lapses, and what ran there runs again, at least once. The heartbeat is the event loop's, and stops: a blocked worker cannot claim.

Who touches what:

* `start`, `keep` and `stop` are called in the worker's event loop. What they leave for the thread is one attribute, `_kept`: the instance whose lease
  stands. Only the event loop writes it, and only once it has taken the lease out; the thread reads it once a renewal.
* The thread has an event loop and a connection of its own, made there and closed there. `_released`, `_renewal` and the `Standstill` are the thread's alone.
* Of `Runs`, which is the event loop's, the thread asks for `places()` and `running()`, which copy in one step of the interpreter what they look at. A place
  that was given up meanwhile stays given up: the script that renews places makes none.
* What the thread finds out, that the lease is lost, it hands to the event loop (`on_loss`), which looks for itself as soon as it turns. What was
  cancelled or replaced is learnt in the event loop, by `Leases`, which renews as well: bodies can be stopped nowhere else.

Past the `stall_limit` the lease is let go, so that a process that is stuck for good does not hold work for ever. When the loop turns again after
that, it finds its lease lost, stops its bodies and settles nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio

from docket._redis.wire import backoff
from docket._worker._leases import RENEWALS_PER_LEASE
from docket._worker._pulse import Pulse
from docket._worker._service import Service
from docket._worker._standstill import Standstill
from docket.errors import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from docket._store.leases import LeaseStore
    from docket._worker._crew import Crew
    from docket._worker._runs import Runs

__all__ = ["Keeper"]

logger = logging.getLogger("docket.worker")


class Keeper:
    """This is the thread. It begins with `start`, ends with `stop`, and with the event loop it was started in."""

    def __init__(self, crew: Crew, runs: Runs) -> None:
        self._crew = crew
        self._runs = runs
        self.pulse = Pulse()
        """Whether the worker's event loop turns."""
        self._kept: str | None = None
        self._released: str | None = None
        """The instance whose lease is known to be gone."""
        self._home = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._told = asyncio.Event()
        """Whether the thread was told to end."""
        self._wanted = asyncio.Event()
        """Whether the connection is wanted before the first renewal is due."""
        self._renewal: Renewal | None = None

    # In the worker's event loop

    def start(self, on_loss: Callable[[], object]) -> None:
        """This starts the thread. `on_loss` is called in the worker's event loop when the lease turns out to be lost."""
        self.pulse.__enter__()
        loop = self._loop = asyncio.new_event_loop()
        standstill = Standstill(self._crew, self._runs, self.pulse, self._home, threading.get_ident(), self._stalled)
        around = contextvars.copy_context()
        self._thread = threading.Thread(
            target=around.run, args=(self._main, loop, standstill, on_loss), name=f"docket leases {self._crew.options.name}", daemon=True
        )
        self._thread.start()

    def keep(self, instance: str) -> None:
        """This has the lease of an instance kept from now on, which has just been taken out."""
        self._kept = instance

    async def stop(self) -> None:
        """This ends the thread, in milliseconds, whatever it is at. Leases lapse from then on, unless they are given up."""
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:  # it never started
            return
        self.pulse.__exit__(None, None, None)
        with suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(self._told.set)
        await self._ended.wait()
        thread.join()

    # In the thread

    def _main(self, loop: asyncio.AbstractEventLoop, standstill: Standstill, on_loss: Callable[[], object]) -> None:
        try:
            loop.run_until_complete(self._serve(standstill, on_loss))
        except Exception:  # a bug of ours; the event loop goes on renewing, as long as it is not blocked
            logger.exception("The thread that keeps the worker's lease has failed", extra=self._crew.labels)
        finally:
            loop.close()
            self._tell_home(self._ended.set)

    def _tell_home(self, what: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the worker's event loop was closed, worker and all
            self._home.call_soon_threadsafe(what)

    async def _serve(self, standstill: Standstill, on_loss: Callable[[], object]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, standstill)
            group.start_soon(self._renew_for_ever, partial(self._renew, standstill, on_loss))
            await self._told.wait()
            standstill.look()  # once more, for what let go just before
            group.cancel_scope.cancel()

    async def _watch(self, standstill: Standstill) -> None:
        while not self._home.is_closed():  # noqa: ASYNC110 - the loop that is watched may be in no state to set an event
            await anyio.sleep(standstill.look())
        self._told.set()

    async def _renew_for_ever(self, renew: Callable[[LeaseStore], Awaitable[None]]) -> None:
        lease, failures = self._crew.lease_seconds, 0
        with anyio.move_on_after(lease / RENEWALS_PER_LEASE):  # the lease has just been taken out; who works for a shorter time needs no connection for this
            await self._wanted.wait()
        while True:
            try:
                async with self._crew.store.leases() as store:
                    self._renewal = Renewal(self._crew, store, renew)
                    await self._renewal.run()
            except RedisUnavailable as exc:
                logger.debug("The connection that keeps the lease cannot be made, and is tried again: %s", exc, extra=self._crew.labels)
                await anyio.sleep(backoff(failures, lease / 8))
                failures += 1

    def _stalled(self) -> None:
        """The loop has stood still for too long."""
        logger.error(
            "The event loop has stood still for more than %s (the stall limit), so the lease of %s is let go: other workers take over the %d task(s) it runs",
            self._crew.options.stall_limit, self._kept, len(self._runs), extra=self._crew.labels,
        )  # fmt: skip
        self._wanted.set()
        if self._renewal is not None:
            self._renewal.nudge()

    async def _renew(self, standstill: Standstill, on_loss: Callable[[], object], store: LeaseStore) -> None:
        instance, lease_us = self._kept, int(self._crew.lease_seconds * 1e6)
        if instance is None or instance == self._released:
            return
        if standstill.is_stalled:
            await store.let_go(instance)
        elif await store.renew(instance, lease_us):
            if places := self._runs.places():
                await store.hold(places, lease_us)
            return
        self._released = instance
        self._tell_home(on_loss)


class Renewal(Service):
    """This renews, a quarter of the lease's length at a time, through the thread's own connection; after an outage soon."""

    name = "lease renewal (in its thread)"

    def __init__(self, crew: Crew, store: LeaseStore, renew: Callable[[LeaseStore], Awaitable[None]]) -> None:
        super().__init__(crew)
        self._store = store
        self._renew = renew

    async def tick(self) -> float:
        await self._renew(self._store)
        return self._crew.lease_seconds / RENEWALS_PER_LEASE

    async def _available(self, timeout: float) -> bool:
        return await self._store.available(timeout)
