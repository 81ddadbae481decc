"""A cluster, for keys of several tags: one backend that knows for each tag which primary has its slot, and one connection for commands to each of these.

For keys that share one tag a `ServerBackend` with a `ClusterMap` does; here are as many of those as there are primaries in use. Each has a connection for messages
as well, from when somebody listens there on: to channels of its slots, or, at the primary of the first key, to any other, since these reach every node.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio
from redis.crc import key_slot
from redis.exceptions import MovedError

from docket._redis.connector import Connector
from docket._redis.errors import unavailable
from docket._redis.server import ServerBackend, ServerReader
from docket._redis.subscriber import ServerSubscriber
from docket._redis.whereabouts import MOST_NODES, SETTLING, ClusterMap

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from anyio.abc import TaskGroup
    from redis.asyncio.connection import AbstractConnection
    from redis.credentials import CredentialProvider

    from docket._clock import Clock
    from docket._redis.backend import Listener
    from docket._redis.urls import Address
    from docket._redis.whereabouts import Host

__all__ = ["ClusterBackend"]

logger = logging.getLogger("docket.redis")

AGAIN_AFTER = 0.1
"""Seconds before a slot that has just moved, and moves again, is listened to at its next place: two nodes may name each other."""

LOOK_AGAIN = 0.25
"""Seconds for which a connection to one primary is waited for, before it is looked whether the slot is another's by now."""


class SlotMap(ClusterMap):
    """This knows which primary has each of some slots. The first key's is the one that it looks for as a `ClusterMap` does."""

    def __init__(self, address: Address, credential_provider: CredentialProvider | None, keys: Sequence[str]) -> None:
        super().__init__(address, credential_provider, keys[0])
        self.slots = {key_slot(key.encode()) for key in keys}
        self.owners: dict[int, Host] = {}
        self._told: dict[int, float] = {}
        """Slots that a server has said have moved, and until when nobody else is asked."""

    def moved(self, slot: int, host: Host) -> None:
        """This takes a server's word for who has a slot now. Others may not have heard of it yet."""
        self.owners[slot] = host
        self._told[slot] = anyio.current_time() + SETTLING

    async def _ask(self, host: Host) -> Host | None:
        groups: list[list[Any]] = await self._tell(host, "CLUSTER", "SLOTS")
        named = [(first, last, [(_name(node[0]) or host[0], int(node[1])) for node in group]) for first, last, *group in groups]
        nodes = [node for _, _, group in named for node in group]
        self._hosts = list(dict.fromkeys([*nodes[:MOST_NODES], *self._seeds]))
        now = anyio.current_time()
        found = {slot: group[0] for first, last, group in named for slot in self.slots if first <= slot <= last}
        self.owners.update({slot: owner for slot, owner in found.items() if self._told.get(slot, 0.0) <= now})
        return self.owners.get(self._slot)


class Primary:
    """This is where one primary is. It stays there; what moves are slots."""

    def __init__(self, place: Host, cluster: ClusterBackend) -> None:
        self._place = place
        self._cluster = cluster

    async def find(self) -> Mapping[str, Any]:
        return {"host": self._place[0], "port": self._place[1]}

    async def check(self, connection: AbstractConnection) -> None:
        pass  # every command says so by itself when it comes to the wrong node

    def hint(self, error: Exception) -> None:
        self._cluster.hint(error)

    def doubt(self) -> None:
        pass  # whoever watches the slots learns of another primary by itself

    async def watch(self, on_found: Callable[[Host], None]) -> None:
        pass

    async def aclose(self) -> None:
        pass


class _Line:
    """One primary, connected."""

    def __init__(self, backend: ServerBackend) -> None:
        self.backend = backend
        self.scope = anyio.CancelScope()


