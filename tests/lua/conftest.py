"""What the tests of the scripts share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Literal

import pytest

from docket._clock import SYSTEM
from docket._store import Store
from tests._servers import RedisServer
from tests.lua._scripts import Lua, watched


@pytest.fixture
async def lua(docket_name: str, url: str, backend: Literal["memory", "server"], request: pytest.FixtureRequest) -> AsyncIterator[Lua]:
    """This runs scripts, on both backends."""
    store = await Store.open(docket_name, url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    try:
        await store.delivery.ensure_group()
        with ExitStack() as stack:
            server: RedisServer | None = request.getfixturevalue("redis_server") if backend == "server" else None
            lua = Lua(store, server, stack.enter_context(watched(server)) if server else None)
            await lua.listen()
            yield lua
    finally:
        await store.aclose()
