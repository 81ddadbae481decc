"""Real clusters and sentinels for the tests, of the same server as everything else, on ports of 127.0.0.1.

Each may be broken by a test, as its users' are: nodes killed or paused, masters switched, slots moved. `heal` brings it back into order,
whatever a test has left.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import redis
from redis.connection import Connection
from redis.crc import key_slot

from tests._servers import RedisServer, server_binary

__all__ = ["SLOTS", "Cluster", "Node", "Trio", "ask", "running_cluster", "running_trio", "slot_of"]

NODE_TIMEOUT_MS = 800
"""How long a node is silent before the others hold it to be down; sentinels take the same."""
SLOTS = 16384
SERVICE = "mymaster"
_PATIENCE = 50.0


def ask(port: int, *words: str, password: str | None = None) -> Any:
    """This sends one command to whoever listens there, and gives the reply as it came."""
    connection: Any = Connection(
        host="127.0.0.1", port=port, password=password, socket_timeout=1.0, socket_connect_timeout=1.0, protocol=2, decode_responses=True
    )
    try:
        connection.connect()
        connection.send_command(*words)
        return connection.read_response()
    finally:
        connection.disconnect()


def slot_of(name: str) -> int:
    """This is the slot of all keys of a docket."""
    return int(key_slot(name.encode()))


def _low_port() -> int:
    """A free port whose cluster bus, 10,000 above, is free as well."""
    while True:
        port = random.randrange(12_000, 30_000)
        with socket.socket() as probe, socket.socket() as bus, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port


def _until(holds: Callable[[], object], what: str) -> None:
    give_up_at = time.monotonic() + _PATIENCE
    while True:
        with suppress(redis.RedisError, OSError):
            if holds():
                return
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"the topology never came into order: {what}")
        time.sleep(0.02)


class Node(RedisServer):
    """This is one of several servers, which know it by its port."""

    def __init__(self, *arguments: str, password: str | None = None) -> None:
        super().__init__("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", *arguments, ports=_low_port)
        self.password = password
        self.is_paused = False

    def pause(self) -> None:
        super().pause()
        self.is_paused = True

    def resume(self) -> None:
        super().resume()
        self.is_paused = False

    def ask(self, *words: str) -> Any:
        """This sends one command and gives the reply as it came."""
        return ask(self.port, *words, password=self.password)

    def info(self, section: str) -> dict[str, str]:
        """This is a section of what the server says of itself."""
        lines = str(self.ask("INFO", section)).splitlines()
        return dict(cast("tuple[str, str]", line.split(":", 1)) for line in lines if ":" in line)

    def is_replica(self) -> bool:
        """This says whether it follows another; not while it ends the connections of those who came to it as a master."""
        try:
            return self.info("replication")["role"] == "slave"
        except (redis.RedisError, OSError):
            return False

    def revive(self) -> None:
        """This has the server running, whatever has become of it."""
        if not self.is_running:
            self.is_paused = False
            self.start()
        elif self.is_paused:
            self.resume()


@dataclass(frozen=True)
class _Entry:
    """This is a line of CLUSTER NODES."""

    identity: str
    port: int
    flags: frozenset[str]
    primary: str
    is_linked: bool
    slots: tuple[str, ...]


def _entries(text: str) -> list[_Entry]:
    found: list[_Entry] = []
    for line in text.splitlines():
        identity, place, flags, primary, _, _, _, link, *slots = line.split()
        port = int(place.partition("@")[0].rpartition(":")[2])
        found.append(_Entry(identity, port, frozenset(flags.split(",")), primary, link == "connected", tuple(slots)))
    return found


class Cluster:
    """This is a cluster of three primaries, each with the same number of replicas."""

    def __init__(self, *arguments: str, replicas: int = 1) -> None:
        clustered = (
            "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
            "--cluster-replica-validity-factor", "0", "--cluster-migration-barrier", "9",
        )  # fmt: skip
        self.replicas = replicas
        self.nodes = [Node(*clustered, *arguments) for _ in range(3 * (1 + replicas))]

    @property
    def url(self) -> str:
        """This names every node."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """This makes the cluster, and returns when it is in order."""
        for epoch, node in enumerate(self.nodes, 1):
            node.start()
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(epoch))
        first, *others = self.nodes
        for node in others:
            node.ask("CLUSTER", "MEET", "127.0.0.1", str(first.port))
        for position, primary in enumerate(self.nodes[:3]):
            primary.ask("CLUSTER", "ADDSLOTS", *(str(slot) for slot in range(SLOTS) if slot * 3 // SLOTS == position))
        _until(lambda: all(len(_entries(node.ask("CLUSTER", "NODES"))) == len(self.nodes) for node in self.nodes), "nodes know each other")
        for position, replica in enumerate(self.nodes[3:]):
            replica.ask("CLUSTER", "REPLICATE", str(self.nodes[position % 3].ask("CLUSTER", "MYID")))
        self.heal()

    def heal(self) -> None:
        """This brings every node back, and waits until all agree and every replica has what its primary has."""
        for node in self.nodes:
            node.revive()
        _until(self._is_in_order, "a cluster with all its nodes")

    def _is_in_order(self) -> bool:
        views = [_entries(node.ask("CLUSTER", "NODES")) for node in self.nodes]
        maps = {tuple(sorted((each.port, each.slots) for each in _without_moves(view) if each.slots)) for view in views}
        if len(maps) != 1 or any(not each.is_linked or each.flags & {"fail", "fail?", "handshake", "noaddr"} for view in views for each in view):
            return False
        if any("cluster_state:ok" not in node.ask("CLUSTER", "INFO") for node in self.nodes):
            return False
        replicas = [node for node in self.nodes if node.info("replication")["role"] != "master"]
        return len(replicas) == 3 * self.replicas and all(node.info("replication")["master_link_status"] == "up" for node in replicas)

    def _view(self) -> list[_Entry]:
        for node in self.nodes:
            if node.is_running and not node.is_paused:
                return _entries(node.ask("CLUSTER", "NODES"))
        raise RuntimeError("no node is left")

    def identity(self, node: Node) -> str:
        """This is what the cluster calls a node."""
        return next(each.identity for each in self._view() if each.port == node.port)

    def primary_of(self, key: str) -> Node:
        """This is the node that has a key now."""
        slot = key_slot(key.encode())
        for each in self._view():
            for first, _, last in (run.partition("-") for run in each.slots if not run.startswith("[")):
                if int(first) <= slot <= int(last or first):
                    return self._at(each.port)
        raise RuntimeError(f"nobody has slot {slot}")

    def replica_of(self, primary: Node) -> Node:
        """This is a replica of a node."""
        identity = self.identity(primary)
        return self._at(next(each.port for each in self._view() if each.primary == identity))

    def primaries(self) -> list[Node]:
        """These are the nodes that have slots."""
        return [self._at(each.port) for each in self._view() if each.slots]

    def _at(self, port: int) -> Node:
        return next(node for node in self.nodes if node.port == port)

    def flush(self) -> None:
        """This empties every node."""
        for node in self.primaries():
            node.ask("FLUSHALL")

    def remove(self) -> None:
        """This ends all nodes and removes their files."""
        for node in self.nodes:
            node.remove()


def _without_moves(view: Sequence[_Entry]) -> list[_Entry]:
    """What slots nodes have; not which are on their way."""
    return [_Entry(each.identity, each.port, each.flags, each.primary, each.is_linked, tuple(run for run in each.slots if run[0] != "[")) for each in view]


class _Sentinel(Node):
    """This is one sentinel."""

    def __init__(self, master: Node, service: str, settings: Sequence[str], arguments: Sequence[str], password: str | None) -> None:
        super().__init__(password=password)
        self._master = master
        self._service = service
        self._settings = settings
        self._arguments = arguments

    def command(self) -> list[str]:
        path = self.directory / "sentinel.conf"  # the sentinel writes into it
        if not path.exists():
            lines = [
                f"port {self.port}",
                "bind 127.0.0.1",
                f"dir {self.directory}",
                f"sentinel monitor {self._service} 127.0.0.1 {self._master.port} 2",
                f"sentinel down-after-milliseconds {self._service} {NODE_TIMEOUT_MS}",
                f"sentinel failover-timeout {self._service} 2000",
                *(f"sentinel {setting}" for setting in self._settings),
                *self._arguments,
            ]
            path.write_text("\n".join(lines) + "\n")
        return [server_binary(), str(path), "--sentinel"]


class Trio:
    """This is a master with a replica, and three sentinels that watch over them."""

    def __init__(
        self, *arguments: str, settings: Sequence[str] = (), guards: Sequence[str] = (), password: str | None = None, sentinel_password: str | None = None
    ) -> None:
        """`arguments` are for the servers, `guards` are lines of the sentinels' files, and `settings` what they are told of the master."""
        self.service = SERVICE
        self.servers = [Node(*arguments, password=password) for _ in range(2)]
        self.sentinels = [_Sentinel(self.servers[0], SERVICE, settings, guards, sentinel_password) for _ in range(3)]

    @property
    def url(self) -> str:
        """This names the sentinels and what they call the master."""
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels) + f"/{self.service}/0"

    def start(self) -> None:
        """This starts all five, and returns when they know each other."""
        master, replica = self.servers
        master.start()
        replica.arguments = (*replica.arguments, "--replicaof", "127.0.0.1", str(master.port))
        replica.start()
        replica.arguments = replica.arguments[:-3]
        _until(lambda: replica.info("replication").get("master_link_status") == "up", "a replica")
        for each in self.sentinels:
            each.start()
        self.heal()

    def master(self) -> Node:
        """This is the server that the sentinels name now."""
        for each in self.sentinels:
            if each.is_running and not each.is_paused:
                _, port = each.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
                return next(server for server in self.servers if server.port == int(port))
        raise RuntimeError("no sentinel is left")

    def replica(self) -> Node:
        """This is the other server."""
        master = self.master()
        return next(server for server in self.servers if server is not master)

    def switch(self, sentinel: Node) -> None:
        """This has the replica take over, and returns once the old master follows it. A sentinel that gives up half-way, as it does on a busy machine, is asked again."""
        old = self.master()
        ask_again_at = 0.0

        def has_switched() -> bool:
            nonlocal ask_again_at
            _, named = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
            if named == str(old.port) and time.monotonic() > ask_again_at:
                ask_again_at = time.monotonic() + 5
                with suppress(redis.ResponseError):  # one is under way, or the replica has not been heard of lately
                    sentinel.ask("SENTINEL", "FAILOVER", self.service)
            return old.is_replica()

        _until(has_switched, "another master")

    def heal(self) -> None:
        """This brings all five back, and waits until they agree."""
        for each in (*self.servers, *self.sentinels):
            each.revive()
        for each in self.sentinels:  # those that were started anew have forgotten it
            with suppress(redis.ResponseError):  # where the server can do that (since 7.0), everything goes faster
                each.ask("SENTINEL", "DEBUG", "INFO-PERIOD", "200", "PUBLISH-PERIOD", "200", "ASK-PERIOD", "200", "PING-PERIOD", "100", "TILT-PERIOD", "500")
        _until(self._is_in_order, "a master, a replica and three sentinels")

    def _is_in_order(self) -> bool:
        master = self.master()
        if any(each.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1] != str(master.port) for each in self.sentinels):
            return False
        replica = self.replica()
        if master.info("replication")["role"] != "master":
            return False
        if replica.info("replication")["role"] == "master":  # sooner than the sentinels would
            replica.ask("REPLICAOF", "127.0.0.1", str(master.port))
            return False
        if replica.info("replication")["master_link_status"] != "up":
            return False
        return all(self._is_content(each) for each in self.sentinels)

    def _is_content(self, sentinel: Node) -> bool:
        if sentinel.info("sentinel")["sentinel_tilt"] != "0":  # it was paused, mistrusts its clock, and only looks on for a while
            return False
        flat: list[str] = sentinel.ask("SENTINEL", "MASTER", self.service)
        said = dict(zip(flat[::2], flat[1::2], strict=True))
        replicas: list[list[str]] = sentinel.ask("SENTINEL", "REPLICAS", self.service)
        seen = [dict(zip(each[::2], each[1::2], strict=True)) for each in replicas]
        others = said["num-other-sentinels"] == "2" and said["num-slaves"] == "1"
        return others and said["flags"] == "master" and [(each["flags"], each["master-link-status"]) for each in seen] == [("slave", "ok")]

    def flush(self) -> None:
        """This empties the servers."""
        self.master().ask("FLUSHALL")

    def remove(self) -> None:
        """This ends all five and removes their files."""
        for each in (*self.sentinels, *self.servers):
            each.remove()


@contextmanager
def running_cluster(*arguments: str, replicas: int = 1) -> Generator[Cluster]:
    """This is a cluster for the length of a block."""
    cluster = Cluster(*arguments, replicas=replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@contextmanager
def running_trio(*arguments: str, **options: Any) -> Generator[Trio]:
    """This is a master, a replica and three sentinels for the length of a block."""
    trio = Trio(*arguments, **options)
    try:
        trio.start()
        yield trio
    finally:
        trio.remove()
