"""A cluster for tests of divided dockets: who has a tag, and moving its slot."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from docket._keys import slot_of
from tests import _topologies
from tests._servers import RedisServer

__all__ = ["Cluster", "ask", "running_cluster"]


def ask(server: RedisServer, *words: str | int) -> Any:
    """This sends a node a command past everybody, and gives the reply as bytes."""
    return cast("Any", server.client()).execute_command(*words)


class Cluster(_topologies.Cluster):
    """These are three primaries that share the slots evenly, and perhaps their replicas."""

    def owner(self, tag: str) -> _topologies.Node:
        """This is the node that has the keys of a tag."""
        return self.primary_of(f"{{{tag}}}")

    def migrate(self, tag: str, to: _topologies.Node) -> None:
        """This moves the slot of a tag, keys and all, to another node."""
        slot, source = slot_of(tag), self.owner(tag)
        names = {node: ask(node, "CLUSTER", "MYID").decode() for node in self.nodes}
        ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[to])
        while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            ask(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        for node in (to, source, *(node for node in self.nodes if node not in (to, source))):
            ask(node, "CLUSTER", "SETSLOT", slot, "NODE", names[to])


@contextmanager
def running_cluster(*, replicas: int = 0) -> Generator[Cluster]:
    """This is a cluster for the length of a block."""
    cluster = Cluster(replicas=replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()
