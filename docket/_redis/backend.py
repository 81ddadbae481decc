"""What the store needs of a backend. Two keep the promise: a Redis or Valkey server, and the in-process engine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

__all__ = ["Backend", "Listener", "OpenableBackend", "Reader", "Subscriber", "deliver"]

logger = logging.getLogger("docket.redis")


class Listener(Protocol):
    """This hears what is published on a channel. Called in the event loop it was added in; must not block."""

    def on_message(self, message: bytes) -> None:
        """This takes one message."""
        ...

    def on_interruption(self) -> None:
        """This learns that messages may have been missed."""
        ...


def deliver(listener: Listener, message: bytes) -> None:
    """This hands a message to a listener. One that fails over it has missed it, and stops nobody else from hearing theirs."""
    try:
        listener.on_message(message)
    except Exception:
        logger.exception("A message (%d bytes) could not be taken, and counts as missed", len(message))
        listener.on_interruption()


class Subscriber(Protocol):
    """This hands published messages to listeners."""

    @property
    def connected(self) -> bool:
        """This says whether messages can arrive now."""
        ...

    @property
    def listening(self) -> int:
        """This is how many channels and prefixes somebody listens to."""
        ...

    def hears(self, channel: str) -> bool:
        """This says whether somebody listens on a channel already: whoever joins may hear at first what was published before."""
        ...

    async def add(self, channel: str, listener: Listener, *, prefix: bool = False, sharded: bool = False) -> bool:
        """This starts listening, with `prefix` to all channels that begin so, and says whether the subscription stands.

        `sharded`: to what is published for the slot of the channel alone (`SPUBLISH`), which in a cluster only its primary hears, and its replicas.

        If not, it will as soon as the connection is back, and the listener is told of an interruption then. Raises `ServerError` when it is refused.
        """
        ...

    async def remove(self, channel: str, listener: Listener, *, prefix: bool = False, sharded: bool = False) -> None:
        """This stops listening."""
        ...


class Reader(Protocol):
    """This is a connection of its own for commands that block."""

    async def call(self, *args: Any, timeout: float) -> Any:
        """This sends one blocking command. A cancelled call may have been carried out."""
        ...

    async def aclose(self) -> None:
        """This lets the connection go."""
        ...


class Backend(Protocol):
    """This sends commands and runs scripts. Replies are those of RESP2: integers, bytes, lists, None."""

    is_memory: bool

    @property
    def subscriber(self) -> Subscriber:
        """This hands published messages to listeners."""
        ...

    async def call(self, *args: Any) -> Any:
        """This sends one command. Raises `RedisUnavailable`, `InDoubt` or `ServerError`."""
        ...

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """This runs a script of ours. The clock's time is put before `args`. Raises as `call` does."""
        ...

    async def durably(self, replicas: int, name: str, keys: Sequence[str], args: Sequence[Any], touch: Sequence[Any]) -> tuple[Any, int]:
        """This runs a script as `script` does, over a connection of its own, and gives its reply and how many replicas confirmed it within a second.

        It returns as soon as that many have. Replicas confirm what the connection wrote last, and a repeat of a script may write nothing: `touch` is a command
        that does, whatever happens, and changes nothing.
        """
        ...

    async def available(self, timeout: float) -> bool:
        """This waits for a connection and says whether there is one."""
        ...

    @property
    def is_connected(self) -> bool:
        """This says whether the connection stands; any thread may ask."""
        ...

    def lead_us(self) -> int:
        """This tells how far the wall time is ahead of the time that leases and heartbeats go by: `Clock.lead_us`; nothing on a server."""
        ...

    def connected_for(self) -> float:
        """This gives the seconds for which the server has been there, as far as this process could see; 0 while there is no connection.

        One that refuses what it refuses everybody (because it is a replica, or loading) is not there.
        """
        ...

    def reader(self) -> Reader:
        """This makes a connection of its own for blocking commands."""
        ...

    def at(self, key: str) -> Backend:
        """This is the part of it that reaches a key, and all others with the same tag: all of it, unless keys are spread over several servers."""
        ...


class OpenableBackend(Backend, Protocol):
    """This is a backend as a whole, which is opened, served and closed; what `at` gives is a part of it."""

    async def open(self) -> None:
        """This connects for the first time. Raises `RedisUnavailable`."""
        ...

    def services(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """This names what has to run for as long as the backend is open."""
        ...

    async def aclose(self) -> None:
        """This lets go of everything, in milliseconds."""
        ...
