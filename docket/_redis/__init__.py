"""The outside world: from a URL to a backend that sends commands and runs scripts. The store is its only caller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from docket._redis.urls import parse
from docket.errors import InvalidURL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.credentials import CredentialProvider

    from docket._clock import Clock
    from docket._redis.backend import OpenableBackend
    from docket._redis.whereabouts import Whereabouts

__all__ = ["anchored", "forget", "make_backend"]


def make_backend(
    url: str,
    *,
    keys: Sequence[str] = ("",),
    clock: Clock,
    credential_provider: CredentialProvider | None = None,
    quiet: bool = False,
    own_channels: bool = False,
) -> OpenableBackend:
    """This gives the backend a URL leads to, not yet connected; a `quiet` one leaves it to another to log outages. Raises `InvalidURL`.

    `keys` are some of those that it is for, one for each tag that they have: in a cluster, all with the same tag stand in one place.
    `own_channels` has scripts publish what they tell of runs for the slot of these alone; nothing in memory, where there are no slots.
    """
    address = parse(url)
    if address.memory_name is not None:
        from docket._redis.memory import MemoryBackend  # the engine is a heavy edge: servers do without

        return MemoryBackend(address, clock)
    from docket._redis.connector import Connector
    from docket._redis.server import ServerBackend
    from docket._redis.whereabouts import ClusterMap, Fixed, Sentinels

    whereabouts: Whereabouts = Fixed()
    if address.topology == "sentinel":
        whereabouts = Sentinels(address)
    elif address.topology == "cluster" and len(keys) > 1:
        from docket._redis.cluster import ClusterBackend

        return ClusterBackend(address, credential_provider, clock, keys, quiet=quiet, own_channels=own_channels)
    elif address.topology == "cluster":
        whereabouts = ClusterMap(address, credential_provider, keys[0])
    connector = Connector(address.url, address.shown, credential_provider)
    if address.topology == "embedded":
        try:
            from docket._redis.embedded import Embedded  # knows POSIX only
        except ImportError as exc:
            raise InvalidURL(f"{address.shown!r} needs a POSIX system, such as Linux or macOS: {exc}.") from exc

        whereabouts = Embedded(address, connector)
    return ServerBackend(connector, whereabouts, clock, quiet=quiet, own_channels=own_channels)


def anchored(url: str) -> str:
    """This gives a URL that goes on meaning the same wherever the process goes: the directory of an embedded server in full."""
    address = parse(url)
    if address.topology != "embedded":
        return url
    query = url.partition("?")[2]
    return "embedded://" + quote(str(Path(address.path).expanduser().absolute())) + (f"?{query}" if query else "")


def forget(url: str) -> None:
    """This throws away the engine that a `memory://` URL leads to, with everything in it. What is entered there goes on with it."""
    from docket._redis.memory import forget_engine  # see above

    forget_engine(parse(url).memory_name or "")
