"""A Redis or Valkey server behind a URL: one wire for commands, one connection for messages, one per blocking reader.

Retries, timeouts and protocol are pinned here on every connection: redis-py's defaults differ from version to version.
RESP2 everywhere: replies have one shape, and RESP3's push messages leak under `hiredis` when subscriptions come and go.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

import anyio
import redis.exceptions
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from docket._redis.errors import translate, unavailable
from docket._redis.scripts import scripts
from docket._redis.wire import RESPONSE_TIMEOUT, Wire, backoff, drop, pack, read
from docket.errors import DocketError, InvalidURL, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from redis.asyncio.connection import AbstractConnection
    from redis.credentials import CredentialProvider

    from docket._clock import Clock
    from docket._redis.backend import Listener
    from docket._redis.urls import Address

__all__ = ["ServerBackend"]

logger = logging.getLogger("docket.redis")

CONNECT_TIMEOUT = 5.0
PING_INTERVAL = 15.0
"""Seconds between signs of life on the connection for messages, which is silent for as long as nothing happens."""


class _Connector:
    """Makes connections, all alike."""

    def __init__(self, address: Address, credential_provider: CredentialProvider | None) -> None:
        self.where = address.shown
        try:
            pool = ConnectionPool.from_url(address.url)  # pyright: ignore[reportUnknownMemberType] - partly typed
        except (ValueError, TypeError) as exc:
            raise InvalidURL(f"{address.shown!r} has an option redis-py does not take: {exc}.") from None
        options = pool.connection_kwargs
        if credential_provider is not None:
            if options.get("username") or options.get("password"):
                raise InvalidURL("Pass credentials in the URL or in credential_provider, not both")
            options["credential_provider"] = credential_provider
        options.setdefault("socket_connect_timeout", CONNECT_TIMEOUT)
        options.update(protocol=2, decode_responses=False, retry=Retry(NoBackoff(), 0), retry_on_timeout=False, socket_timeout=None, health_check_interval=0)
        if issubclass(pool.connection_class, Connection):
            options.setdefault("socket_keepalive", True)
        self._pool = pool
        try:
            pool.make_connection()
        except TypeError as exc:
            raise InvalidURL(f"{address.shown!r} has an option redis-py does not take: {exc}.") from None

    async def connect(self) -> AbstractConnection:
        connection = self._pool.make_connection()
        try:
            with anyio.fail_after(RESPONSE_TIMEOUT):
                await connection.connect()
        except (redis.exceptions.RedisError, OSError, EOFError, TimeoutError) as exc:
            await drop(connection)
            error = translate(exc, self.where)
            raise error if isinstance(error, RedisUnavailable) else unavailable(self.where, exc) from exc
        except BaseException:
            await drop(connection)
            raise
        return connection


class ServerBackend:
    """This talks to a server."""

    is_memory = False

    def __init__(self, address: Address, clock: Clock, credential_provider: CredentialProvider | None) -> None:
        self._clock = clock
        self._connector = _Connector(address, credential_provider)
        self._where = address.shown
        self._scripts = scripts("server")
        self._wire = Wire(self._connect_with_scripts, self._where)
        self.subscriber = ServerSubscriber(self._connector)

    async def _connect_with_scripts(self) -> AbstractConnection:
        connection = await self._connector.connect()
        try:
            with anyio.fail_after(RESPONSE_TIMEOUT):
                await connection.send_packed_command(b"".join(pack(("SCRIPT", "LOAD", script.source)) for script in self._scripts.values()), check_health=False)
                for script in self._scripts.values():
                    reply = await read(connection)
                    if isinstance(reply, Exception):
                        error = translate(reply, self._where)
                        raise type(error)(f"{error} (loading the script {script.name!r})")
        except (redis.exceptions.RedisError, OSError, EOFError, TimeoutError) as exc:
            await drop(connection)
            raise unavailable(self._where, exc) from exc
        except BaseException:
            await drop(connection)
            raise
        return connection

    async def open(self) -> None:
        await self._wire.open()

    def services(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        return (self._wire.run, self.subscriber.run)

    async def aclose(self) -> None:
        """The services let their connections go when they are cancelled."""

    async def call(self, *args: Any) -> Any:
        return await self._wire.call(*args)

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        script = self._scripts[name]
        command = (script.sha, len(keys), *keys, self._clock.now_us(), *args)
        try:
            return await self._wire.call("EVALSHA", *command)
        except redis.exceptions.NoScriptError:  # SCRIPT FLUSH, or a replica that took over
            return await self._wire.call("EVAL", script.source, *command[1:])

    async def available(self, timeout: float) -> bool:
        return await self._wire.available(timeout)

    @property
    def is_connected(self) -> bool:
        return self._wire.connected_at is not None

    def connected_for(self) -> float:
        since = self._wire.connected_at
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    def reader(self) -> ServerReader:
        return ServerReader(self._connector)


class ServerReader:
    """This is a connection of its own for commands that block."""

    def __init__(self, connector: _Connector) -> None:
        self._connector = connector
        self._connection: AbstractConnection | None = None

    async def call(self, *args: Any, timeout: float) -> Any:
        if self._connection is None:
            self._connection = await self._connector.connect()
        connection = self._connection
        try:
            with anyio.fail_after(timeout + RESPONSE_TIMEOUT):
                await connection.send_packed_command(pack(args), check_health=False)
                reply = await read(connection)
        except (redis.exceptions.RedisError, OSError, EOFError, TimeoutError) as exc:
            await self.aclose()
            raise unavailable(self._connector.where, exc) from exc
        except BaseException:  # cancelled in the middle: what comes next on this connection is not for us
            await self.aclose()
            raise
        if isinstance(reply, Exception):
            raise translate(reply, self._connector.where)
        return reply

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.CancelScope(shield=True):
                await drop(connection)


class ServerSubscriber:
    """This hands published messages to listeners, over one connection that comes back by itself."""

    def __init__(self, connector: _Connector) -> None:
        self._connector = connector
        self._connection: AbstractConnection | None = None
        self._listeners: dict[bytes, list[Listener]] = {}
        self._acknowledged: dict[bytes, asyncio.Event] = {}
        self._interrupted: set[bytes] = set()
        self._wanted = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def add(self, channel: str, listener: Listener) -> None:
        name = channel.encode()
        listeners = self._listeners.setdefault(name, [])
        listeners.append(listener)
        acknowledged = self._acknowledged.get(name)
        if acknowledged is None:
            acknowledged = self._acknowledged[name] = asyncio.Event()
            self._wanted.set()
        try:
            if not acknowledged.is_set():
                await self._tell(b"SUBSCRIBE", name)
            with anyio.move_on_after(RESPONSE_TIMEOUT):
                await acknowledged.wait()
        except BaseException:  # cancelled: nobody else will take the listener away
            with anyio.CancelScope(shield=True):
                await self.remove(channel, listener)
            raise

    async def remove(self, channel: str, listener: Listener) -> None:
        name = channel.encode()
        listeners = self._listeners.get(name, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners and name in self._listeners:
            del self._listeners[name]
            del self._acknowledged[name]
            await self._tell(b"UNSUBSCRIBE", name)

    async def _tell(self, *command: bytes) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            await connection.send_packed_command(pack(command), check_health=False)
        except (redis.exceptions.RedisError, OSError):
            logger.debug("A subscription could not be sent; it will be when the connection is back", exc_info=True)

    async def run(self) -> None:
        """This serves the connection for ever, from the first subscription on; it is its owner's to start and to cancel."""
        attempt = 0
        await self._wanted.wait()
        while True:
            try:
                connection = await self._connector.connect()
            except DocketError:
                await anyio.sleep(backoff(attempt))
                attempt += 1
                continue
            attempt = 0
            try:
                await self._serve(connection)
            except (redis.exceptions.RedisError, OSError, EOFError, TimeoutError) as exc:
                logger.debug("The connection for messages was lost: %s", exc)
            finally:
                self._connection = None
                with anyio.CancelScope(shield=True):
                    await drop(connection)
            await anyio.sleep(backoff(attempt))

    async def _serve(self, connection: AbstractConnection) -> None:
        for acknowledged in self._acknowledged.values():
            acknowledged.clear()
        self._connection = connection
        # They are told once the subscription stands again: a record read before that could be old news with the event lost
        self._interrupted = set(self._listeners)
        if self._listeners:
            await connection.send_packed_command(pack((b"SUBSCRIBE", *self._listeners)), check_health=False)
        awaiting_pong = False
        while True:
            reply: Any = None
            silent = True
            with anyio.move_on_after(PING_INTERVAL):
                # told not to disconnect: a read that is cut short loses nothing, the parser keeps what came so far
                reply = cast("Any", await connection.read_response(disconnect_on_error=False))
                silent = False
            if silent:
                if awaiting_pong:
                    raise TimeoutError("no sign of life")
                awaiting_pong = True
                await connection.send_packed_command(pack((b"PING",)), check_health=False)
                continue
            awaiting_pong = False
            self._take(reply)

    def _take(self, reply: Any) -> None:
        kind, channel, message = reply[0], reply[1], reply[-1]
        if kind == b"message":
            for listener in list(self._listeners.get(channel, ())):
                listener.on_message(message)
        elif kind == b"subscribe":
            acknowledged = self._acknowledged.get(channel)
            if acknowledged is not None:
                acknowledged.set()
            if channel in self._interrupted:
                self._interrupted.discard(channel)
                for listener in list(self._listeners.get(channel, ())):
                    listener.on_interruption()
