"""The one connection of a process for messages, which comes back by itself, and who listens to what over it.

What a message says is its listener's business. In a cluster a process has one to each primary where it listens; who listens to what over which of them is `cluster`'s.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio
import redis.exceptions

from docket._redis.backend import deliver
from docket._redis.errors import is_moved, translate
from docket._redis.wire import RESPONSE_TIMEOUT, backoff, drop, pack
from docket.errors import DocketError, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio.connection import AbstractConnection

    from docket._redis.backend import Listener

__all__ = ["ServerSubscriber"]

logger = logging.getLogger("docket.redis")

PING_INTERVAL = 15.0
"""Seconds between signs of life on a connection which is silent for as long as nothing happens."""


class _NotNow(Exception):
    """This is a refusal that says nothing about the subscription: the server takes none from anybody now."""


class _Kind(NamedTuple):
    """What is listened to."""

    verb: bytes
    opposite: bytes


_CHANNEL = _Kind(b"SUBSCRIBE", b"UNSUBSCRIBE")
_PREFIX = _Kind(b"PSUBSCRIBE", b"PUNSUBSCRIBE")
_OF_SLOT = _Kind(b"SSUBSCRIBE", b"SUNSUBSCRIBE")
"""A channel that, in a cluster, is where its slot is."""


class _Subscription:
    """One channel, or all channels that begin alike, and who listens."""

    def __init__(self, name: bytes, kind: _Kind, holder: ServerSubscriber) -> None:
        self.name = name
        self.kind = kind
        self.holder = holder
        """Over whose connection it comes."""
        self.asked: AbstractConnection | None = None
        """The connection over which it was asked for."""
        self.listeners: list[Listener] = []
        self.answered = asyncio.Event()
        """Set while it stands, and once it was refused."""
        self.refusal: DocketError | None = None
        self.was_missed = False
        """Whether something may have been published while it should have stood and did not."""

    def fall(self) -> None:
        """This notes that it does not stand any more, if it did; or has not been refused, if it had."""
        if self.answered.is_set():
            self.was_missed = True
            self.answered.clear()
            self.refusal = None


class ServerSubscriber:
    """This hands published messages to listeners, over one connection that comes back by itself."""

    def __init__(self, connect: Callable[[], Awaitable[AbstractConnection]], where: str, *, on_moved: Callable[[Exception], object]) -> None:
        self._connect = connect
        self._where = where
        self._on_moved = on_moved
        """Called with a reply which says that another server has the slot of a channel."""
        self._connection: AbstractConnection | None = None
        self._channels: dict[bytes, _Subscription] = {}
        self._patterns: dict[bytes, _Subscription] = {}
        self._of_slots: dict[bytes, _Subscription] = {}
        self._all = {_CHANNEL: self._channels, _PREFIX: self._patterns, _OF_SLOT: self._of_slots}
        self._unanswered: deque[_Subscription | bytes | None] = deque()
        """What the server has yet to answer, in order: new subscriptions; names of channels of slots that are left; None for anything else."""
        self._taken_away: list[_Subscription] = []
        """Channels of slots that the server itself has unsubscribed from, and that somebody listens to."""
        self._wanted = asyncio.Event()
        self._has_heard = False
        """Whether the server has answered on the present connection, and not with `not now`."""
        self._serving: anyio.CancelScope | None = None

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def connection(self) -> AbstractConnection | None:
        """This is the present connection."""
        return self._connection

    @property
    def listening(self) -> int:
        """This is how many channels and prefixes somebody listens to."""
        return len(self._channels) + len(self._patterns) + len(self._of_slots)

    def hears(self, channel: str) -> bool:
        name = channel.encode()
        return name in self._channels or name in self._of_slots

    async def add(self, channel: str, listener: Listener, *, prefix: bool = False, sharded: bool = False) -> bool:
        kind, name = _kind_of(channel, prefix=prefix, sharded=sharded)
        subscription = self._all[kind].get(name)
        is_new = subscription is None
        if subscription is None:
            subscription = self._all[kind][name] = _Subscription(name, kind, self)
            self._wanted.set()
        subscription.listeners.append(listener)
        try:
            if is_new:
                await self._ask_for(subscription)
            with anyio.move_on_after(RESPONSE_TIMEOUT):
                await subscription.answered.wait()
            if subscription.refusal is not None:
                raise subscription.refusal
        except BaseException:  # nobody else will take the listener away
            with anyio.CancelScope(shield=True):
                await subscription.holder.remove(channel, listener, prefix=prefix, sharded=sharded)
            raise
        if not subscription.answered.is_set():
            subscription.was_missed = True
        return subscription.answered.is_set()

    async def remove(self, channel: str, listener: Listener, *, prefix: bool = False, sharded: bool = False) -> None:
        kind, name = _kind_of(channel, prefix=prefix, sharded=sharded)
        subscription = self._all[kind].get(name)
        if subscription is None:
            return
        if listener in subscription.listeners:
            subscription.listeners.remove(listener)
        if not subscription.listeners:
            del self._all[kind][name]
            await self._send(kind.opposite, name, name if kind is _OF_SLOT else None)

    def hand_over(self, to: ServerSubscriber, wanted: Callable[[bytes, bool], bool]) -> list[_Subscription]:
        """This has another listen to all those channels, which stand in one place, and are `wanted` by name and whether they are of a slot.

        The other is to `resume` with what this gives. No server is told to leave them: one that has lost a slot knows by itself, and from all else this one hangs up.
        """
        moved = [each for each in self._every() if wanted(each.name, each.kind is _OF_SLOT)]
        for each in moved:
            del self._all[each.kind][each.name]
            each.fall()
            each.holder, each.asked = to, None
            to._all[each.kind][each.name] = each
            to._wanted.set()
        gone = {id(each) for each in moved}
        self._unanswered = deque(None if id(each) in gone else each for each in self._unanswered)
        if self._connection is not None and any(each.kind is not _OF_SLOT for each in moved):
            self.lose("somebody else listens")
        return moved

    async def resume(self, subscriptions: Sequence[_Subscription]) -> None:
        """This asks for what was handed over to this one, unless a new connection did."""
        for each in subscriptions:
            if each.holder is self and each.listeners and each.asked is not self._connection:
                await self._ask_for(each)

    def _every(self) -> list[_Subscription]:
        return [*self._channels.values(), *self._patterns.values(), *self._of_slots.values()]

    async def _ask_for(self, subscription: _Subscription) -> None:
        subscription.asked = self._connection
        await self._send(subscription.kind.verb, subscription.name, subscription)

    async def _send(self, verb: bytes, name: bytes, answer_is_for: _Subscription | bytes | None) -> None:
        connection = self._connection
        if connection is None or not connection.is_connected:
            return
        self._unanswered.append(answer_is_for)
        try:
            await connection.send_packed_command(pack((verb, name)), check_health=False)
        except (redis.exceptions.RedisError, OSError):
            logger.debug("A subscription could not be sent; it will be when the connection is back", exc_info=True)

    async def run(self) -> None:
        """This serves the connection for ever, from the first subscription on; it is its owner's to start and to cancel."""
        attempt = refusals = 0
        await self._wanted.wait()
        while True:
            try:
                connection = await self._connect()
            except DocketError:
                await anyio.sleep(backoff(attempt))
                attempt += 1
                continue
            attempt = 0
            self._has_heard = False
            try:
                with anyio.CancelScope() as self._serving:
                    await self._serve(connection)
            except _NotNow as exc:
                refusals = 0 if self._has_heard else refusals + 1
                logger.debug("Messages cannot be listened to now: %s", exc)
            except (redis.exceptions.RedisError, OSError, EOFError, TimeoutError) as exc:
                refusals = 0
                logger.debug("The connection for messages was lost: %s", exc)
            finally:
                self._serving = None
                self._lose()
                with anyio.CancelScope(shield=True):
                    await drop(connection)
            await anyio.sleep(backoff(refusals))

    def lose(self, reason: str) -> None:
        """This gives the present connection up and makes another; listeners are told that something may have been missed."""
        assert self._serving is not None  # there is no connection that is not served
        logger.debug("The connection for messages is given up: %s", reason)
        self._serving.cancel()

    def _lose(self) -> None:
        self._connection = None
        for subscription in self._every():
            subscription.fall()

    async def _serve(self, connection: AbstractConnection) -> None:
        subscriptions = self._every()
        self._unanswered = deque(subscriptions)
        self._taken_away.clear()
        self._connection = connection
        for each in subscriptions:
            each.asked = connection
        if subscriptions:
            await connection.send_packed_command(b"".join(pack((each.kind.verb, each.name)) for each in subscriptions), check_health=False)
        awaiting_pong = False
        while True:
            reply: Any = None
            silent = True
            with anyio.move_on_after(PING_INTERVAL):
                # told not to disconnect: a read that is cut short loses nothing, the parser keeps what came so far
                try:
                    reply = cast("Any", await connection.read_response(disconnect_on_error=False))
                except redis.exceptions.ResponseError as exc:
                    reply = exc
                silent = False
            if silent:
                if awaiting_pong:
                    raise TimeoutError("no sign of life")
                awaiting_pong = True
                self._unanswered.append(None)
                await connection.send_packed_command(pack((b"PING",)), check_health=False)
                continue
            awaiting_pong = False
            self._take(reply)
            while self._taken_away:
                await self.resume([self._taken_away.pop()])

    def _take(self, reply: Any) -> None:
        parts: list[Any] = cast("list[Any]", reply) if isinstance(reply, list) else [None]
        if parts[0] == b"message":
            self._hand_on(self._channels.get(parts[1]), parts[2])
        elif parts[0] == b"pmessage":
            self._hand_on(self._patterns.get(parts[1]), parts[3])
        elif parts[0] == b"smessage":
            self._hand_on(self._of_slots.get(parts[1]), parts[2])
        elif parts[0] == b"sunsubscribe" and not (self._unanswered and self._unanswered[0] == parts[1]):
            self._lose_channel(parts[1])
        else:
            self._answer(reply)

    def _lose_channel(self, name: bytes) -> None:
        """A server whose slot moves away says so once. Asked again, it says who has it now."""
        subscription = self._of_slots.get(name)
        if subscription is not None and subscription.answered.is_set():  # else it is asked for already
            subscription.fall()
            subscription.asked = None
            self._taken_away.append(subscription)

    def _hand_on(self, subscription: _Subscription | None, message: bytes) -> None:
        """What comes before a subscription is confirmed is for one on the same channel that was there before it, and has been left."""
        if subscription is not None and subscription.answered.is_set():
            for listener in list(subscription.listeners):
                deliver(listener, message)

    def _answer(self, reply: Any) -> None:
        """The server answers one command after another, and does not say in an error which one it is about."""
        if not self._unanswered:
            raise redis.exceptions.InvalidResponse("a reply nobody asked for")
        subscription = self._unanswered.popleft()
        if isinstance(subscription, bytes):
            return  # whatever is wrong with it, it is left
        refusal = translate(reply, self._where) if isinstance(reply, Exception) else None
        if isinstance(reply, Exception) and is_moved(reply):
            self._on_moved(reply)
            if subscription is None or subscription.holder is not self:
                return
        if isinstance(refusal, RedisUnavailable):
            raise _NotNow(str(refusal))
        self._has_heard = True
        if subscription is None:
            return
        subscription.answered.set()
        if refusal is not None:
            subscription.refusal = refusal
            if subscription.was_missed:  # who asks now is told; who has listened all along is not there to be told
                logger.warning("Messages of %s cannot be listened to: %s", subscription.name.decode("utf-8", "replace"), subscription.refusal)
        elif subscription.was_missed:
            # Now that it stands again: a record read before that could be old news with the event lost
            subscription.was_missed = False
            for listener in list(subscription.listeners):
                listener.on_interruption()


def _kind_of(channel: str, *, prefix: bool, sharded: bool) -> tuple[_Kind, bytes]:
    if prefix:
        return _PREFIX, _starting_with(channel)
    return _OF_SLOT if sharded else _CHANNEL, channel.encode()


def _starting_with(prefix: str) -> bytes:
    """The pattern of all channels that begin so; a docket's name may hold what patterns give a meaning to."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", prefix).encode() + b"*"
