"""Waiting for a thing, not for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

__all__ = ["eventually"]


async def eventually(holds: Callable[[], object | Awaitable[object]], *, within: float = 20.0) -> None:
    """This waits until the condition holds, and fails when it never does. `within`: seconds, far more than it should take."""
    deadline = time.monotonic() + within
    while True:
        answer = holds()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < deadline, f"this never came to hold: {inspect.getsource(holds).strip()}"
        await asyncio.sleep(0.005)
