"""What the tests of the backends share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from docket._clock import SYSTEM
from docket._redis import make_backend
from docket._redis.backend import Backend

__all__ = ["Ear", "opened"]


class Ear:
    """This hears."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.interruptions = 0

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)

    def on_interruption(self) -> None:
        self.interruptions += 1


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncGenerator[Backend]:
    """This is a backend for the length of a block, with its services running."""
    backend = make_backend(url, clock=SYSTEM, **options)
    await backend.open()
    services = [asyncio.create_task(service()) for service in backend.services()]
    await asyncio.sleep(0)  # a service that never began could not let go of its connection
    try:
        yield backend
    finally:
        for service in services:
            service.cancel()
        await asyncio.wait(services)
        await backend.aclose()
