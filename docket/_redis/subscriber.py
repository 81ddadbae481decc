"""The one connection of a process for messages, which comes back by itself, and who listens to what over it.

What a message says is its listener's business.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import anyio
import redis.exceptions

from docket._redis.backend import deliver
from docket._redis.errors import translate
from docket._redis.wire import RESPONSE_TIMEOUT, backoff, drop, pack
from docket.errors import DocketError, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio.connection import AbstractConnection

    from docket._redis.backend import Listener

__all__ = ["ServerSubscriber"]

logger = logging.getLogger("docket.redis")

PING_INTERVAL = 15.0
"""Seconds between signs of life on a connection which is silent for as long as nothing happens."""


class _NotNow(Exception):
    """This is a refusal that says nothing about the subscription: the server takes none from anybody now."""


class _Subscription:
    """One channel, or all channels that begin alike, and who listens."""

    def __init__(self, name: bytes, *, is_pattern: bool) -> None:
        self.name = name
        self.verb = b"PSUBSCRIBE" if is_pattern else b"SUBSCRIBE"
        self.opposite = b"PUNSUBSCRIBE" if is_pattern else b"UNSUBSCRIBE"
        self.listeners: list[Listener] = []
        self.answered = asyncio.Event()
        """Set while it stands, and once it was refused."""
        self.refusal: DocketError | None = None
        self.was_missed = False
        """Whether something may have been published while it should have stood and did not."""


class ServerSubscriber:
    """This hands published messages to listeners, over one connection that comes back by itself."""

    def __init__(self, connect: Callable[[], Awaitable[AbstractConnection]], where: str) -> None:
        self._connect = connect
        self._where = where
        self._connection: AbstractConnection | None = None
        self._channels: dict[bytes, _Subscription] = {}
        self._patterns: dict[bytes, _Subscription] = {}
        self._unanswered: deque[_Subscription | None] = deque()
        """What the server has yet to answer, in order; None for anything but a new subscription."""
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
        return len(self._channels) + len(self._patterns)

    def hears(self, channel: str) -> bool:
        return channel.encode() in self._channels

    async def add(self, channel: str, listener: Listener, *, prefix: bool = False) -> bool:
        subscriptions, name = self._place_of(channel, prefix=prefix)
        subscription = subscriptions.get(name)
        is_new = subscription is None
        if subscription is None:
            subscription = subscriptions[name] = _Subscription(name, is_pattern=prefix)
            self._wanted.set()
        subscription.listeners.append(listener)
        try:
            if is_new:
                await self._tell(subscription.verb, subscription)
            with anyio.move_on_after(RESPONSE_TIMEOUT):
                await subscription.answered.wait()
            if subscription.refusal is not None:
                raise subscription.refusal
        except BaseException:  # nobody else will take the listener away
            with anyio.CancelScope(shield=True):
                await self.remove(channel, listener, prefix=prefix)
            raise
        if not subscription.answered.is_set():
            subscription.was_missed = True
        return subscription.answered.is_set()

    async def remove(self, channel: str, listener: Listener, *, prefix: bool = False) -> None:
        subscriptions, name = self._place_of(channel, prefix=prefix)
        subscription = subscriptions.get(name)
        if subscription is None:
            return
        if listener in subscription.listeners:
            subscription.listeners.remove(listener)
        if not subscription.listeners:
            del subscriptions[name]
            await self._tell(subscription.opposite, subscription)

    def _place_of(self, channel: str, *, prefix: bool) -> tuple[dict[bytes, _Subscription], bytes]:
        return (self._patterns, _starting_with(channel)) if prefix else (self._channels, channel.encode())

    async def _tell(self, verb: bytes, subscription: _Subscription) -> None:
        connection = self._connection
        if connection is None or not connection.is_connected:
            return
        self._unanswered.append(subscription if verb == subscription.verb else None)
        try:
            await connection.send_packed_command(pack((verb, subscription.name)), check_health=False)
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
        for subscription in (*self._channels.values(), *self._patterns.values()):
            if subscription.answered.is_set():
                subscription.was_missed = True
                subscription.answered.clear()
                subscription.refusal = None

    async def _serve(self, connection: AbstractConnection) -> None:
        subscriptions = [*self._channels.values(), *self._patterns.values()]
        self._unanswered = deque(subscriptions)
        self._connection = connection
        if subscriptions:
            await connection.send_packed_command(b"".join(pack((each.verb, each.name)) for each in subscriptions), check_health=False)
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

    def _take(self, reply: Any) -> None:
        parts: list[Any] = cast("list[Any]", reply) if isinstance(reply, list) else [None]
        if parts[0] == b"message":
            self._hand_on(self._channels.get(parts[1]), parts[2])
        elif parts[0] == b"pmessage":
            self._hand_on(self._patterns.get(parts[1]), parts[3])
        else:
            self._answer(reply)

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
        refusal = translate(reply, self._where) if isinstance(reply, Exception) else None
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


def _starting_with(prefix: str) -> bytes:
    """The pattern of all channels that begin so; a docket's name may hold what patterns give a meaning to."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", prefix).encode() + b"*"
