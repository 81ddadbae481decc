"""The in-process engine behind `memory://name`: one per name per process, across threads and event loops.

It runs the same scripts as a server. Messages come back with a script's reply and are handed on here, in every loop that listens.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import burner_redis  # pyright: ignore[reportMissingTypeStubs]
import redis.exceptions

from docket._redis.errors import translate
from docket._redis.scripts import scripts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence

    from docket._clock import Clock
    from docket._redis.backend import Listener
    from docket._redis.urls import Address

__all__ = ["MemoryBackend"]

_ANY_COMMAND = "return redis.call(unpack(ARGV))"


class _Engine:
    """One named engine, and who listens to it from where."""

    def __init__(self) -> None:
        self.database: Any = burner_redis.BurnerRedis()  # pyright: ignore[reportUnknownMemberType] - untyped
        self._lock = threading.Lock()
        self._listeners: dict[bytes, list[tuple[asyncio.AbstractEventLoop, Listener]]] = {}
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @contextmanager
    def news(self) -> Generator[asyncio.Event, None, None]:
        """Sets the event whenever a script has changed something."""
        event = asyncio.Event()
        with self._lock:
            self._waiting[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            with self._lock:
                del self._waiting[event]

    def add(self, channel: bytes, listener: Listener) -> None:
        with self._lock:
            self._listeners.setdefault(channel, []).append((asyncio.get_running_loop(), listener))

    def remove(self, channel: bytes, listener: Listener) -> None:
        with self._lock:
            left = [entry for entry in self._listeners.get(channel, []) if entry[1] is not listener]
            if left:
                self._listeners[channel] = left
            else:
                self._listeners.pop(channel, None)

    def publish(self, published: list[bytes]) -> None:
        here = asyncio.get_running_loop()
        if published and self._waiting:
            with self._lock:
                waiting = list(self._waiting.items())
            for event, loop in waiting:
                if loop is here:
                    event.set()
                else:
                    with suppress(RuntimeError):  # that loop was closed with a read under way
                        loop.call_soon_threadsafe(event.set)
        if not self._listeners:
            return
        for channel, message in zip(published[::2], published[1::2], strict=True):
            with self._lock:
                listeners = list(self._listeners.get(channel, ()))
            for loop, listener in listeners:
                if loop is here:
                    listener.on_message(message)
                else:
                    self._hand_over(loop, channel, listener, message)

    def _hand_over(self, loop: asyncio.AbstractEventLoop, channel: bytes, listener: Listener, message: bytes) -> None:
        try:
            loop.call_soon_threadsafe(listener.on_message, message)
        except RuntimeError:  # that loop was closed with its docket still entered: nobody hears there any more
            self.remove(channel, listener)


_engines: dict[str, _Engine] = {}
_engines_lock = threading.Lock()


def _engine(name: str) -> _Engine:
    with _engines_lock:
        if name not in _engines:
            _engines[name] = _Engine()
        return _engines[name]


class MemoryBackend:
    """This runs commands and scripts in process."""

    is_memory = True

    def __init__(self, address: Address, clock: Clock) -> None:
        self._where = address.shown
        self._clock = clock
        self._engine = _engine(address.memory_name or "")
        self._database = self._engine.database
        self._scripts = scripts("memory")
        self._hashes: dict[str, str] = {}
        self._any_command = ""
        self._since = 0.0
        self.subscriber = MemorySubscriber(self._engine)

    async def open(self) -> None:
        self._since = asyncio.get_running_loop().time()
        self._any_command = await self._database.script_load(_ANY_COMMAND)
        for name, script in self._scripts.items():
            self._hashes[name] = await self._database.script_load(script.source)

    def services(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        return ()

    async def aclose(self) -> None:
        """The engine outlives its dockets, as a server would."""

    async def call(self, *args: Any) -> Any:
        await asyncio.sleep(0)  # the engine answers at once, and whoever asks in a loop is to let the others run
        try:
            special = _SPECIAL.get(args[0])
            if special is not None:
                return await special(self._database, *args[1:])
            return await self._database.evalsha(self._any_command, 0, *[_text(arg) for arg in args])
        except redis.exceptions.RedisError as exc:
            raise translate(exc, self._where) from exc

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            reply, published = await self._database.evalsha(
                self._hashes[name],
                len(keys),
                *keys,
                str(self._clock.now_us()),
                *[arg if type(arg) is bytes or type(arg) is str else _text(arg) for arg in args],
            )
        except redis.exceptions.RedisError as exc:
            raise translate(exc, self._where) from exc
        self._engine.publish(published)
        return reply

    async def available(self, timeout: float) -> bool:
        return True

    @property
    def is_connected(self) -> bool:
        return True

    def connected_for(self) -> float:
        return asyncio.get_running_loop().time() - self._since

    def reader(self) -> MemoryReader:
        return MemoryReader(self._engine, self._where)


class MemoryReader:
    """This waits for new entries of a stream.

    The engine's own blocking read is not used: cancelled, it goes on and takes the entries that come next, which nobody then runs.
    """

    def __init__(self, engine: _Engine, where: str) -> None:
        self._engine = engine
        self._where = where

    async def call(self, *args: Any, timeout: float) -> Any:
        words = list(args[1:])
        block = words.index("BLOCK")
        del words[block : block + 2]
        until = anyio.current_time() + timeout
        reply: Any = None
        with self._engine.news() as news:
            while True:
                news.clear()
                try:
                    with anyio.CancelScope(shield=True):  # to its end, so that what it took can be found
                        reply = await _read_group(self._engine.database, *words)
                except redis.exceptions.RedisError as exc:
                    raise translate(exc, self._where) from exc
                left = until - anyio.current_time()
                if reply is not None or left <= 0:
                    return reply
                with anyio.move_on_after(left):
                    await news.wait()

    async def aclose(self) -> None:
        """There is no connection to let go."""


class MemorySubscriber:
    """This hands published messages to listeners of this process."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine

    @property
    def connected(self) -> bool:
        return True

    async def add(self, channel: str, listener: Listener) -> None:
        self._engine.add(channel.encode(), listener)

    async def remove(self, channel: str, listener: Listener) -> None:
        self._engine.remove(channel.encode(), listener)


