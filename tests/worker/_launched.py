"""What the tests of `Worker.run` name as `module:member`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from docket import CurrentDocket, CurrentWorker, Docket, Timeout, Worker

begun: list[str] = []
"""Which slow tasks have begun."""


async def greet(name: str, docket: Docket = CurrentDocket(), worker: Worker = CurrentWorker()) -> str:
    return f"Hello, {name}, from {docket.name} by {worker.name}"


async def slow(name: str) -> str:
    begun.append(name)
    await asyncio.sleep(0.3)
    return "whole"


async def anything(*args: Any, **kwargs: Any) -> str:
    return "something"


class Storage:
    """Keeps results in this process."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    async def put(self, key: str, value: dict[str, Any], *, collection: str | None = None, ttl: float | None = None) -> None:
        self.kept[key] = value

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return self.kept.get(key)


collection = [greet, slow]
dependencies = [Timeout(timedelta(seconds=30))]
storage = Storage()
