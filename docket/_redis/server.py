"""A Redis or Valkey server: one wire for commands, one connection for messages, one per blocking reader, all to where the server is now."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import anyio
import redis.exceptions

from docket._redis.errors import is_elsewhere, translate, unavailable
from docket._redis.scripts import scripts
from docket._redis.subscriber import ServerSubscriber
from docket._redis.wire import RESPONSE_TIMEOUT, Wire, drop, pack, read
from docket.errors import DocketError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from redis.asyncio.connection import AbstractConnection

    from docket._clock import Clock
    from docket._redis.connector import Connector
    from docket._redis.whereabouts import Host, Whereabouts

__all__ = ["ServerBackend"]

logger = logging.getLogger("docket.redis")

REPLICATION_MS = 1000
"""How long replicas have to confirm what was written."""


class ServerBackend:
    """This talks to a server."""

    is_memory = False

    def __init__(self, connector: Connector, whereabouts: Whereabouts, clock: Clock, *, quiet: bool = False, own_channels: bool = False) -> None:
        self._clock = clock
        self._connector = connector
        self._whereabouts = whereabouts
        self._where = connector.shown
        self._quiet = quiet
        self._scripts = scripts("sharded" if own_channels else "server")
        self._wire = Wire(self._connect_with_scripts, self._where, on_moved=whereabouts.hint, quiet=quiet)
        self.subscriber = ServerSubscriber(self._connect, self._where, on_moved=whereabouts.hint)
        self._durable: Wire | None = None
        """Where scheduling waits for replicas: whatever else were sent on that connection would wait as well."""
        self._durable_wanted = asyncio.Event()
        self._readers: WeakSet[ServerReader] = WeakSet()
        self._connecting: dict[anyio.CancelScope, Host] = {}
        """What is being connected to."""

    async def _connect(self, *, with_scripts: bool = False) -> AbstractConnection:
        """Connects to where the server is now, and anew when it turns out meanwhile that it is elsewhere."""
        while True:
            place = await self._whereabouts.find()
            with anyio.CancelScope() as scope:
                if "host" in place:
                    self._connecting[scope] = place["host"], place["port"]
                try:
                    return await self._connect_to(place, with_scripts=with_scripts)
                except DocketError:
                    self._whereabouts.doubt()
                    raise
                finally:
                    self._connecting.pop(scope, None)

    async def _connect_to(self, place: Mapping[str, Any], *, with_scripts: bool) -> AbstractConnection:
        connection = await self._connector.connect(place)
        try:
            await self._whereabouts.check(connection)
            if with_scripts:
                await self._load_scripts(connection)
        except BaseException:
            await drop(connection)
            raise
        return connection

    async def _connect_with_scripts(self) -> AbstractConnection:
        return await self._connect(with_scripts=True)

    async def _load_scripts(self, connection: AbstractConnection) -> None:
        try:
            with anyio.fail_after(RESPONSE_TIMEOUT):
                await connection.send_packed_command(b"".join(pack(("SCRIPT", "LOAD", script.source)) for script in self._scripts.values()), check_health=False)
                for script in self._scripts.values():
                    reply = await read(connection)
                    if isinstance(reply, Exception):
                        error = translate(reply, self._where)
                        raise type(error)(f"{error} (loading the script {script.name!r})")
        except (redis.exceptions.RedisError, OSError, EOFError, TimeoutError) as exc:
            raise unavailable(self._where, exc) from exc

    async def _watch(self) -> None:
        await self._whereabouts.watch(self._follow)

    def _follow(self, place: Host) -> None:
        """A connection that leads elsewhere leads to a server that is not the one any more, and that may never say so."""
        for scope, where in self._connecting.items():
            if where != place:
                scope.cancel()
        lines = (self._wire, *([] if self._durable is None else [self._durable]), self.subscriber, *self._readers)
        astray = [line for line in lines if line.connection is not None and _end_of(line.connection) != place]
        if astray:
            reason = f"the server is now at {place[0]}:{place[1]}"
            logger.log(logging.DEBUG if self._quiet else logging.INFO, "Following %s: %s", self._where, reason)
            for line in astray:
                line.lose(reason)

    async def open(self) -> None:
        watching = asyncio.create_task(self._watch(), name="docket: where the server is")  # it may be lost while it is connected to
        try:
            await self._wire.open()
        except BaseException:
            await self._whereabouts.aclose()
            raise
        finally:
            watching.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([watching])

    async def discard(self) -> None:
        """This lets go of what `open` has made, where the services are not going to be run."""
        await self._wire.discard()

    def services(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        return (self._wire.run, self.subscriber.run, self._watch, self._serve_durable)

    async def aclose(self) -> None:
        """The services let their own connections go when they are cancelled."""
        await self._whereabouts.aclose()

    async def call(self, *args: Any) -> Any:
        return await self._wire.call(*args)

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await self._run(self._wire, name, keys, args)

    async def _run(self, wire: Wire, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        script = self._scripts[name]
        command = (script.sha, len(keys), *keys, self._clock.now_us(), *args)
        try:
            return await wire.call("EVALSHA", *command)
        except redis.exceptions.NoScriptError:  # SCRIPT FLUSH, or a replica that took over
            return await wire.call("EVAL", script.source, *command[1:])

    async def durably(self, replicas: int, name: str, keys: Sequence[str], args: Sequence[Any], touch: Sequence[Any]) -> tuple[Any, int]:
        wire = self._durable
        if wire is None:
            wire = self._durable = Wire(self._connect_with_scripts, self._where, on_moved=self._whereabouts.hint, quiet=True)
            self._durable_wanted.set()
        await wire.available(REPLICATION_MS / 1000)  # if it is not, the calls say so
        # One after another on one connection. Others may come between: replicas then confirm a little more than was asked
        results = await asyncio.gather(
            self._run(wire, name, keys, args), wire.call(*touch), wire.call("WAIT", replicas, REPLICATION_MS), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return cast("tuple[Any, int]", (results[0], results[2]))

    async def _serve_durable(self) -> None:
        await self._durable_wanted.wait()
        assert self._durable is not None
        await self._durable.run()

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

    def at(self, key: str) -> ServerBackend:
        return self

    def reader(self) -> ServerReader:
        reader = ServerReader(self._connect, self._where, self._whereabouts)
        self._readers.add(reader)
        return reader


def _end_of(connection: AbstractConnection) -> Host:
    """Where a connection leads."""
    ends: Any = connection  # not typed: a connection to a unix socket has no host, and is never followed
    return ends.host, ends.port


class ServerReader:
    """This is a connection of its own for commands that block."""

    def __init__(self, connect: Callable[[], Awaitable[AbstractConnection]], where: str, whereabouts: Whereabouts) -> None:
        self._connect = connect
        self._where = where
        self._whereabouts = whereabouts
        self._connection: AbstractConnection | None = None
        self._reading: anyio.CancelScope | None = None
        self._lost: str | None = None

    @property
    def connection(self) -> AbstractConnection | None:
        """This is the present connection."""
        return self._connection

    async def call(self, *args: Any, timeout: float) -> Any:
        if self._lost is not None:
            self._lost = None
            await self.aclose()
        if self._connection is None:
            self._connection = await self._connect()
        connection = self._connection
        reply: Any = None
        try:
            with anyio.CancelScope() as reading, anyio.fail_after(timeout + RESPONSE_TIMEOUT):
                self._reading = reading
                await connection.send_packed_command(pack(args), check_health=False)
                reply = await read(connection)
                self._reading = None
        except (redis.exceptions.RedisError, OSError, EOFError, TimeoutError) as exc:
            await self.aclose()
            raise unavailable(self._where, exc) from exc
        except BaseException:  # cancelled in the middle: what comes next on this connection is not for us
            await self.aclose()
            raise
        if self._lost is not None:
            reason, self._lost = self._lost, None
            await self.aclose()
            raise unavailable(self._where, reason)
        if isinstance(reply, Exception):
            if is_elsewhere(reply):
                self._whereabouts.hint(reply)
                await self.aclose()
            raise translate(reply, self._where)
        return reply

    def lose(self, reason: str) -> None:
        """This gives the connection up; whoever waits for a reply learns why."""
        self._lost = reason
        if self._reading is not None:
            self._reading.cancel()

    async def aclose(self) -> None:
        self._reading = None
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.CancelScope(shield=True):
                await drop(connection)
