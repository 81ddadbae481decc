"""One connection, many callers: commands go out as they come, replies come back in order.

A wire connects, notices when the connection breaks or stays silent, tells every caller so, and connects again for ever.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import anyio
import hiredis
import redis.exceptions

from docket._redis.errors import holds_everybody_up, in_doubt, is_elsewhere, translate, unavailable
from docket.errors import DocketError, NotEntered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio.connection import AbstractConnection

__all__ = ["RESPONSE_TIMEOUT", "Wire", "backoff", "drop", "pack", "read"]

logger = logging.getLogger("docket.redis")

RESPONSE_TIMEOUT = 10.0
"""Seconds a server may take to answer before the connection counts as lost. It is no promise about the command."""

RECONNECT_CEILING = 1.0
"""Seconds between tries to connect again, at most. Whoever is back later than a lease finds its work taken over."""


def pack(args: tuple[Any, ...]) -> bytes:
    """This gives a command in the Redis protocol (RESP); `hiredis` does it six times as fast as redis-py's own packing."""
    return hiredis.pack_command(args)  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType] - untyped


def backoff(attempt: int, ceiling: float = 5.0) -> float:
    """This gives seconds to wait before trying again: doubling from 50 ms, with half of it left to chance."""
    return min(ceiling, 0.05 * 2 ** min(attempt, 10)) * (0.5 + random.random() / 2)


async def read(connection: AbstractConnection) -> Any:
    """This reads one reply; an error reply is returned, not raised, and a broken connection is raised."""
    try:
        return cast("Any", await connection.read_response())
    except (redis.exceptions.ResponseError, redis.exceptions.BusyLoadingError) as exc:
        return exc


async def drop(connection: AbstractConnection) -> None:
    """This closes a connection without waiting for the other side."""
    try:
        await connection.disconnect(nowait=True)
    except (OSError, redis.exceptions.RedisError):
        logger.debug("Closing a connection to Redis failed", exc_info=True)


