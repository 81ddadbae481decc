"""One run of the fault test: a server, workers and producers, and between them proxies; then the faults, then quiet, then what is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import redis

from docket import Docket
from docket._keys import Keys
from tests._proxy import Proxy, running_proxy
from tests._servers import RedisServer, lasting_keys, running_server
from tests.faults._checks import LATEST
from tests.faults._faults import Faults
from tests.faults._fleet import Fleet
from tests.faults._history import History, Outage, bodies_of, stalls_of
from tests.faults._log import read
from tests.faults._producer import Producers
from tests.faults._schedule import CHAIN, Order, Schedule

__all__ = ["RESERVE", "run"]

NAME = "faults"
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")  # what was acknowledged is kept
KEPT_FOR = timedelta(minutes=30)

UP_WITHIN = 20.0
DRAINED_WITHIN = 45.0
RESERVE = 9.0
"""Seconds that a run takes before and after its faults, about."""

LOOK_EVERY = 0.1
LATE_LOOK = 0.15
"""Seconds by which the server's answer is late when this machine, or this process with its proxies, is too busy to count as well."""


async def run(schedule: Schedule, folder: Path) -> History:
    """This carries out a schedule and gives what was seen."""
    keys = Keys(NAME, schedule.shards)
    async with AsyncExitStack() as stack:
        server = stack.enter_context(running_server(*DURABLE))
        links = [await stack.enter_async_context(running_proxy(server.port)) for _ in range(len(schedule.workers) + 1)]
        events = folder / "events.jsonl"
        fleet = Fleet(folder, events, NAME, [link.url for link in links[:-1]], schedule.lease)
        stack.callback(fleet.kill)
        docket = await stack.enter_async_context(Docket(NAME, links[-1].url, execution_ttl=KEPT_FOR, shards=schedule.shards))
        for slot, code in enumerate(schedule.workers):
            fleet.start(slot, code)
        await _are_up(server, keys, len(schedule.workers))

        began = time.monotonic()
        faults, producers = Faults(server, links, fleet, keys), Producers(docket, began)
        async with _watched(server, faults.outages):
            await asyncio.gather(*(producers.tell(story) for story in schedule.stories), *(faults.happen(fault, began) for fault in schedule.faults))
            await _put_right(links, fleet)
            await _are_up(server, keys, len(schedule.workers))
            quiet = time.monotonic()
            await _end_chains(schedule, producers, events, quiet)
            undrained = await _drain(server, keys, fleet)
            await producers.waited(LATEST)
            records = _records(server.client(), keys)
            lasting = lasting_keys(server.client())
            await fleet.end_all("told")
        ended = time.monotonic()
        written = read(events)
        return History(
            schedule, began, quiet, ended, producers.acks, bodies_of(written, fleet.ended), [*faults.outages, *stalls_of(written, fleet.ended)],
            fleet.ended, producers.waits, records, undrained, lasting, fleet.trouble(),
        )  # fmt: skip


async def _are_up(server: RedisServer, keys: Keys, count: int) -> None:
    """Waits until so many workers have a lease, in every shard. One that cannot start is seen later."""
    deadline = time.monotonic() + UP_WITHIN
    while time.monotonic() < deadline:
        if all(_command(server.client(), "ZCOUNT", shard.leases, "1", "+inf") >= count for shard in keys.shards):
            return
        await asyncio.sleep(0.02)


@asynccontextmanager
async def _watched(server: RedisServer, outages: list[Outage]) -> AsyncGenerator[None]:
    """Writes down when the server, or we, took long to answer, which counts as an outage for everybody."""

    async def watch() -> None:
        while True:
            asked = time.monotonic()
            with suppress(redis.RedisError, OSError):
                await asyncio.to_thread(_ping, server.port)
            await asyncio.sleep(LOOK_EVERY)
            late = time.monotonic() - asked - LOOK_EVERY
            if late > LATE_LOOK:
                outages.append(Outage("busy", -1, asked, time.monotonic()))

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _ping(port: int) -> None:
    client = redis.Redis(host="127.0.0.1", port=port, socket_timeout=5)
    try:
        client.ping()  # pyright: ignore[reportUnknownMemberType] - partly typed
    finally:
        client.close()


async def _put_right(links: Sequence[Proxy], fleet: Fleet) -> None:
    """Ends what still goes wrong, and the deploy: every worker has the new code from here on."""
    for link in links:
        link.lose_reply_to = None
    for slot, member in list(fleet.members.items()):
        if member.code == "old":
            await fleet.end(slot, "told")
            fleet.start(slot, "new")


async def _end_chains(schedule: Schedule, producers: Producers, events: Path, quiet: float) -> None:
    """Cancels every chain that is to be alive still, once it has gone on; or once it has had its time to."""
    chains = {story.key for story in schedule.stories if story.key.startswith(CHAIN) and story.orders[-1].verb != "cancel"}
    while chains and time.monotonic() < quiet + LATEST:
        await asyncio.sleep(0.1)
        going_on = {event["key"] for event in read(events) if event["kind"] == "start" and event["at"] > quiet}
        for key in chains & going_on:
            await producers.ask(key, Order(0.0, "cancel"))
        chains -= going_on
    for key in chains:
        await producers.ask(key, Order(0.0, "cancel"))


async def _drain(server: RedisServer, keys: Keys, fleet: Fleet) -> dict[str, int]:
    """Waits until nothing is left to do, and says what is when time is up."""
    deadline = time.monotonic() + DRAINED_WITHIN
    while (left := _left(server.client(), keys, len(fleet.members))) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return left


def _left(client: redis.Redis, keys: Keys, workers: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for number, shard in enumerate(keys.shards):
        where = f" of shard {number}" if len(keys.shards) > 1 else ""
        found.update({what + where: count for what, count in _left_in(client, shard, workers).items()})
    return found


def _left_in(client: redis.Redis, keys: Keys, workers: int) -> dict[str, int]:
    groups = [_paired(each) for each in _command(client, "XINFO", "GROUPS", keys.stream)]
    if not groups:  # somebody is about to make it again
        return {"entries in a stream without a group": _command(client, "XLEN", keys.stream)}
    [group] = groups
    found = {
        "entries in the stream": _command(client, "XLEN", keys.stream),
        "scheduled": _command(client, "ZCARD", keys.queue),
        "entries pending": group[b"pending"],
        "consumers without a worker": max(0, group[b"consumers"] - workers),
        "leases without a worker": max(0, _command(client, "ZCARD", keys.leases) - workers),
        "limits that somebody waits for": _command(client, "ZCARD", keys.waiting),
        "runs that wait for limits of other shards": _command(client, "ZCARD", keys.away),
    }
    for consumer in map(_paired, _command(client, "XINFO", "CONSUMERS", keys.stream, keys.group)):
        found[f"entries pending with {consumer[b'name'].decode()}"] = consumer[b"pending"]
    return {what: count for what, count in found.items() if count}


def _records(client: redis.Redis, keys: Keys) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for prefix in [shard.run("") for shard in keys.shards]:
        for key in cast("list[bytes]", _command(client, "KEYS", prefix + "*")):
            words = ("generation", "state", "attempt", "crashes", "worker", "message", "error", "outcome")
            values = cast("list[bytes | None]", _command(client, "HMGET", key, *words))
            present: Mapping[str, str] = {word: value.decode(errors="replace") for word, value in zip(words, values, strict=True) if value is not None}
            found[key.decode().removeprefix(prefix)] = dict(present)
    return found


def _paired(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _command(client: redis.Redis, *words: str | bytes) -> Any:
    return cast("Any", client).execute_command(*words)
