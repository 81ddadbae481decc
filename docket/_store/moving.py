"""Moves a docket that nobody uses from one number of shards to another.

First it is written down that the docket is being moved, and no shard gives a generation any more: nobody can open it, and whoever has it open is refused
what they schedule. Then everything is copied, and what was there stays as it is, until one command says which number counts from now on; then it is deleted.
Whoever dies in between has changed nothing that is in use: moving again begins again, or goes on with deleting.

Kept are runs with arguments, results and progress, the schedule, the order of what is ready, dead letters, what is struck, totals, and what rates, cooldowns
and debounces remember. Whoever waited for a concurrency limit asks for a place anew, in the same order. Generations go on above the highest so far.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from docket._clock import SYSTEM
from docket._keys import OWN_CHANNELS, Keys, shard_of
from docket._options import DocketOptions
from docket._redis import make_backend
from docket._redis.batcher import BATCH_ITEMS
from docket._store import Store
from docket._store.base import as_dict, chunks
from docket._store.delivery import deliveries
from docket._store.shard import STRIDE
from docket._store.shards import take_own_channels
from docket.errors import DocketError, InvalidOption, WrongState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from redis.credentials import CredentialProvider

    from docket._clock import Clock
    from docket._redis.backend import Backend, OpenableBackend

__all__ = ["Moved", "move"]

logger = logging.getLogger("docket.redis")

SILENCE_US = 10_000_000
"""How long nobody may have been heard of."""

STONE_MS = 30 * 24 * 3600 * 1000
"""How long it is remembered where a shard was that whoever has the docket open from then still knows."""

_KINDS = frozenset({"runs", "payload", "next", "outcome", "stream", "queue", "leases", "limits", "waiting", "away", "dead"})
"""What belongs to a shard, besides its `meta`. What stands beside it behind `{name}:` is the docket's as a whole, or the user's."""

_TOTALS = ("completed", "failed", "cancelled", "retried")
_OF_A_SHARD = (*_TOTALS, "generation", "halted", "arrivals", "cleared")
_KEPT_OF_LIMITS = frozenset({"rate", "promises", "cooldown", "debounce"})


@dataclass(frozen=True)
class Moved:
    """This tells what was moved."""

    before: int
    """Shards that there were."""
    after: int
    """Shards that there are now."""
    runs: int = 0
    """Records of runs, those that have ended among them."""
    letters: int = 0
    """Dead letters."""


async def move(name: str, url: str, to: int, *, clock: Clock = SYSTEM, credential_provider: CredentialProvider | None = None) -> Moved:
    """This moves a docket to so many shards. Safe to repeat.

    Raises `WrongState` while a worker is at work on the docket; then it is as it was. Whoever schedules meanwhile gets `LayoutMismatch`.
    """
    make = partial(make_backend, url, clock=clock, credential_provider=credential_provider)
    home = Keys(name)
    before, moving, left = await _standing(make, home)
    if before != to and not moving:
        store = await Store.open(name, url, execution_ttl=DocketOptions.execution_ttl, clock=clock, credential_provider=credential_provider)
        try:
            await _take_back(store)
        finally:
            await store.aclose()
    numbers = {number for number in (before, moving, left, to) if number}
    prefixes = [*dict.fromkeys([home.prefix, *(keys.prefix for number in sorted(numbers) for keys in Keys(name, number).shards)])]
    async with _backend(make, prefixes) as backend:
        if left:  # whoever moved it last died while deleting what was in use no longer
            await _Mover(backend, home, left, before).finish()
        if moving and moving != to:
            await _Mover(backend, home, before, moving).give_up()
        if before == to:
            return Moved(before, to)
        return await _Mover(backend, home, before, to).move()


async def _standing(make: Callable[..., OpenableBackend], home: Keys) -> tuple[int, int, int]:
    """How many shards there are, are to be, and were, the last two 0 where nothing is under way."""
    async with _backend(make, [home.prefix]) as backend:
        meta = as_dict(await backend.call("HGETALL", home.meta))
    return int(meta.get(b"shards", b"1")), int(meta.get(b"moving") or b"0"), int(meta.get(b"left") or b"0")


async def _take_back(store: Store) -> None:
    """Has what dead workers held become ready again. Raises `WrongState` where one is alive."""
    now_us = await store.inspection.server_now_us()
    live = await store.workers.live(since_us=now_us - SILENCE_US)
    if live:
        raise WrongState(f"{len(live)} worker(s) are at work on this docket ({', '.join(sorted({worker.name for worker in live})[:3])}); stop them first")
    for shard in store.shards:
        for instance in await shard.backend.call("ZRANGEBYSCORE", shard.keys.leases, now_us, "+inf"):
            raise WrongState(f"the worker {instance.decode()} has a lease that stands; stop it, or wait until its lease lapses")
        await shard.delivery.ensure_group()
        for instance in await shard.delivery.consumers():
            while entries := await shard.delivery.pending(instance):
                if await shard.delivery.reclaim(instance, [entry for entry in entries if store.shard_of(entry.key) is shard]) is None:
                    raise WrongState(f"the worker {instance} has a lease that stands; stop it, or wait until its lease lapses")
                for entry in entries:
                    if store.shard_of(entry.key) is not shard:  # word that a run of another shard was let in, which will ask anew
                        await shard.backend.call("XACK", shard.keys.stream, shard.keys.group, entry.message_id)


@asynccontextmanager
async def _backend(make: Callable[..., OpenableBackend], prefixes: Sequence[str]) -> AsyncGenerator[Backend]:
    backend = make(keys=prefixes)
    if backend.is_memory:
        raise InvalidOption("a docket in memory cannot be moved; make it anew with another number of shards")
    await backend.open()
    # Not a task group: errors are to come out of it as they are
    services = [asyncio.create_task(service()) for service in backend.services()]
    await asyncio.sleep(0)  # until they have begun: cancelled before that, they would close nothing
    try:
        yield backend
    finally:
        for service in services:
            service.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait(services)
            await backend.aclose()


class _Mover:
    """This moves one docket."""

    def __init__(self, backend: Backend, home: Keys, before: int, to: int) -> None:
        name = home.prefix[1:-2]
        self._home, self._at_home = home, backend.at(home.prefix)
        self._before, self._to = before, to
        self._olds = [(keys, backend.at(keys.prefix)) for keys in Keys(name, before).shards]
        self._news = [(keys, backend.at(keys.prefix)) for keys in Keys(name, to).shards]
        self._ready = 0
        """How many runs have been put into a stream so far."""
        self._let_in: set[tuple[str, int]] = set()
        """Those among them that waited for a place, whose records say so still: keys and generations."""

    async def move(self) -> Moved:
        await self._at_home.call("HSET", self._home.meta, "moving", self._to)
        try:
            for new in self._news:
                await self._empty(new, self._to)
            await self._halt()
            runs = letters = 0
            for old in self._olds:
                await self._streams(old)
                await self._schedule(old)
            for old in self._olds:
                found = await self._things(old)
                runs, letters = runs + found[0], letters + found[1]
            await self._meta()
            await self._verify()
            channels = OWN_CHANNELS if self._to > 1 and await take_own_channels(self._news) else ""
        except DocketError:
            await self.give_up()
            raise
        # From here on the other number counts
        switch = {"shards": self._to, "layout": 1 if self._to == 1 else 2, "channels": channels, "left": self._before, "moving": ""}
        await self._at_home.call("HSET", self._home.meta, *(part for field in switch.items() for part in field))
        await self.finish()
        return Moved(self._before, self._to, runs, letters)

    async def give_up(self) -> None:
        """Leaves everything as it was; if that cannot be done now, moving again does."""
        try:
            for new in self._news:
                await self._empty(new, self._before)
            for keys, backend in self._olds:
                await backend.script("go_on", [keys.meta], [keys.state("")])
            await self._at_home.call("HDEL", self._home.meta, "moving")
        except DocketError as exc:
            logger.warning("What was copied so far could not be deleted; moving the docket again does that: %s", exc)

    async def finish(self) -> None:
        """This deletes what is in use no longer."""
        for old in self._olds:
            await self._empty(old, self._to)
        await self._at_home.call("HDEL", self._home.meta, "moving", "left")

    async def _halt(self) -> None:
        """Has no shard give a generation any more."""
        for keys, backend in self._olds:
            await backend.script("halt", [keys.meta], [keys.state(""), self._to])

    def _new(self, key: str) -> tuple[Keys, Backend]:
        return self._news[shard_of(key, self._to)]

    async def _named(self, shard: tuple[Keys, Backend]) -> AsyncIterator[list[str]]:
        """Lists the keys of a shard, behind its prefix."""
        keys, backend = shard
        cursor: Any = "0"
        while True:
            cursor, found = await backend.call("SCAN", cursor, "MATCH", re.sub(r"([\\*?[\]])", r"\\\1", keys.prefix) + "*", "COUNT", 1000)
            names = [name.decode("utf-8", "replace")[len(keys.prefix) :] for name in found]
            yield [name for name in names if name.partition(":")[0] in _KINDS]
            if cursor == b"0":
                return

    async def _empty(self, shard: tuple[Keys, Backend], shards: int) -> None:
        """Deletes what a shard holds. What is left says how many shards there are now, for whoever still has it open: they are refused what they schedule."""
        keys, backend = shard
        if keys.prefix != self._home.prefix:
            await backend.call("HSET", keys.meta, "moving", shards)
            await backend.call("PEXPIRE", keys.meta, STONE_MS)
        await backend.call("HDEL", keys.meta, *_OF_A_SHARD)
        async for names in self._named(shard):
            for part in chunks(names, BATCH_ITEMS):
                await backend.call("DEL", *(keys.prefix + name for name in part))

    async def _streams(self, old: tuple[Keys, Backend]) -> None:
        """What is ready, and then who waits for a place, in the order in which they stand."""
        keys, backend = old
        index = self._olds.index(old)
        after = "-"
        while found := await backend.call("XRANGE", keys.stream, after, "+", "COUNT", BATCH_ITEMS):
            ours = [entry for entry in deliveries(found) if shard_of(entry.key, self._before) == index]  # the rest tells that runs of other shards were let in
            await asyncio.gather(*(self._enter(entry.key, entry.generation, was_let_in=bool(entry.limit)) for entry in ours))  # in this order they are sent
            after = "(" + found[-1][0].decode()
        for identity in await backend.call("ZRANGE", keys.waiting, 0, -1):
            for member in await backend.call("ZRANGE", keys.concurrency(identity.decode())[1], 0, -1):
                generation, _, key = member.decode().partition("|")
                await self._enter(key, int(generation), was_let_in=True)

    async def _enter(self, key: str, generation: int, *, was_let_in: bool) -> None:
        if was_let_in:
            if (key, generation) in self._let_in:
                return
            self._let_in.add((key, generation))
        keys, backend = self._new(key)
        self._ready += 1
        await backend.call("XADD", keys.stream, "*", "key", key, "generation", generation)

    async def _schedule(self, old: tuple[Keys, Backend]) -> None:
        keys, backend = old
        start = 0
        while flat := await backend.call("ZRANGE", keys.queue, start, start + BATCH_ITEMS - 1, "WITHSCORES"):
            await asyncio.gather(*(self._later(member.decode(), score) for member, score in zip(flat[::2], flat[1::2], strict=True)))
            start += BATCH_ITEMS

    async def _later(self, key: str, score: bytes) -> None:
        keys, backend = self._new(key)
        await backend.call("ZADD", keys.queue, score, key)

    async def _things(self, old: tuple[Keys, Backend]) -> tuple[int, int]:
        """Copies everything that has a key of its own; answers how many runs and dead letters that were."""
        runs = letters = 0
        async for names in self._named(old):
            for part in chunks(names, BATCH_ITEMS):
                kinds = await asyncio.gather(*(self._copy(old, name) for name in part))
                runs, letters = runs + kinds.count("runs"), letters + kinds.count("dead")
        left = await old[1].call("PTTL", old[0].dead)
        if left > 0:
            await asyncio.gather(*(backend.call("PEXPIRE", keys.dead, left) for keys, backend in self._news))
        return runs, letters

    async def _copy(self, old: tuple[Keys, Backend], name: str) -> str:
        keys, backend = old
        kind, colon, rest = name.partition(":")
        source = keys.prefix + name
        belongs = rest
        if kind == "outcome":
            belongs = rest.rpartition(":")[0]
        elif kind == "limits":
            of_limits, _, belongs = rest.partition(":")
            if of_limits not in _KEPT_OF_LIMITS:
                return ""
        elif kind == "dead" and colon:
            belongs = (await backend.call("HGET", source, "key") or b"").decode()
        elif kind not in ("runs", "payload", "next"):
            return ""
        target, there = self._new(belongs)
        dump, left = await asyncio.gather(backend.call("DUMP", source), backend.call("PTTL", source))
        if dump is None:  # it has expired meanwhile
            return ""
        await there.call("RESTORE", target.prefix + name, 0 if left == -1 else max(left, 1), dump, "REPLACE")  # 0 is for ever
        if kind == "dead":
            score = await backend.call("ZSCORE", keys.dead, rest)
            if score is not None:
                await there.call("ZADD", target.dead, score, rest)
        elif kind == "runs":
            await self._set_free(target, there, rest)
        return kind

    async def _set_free(self, keys: Keys, backend: Backend, key: str) -> None:
        """A run that waits for a place asks for one anew."""
        state, generation, parked = [await backend.call("HGET", keys.run(key), field) for field in ("state", "generation", "parked")]
        if state == b"queued" and parked is not None:
            await backend.call("HDEL", keys.run(key), "parked")
            await self._enter(key, int(generation), was_let_in=True)

    async def _meta(self) -> None:
        counters = [as_dict(await backend.call("HGETALL", keys.meta)) for keys, backend in self._olds]
        highest = max(int(fields.get(b"halted", b"0")) for fields in counters)
        strikes = await self._at_home.call("HGET", self._home.meta, "strikes") or b"0"
        for index, (keys, backend) in enumerate(self._news):
            fields: dict[str, Any] = {"generation": highest + index * STRIDE}
            if self._to > 1:
                fields["strikes"] = strikes
            if index == 0:
                fields |= {total: sum(int(each.get(total.encode(), b"0")) for each in counters) for total in _TOTALS}
                fields["arrivals"] = max(int(each.get(b"arrivals", b"0")) for each in counters)
            if self._to > 1:
                await backend.call("DEL", keys.meta)  # which would expire
            await backend.call("HSET", keys.meta, *(part for field in fields.items() for part in field))

    async def _verify(self) -> None:
        """Every run that is to come stands where it is looked for. Raises `DocketError`."""
        for what in ("queue", "dead"):
            before = sum([await backend.call("ZCARD", getattr(keys, what)) for keys, backend in self._olds])
            after = sum([await backend.call("ZCARD", getattr(keys, what)) for keys, backend in self._news])
            if after > before or (after < before and what == "queue"):
                raise WrongState(f"{before} entries of the {what} were found and {after} were moved, so the docket stays as it was; move it again")
        ready = sum([await backend.call("XLEN", keys.stream) for keys, backend in self._news])
        if ready != self._ready:
            raise WrongState(f"{self._ready} runs were ready and {ready} were moved, so the docket stays as it was; move it again")
