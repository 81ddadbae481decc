"""Where the server is now: asked before every connection, and watched while connections stand. What a connection is is the connector's business.

A docket's keys share one hash tag, so in every topology one server has all of them. What differs is who knows which one it is,
and what makes that change: one URL and nobody, sentinels, or the nodes of a cluster.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from redis.crc import key_slot
from redis.exceptions import MovedError

from docket._redis.connector import Connector
from docket._redis.errors import unavailable
from docket._redis.wire import backoff, drop
from docket.errors import DocketError, RedisUnavailable, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio.connection import AbstractConnection
    from redis.credentials import CredentialProvider

    from docket._redis.urls import Address

__all__ = ["ClusterMap", "Fixed", "Host", "Sentinels", "Whereabouts"]

logger = logging.getLogger("docket.redis")

LOOK = 1.0
"""Seconds between looks at where the server is. A server that dies in silence is left within this and the time a failover takes."""

ANSWER = 1.0
"""Seconds that a sentinel, or a node of the cluster, has for an answer before the next one is asked."""

SLOW_ANSWER = 4.0
"""Seconds that each of them has when nobody answered in time, and some were slow: over TLS, or on a busy machine, connecting takes its time."""

SETTLING = 3.0
"""Seconds after a server's word on where else to look in which other nodes may not have heard of it, so that they are not asked."""

MOST_NODES = 100
"""Nodes of a cluster that are remembered for asking."""

Host = tuple[str, int]


class Whereabouts(Protocol):
    """This knows where the server is."""

    async def find(self) -> Mapping[str, Any]:
        """This names the server to talk to now, by redis-py's options; nothing where the URL's own are right. Raises `RedisUnavailable`."""
        ...

    async def check(self, connection: AbstractConnection) -> None:
        """This looks at a connection just made. Raises `RedisUnavailable` when it leads to a server that is not the one, although it should."""
        ...

    def hint(self, error: Exception) -> None:
        """This takes a server's word for where else to look."""
        ...

    def doubt(self) -> None:
        """This learns that what was found last did not do, so that somebody else is asked first."""
        ...

    async def watch(self, on_found: Callable[[Host], None]) -> None:
        """This says again and again where the server is, for as long as it runs."""
        ...

    async def aclose(self) -> None:
        """This learns that nobody will ask again, and lets go of what it has."""
        ...


class Fixed:
    """This is one server, where the URL says it is. Names that come to mean another server are for the resolver, at the next connection."""

    async def find(self) -> Mapping[str, Any]:
        return {}

    async def check(self, connection: AbstractConnection) -> None:
        pass

    def hint(self, error: Exception) -> None:
        pass

    def doubt(self) -> None:
        pass

    async def watch(self, on_found: Callable[[Host], None]) -> None:
        pass

    async def aclose(self) -> None:
        pass


class _Asked(ABC):
    """What sentinels and clusters have in common: several who know, of whom some may be away."""

    def __init__(self, address: Address, credential_provider: CredentialProvider | None) -> None:
        self._connector = Connector(address.asked_url, address.shown, credential_provider)
        self._shown = address.shown
        self._hosts = list(address.hosts)
        """Who may be asked."""
        self._doubts: Counter[Host] = Counter()
        """Whose word has led nowhere, and how often."""
        self._found: Host | None = None
        self._settled_at = 0.0
        """Until when nobody is asked where the server is, unless it is lost."""
        self._line: tuple[Host, AbstractConnection] | None = None
        """The connection to whom was asked last."""
        self._asking = anyio.Lock()
        self._patience = ANSWER
        """Seconds for an answer."""

    async def find(self) -> Mapping[str, Any]:
        host, port = self._found = await self._look_twice()
        return {"host": host, "port": port}

    async def _look_twice(self) -> Host:
        """Asks everybody again, with more patience, where nobody answered because some were slow."""
        try:
            return await self._look()
        except RedisUnavailable as exc:
            if not isinstance(exc.__cause__, TimeoutError):
                raise
        self._patience = SLOW_ANSWER
        try:
            return await self._look()
        finally:
            self._patience = ANSWER

    def doubt(self) -> None:
        if self._line is not None:
            self._doubts[self._line[0]] += 1

    async def watch(self, on_found: Callable[[Host], None]) -> None:
        failures = 0
        while True:
            await anyio.sleep(max(LOOK, backoff(failures)))
            if anyio.current_time() < self._settled_at:
                continue
            try:
                found = await self._look(but=self._found)
            except DocketError as exc:
                logger.debug("Nobody says where the server is now: %s", exc)
                failures += 1
                continue
            failures = 0
            if anyio.current_time() >= self._settled_at:  # else a server has said better meanwhile
                self._found = found
                on_found(found)

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._hang_up()

    async def _look(self, *, but: Host | None = None) -> Host:
        """Asks one after another, first who has led nowhere least often and was asked last, and last of all the server in question:
        what it says of itself may be what it thinks.
        """
        failures: list[DocketError] = []
        async with self._asking:
            for host in sorted(self._hosts, key=lambda each: (each == but, self._doubts[each], self._line is None or each != self._line[0])):
                try:
                    found = await self._ask(host)
                except DocketError as exc:
                    failures.append(exc)
                    continue
                if found is not None:
                    return found
        if len(failures) < len(self._hosts):
            raise unavailable(self._shown, self._nobody())
        raise next((each for each in failures if isinstance(each.__cause__, TimeoutError)), failures[0])

    async def _tell(self, host: Host, *command: Any) -> Any:
        if self._line is None or self._line[0] != host:
            await self._hang_up()
            self._line = host, await self._connector.connect({"host": host[0], "port": host[1]}, self._patience)
        try:
            return await self._connector.ask(self._line[1], *command, timeout=self._patience)
        except BaseException:  # cancelled, too: the answer would be taken for the next one
            with anyio.CancelScope(shield=True):
                await self._hang_up()
            raise

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await drop(line[1])

    @abstractmethod
    def _nobody(self) -> str:
        """What to say when those who answer know of no server."""
        ...

    @abstractmethod
    async def _ask(self, host: Host) -> Host | None:
        """Asks one. None: it knows of no server."""
        ...


