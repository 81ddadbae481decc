"""What scripts publish, heard: the transitions and progress of one task or of all, and the workers' own channels."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakSet

import anyio

from docket._messages import loads_netstrings
from docket._redis.wire import RESPONSE_TIMEOUT
from docket._store.base import FIRST_US, LAST_US, STATES, Base, moment_us, number, text
from docket._store.inbox import UNDECODABLE, Gap, Inbox, Mark
from docket._store.inspection import worker_name
from docket._store.records import ProgressChange, StateChange
from docket.errors import PayloadError, RedisUnavailable
from docket.states import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from typing_extensions import Self

    from docket._keys import Keys
    from docket._redis.backend import Backend, Listener, Subscriber
    from docket._store.records import RunRecord

    OnWake = Callable[[int | None], None]

__all__ = ["Events", "Feed", "Gap", "Reading", "Signals", "Stream", "Track"]

logger = logging.getLogger("docket.redis")

REREAD_EVERY = 5.0
"""Seconds of quiet for which events alone are trusted."""

MARK_PATIENCE = 1.0
"""Seconds for a mark to come back, doubled each time it does not. One that stays away says that messages do not come through."""


class Looks(Protocol):
    """This reads records in their place among the events."""

    async def look(self, key: str, channel: str, mark: int) -> RunRecord | None:
        """This gives the record of a key and publishes `mark` on `channel`."""
        ...


class Events(Base):
    """This listens to what scripts publish."""

    def __init__(self, backend: Backend, keys: Keys, inspection: Looks, wakes: Sequence[str]) -> None:
        super().__init__(backend, keys)
        self._inspection = inspection
        self._wakes = wakes
        """The channels of the movers, one a shard."""
        self._inboxes: WeakSet[Inbox] = WeakSet()

    def feed(self, key: str) -> Feed:
        """This makes a feed of one task's events; enter it to subscribe."""
        keys = self._keys.of(key)
        return Feed(self._backend.subscriber, keys.state(key), self._inbox(), sharded=keys.own_channels)

    def track(self, key: str) -> Track:
        """This makes a feed of one task's events among which its record is read, in its place; enter it to subscribe."""
        keys = self._keys.of(key)
        echo = keys.echo(secrets.token_hex(8))

        async def look(mark: int) -> RunRecord | None:
            return await self._inspection.look(key, echo, mark)

        return Track(self._backend.subscriber, keys.state(key), echo, self._inbox(), look, sharded=keys.own_channels)

    def stream(self) -> Stream:
        """This makes a feed of the events of all tasks; enter it to subscribe."""
        if self._keys.own_channels:
            return Stream(self._backend.subscriber, [keys.state("") for keys in self._keys.shards], self._inbox(), sharded=True)
        return Stream(self._backend.subscriber, [self._keys.state("")], self._inbox(), prefix=True)

    def signals(self, *, on_wake: OnWake | Sequence[OnWake], on_cancel: Callable[[str, int, str], None]) -> Signals:
        """This listens for what movers (one a shard, or one for all) and runs have to know at once. `on_wake(None)`: something may have been missed."""
        told = [on_wake] * len(self._wakes) if callable(on_wake) else on_wake
        return Signals(self._backend.subscriber, list(zip(self._wakes, told, strict=True)), self._keys.cancellations, on_cancel)

    def _inbox(self) -> Inbox:
        inbox = Inbox()
        self._inboxes.add(inbox)
        return inbox

    def close(self) -> None:
        """This tells everybody who waits for an event that no more will come."""
        for inbox in list(self._inboxes):
            inbox.close()


class _Listening:
    """This listens on some channels for as long as it is entered."""

    def __init__(self, subscriber: Subscriber, *listeners: tuple[str, Listener], prefix: bool = False, sharded: bool = False) -> None:
        self._subscriber = subscriber
        self._listeners = listeners
        self._prefix = prefix
        self._sharded = sharded
        self.stands = False
        """Whether the server had confirmed that it stands when it was entered."""

    async def __aenter__(self) -> Self:
        try:
            self.stands = all([await self._listen(channel, listener) for channel, listener in self._listeners])
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            for channel, listener in self._listeners:
                await self._subscriber.remove(channel, listener, prefix=self._prefix, sharded=self._sharded)

    async def _listen(self, channel: str, listener: Listener) -> bool:
        return await self._subscriber.add(channel, listener, prefix=self._prefix, sharded=self._sharded)


