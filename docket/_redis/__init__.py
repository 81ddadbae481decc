"""The outside world: from a URL to a backend that sends commands and runs scripts. The store is its only caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docket._redis.urls import parse

if TYPE_CHECKING:
    from redis.credentials import CredentialProvider

    from docket._clock import Clock
    from docket._redis.backend import Backend

__all__ = ["forget", "make_backend"]


def make_backend(url: str, *, clock: Clock, credential_provider: CredentialProvider | None = None, quiet: bool = False) -> Backend:
    """This gives the backend a URL leads to, not yet connected; a `quiet` one leaves it to another to log outages. Raises `InvalidURL`."""
    address = parse(url)
    if address.memory_name is not None:
        from docket._redis.memory import MemoryBackend  # the engine is a heavy edge: servers do without

        return MemoryBackend(address, clock)
    from docket._redis.server import ServerBackend

    return ServerBackend(address, clock, credential_provider, quiet=quiet)


def forget(url: str) -> None:
    """This throws away the engine that a `memory://` URL leads to, with everything in it. What is entered there goes on with it."""
    from docket._redis.memory import forget_engine  # see above

    forget_engine(parse(url).memory_name or "")
