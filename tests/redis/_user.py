"""Uses an embedded server, in a process of its own: says when it could begin, begins when told, says which server it has, and leaves when told."""

from __future__ import annotations

import asyncio
import sys

from docket import Docket


async def use(url: str) -> None:
    async with Docket("of many", url) as docket, docket.redis() as redis:
        info: bytes = await redis.execute_command("INFO", "server")
        print(next(line.partition(b":")[2].decode() for line in info.splitlines() if line.startswith(b"process_id")), flush=True)
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(use(sys.argv[1]))
