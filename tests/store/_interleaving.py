"""What happens between two commands of one call: the interleavings that a race needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from docket._store import Store

__all__ = ["after_command"]


def after_command(monkeypatch: pytest.MonkeyPatch, store: Store, command: str, happens: Callable[[], Awaitable[object]], *, about: str = "") -> None:
    """This has something happen once, between the reply to the next command of that name (and about that key) and whatever its caller does with it."""
    call, script = store.backend.call, store.backend.script
    left = [happens]

    async def once() -> None:
        while left:
            await left.pop()()

    async def watched_call(*args: Any) -> Any:
        reply = await call(*args)
        if args[0] == command and (not about or about in args):
            await once()
        return reply

    async def watched_script(name: str, keys: Any, args: Any) -> Any:
        reply = await script(name, keys, args)
        if name == command and (not about or about in keys):
            await once()
        return reply

    monkeypatch.setattr(store.backend, "call", watched_call)
    monkeypatch.setattr(store.backend, "script", watched_script)
