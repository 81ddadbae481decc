"""The floor: the least that any Redis-stream worker can do per task from Python. Read a batch, unpickle, await, settle."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from typing import Any, Protocol, cast

from redis.asyncio import Redis
from support import CALLERS, NotAsExpected, Report, Settings, run_measure

BATCH = 500


class _Pipeline(Protocol):
    def execute_command(self, *arguments: str | int | bytes) -> object: ...

    async def execute(self) -> list[object]: ...


class _Client(Protocol):
    async def execute_command(self, *arguments: str | int | bytes) -> object: ...

    def pipeline(self, *, transaction: bool) -> _Pipeline: ...


async def nothing(_: int) -> None:
    """This is the task."""


async def enqueue(client: _Client, stream: str, n: int) -> float:
    """This writes n messages in pipelines and returns the seconds it took."""
    started = time.perf_counter()
    for first in range(0, n, BATCH):
        pipeline = client.pipeline(transaction=False)
        for number in range(first, min(first + BATCH, n)):
            pipeline.execute_command("XADD", stream, "*", "key", f"k{number}", "function", "nothing", "args", pickle.dumps((0,)), "attempt", 1)
        await pipeline.execute()
    return time.perf_counter() - started


async def drain(client: _Client, stream: str, n: int, concurrency: int) -> float:
    """This reads, runs and acknowledges n messages in batches and returns the seconds it took."""
    await client.execute_command("XGROUP", "CREATE", stream, "group", "0-0")
    settled = 0

    async def run(identity: bytes, fields: list[bytes], done: list[bytes]) -> None:
        message = dict(zip(fields[::2], fields[1::2], strict=True))
        await nothing(*pickle.loads(message[b"args"]))
        done.append(identity)

    started = time.perf_counter()
    while settled < n:
        reply = await client.execute_command("XREADGROUP", "GROUP", "group", "me", "COUNT", concurrency, "BLOCK", 100, "STREAMS", stream, ">")
        done: list[bytes] = []
        for _, messages in cast("list[tuple[bytes, list[tuple[bytes, list[bytes]]]]]", reply or []):
            await asyncio.gather(*(asyncio.ensure_future(run(identity, fields, done)) for identity, fields in messages))
        if done:
            pipeline = client.pipeline(transaction=False)
            pipeline.execute_command("XACK", stream, "group", *done)
            pipeline.execute_command("XDEL", stream, *done)
            await pipeline.execute()
            settled += len(done)
    return time.perf_counter() - started


async def measure(settings: Settings) -> Report:
    """This measures what the server, the client library and Python cost when nothing is kept about a task."""
    client = cast("Any", Redis).from_url(settings.url, protocol=2)
    client.response_callbacks.clear()
    bare = cast("_Client", client)
    stream = f"floor-{os.getpid()}"
    adding = await enqueue(bare, stream, settings.n)
    draining = await drain(bare, stream, settings.n, settings.concurrency or CALLERS)
    if left := await bare.execute_command("XLEN", stream):
        msg = f"{left} messages are left"
        raise NotAsExpected(msg)
    return Report({"add_many_per_second": settings.n / adding, "drain_per_second": settings.n / draining})


if __name__ == "__main__":
    run_measure(measure)