def _text(arg: Any) -> str | bytes:
    return arg if isinstance(arg, (str, bytes)) else str(arg)


# The few commands the engine's Lua does not speak, in the words of its Python client, with a server's replies.


async def _read_group(database: Any, *args: Any) -> Any:
    """XREADGROUP GROUP group consumer COUNT n STREAMS stream id."""
    _, group, consumer, _, count, _, stream, last = args
    reply = await database.xreadgroup(group, consumer, {stream: last}, count=count)
    if not reply:
        return None
    return [[name, [[identity, _flat(fields)] for identity, fields in entries]] for name, entries in reply]


def _flat(fields: dict[bytes, bytes] | None) -> list[bytes] | None:
    return None if fields is None else [part for field in fields.items() for part in field]


async def _group(database: Any, action: str, stream: str, group: str, *rest: Any) -> Any:
    """XGROUP CREATE stream group id MKSTREAM, XGROUP DELCONSUMER stream group consumer."""
    if action == "CREATE":
        return await database.xgroup_create(stream, group, rest[0], mkstream=True)
    return 0  # consumers are not counted here, and one without entries weighs nothing


async def _pending(database: Any, stream: str, group: str, *rest: Any) -> Any:
    """XPENDING stream group start end count consumer."""
    start, end, count, consumer = rest
    entries = await database.xpending_range(stream, group, start, end, count, consumername=consumer)
    return [[entry[b"message_id"], entry[b"consumer"], entry[b"time_since_delivered"], entry[b"times_delivered"]] for entry in entries]


async def _info(database: Any, _consumers: str, stream: str, group: str) -> Any:
    """XINFO CONSUMERS stream group: those that hold entries, for the engine keeps the names of all there ever were."""
    consumers = await database.xinfo_consumers(stream, group)
    return [[b"name", consumer["name"], b"pending", consumer["pending"]] for consumer in consumers if consumer["pending"]]


_SPECIAL: dict[str, Callable[..., Awaitable[Any]]] = {"XREADGROUP": _read_group, "XGROUP": _group, "XPENDING": _pending, "XINFO": _info}