class Wire:
    """This is one connection that any number of tasks call through at once."""

    def __init__(
        self, connect: Callable[[], Awaitable[AbstractConnection]], where: str, *, on_moved: Callable[[Exception], object], quiet: bool = False
    ) -> None:
        self._connect = connect
        self._on_moved = on_moved
        """Called with a reply which says that this server is not the one any more. What was asked before is answered yet; then the wire connects again."""
        self._moved: str | None = None
        self._quiet = quiet
        """Whether another wire says the same of the same server."""
        self._where = where
        self._connection: AbstractConnection | None = None
        self._outbox: list[bytes] = []
        self._pending: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._written = asyncio.Event()
        self._up = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._serving: anyio.CancelScope | None = None
        self._reason: BaseException | str = "not connected yet"
        self._closed = False
        self.connected_at: float | None = None
        """When the present connection was made, by the loop's clock; None while there is none."""
        self.serving_since: float | None = None
        """Since when the server, which is connected to, has not refused what it refuses everybody; None while there is no connection."""

    @property
    def connection(self) -> AbstractConnection | None:
        """This is the present connection."""
        return self._connection

    async def open(self) -> None:
        """This connects for the first time. Raises `RedisUnavailable`."""
        self._attach(await self._connect())

    async def available(self, timeout: float) -> bool:
        """This waits for a connection, at most that many seconds, and says whether there is one."""
        with anyio.move_on_after(timeout):
            await self._up.wait()
        return self._connection is not None and self._moved is None

    async def call(self, *args: Any) -> Any:
        """This sends one command and gives its reply. Raises `RedisUnavailable`, `InDoubt`, `ServerError`, or `NotEntered` once it is closed."""
        if self._connection is None:
            if self._closed:
                raise NotEntered("this docket has been left; use it inside its `async with` block")
            raise unavailable(self._where, self._reason)
        if self._moved is not None:
            raise unavailable(self._where, self._moved)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._outbox.append(pack(args))
        self._pending.append((self._loop.time(), future))
        self._written.set()
        if self._timer is None:
            self._timer = self._loop.call_later(RESPONSE_TIMEOUT, self._check_silence)
        return await future

    async def discard(self) -> None:
        """This lets go of what `open` has made, where nobody is going to serve it."""
        await self._detach("it is not wanted after all")

    async def run(self) -> None:
        """This serves the wire for ever, through losses of the connection; it is its owner's to start and to cancel."""
        attempt = 0
        try:
            while True:
                if self._connection is None:
                    is_told = not self._quiet and self._moved is None
                    try:
                        self._attach(await self._connect())
                    except DocketError as exc:
                        self._reason = exc
                        if attempt == 0 and not self._quiet:
                            logger.warning("Redis is unavailable, trying again until it is back: %s", exc)
                        await anyio.sleep(backoff(attempt, RECONNECT_CEILING))
                        attempt += 1
                        continue
                    logger.log(logging.INFO if is_told else logging.DEBUG, "Connected to Redis at %s again", self._where)
                attempt = 0
                await self._serve()
        finally:
            self._closed = True
            await self._detach("the docket was left")
            self._up.set()  # whoever waits for a connection need not wait for this one

    def lose(self, reason: str) -> None:
        """This gives the present connection up, with whatever waits for its replies, and makes another."""
        if self._serving is not None:
            self._reason = reason
            self._serving.cancel()

    def _attach(self, connection: AbstractConnection) -> None:
        self._connection, self._moved = connection, None
        self.connected_at = self.serving_since = self._loop.time()
        self._up.set()

    async def _detach(self, reason: BaseException | str) -> None:
        """Every caller learns of the loss: what was written may have been carried out."""
        self._reason = reason
        self._up.clear()
        self.connected_at = self.serving_since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._outbox.clear()
        while self._pending:
            _, future = self._pending.popleft()
            if not future.done():
                future.set_exception(in_doubt(self._where, reason))
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.CancelScope(shield=True):
                await drop(connection)

    async def _serve(self) -> None:
        connection = self._connection
        assert connection is not None
        reason: list[BaseException] = []

        async def guard(duty: Callable[[AbstractConnection], Awaitable[None]]) -> None:
            try:
                await duty(connection)
            except (redis.exceptions.RedisError, OSError, EOFError) as exc:
                reason.append(exc)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            self._serving = group.cancel_scope
            group.start_soon(guard, self._write)
            group.start_soon(guard, self._read)
        self._serving = None
        await self._detach(reason[0] if reason else self._reason)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._written.wait()
            self._written.clear()
            packed, self._outbox = self._outbox, []
            await connection.send_packed_command(b"".join(packed), check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            reply = await read(connection)
            if not self._pending:
                raise redis.exceptions.InvalidResponse("a reply nobody asked for")
            _, future = self._pending.popleft()
            if isinstance(reply, Exception) and holds_everybody_up(str(reply), type(reply).__name__):
                self.serving_since = self._loop.time()
            if future.done():
                continue
            if isinstance(reply, Exception):
                if is_elsewhere(reply):
                    self._moved = str(reply)
                    self._up.clear()
                    self._on_moved(reply)
                # NOSCRIPT stays what it is: the backend mends that one itself
                future.set_exception(reply if isinstance(reply, redis.exceptions.NoScriptError) else translate(reply, self._where))
            else:
                future.set_result(reply)
            if self._moved is not None and not self._pending:
                raise redis.exceptions.ConnectionError(self._moved)

    def _check_silence(self) -> None:
        self._timer = None
        if not self._pending:
            return
        oldest = self._pending[0][0] + RESPONSE_TIMEOUT
        if self._loop.time() < oldest:
            self._timer = self._loop.call_at(oldest, self._check_silence)
            return
        assert self._serving is not None  # whoever opens a wire runs it; when it ends, so does this timer
        self.lose(f"no answer for {RESPONSE_TIMEOUT:g} seconds")
