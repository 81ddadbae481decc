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

from docket._redis.backend import deliver
from docket._redis.engine_commands import SPECIAL, read_group
from docket._redis.errors import translate
from docket._redis.scripts import scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from docket._clock import Clock
    from docket._redis.backend import Listener
    from docket._redis.urls import Address

__all__ = ["MemoryBackend", "forget_engine"]

_ANY_COMMAND = "return redis.call(unpack(ARGV))"


class _Engine:
    """One named engine, and who listens to it from where."""

    def __init__(self) -> None:
        self.database: Any = burner_redis.BurnerRedis()  # pyright: ignore[reportUnknownMemberType] - untyped
        self._lock = threading.Lock()
        self._listeners: dict[tuple[bytes, bool], list[tuple[asyncio.AbstractEventLoop, Listener]]] = {}
        """By channel, or by what channels begin with (True)."""
        self._prefixes: tuple[bytes, ...] = ()
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

    @property
    def listening(self) -> int:
        return len(self._listeners)

    def add(self, channel: bytes, listener: Listener, *, prefix: bool) -> None:
        with self._lock:
            self._listeners.setdefault((channel, prefix), []).append((asyncio.get_running_loop(), listener))
            self._note_prefixes()

    def remove(self, channel: bytes, listener: Listener, *, prefix: bool) -> None:
        with self._lock:
            left = [entry for entry in self._listeners.get((channel, prefix), []) if entry[1] is not listener]
            if left:
                self._listeners[channel, prefix] = left
            else:
                self._listeners.pop((channel, prefix), None)
            self._note_prefixes()

    def _note_prefixes(self) -> None:
        self._prefixes = tuple(channel for channel, is_prefix in self._listeners if is_prefix)

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
            self._publish((channel, False), message, here)
            for prefix in self._prefixes:
                if channel.startswith(prefix):
                    self._publish((prefix, True), message, here)

    def _publish(self, place: tuple[bytes, bool], message: bytes, here: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            listeners = list(self._listeners.get(place, ()))
        for loop, listener in listeners:
            if loop is here:
                deliver(listener, message)
            else:
                self._hand_over(loop, place, listener, message)

    def _hand_over(self, loop: asyncio.AbstractEventLoop, place: tuple[bytes, bool], listener: Listener, message: bytes) -> None:
        try:
            loop.call_soon_threadsafe(deliver, listener, message)
        except RuntimeError:  # that loop was closed with its docket still entered: nobody hears there any more
            channel, prefix = place
            self.remove(channel, listener, prefix=prefix)


_engines: dict[str, _Engine] = {}
_engines_lock = threading.Lock()


def _engine(name: str) -> _Engine:
    with _engines_lock:
        if name not in _engines:
            _engines[name] = _Engine()
        return _engines[name]


def forget_engine(name: str) -> None:
    """This has the next backend of that name begin with a new engine."""
    with _engines_lock:
        _engines.pop(name, None)


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
            special = SPECIAL.get(args[0])
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
                self._clock.stamp(),
                *[arg if type(arg) is bytes or type(arg) is str else _text(arg) for arg in args],
            )
        except redis.exceptions.RedisError as exc:
            raise translate(exc, self._where) from exc
        self._engine.publish(published)
        return reply

    async def durably(self, replicas: int, name: str, keys: Sequence[str], args: Sequence[Any], touch: Sequence[Any]) -> tuple[Any, int]:
        return await self.script(name, keys, args), replicas  # nobody else has a copy who could be asked

    async def available(self, timeout: float) -> bool:
        return True

    @property
    def is_connected(self) -> bool:
        return True

    def lead_us(self) -> int:
        return self._clock.lead_us()

    def connected_for(self) -> float:
        return asyncio.get_running_loop().time() - self._since

    def at(self, key: str) -> MemoryBackend:
        return self

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
        if "BLOCK" in words:
            block = words.index("BLOCK")
            del words[block : block + 2]
        until = anyio.current_time() + timeout
        reply: Any = None
        with self._engine.news() as news:
            while True:
                news.clear()
                try:
                    with anyio.CancelScope(shield=True):  # to its end, so that what it took can be found
                        reply = await read_group(self._engine.database, *words)
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

    @property
    def listening(self) -> int:
        return self._engine.listening

    def hears(self, channel: str) -> bool:
        return False  # a message is for those who listen as it is published

    async def add(self, channel: str, listener: Listener, *, prefix: bool = False, sharded: bool = False) -> bool:
        self._engine.add(channel.encode(), listener, prefix=prefix)
        return True

    async def remove(self, channel: str, listener: Listener, *, prefix: bool = False, sharded: bool = False) -> None:
        self._engine.remove(channel.encode(), listener, prefix=prefix)


def _text(arg: Any) -> str | bytes:
    return arg if isinstance(arg, (str, bytes)) else str(arg)