class ClusterSubscriber:
    """This listens: to channels of a slot at the primary that has it, to everything else at that of the first key."""

    def __init__(self, cluster: ClusterBackend, home: int) -> None:
        self._cluster = cluster
        self._home = home
        self._nowhere = ServerSubscriber(lambda: cluster.connect(home), cluster.where, on_moved=cluster.hint)  # is never run
        """Where one listens to slots that nobody is known to have."""
        self._places: dict[int, ServerSubscriber] = {}
        """Where each slot is listened to, so far as one ever was."""
        self._moved_at: dict[int, float] = {}

    @property
    def connected(self) -> bool:
        return self._at(self._home).connected

    @property
    def listening(self) -> int:
        return sum(place.listening for place in set(self._places.values()))

    def hears(self, channel: str) -> bool:
        return any(place.hears(channel) for place in set(self._places.values()))

    async def add(self, channel: str, listener: Listener, *, prefix: bool = False, sharded: bool = False) -> bool:
        return await self._of(channel, sharded=sharded).add(channel, listener, prefix=prefix, sharded=sharded)

    async def remove(self, channel: str, listener: Listener, *, prefix: bool = False, sharded: bool = False) -> None:
        await self._of(channel, sharded=sharded).remove(channel, listener, prefix=prefix, sharded=sharded)

    def _of(self, channel: str, *, sharded: bool) -> ServerSubscriber:
        return self._at(key_slot(channel.encode()) if sharded else self._home)

    def _at(self, slot: int) -> ServerSubscriber:
        return self._places.setdefault(slot, self._found(slot))

    def _found(self, slot: int) -> ServerSubscriber:
        line = self._cluster.line(slot)
        return self._nowhere if line is None else line.subscriber

    def follow(self, group: TaskGroup | None) -> None:
        """This listens from now on to what is where the slots are now. Those who listen are told, once that stands, that something may have been missed."""
        now = anyio.current_time()
        for slot, before in self._places.items():
            place = self._found(slot)
            if place is not before:
                moved = before.hand_over(place, lambda name, sharded, slot=slot: (key_slot(name) if sharded else self._home) == slot)
                self._places[slot] = place
                pause = AGAIN_AFTER if now - self._moved_at.get(slot, -SETTLING) < SETTLING else 0.0
                self._moved_at[slot] = now
                if moved and group is not None:
                    group.start_soon(_resume, place, moved, pause)


async def _resume(place: ServerSubscriber, moved: Sequence[Any], pause: float) -> None:
    await anyio.sleep(pause)
    await place.resume(moved)


class SlotBackend:
    """This talks to the primary that has one slot."""

    is_memory = False

    def __init__(self, cluster: ClusterBackend, slot: int) -> None:
        self._cluster = cluster
        self.slot = slot

    @property
    def subscriber(self) -> ClusterSubscriber:
        return self._cluster.subscriber

    def at(self, key: str) -> SlotBackend:
        return SlotBackend(self._cluster, key_slot(key.encode()))

    def _line(self) -> ServerBackend:
        line = self._cluster.line(self.slot)
        if line is None:
            raise unavailable(self._cluster.where, f"no node of the cluster has slot {self.slot}")
        return line

    async def call(self, *args: Any) -> Any:
        return await self._line().call(*args)

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await self._line().script(name, keys, args)

    async def durably(self, replicas: int, name: str, keys: Sequence[str], args: Sequence[Any], touch: Sequence[Any]) -> tuple[Any, int]:
        return await self._line().durably(replicas, name, keys, args, touch)

    async def available(self, timeout: float) -> bool:
        until = anyio.current_time() + timeout
        while (left := until - anyio.current_time()) > 0:
            line = self._cluster.line(self.slot)
            if line is None:
                with anyio.move_on_after(left):
                    await self._cluster.changed()
            elif await line.available(min(left, LOOK_AGAIN)) and line.is_connected:
                return True
        return self.is_connected

    @property
    def is_connected(self) -> bool:
        line = self._cluster.line(self.slot)
        return line is not None and line.is_connected

    def lead_us(self) -> int:
        return 0

    def connected_for(self) -> float:
        line = self._cluster.line(self.slot)
        return 0.0 if line is None else line.connected_for()

    def reader(self) -> SlotReader:
        return self._cluster.reader_at(self.slot)