class Feed(_Listening):
    """This hands out events of one task, one at a time."""

    def __init__(self, subscriber: Subscriber, channel: str, inbox: Inbox | None = None, *, sharded: bool = False) -> None:
        super().__init__(subscriber, (channel, self), sharded=sharded)
        self._inbox = inbox or Inbox()

    def on_message(self, message: bytes) -> None:
        """This takes one message; one that cannot be read counts as one that was missed."""
        self._inbox.put(message)

    def on_interruption(self) -> None:
        """This learns that messages may have been missed."""
        self._inbox.interrupt()

    async def get(self, timeout: float | None) -> StateChange | ProgressChange | None:
        """This waits for the next event, at most that many seconds. None: none came, or some may have been missed: read the record again.

        Raises `NotEntered` once the docket was left.
        """
        item = await self._inbox.get(timeout)
        return _read(item) if isinstance(item, bytes) else None


class Reading(NamedTuple):
    """This is what the record of a key said, read among the events of the key; None when there was none."""

    record: RunRecord | None
    in_place: bool
    """Whether everything older has been handed out before, and everything newer will be after; else messages do not come through now."""


class _Echo:
    """This hears the marks that its owner asked for."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def on_message(self, message: bytes) -> None:
        self._inbox.mark(int(message))

    def on_interruption(self) -> None:
        self._inbox.interrupt()


class Track(_Listening):
    """This hands out events of one task, and what its record says: at the start, wherever events may have been missed, and after a while of quiet.

    A record comes on another connection than events. So that an old event is not taken for news after a newer record, reading
    publishes a mark, on a channel of this one's own that comes by the same connection: what comes before it is older than the record, what comes
    after it is newer.
    """

    def __init__(
        self, subscriber: Subscriber, channel: str, echo: str, inbox: Inbox, look: Callable[[int], Awaitable[RunRecord | None]], *, sharded: bool = False
    ) -> None:
        super().__init__(subscriber, (channel, self), (echo, _Echo(inbox)), sharded=sharded)
        self._inbox = inbox
        self._look = look
        self._number = 0
        self._asked: tuple[Mark, RunRecord | None] | None = None
        """The mark that is under way, and what was read with it."""
        self._is_outdated = False
        """Whether events have been handed out since."""
        self._patience = MARK_PATIENCE
        self._is_stale = True
        """Whether the record is to be read."""
        self._is_late = False
        """Whether events may be older than what was handed out, or read before. An end is news all the same: nothing comes after it."""

    async def __aenter__(self) -> Self:
        (channel, _), *_ = self._listeners
        self._is_late = self._subscriber.hears(channel)
        return await super().__aenter__()

    def on_message(self, message: bytes) -> None:
        """This takes one message."""
        self._inbox.put(message)

    def on_interruption(self) -> None:
        """This learns that messages may have been missed."""
        self._inbox.interrupt()

    async def get(self) -> StateChange | ProgressChange | Reading:
        """This waits for the next event, or for the next reading of the record. However long Redis is away, it goes on when it is back.

        Raises `NotEntered` once the docket was left, and `ServerError`.
        """
        while True:
            if self._is_stale and self._asked is None:
                self._asked = await self._ask()
            item = await self._inbox.get(REREAD_EVERY if self._asked is None else self._patience)
            if item is None and self._asked is not None:
                (_, record), self._asked = self._asked, None
                self._patience = min(2 * self._patience, RESPONSE_TIMEOUT)
                if record is not None and not self._is_outdated:  # of one that is gone, an event that is yet to come may tell the end
                    self._is_late = True
                    return Reading(record, in_place=False)
            elif item is None:
                self._is_stale = True
            elif isinstance(item, Mark):
                if self._asked is not None and item == self._asked[0]:
                    (_, record), self._asked = self._asked, None
                    self._is_stale = self._is_late = False
                    self._patience = MARK_PATIENCE
                    return Reading(record, in_place=True)
            elif isinstance(item, Gap) or (change := _read(item)) is None:
                self._is_stale, self._asked = True, None
            elif not self._is_late or (isinstance(change, StateChange) and change.state in TERMINAL):
                self._is_outdated = True
                return change

    async def _ask(self) -> tuple[Mark, RunRecord | None]:
        self._is_outdated = False
        while True:
            self._number += 1
            try:
                return Mark(self._number), await self._look(self._number)
            except RedisUnavailable as exc:  # it has been tried for seconds
                logger.debug("A record cannot be read now, and will be when Redis is back: %s", exc)


class Stream(_Listening):
    """This hands out the events of all tasks of a docket, and a gap wherever some are missing."""

    def __init__(self, subscriber: Subscriber, channels: Sequence[str], inbox: Inbox, *, prefix: bool = False, sharded: bool = False) -> None:
        super().__init__(subscriber, *((channel, self) for channel in channels), prefix=prefix, sharded=sharded)
        self._inbox = inbox
        self._is_entered = False

    async def __aenter__(self) -> Self:
        """Raises `RedisUnavailable` when the subscription does not come to stand, and `ServerError` when it is refused."""
        try:
            # All at once: should a server be away, one waits for it once
            standing = await asyncio.gather(*(self._listen(channel, listener) for channel, listener in self._listeners), return_exceptions=True)
        except BaseException:
            await self.__aexit__()
            raise
        refusals = [each for each in standing if isinstance(each, BaseException)]
        self.stands = not refusals and all(standing)
        if refusals:
            await self.__aexit__()
            raise refusals[0]
        if not self.stands:
            await self.__aexit__()
            raise RedisUnavailable("the events of the docket cannot be listened to: there is no connection to Redis for messages. Is the server running?")
        self._is_entered = True
        return self

    def on_message(self, message: bytes) -> None:
        """This takes one message."""
        self._inbox.put(message)

    def on_interruption(self) -> None:
        """This learns that messages may have been missed."""
        if self._is_entered:  # what was before is no concern of this one's
            self._inbox.interrupt()

    async def get(self) -> StateChange | ProgressChange | Gap:
        """This waits for the next event, or for word that some are missing. Raises `NotEntered` once the docket was left."""
        item = await self._inbox.get(None)
        if isinstance(item, bytes):
            return _read(item) or UNDECODABLE
        assert isinstance(item, Gap)  # no mark is asked for, and there is no timeout
        return item


def _read(message: bytes) -> StateChange | ProgressChange | None:
    try:
        return _decode(message)
    except (PayloadError, KeyError, ValueError, IndexError):
        logger.warning("An event cannot be decoded (%d bytes), and counts as missed: %r", len(message), message[:100])
        return None


def _decode(message: bytes) -> StateChange | ProgressChange:
    if message.startswith(b"s "):
        return _decode_state(message)
    _, key, generation, current, total, note, updated = loads_netstrings(message)
    return ProgressChange(key.decode(), int(generation), number(current), int(total), text(note), _moment(updated))


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
        when_us=_moment(when) or 0,
        worker=worker_name(text(free[key_end:worker_end])),
        started_us=_moment(started),
        completed_us=_moment(completed),
        error=text(free[worker_end:]),
        superseded=superseded in {b"1", b"2"},
        never_began=superseded in {b"2", b"3"},
    )


def _moment(value: bytes) -> int | None:
    """An optional number of microseconds. Raises `ValueError` for one that no date can say."""
    moment = number(value)
    if moment is not None and not FIRST_US <= moment <= LAST_US:
        raise ValueError(f"{moment} microseconds are no date")
    return moment


class _Wake:
    def __init__(self, on_wake: Callable[[int | None], None]) -> None:
        self._on_wake = on_wake

    def on_message(self, message: bytes) -> None:
        self._on_wake(moment_us(message))  # of a moment that cannot be read it is known that something may be due

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


class Signals(_Listening):
    """This listens on the workers' channels for as long as it is entered."""

    def __init__(self, subscriber: Subscriber, wakes: Sequence[tuple[str, OnWake]], cancel: str, on_cancel: Callable[[str, int, str], None]) -> None:
        super().__init__(subscriber, *((wake, _Wake(on_wake)) for wake, on_wake in wakes), (cancel, _Cancel(on_cancel)))
