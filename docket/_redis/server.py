"""A Redis or Valkey server behind a URL: one wire for commands, one connection for messages, one per blocking reader.

Retries, timeouts and protocol are pinned here on every connection: redis-py's defaults differ from version to version.
RESP2 everywhere: replies have one shape, and RESP3's push messages leak under `hiredis` when subscriptions come and go.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
import redis.exceptions
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from docket._redis.errors import translate, unavailable, without_arguments
from docket._redis.scripts import scripts
from docket._redis.subscriber import ServerSubscriber
from docket._redis.wire import RESPONSE_TIMEOUT, Wire, drop, pack, read
from docket.errors import InvalidURL, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from redis.asyncio.connection import AbstractConnection
    from redis.credentials import CredentialProvider

    from docket._clock import Clock
    from docket._redis.urls import Address

__all__ = ["ServerBackend"]

logger = logging.getLogger("docket.redis")

CONNECT_TIMEOUT = 5.0


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
            cause = without_arguments(exc)
        except BaseException:
            await drop(connection)
            raise
        else:
            return connection
        # Out here, where the error that may tell too much does not stand behind ours
        error = translate(cause, self.where)
        raise error if isinstance(error, RedisUnavailable) else unavailable(self.where, cause) from cause


class ServerBackend:
    """This talks to a server."""

    is_memory = False

    def __init__(self, address: Address, clock: Clock, credential_provider: CredentialProvider | None, *, quiet: bool = False) -> None:
        self._clock = clock
        self._connector = _Connector(address, credential_provider)
        self._where = address.shown
        self._scripts = scripts("server")
        self._wire = Wire(self._connect_with_scripts, self._where, quiet=quiet)
        self.subscriber = ServerSubscriber(self._connector.connect, self._where)

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

    def lead_us(self) -> int:
        return 0

    def connected_for(self) -> float:
        since = self._wire.serving_since
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
