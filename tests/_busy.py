"""A server that runs somebody's script, which does not end. It refuses everything else meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis
import redis.exceptions

from tests._servers import RedisServer
from tests._waiting import eventually

__all__ = ["busy"]


@asynccontextmanager
async def busy(server: RedisServer) -> AsyncGenerator[None]:
    """This keeps a server busy for the length of a block. Its `lua-time-limit` should be short."""
    client: Any = server.client()
    endless = redis.Redis(host="127.0.0.1", port=server.port)

    def run() -> None:
        with suppress(redis.exceptions.ResponseError):  # it is killed
            endless.eval("while true do end", 0)
        endless.close()

    def is_busy() -> bool:
        try:
            client.execute_command("PING")
        except (redis.exceptions.ResponseError, redis.exceptions.ConnectionError) as exc:
            return "BUSY" in str(exc)
        return False

    running = asyncio.create_task(asyncio.to_thread(run))
    await eventually(is_busy)
    try:
        yield
    finally:
        server.client().script_kill()
        await running
