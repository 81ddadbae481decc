"""Connections to the server that a URL means now, all alike, credentials and TLS included.

Retries, timeouts and protocol are pinned here on every connection: redis-py's defaults differ from version to version.
RESP2 everywhere: replies have one shape, and RESP3's push messages leak under `hiredis` when subscriptions come and go.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
import redis.exceptions
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from docket._redis.credentials import Provided
from docket._redis.errors import translate, unavailable, without_arguments
from docket._redis.wire import RESPONSE_TIMEOUT, drop, pack, read
from docket.errors import InvalidURL, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio.connection import AbstractConnection
    from redis.credentials import CredentialProvider

__all__ = ["CONNECT_TIMEOUT", "Connector"]

CONNECT_TIMEOUT = 5.0

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")  # else the error would be one of a connection, and name no file


class Connector:
    """This makes connections with the options of a URL in redis-py's spelling, to the host it names or to another place. Raises `InvalidURL`."""

    def __init__(self, url: str, shown: str, credential_provider: CredentialProvider | None = None) -> None:
        self.shown = shown
        try:
            pool = ConnectionPool.from_url(url)  # pyright: ignore[reportUnknownMemberType] - partly typed
        except (ValueError, TypeError) as exc:
            raise InvalidURL(f"{shown!r} has an option redis-py does not take: {exc}.") from None
        options = self._options = pool.connection_kwargs
        self._kind: type[AbstractConnection] = pool.connection_class
        if credential_provider is not None:
            if options.get("username") or options.get("password"):
                raise InvalidURL("Pass credentials in the URL or in credential_provider, not both")
            options["credential_provider"] = Provided(credential_provider)
        for name in _FILES:
            if (path := options.get(name)) and not os.access(path, os.R_OK):
                raise InvalidURL(f"{shown!r} says {name}={path!s}, and there is no such file that this process may read.")
        options.setdefault("socket_connect_timeout", CONNECT_TIMEOUT)
        options.update(protocol=2, decode_responses=False, retry=Retry(NoBackoff(), 0), retry_on_timeout=False, socket_timeout=None, health_check_interval=0)
        if issubclass(self._kind, Connection):
            options.setdefault("socket_keepalive", True)
        try:
            self._kind(**options)
        except TypeError as exc:
            raise InvalidURL(f"{shown!r} has an option redis-py does not take: {exc}.") from None

    async def connect(self, place: Mapping[str, Any], timeout: float = RESPONSE_TIMEOUT) -> AbstractConnection:
        """This connects, to `place` where that says something else than the URL. Raises `RedisUnavailable` or `ServerError`."""
        connection = self._kind(**{**self._options, **place})
        try:
            with anyio.fail_after(timeout):
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
        where = self.where(place)
        error = translate(cause, where)
        raise error if isinstance(error, RedisUnavailable) else unavailable(where, cause) from cause

    def where(self, place: Mapping[str, Any]) -> str:
        """This says for errors and logs which server is meant."""
        return f"{self.shown} ({place['host']}:{place['port']})" if "host" in place else self.shown

    async def ask(self, connection: AbstractConnection, *command: Any, timeout: float = RESPONSE_TIMEOUT) -> Any:
        """This sends one command on a connection of its own and gives the reply. Raises `RedisUnavailable` or `ServerError`."""
        try:
            with anyio.fail_after(timeout):
                await connection.send_packed_command(pack(command), check_health=False)
                reply = await read(connection)
        except (redis.exceptions.RedisError, OSError, EOFError, TimeoutError) as exc:
            raise unavailable(self.shown, exc) from exc
        if isinstance(reply, Exception):
            raise translate(reply, self.shown)
        return reply
