"""Makes things go wrong as the schedule says, and writes down when they did."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from docket._keys import Keys
from tests._proxy import Proxy
from tests._servers import RedisServer
from tests.faults._fleet import Fleet
from tests.faults._history import Outage
from tests.faults._schedule import Fault

__all__ = ["Faults"]

STARTS_WITHIN = 3.0
"""Seconds after which a worker that was started again is taken to be at work."""


_IMPAIRED: dict[str, tuple[str, object, object]] = {
    "refuse": ("refuse", True, False),
    "mute": ("silent", True, False),
    "deaf": ("deaf", True, False),
    "slow": ("delay", 0.05, 0.0),
}
"""What of a link is how while such a fault lasts, and how it is afterwards."""


class Faults:
    """This is everything that can go wrong."""

    def __init__(self, server: RedisServer, links: Sequence[Proxy], fleet: Fleet, keys: Keys) -> None:
        self.outages: list[Outage] = []
        self._server = server
        self._links = links
        self._fleet = fleet
        self._keys = keys
        self._kinds: dict[str, Callable[[Fault], Coroutine[Any, Any, None]]] = {
            "kill": self._end_worker,
            "term": self._end_worker,
            "stop": self._stop,
            "server": self._kill_server,
            "cut": self._cut,
            **dict.fromkeys(_IMPAIRED, self._impair),
            "half close": self._half_close,
            "lose reply": self._lose_reply,
            "script flush": self._script_flush,
            "client kill": self._client_kill,
            "group destroy": self._group_destroy,
        }

    async def happen(self, fault: Fault, began: float) -> None:
        """This makes a fault happen, and puts it right again."""
        await asyncio.sleep(began + fault.at - time.monotonic())
        await self._kinds[fault.kind](fault)

    @asynccontextmanager
    async def _noted(self, kind: str, slot: int, *, refuses: bool = False) -> AsyncGenerator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.outages.append(Outage(kind, slot, began, time.monotonic(), refuses))

    # Workers

    async def _end_worker(self, fault: Fault) -> None:
        async with self._noted(fault.kind, fault.target):
            await self._fleet.end(fault.target, "killed" if fault.kind == "kill" else "told")
            await asyncio.sleep(fault.lasts)
            self._fleet.start(fault.target, fault.code)

    async def _stop(self, fault: Fault) -> None:
        member = self._fleet.members.get(fault.target)
        if member is None:
            return
        async with self._noted("stop", fault.target):
            member.signal(signal.SIGSTOP)
            await asyncio.sleep(fault.lasts)
            member.signal(signal.SIGCONT)

    # The server

    async def _kill_server(self, fault: Fault) -> None:
        async with self._noted("server", -1, refuses=True):
            await asyncio.to_thread(self._server.kill)
            await asyncio.sleep(fault.lasts)
            await asyncio.to_thread(self._server.start)

    async def _command(self, fault: Fault, *words: str) -> None:
        async with self._noted(fault.kind, -1):
            try:
                await asyncio.to_thread(cast("Any", self._server.client()).execute_command, *words)
            except Exception:  # the server is down
                self.outages.append(Outage(f"no {fault.kind}", -1, time.monotonic(), time.monotonic()))

    async def _script_flush(self, fault: Fault) -> None:
        await self._command(fault, "SCRIPT", "FLUSH")

    async def _client_kill(self, fault: Fault) -> None:
        await self._command(fault, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def _group_destroy(self, fault: Fault) -> None:
        for shard in self._keys.shards:
            await self._command(fault, "XGROUP", "DESTROY", shard.stream, shard.group)

    # Connections

    async def _cut(self, fault: Fault) -> None:
        async with self._noted("cut", fault.target):
            self._links[fault.target].cut()

    async def _half_close(self, fault: Fault) -> None:
        async with self._noted("half close", fault.target):
            self._links[fault.target].half_close()

    async def _lose_reply(self, fault: Fault) -> None:
        link = self._links[fault.target]
        async with self._noted("lose reply", fault.target):
            link.lost, link.lose_reply_to = 0, fault.command.encode()

    async def _impair(self, fault: Fault) -> None:
        link, (part, ill, well) = self._links[fault.target], _IMPAIRED[fault.kind]
        async with self._noted(fault.kind, fault.target, refuses=fault.kind == "refuse"):
            setattr(link, part, ill)
            if fault.kind == "refuse":
                link.cut()
            await asyncio.sleep(fault.lasts)
            setattr(link, part, well)
