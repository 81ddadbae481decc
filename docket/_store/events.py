"""What scripts publish, heard: a feed of one task's transitions and progress, and the workers' own channels."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

import anyio

from docket._messages import loads_netstrings
from docket._store.base import STATES, Base, number, text
from docket._store.inspection import worker_name
from docket._store.records import ProgressChange, StateChange
from docket.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from docket._redis.backend import Subscriber

__all__ = ["Events", "Feed", "Signals"]

logger = logging.getLogger("docket.redis")


class Events(Base):
    """This listens to what scripts publish."""

    def feed(self, key: str) -> Feed:
        """This makes a feed of one task's events; enter it to subscribe."""
        return Feed(self._backend.subscriber, self._keys.state(key))

    def signals(self, *, on_wake: Callable[[int | None], None], on_cancel: Callable[[str, int, str], None]) -> Signals:
        """This listens for what movers and runs have to know at once. `on_wake(None)`: something may have been missed."""
        return Signals(self._backend.subscriber, self._keys.wake, self._keys.cancellations, on_wake, on_cancel)


class Feed:
    """This hands out events of one task, one at a time."""

    def __init__(self, subscriber: Subscriber, channel: str) -> None:
        self._subscriber = subscriber
        self._channel = channel
        self._events: deque[StateChange | ProgressChange | None] = deque()
        self._arrived = anyio.Event()

    async def __aenter__(self) -> Self:
        await self._subscriber.add(self._channel, self)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._subscriber.remove(self._channel, self)

    def on_message(self, message: bytes) -> None:
        """This takes one message; one that cannot be read counts as one that was missed."""
        try:
            event = _decode(message)
        except (PayloadError, KeyError, ValueError, IndexError):
            logger.warning("An event on %s cannot be decoded (%d bytes)", self._channel, len(message))
            event = None
        self._put(event)

    def on_interruption(self) -> None:
        """This learns that messages may have been missed."""
        self._put(None)

    def _put(self, event: StateChange | ProgressChange | None) -> None:
        self._events.append(event)
        self._arrived.set()

    async def get(self, timeout: float | None) -> StateChange | ProgressChange | None:
        """This waits for the next event, at most that many seconds. None: none came, or some may have been missed: read the record again."""
        if not self._events:
            self._arrived = anyio.Event()
            with anyio.move_on_after(timeout):
                await self._arrived.wait()
        return self._events.popleft() if self._events else None


def _decode(message: bytes) -> StateChange | ProgressChange:
    if message.startswith(b"s "):
        return _decode_state(message)
    _, key, generation, current, total, note, updated = loads_netstrings(message)
    return ProgressChange(key.decode(), int(generation), number(current), int(total), text(note), number(updated))


def _decode_state(message: bytes) -> StateChange:
    """A line of plain fields, the last two the lengths of the key and the worker, which with the error's text stand behind it."""
    line, _, free = message.partition(b"\n")
    _, generation, state, when, started, completed, superseded, key_length, worker_length = line.split(b" ")
    key_end = int(key_length)
    worker_end = key_end + int(worker_length)
    return StateChange(
        key=free[:key_end].decode(),
        generation=int(generation),
        state=STATES[state],
        when_us=int(when),
        worker=worker_name(text(free[key_end:worker_end])),
        started_us=number(started),
        completed_us=number(completed),
        error=text(free[worker_end:]),
        superseded=superseded == b"1",
    )


class _Wake:
    def __init__(self, on_wake: Callable[[int | None], None]) -> None:
        self._on_wake = on_wake

    def on_message(self, message: bytes) -> None:
        self._on_wake(int(message) if message.isdigit() else None)

    def on_interruption(self) -> None:
        self._on_wake(None)


class _Cancel:
    def __init__(self, on_cancel: Callable[[str, int, str], None]) -> None:
        self._on_cancel = on_cancel

    def on_message(self, message: bytes) -> None:
        try:
            key, generation, reason = loads_netstrings(message)
            self._on_cancel(key.decode(), int(generation), reason.decode())
        except (PayloadError, ValueError):
            logger.warning("A cancellation cannot be decoded (%d bytes)", len(message))

    def on_interruption(self) -> None:
        """Lost cancellations are learnt of when the lease is renewed."""


class Signals:
    """This listens on the workers' channels for as long as it is entered."""

    def __init__(
        self, subscriber: Subscriber, wake: str, cancel: str, on_wake: Callable[[int | None], None], on_cancel: Callable[[str, int, str], None]
    ) -> None:
        self._subscriber = subscriber
        self._listeners = ((wake, _Wake(on_wake)), (cancel, _Cancel(on_cancel)))

    async def __aenter__(self) -> Self:
        try:
            for channel, listener in self._listeners:
                await self._subscriber.add(channel, listener)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            for channel, listener in self._listeners:
                await self._subscriber.remove(channel, listener)
