"""What every part of the store holds: the backend, the keys, and patience with outages."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from docket._redis.errors import holds_everybody_up, reply_error
from docket.errors import InDoubt, RedisUnavailable
from docket.states import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend

__all__ = ["FIRST_US", "LAST_US", "READ_PATIENCE", "STATES", "Base", "as_dict", "chunks", "moment_us", "number", "text", "unless_refused_to_all", "whole"]

T = TypeVar("T")

STATES: dict[bytes, ExecutionState] = {state.value.encode(): state for state in ExecutionState}

READ_PATIENCE = 5.0
"""Seconds for which reading is tried again through an outage, before the caller learns of it."""

FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 and 9999: what a date can say."""

_MOST = 2**53
"""The largest number up to which scripts, which count in floating point, count by one."""

_LOOK_UP = 1.0
"""Seconds between looks at whether a call is still wanted, during an outage."""

_PAUSE, _LONGEST_PAUSE = 0.1, 0.5
"""Seconds before a call is repeated that a server answered with `not now`: at first, and after some more such answers."""


class Base:
    """This issues commands for one docket."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        self._backend = backend
        self._keys = keys
        self._states = keys.state("")

    async def _script(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        return await self._backend.script(name, keys, (self._states, *args))

    async def _read(self, *command: Any) -> Any:
        """Reading may be repeated as one likes, so whoever waits for a task's end need not learn of every hiccup."""
        return await self._persist(lambda: self._backend.call(*command), READ_PATIENCE)

    async def _persist(self, attempt: Callable[[], Awaitable[T]], patience: float | None, wanted: Callable[[], bool] | None = None) -> T:
        """Repeats a repeatable call through an outage: for `patience` seconds, for as long as it takes, or for as long as it is wanted."""
        loop = asyncio.get_running_loop()
        deadline = None if patience is None else loop.time() + patience
        doubt: InDoubt | None = None
        pause = _PAUSE
        while True:
            try:
                return await attempt()
            except RedisUnavailable as exc:
                if isinstance(exc, InDoubt):
                    doubt = exc
                left = _LOOK_UP if deadline is None else deadline - loop.time()
                # Either way there is a pause: a server that answers `not now` is not asked again at once
                await anyio.sleep(max(0.0, min(left, pause * (0.5 + random.random()))))
                pause = min(2 * pause, _LONGEST_PAUSE)
                is_back = left > 0 and await self._backend.available(left)
                if (deadline is not None and not is_back) or (wanted is not None and not wanted()):
                    if doubt is not None and doubt is not exc:
                        raise doubt from exc
                    raise

    def _failure(self, reply: Any) -> Exception | None:
        """The error of one item of a batch, if that is what its reply is."""
        if reply[0] == b"error":
            return reply_error(reply[1].decode("utf-8", "replace"), "the server")
        return None


def unless_refused_to_all(replies: Sequence[Any]) -> Sequence[Any]:
    """This gives the replies of a batch, and raises where it came upon a server that takes no writes from anybody now: nothing was written, and all may be repeated."""
    for reply in replies:
        if reply[0] == b"error" and holds_everybody_up(said := reply[1].decode("utf-8", "replace")):
            raise reply_error(said, "the server")
    return replies


def as_dict(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """This pairs up a flat reply."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def number(value: bytes | None) -> int | None:
    """This reads an optional number."""
    return int(value) if value else None


def whole(value: bytes | None, otherwise: int = 0) -> int:
    """This reads a number of ours that anybody may have written over; `otherwise` where it is none, or more than we ever count."""
    try:
        found = int(value or b"")
    except ValueError:
        return otherwise
    return found if 0 <= found <= _MOST else otherwise


def moment_us(value: bytes | None) -> int | None:
    """This reads a moment that anybody may have written over; None where it is none, or none that a date can say."""
    if not value:
        return None
    try:
        found = int(value)
    except ValueError:
        return None
    return found if FIRST_US <= found <= LAST_US else None


def text(value: bytes | None) -> str | None:
    """This reads an optional text."""
    return value.decode("utf-8", "replace") if value else None


def chunks(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    """This cuts a sequence into pieces of at most that size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