class ClusterBackend(SlotBackend):
    """This talks to a cluster: to as many primaries as have the slots of its keys, over one connection each, and one for messages to each where it listens.

    By itself it talks to the primary of the first key; `at` gives the part that talks to another's.
    """

    def __init__(
        self,
        address: Address,
        credential_provider: CredentialProvider | None,
        clock: Clock,
        keys: Sequence[str],
        *,
        quiet: bool = False,
        own_channels: bool = False,
    ) -> None:
        self._connector = Connector(address.url, address.shown, credential_provider)
        self._clock = clock
        self._quiet = quiet
        self._own_channels = own_channels
        self._map = SlotMap(address, credential_provider, keys)
        self._lines: dict[Host, _Line] = {}
        self._group: TaskGroup | None = None
        self._changed = anyio.Event()
        self._readers: WeakSet[SlotReader] = WeakSet()
        super().__init__(self, key_slot(keys[0].encode()))
        self._subscriber = ClusterSubscriber(self, self.slot)

    @property
    def subscriber(self) -> ClusterSubscriber:
        return self._subscriber

    @property
    def where(self) -> str:
        """This is how errors call it."""
        return self._connector.shown

    async def open(self) -> None:
        try:
            await self._map.find()
            self._rearrange()
            for line in list(self._lines.values()):
                await line.backend.open()
        except BaseException:
            with anyio.CancelScope(shield=True):
                for line in self._lines.values():
                    await line.backend.discard()
                await self._map.aclose()
            raise

    def services(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        return (self._serve,)

    async def _serve(self) -> None:
        async with anyio.create_task_group() as self._group:
            for line in self._lines.values():
                self._group.start_soon(_run, line)
            await self._map.watch(lambda _: self._rearrange())

    async def aclose(self) -> None:
        """The services let their own connections go when they are cancelled."""
        await self._map.aclose()

    def hint(self, error: Exception) -> None:
        """This takes a server's word for who has a slot now."""
        if isinstance(error, MovedError) and error.host:  # pyright: ignore[reportUnknownMemberType] - untyped
            self._map.moved(int(error.slot_id), (str(error.host), int(error.port)))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - untyped
            self._rearrange()

    def _rearrange(self) -> None:
        """Connects to every primary that has a slot of ours, and to no other."""
        wanted = {owner for slot, owner in self._map.owners.items() if slot in self._map.slots}
        for place in wanted - self._lines.keys():
            backend = ServerBackend(self._connector, Primary(place, self), self._clock, quiet=self._quiet, own_channels=self._own_channels)
            line = self._lines[place] = _Line(backend)
            if self._group is not None:
                logger.log(logging.DEBUG if self._quiet else logging.INFO, "Some keys are now at %s:%s", *place)
                self._group.start_soon(_run, line)
        self.subscriber.follow(self._group)
        for place in self._lines.keys() - wanted:
            self._lines.pop(place).scope.cancel()
        for line in self._readers:
            if line.connection is not None and _end_of(line.connection) != (place := self._map.owners.get(line.slot)) and place is not None:
                line.lose(f"the server is now at {place[0]}:{place[1]}")
        self._changed.set()
        self._changed = anyio.Event()

    def line(self, slot: int) -> ServerBackend | None:
        """This is the primary that has a slot, connected or not; None where nobody is known to have it."""
        owner = self._map.owners.get(slot)
        line = None if owner is None else self._lines.get(owner)
        return None if line is None else line.backend

    async def connect(self, slot: int) -> AbstractConnection:
        """This makes a connection to the primary that has a slot. Raises `RedisUnavailable`."""
        owner = self._map.owners.get(slot)
        if owner is None:
            raise unavailable(self.where, f"no node of the cluster has slot {slot}")
        return await self._connector.connect({"host": owner[0], "port": owner[1]})

    async def changed(self) -> None:
        """This waits until something was learnt of who has which slots."""
        await self._changed.wait()

    def reader_at(self, slot: int) -> SlotReader:
        """This makes a connection of its own to the primary that has a slot, now and later."""
        reader = SlotReader(self, slot)
        self._readers.add(reader)
        return reader


async def _run(line: _Line) -> None:
    with line.scope:
        async with anyio.create_task_group() as group:
            for service in line.backend.services():
                group.start_soon(service)


class SlotReader(ServerReader):
    """This is a connection of its own to the primary that has one slot, now and later."""

    def __init__(self, cluster: ClusterBackend, slot: int) -> None:
        super().__init__(lambda: cluster.connect(slot), cluster.where, Primary(("", 0), cluster))
        self.slot = slot


def _end_of(connection: AbstractConnection) -> Host:
    ends: Any = connection
    return ends.host, ends.port


def _name(host: bytes | None) -> str:
    """A node's name; nothing where it is the one that was asked, or does not know its own."""
    name = (host or b"").decode()
    return "" if name == "?" else name
