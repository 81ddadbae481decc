"""A small cluster of the tests' own: three primaries that share the slots evenly, with a replica each where that is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

from docket._keys import SLOTS, slot_of
from tests._servers import RedisServer

__all__ = ["Cluster", "running_cluster"]


def _until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up_at, "the cluster does not come to be"
        time.sleep(0.02)


def ask(server: RedisServer, *words: str | int) -> Any:
    """This sends a node a command past everybody."""
    return cast("Any", server.client()).execute_command(*words)


class Cluster:
    """These are three primaries, and perhaps their replicas."""

    def __init__(self, *, replicated: bool = False) -> None:
        self.nodes = [
            RedisServer("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0") for _ in range(3 + 3 * replicated)
        ]

    @property
    def url(self) -> str:
        """This names all nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """This starts the nodes and returns once each of them knows who has which slots."""
        for number, node in enumerate(self.nodes):
            # The bus would be at the port and 10,000, which there may not be
            node.arguments = (*node.arguments, "--cluster-port", str(20_000 + node.port % 10_000))
            node.start()
            if number < 3:
                ask(node, "CLUSTER", "ADDSLOTSRANGE", number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1)
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            ask(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, 20_000 + self.nodes[0].port % 10_000)
        self.heal()
        for primary, replica in zip(self.nodes, self.nodes[3:], strict=False):
            ask(replica, "CLUSTER", "REPLICATE", ask(primary, "CLUSTER", "MYID"))
        _until(lambda: all(self._is_whole(node) for node in self.nodes))

    def heal(self) -> None:
        """This waits until every slot has an owner, and all nodes know who that is."""
        _until(lambda: all(self._knows_all(node) for node in self.nodes))

    def _knows_all(self, node: RedisServer) -> bool:
        told = ask(node, "CLUSTER", "INFO")
        return b"cluster_state:ok" in told and b"cluster_known_nodes:%d\r" % len(self.nodes) in told

    def _is_whole(self, node: RedisServer) -> bool:
        slots: list[list[Any]] = ask(node, "CLUSTER", "SLOTS")
        is_linked = b"master_link_status:down" not in ask(node, "INFO", "replication")
        return is_linked and len(slots) == 3 and all(len(group) == len(self.nodes) // 3 for _, _, *group in slots)

    def owner(self, tag: str) -> RedisServer:
        """This is the node that has the keys of a tag."""
        slot = slot_of(tag)
        for first, last, (_, port, *_), *_ in ask(self.nodes[0], "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def migrate(self, tag: str, to: RedisServer) -> None:
        """This moves the slot of a tag, keys and all, to another node."""
        slot, source = slot_of(tag), self.owner(tag)
        names = {node: ask(node, "CLUSTER", "MYID").decode() for node in self.nodes}
        ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[to])
        while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            ask(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        for node in (to, source, *(node for node in self.nodes if node not in (to, source))):
            ask(node, "CLUSTER", "SETSLOT", slot, "NODE", names[to])

    def flush(self) -> None:
        """This empties all nodes."""
        for node in self.nodes:
            node.flush()

    def remove(self) -> None:
        """This ends all nodes and removes their files."""
        for node in self.nodes:
            node.remove()


@contextmanager
def running_cluster(*, replicated: bool = False) -> Generator[Cluster]:
    """This is a cluster for the length of a block."""
    cluster = Cluster(replicated=replicated)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()