class Sentinels(_Asked):
    """These know which server is the master of a service. Protocol: https://redis.io/docs/latest/develop/reference/sentinel-clients/."""

    def __init__(self, address: Address) -> None:
        super().__init__(address, None)
        self._service = address.service

    def hint(self, error: Exception) -> None:
        pass

    async def check(self, connection: AbstractConnection) -> None:
        """A server that was the master, and is none any more, still answers; sentinels may be a moment behind."""
        try:
            role: list[Any] = await self._connector.ask(connection, "ROLE")
        except ServerError as exc:  # a user without the right to ask; a write says so as well, later
            logger.debug("Whether the server is a master cannot be asked: %s", exc)
            return
        if role[0] != b"master":
            raise unavailable(self._shown, f"the sentinels name a server that is a {role[0].decode()}")

    def _nobody(self) -> str:
        return f"no sentinel knows a service called {self._service!r}"

    async def _ask(self, host: Host) -> Host | None:
        reply: list[bytes] | None = await self._tell(host, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        return None if reply is None else (reply[0].decode(), int(reply[1]))


class ClusterMap(_Asked):
    """This knows which primary of a cluster has the slot of a docket. Protocol: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/."""

    def __init__(self, address: Address, credential_provider: CredentialProvider | None, key: str) -> None:
        super().__init__(address, credential_provider)
        self._seeds = address.hosts
        self._slot = key_slot(key.encode())
        self._hint: Host | None = None

    async def find(self) -> Mapping[str, Any]:
        hint, self._hint = self._hint, None
        if hint is None:
            return await super().find()
        self._found = hint
        return {"host": hint[0], "port": hint[1]}

    def hint(self, error: Exception) -> None:
        """That a slot has moved is said with the place: whoever says so knows better than a node that has not heard of it yet."""
        if isinstance(error, MovedError) and error.host:  # pyright: ignore[reportUnknownMemberType] - untyped
            self.doubt()
            self._hint = str(error.host), int(error.port)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - untyped
            self._settled_at = anyio.current_time() + SETTLING

    async def check(self, connection: AbstractConnection) -> None:
        pass  # every command says so by itself when it comes to the wrong node

    def _nobody(self) -> str:
        return f"no node of the cluster has slot {self._slot}"

    async def _ask(self, host: Host) -> Host | None:
        slots: list[list[Any]] = await self._tell(host, "CLUSTER", "SLOTS")
        nodes = [(_name(node[0]) or host[0], int(node[1])) for _, _, *group in slots for node in group]
        self._hosts = list(dict.fromkeys([*nodes[:MOST_NODES], *self._seeds]))
        self._doubts = Counter({each: self._doubts[each] for each in self._hosts})
        for first, last, *group in slots:
            if first <= self._slot <= last:
                return _name(group[0][0]) or host[0], int(group[0][1])
        return None


def _name(host: bytes | None) -> str:
    """A node's name; nothing where it is the one that was asked, or does not know its own."""
    name = (host or b"").decode()
    return "" if name == "?" else name
