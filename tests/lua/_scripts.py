"""Runs one script at a time, and watches it: which keys it touches, which transitions it makes, what it publishes.

Every call of a script through here is checked on the way: it touches no key that is not among its KEYS (seen by MONITOR, on
a server), it makes no transition that `states.TRANSITIONS` does not know, every transition is announced, and no live
generation disappears without an end.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import redis

from docket._store import Store
from docket._store.base import as_dict
from docket._store.events import Feed
from docket._store.records import Delivery, ProgressChange, StateChange
from docket.errors import ServerError
from docket.states import LIVE, TERMINAL, TRANSITIONS, ExecutionState
from tests._servers import RedisServer
from tests._shards import only_shard

__all__ = ["LARGE", "TTL_MS", "Applicant", "End", "Found", "Gate", "Item", "Lua", "cooldown", "debounce", "places", "rate", "watched"]

LARGE = b"x" * 100
"""More than may stand in a record."""
RETENTION_MS = 60_000
TTL_MS = 60_000
MINUTE_US = 60_000_000
TASK_KEYS = ("k", "a", "b", "c", "d")

_tokens = itertools.count(1)
_marks = itertools.count(1)
_TOUCHES_NO_KEY = {"PUBLISH", "TIME"}


@dataclass(frozen=True)
class Item:
    """This is one item of `schedule.lua`, as plain values."""

    key: str = "k"
    function: str = "f"
    when: int | str = ""
    payload: bytes = b"p"
    trace: bytes = b""
    token: int = field(default_factory=lambda: next(_tokens))
    replace: bool = False
    wide: bool | None = None
    within: tuple[int | str, int | str] = ("", "")
    generation: int | str = ""


@dataclass(frozen=True)
class End:
    """This is one item of `settle.lua`, as plain values."""

    message: bytes
    generation: int
    delivery: int = 1
    key: str = "k"
    state: str = "completed"
    again: str = ""
    when: int | str = ""
    attempt: int | str = 1
    following: int | str = ""
    payload: bytes = b""
    outcome: bytes = b""
    error: str = ""
    wide: bool = False
    limit: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Found:
    """This is one item of `clear.lua`, as plain values."""

    key: str = "k"
    generation: int | str = ""
    entry: bytes = b""
    limit: str = ""


@dataclass(frozen=True)
class Gate:
    """This is one limit that a run has to pass, as plain values."""

    kind: str
    a: int
    b: int | str = ""
    c: str = ""
    identity: str = "f"


def places(most: int, identity: str = "f") -> Gate:
    return Gate("concurrency", most, identity=identity)


def rate(runs: int, per_us: int = MINUTE_US, *, drop: bool = False) -> Gate:
    return Gate("rate", runs, per_us, "1" if drop else "")


def cooldown(window_us: int = MINUTE_US) -> Gate:
    return Gate("cooldown", window_us)


def debounce(quiet_us: int = MINUTE_US) -> Gate:
    return Gate("debounce", quiet_us)


@dataclass(frozen=True)
class Applicant:
    """This is one item of `admit.lua`, as plain values."""

    delivery: Delivery
    gates: tuple[Gate, ...]
    number: int = 1
    lease_us: int = MINUTE_US


class _Ear:
    """This hears everything on one channel."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)

    def on_interruption(self) -> None:
        """Nothing is lost here: the test would fail for it."""


class _Unheard:
    """This stands where a feed has its subscriber."""

    connected = True

    async def add(self, channel: str, listener: object) -> None: ...

    async def remove(self, channel: str, listener: object) -> None: ...


class Lua:
    """This runs scripts on one backend."""

    def __init__(self, store: Store, server: RedisServer | None, monitor: Any) -> None:
        self.store = store
        self.keys = store.keys
        self.delivery = only_shard(store).delivery
        self.events: list[StateChange | ProgressChange] = []
        """What the last script told of tasks."""
        self.wakes: list[int] = []
        """The due times that the last script woke the movers for."""
        self.cancels: list[bytes] = []
        """Whom the last script told to stop, as sent."""
        self.struck = 0
        """The version of what is struck that the last claim answered."""
        self._server = server
        self._monitor = monitor
        self._ear = _Ear()
        self._wake_ear = _Ear()
        self._cancel_ear = _Ear()

    async def listen(self) -> None:
        """This subscribes to everything that scripts publish of the keys used here."""
        subscriber = self.store.backend.subscriber
        for key in TASK_KEYS:
            await subscriber.add(self.keys.state(key), self._ear)
        await subscriber.add(self.keys.wake, self._wake_ear)
        await subscriber.add(self.keys.cancellations, self._cancel_ear)

    async def run(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        """This runs a script and checks what can be checked of any."""
        records = [key for key in keys if key.startswith(self.keys.run(""))]
        before = {record: await self._standing(record) for record in records}
        reply = await self.store.backend.script(name, keys, (self.keys.state(""), *args))
        after = {record: await self._standing(record) for record in records}
        await self._hear()
        told = [(event.key, event.generation, event.state) for event in self.events if isinstance(event, StateChange)]
        assert len(told) == len(set(told)), f"one transition was told twice: {told}"
        for record in records:
            self._check_transition(before[record], after[record])
            if after[record] is not None and after[record] == before[record]:
                state, generation = cast("tuple[ExecutionState, int]", after[record])
                key = record.removeprefix(self.keys.run(""))
                assert (key, generation, state) not in told or name == "reschedule", f"{state} of {key} was told, and it was that before"
        self.check_touched(set(keys))
        return reply

    async def _standing(self, record: str) -> tuple[ExecutionState, int] | None:
        try:
            fields = as_dict(await self.store.backend.call("HGETALL", record))
        except ServerError:
            return None
        return (ExecutionState(fields[b"state"].decode()), int(fields[b"generation"])) if b"state" in fields else None

    async def _hear(self) -> None:
        if self._server is not None:  # messages come on another connection than replies: wait for one that was sent after them
            mark = b"mark-%d" % next(_marks)
            await self.store.backend.call("PUBLISH", self.keys.cancellations, mark)
            while mark not in self._cancel_ear.messages:
                await asyncio.sleep(0)
            self._cancel_ear.messages.remove(mark)
        feed = Feed(cast("Any", _Unheard()), "state")
        for message in self._ear.messages:
            feed.on_message(message)
        self.events = []
        for _ in self._ear.messages:
            event = await feed.get(0)
            assert event is not None, "an event that cannot be decoded was published"
            self.events.append(event)
        self.wakes = [int(message) for message in self._wake_ear.messages]
        self.cancels = list(self._cancel_ear.messages)
        for ear in (self._ear, self._wake_ear, self._cancel_ear):
            ear.messages.clear()

    def states(self, key: str = "k") -> list[tuple[int, ExecutionState]]:
        """This is what the last script announced of a key: generations and the states they came to."""
        return [(event.generation, event.state) for event in self.events if isinstance(event, StateChange) and event.key == key]

    def _check_transition(self, before: tuple[ExecutionState, int] | None, after: tuple[ExecutionState, int] | None) -> None:
        announced = {(event.generation, event.state) for event in self.events if isinstance(event, StateChange)}
        if before is not None and before[0] in LIVE and (after is None or after[1] != before[1]):
            assert any(generation == before[1] and state in TERMINAL for generation, state in announced), f"{before} has gone without an end"
        if after is None or after == before:
            return
        state, generation = after
        if before is None or before[1] != generation:
            assert state in (ExecutionState.SCHEDULED, ExecutionState.QUEUED), f"a new generation begins as {state}"
        else:
            assert state in TRANSITIONS[before[0]], f"{before[0]} may not become {state}"
        assert (generation, state) in announced, f"{after} was not announced"

    def check_touched(self, declared: set[str]) -> None:
        """This fails when scripts have touched other keys than these since it was last asked."""
        if self._server is None:
            return
        mark = f"mark-{next(_marks)}"
        client: Any = self._server.client()
        client.execute_command("ECHO", mark)
        while True:
            seen = self._monitor.next_command()
            command, *arguments = seen["command"].split(" ")
            if mark in arguments:
                return
            if seen["client_type"] == "lua" and command not in _TOUCHES_NO_KEY:
                for touched in arguments if command == "DEL" else arguments[1:2] if command == "XGROUP" else arguments[:1]:
                    assert touched in declared, f"{command} touches {touched}, which is not among the KEYS"

    # The scripts, as the store calls them

    async def schedule(self, *items: Item) -> Any:
        keys, args = [self.keys.stream, self.keys.queue, self.keys.meta], list[Any]()
        for item in items:
            large = len(item.payload) > 64
            wide = item.wide if item.wide is not None else large or item.replace or item.within[0] != ""
            keys.append(self.keys.run(item.key))
            if wide:
                keys += (self.keys.payload(item.key), self.keys.successor(item.key))
            args += (item.key, item.function, item.when, item.payload, item.trace, item.token, "1" if item.replace else "")
            args += ("1" if wide else "", "1" if large else "", item.generation, *item.within)
        return await self.run("schedule", keys, self.keys.cancellations, self.keys.wake, *args)

    async def claim(self, *deliveries: Delivery, instance: str = "w~1") -> Any:
        """This claims, and answers without the version of what is struck, which it leaves in `struck`."""
        keys, args = [self.keys.stream, self.keys.waiting, self.keys.meta, self.keys.leases], list[Any]()
        for delivery in deliveries:
            keys += (self.keys.run(delivery.key), self.keys.payload(delivery.key))
            if delivery.limit:
                keys += self.keys.concurrency(delivery.limit)
            args += (delivery.message_id, delivery.key, delivery.generation, delivery.limit)
        version, *replies = await self.run("claim", keys, self.keys.group, instance, *args)
        self.struck = int(version)
        return replies

    async def begin(self) -> Any:
        return await self.run("begin", [self.keys.stream], self.keys.group)

    async def forget(self, instance: str) -> Any:
        return await self.run("forget", [self.keys.stream], self.keys.group, instance)

    async def settle(self, *ends: End, ttl_ms: int = TTL_MS) -> Any:
        keys, args = [self.keys.stream, self.keys.queue, self.keys.meta, self.keys.waiting, self.keys.dead], list[Any]()
        for end in ends:
            large_payload, large_outcome = len(end.payload) > 64, len(end.outcome) > 64
            wide = end.wide or end.again == "next" or large_outcome
            keys.append(self.keys.run(end.key))
            if wide:
                keys += (self.keys.payload(end.key), self.keys.successor(end.key), self.keys.outcome(end.key, end.generation))
            if end.limit:
                keys += self.keys.concurrency(end.limit)
            if end.failure:
                keys.append(self.keys.letter(end.generation))
            args += (end.message, end.key, end.generation, end.delivery, end.state, end.again, end.when)
            args += (end.following if end.again == "next" else end.attempt, end.payload)
            args += ("1" if large_payload else "", end.outcome, "1" if large_outcome else "", end.error, "1" if wide else "", end.limit, end.failure)
        return await self.run("settle", keys, self.keys.wake, self.keys.group, ttl_ms, RETENTION_MS, *args)

    async def admit(self, *applicants: Applicant, instance: str = "w~1") -> Any:
        """This applies, and checks that a run that may not pass now has a place in nothing, and one that is set aside is nobody's."""
        keys, args = [self.keys.stream, self.keys.queue, self.keys.meta, self.keys.waiting], list[Any]()
        for applicant in applicants:
            delivery = applicant.delivery
            keys.append(self.keys.run(delivery.key))
            args += (delivery.message_id, delivery.key, delivery.generation, applicant.number, applicant.lease_us, len(applicant.gates))
            for gate in applicant.gates:
                keys += self._keys_of(gate)
                args += (gate.kind, gate.identity, gate.a, gate.b, gate.c)
        replies = await self.run("admit", keys, self.keys.group, self.keys.wake, *args)
        pending = {entry.message_id for entry in await self.pending(instance)}
        for applicant, reply in zip(applicants, replies, strict=True):
            if reply[0] in (b"parked", b"later", b"dropped", b"cancelled"):
                for gate in applicant.gates:
                    await self._check_without_place(applicant, gate)
            if reply[0] not in (b"superseded", b"error"):
                assert (applicant.delivery.message_id in pending) == (reply[0] not in (b"parked", b"later"))
        return replies

    def _keys_of(self, gate: Gate) -> tuple[str, ...]:
        if gate.kind == "concurrency":
            return self.keys.concurrency(gate.identity)
        return self.keys.rate(gate.identity) if gate.kind == "rate" else (self.keys.limit(gate.kind, gate.identity),)

    async def _check_without_place(self, applicant: Applicant, gate: Gate) -> None:
        generation = str(applicant.delivery.generation)
        if gate.kind == "concurrency":
            assert generation not in await self.holders(gate.identity)
        elif gate.kind == "rate":
            assert f"{generation}.{applicant.number}" not in await self.scores(self.keys.rate(gate.identity)[0])
        elif gate.kind == "cooldown":
            assert await self.store.backend.call("HGET", self.keys.limit("cooldown", gate.identity), "by") != generation.encode()

    async def sweep(self, *identities: str) -> Any:
        keys = [self.keys.stream, self.keys.waiting, *(key for identity in identities for key in self.keys.concurrency(identity))]
        return await self.run("sweep", keys, *identities)

    async def hold(self, *places: tuple[str, int], lease_us: int = MINUTE_US) -> Any:
        return await self.run("hold", [self.keys.concurrency(identity)[0] for identity, _ in places], lease_us, *(generation for _, generation in places))

    async def cancel(self, key: str = "k", *, generation: int | None = None, line: str = "", ttl_ms: int = TTL_MS) -> Any:
        spell = self.keys
        keys = [spell.queue, spell.run(key), spell.payload(key), spell.successor(key), spell.meta, spell.outcome(key, generation or 0)]
        if line:
            keys += (spell.stream, spell.waiting, *spell.concurrency(line))
        reply = await self.run("cancel", keys, spell.cancellations, ttl_ms, key, "" if generation is None else generation, line)
        if reply[0] == b"line":
            assert self.events == [] and self.cancels == []
            return await self.cancel(key, generation=generation, line=reply[1].decode(), ttl_ms=ttl_ms)
        return reply

    async def reclaim(self, *entries: Delivery, instance: str = "w~1", own: bool = False, ttl_ms: int = TTL_MS) -> Any:
        keys, args = [self.keys.stream, self.keys.leases, self.keys.queue, self.keys.meta], list[Any]()
        for entry in entries:
            keys += (self.keys.run(entry.key), self.keys.payload(entry.key), self.keys.successor(entry.key))
            args += (entry.message_id, entry.key, entry.generation, entry.limit)
        return await self.run("reclaim", keys, self.keys.group, instance, "1" if own else "", ttl_ms, *args)

    async def select(self, *candidates: tuple[str, int | str], states: str = "", task: str = "", room: int = 1000) -> Any:
        keys = [key for name, _ in candidates for key in (self.keys.run(name), self.keys.payload(name))]
        return await self.run("select", keys, states, task, room, *(generation for _, generation in candidates))

    async def reschedule(self, *, generation: int = 1, when: int | str = "", key: str = "k", token: int | None = None, line: str = "") -> Any:
        spell = self.keys
        keys = [spell.stream, spell.queue, spell.waiting, spell.run(key), *(spell.concurrency(line) if line else ())]
        return await self.run("reschedule", keys, spell.wake, key, generation, next(_tokens) if token is None else token, when, line)

    async def number(self, count: int) -> int:
        return await self.run("number", [self.keys.stream, self.keys.meta], count)

    async def retry(self, *, generation: int = 1, key: str = "k", token: int | None = None, following: int | str = "", payload: bytes = b"") -> Any:
        spell = self.keys
        keys = [spell.stream, spell.meta, spell.run(key), spell.payload(key), spell.outcome(key, generation), spell.dead, spell.letter(generation)]
        large = "1" if len(payload) > 64 else ""
        return await self.run("retry", keys, TTL_MS, key, generation, next(_tokens) if token is None else token, following, payload, large)

    async def clear(self, *items: Found, newest: int = 1000, token: int | None = None, ttl_ms: int = TTL_MS) -> Any:
        keys, args = [self.keys.stream, self.keys.queue, self.keys.meta, self.keys.waiting], list[Any]()
        for item in items:
            keys += (self.keys.run(item.key), self.keys.payload(item.key))
            if item.limit:
                keys += self.keys.concurrency(item.limit)
            args += (item.key, item.generation, item.entry, item.limit)
        return await self.run("clear", keys, ttl_ms, next(_tokens) if token is None else token, newest, *args)

    async def renew(self, *held: tuple[str, int, int], instance: str = "w~1", lease_us: int = 60_000_000, first: bool = False) -> Any:
        keys = [self.keys.leases, *(self.keys.run(key) for key, _, _ in held)]
        args = [part for _, generation, delivery in held for part in (generation, delivery)]
        return await self.run("renew", keys, instance, lease_us, "1" if first else "", *args)

    async def move_due(self, *candidates: str) -> Any:
        return await self.run("move_due", [self.keys.stream, self.keys.queue, *map(self.keys.run, candidates)], *candidates)

    async def progress(
        self,
        *,
        key: str = "k",
        run: tuple[int | str, int | str] = ("", ""),
        add: int = 0,
        total: int | str = "",
        note: str | None = None,
        number: int | str = "",
    ) -> Any:
        return await self.run("progress", [self.keys.run(key)], key, *run, add, total, "" if note is None else "1", note or "", number)

    async def suspect(self, key: str, generation: int, delivery: int, *, alone: bool = True) -> Any:
        return await self.run("suspect", [self.keys.run(key)], generation, delivery, "1" if alone else "")

    # What stands there

    async def read(self, *, count: int = 10, instance: str = "w~1") -> list[Delivery]:
        """This fetches what is in the stream."""
        reader = self.delivery.reader()
        try:
            return await self.delivery.read(reader, instance, count, 1)
        finally:
            await reader.aclose()

    async def running(self, *items: Item, instance: str = "w~1") -> list[Delivery]:
        """This schedules, fetches and claims."""
        for item in items:
            await self.schedule(item)
        deliveries = await self.read(instance=instance)
        replies = await self.claim(*deliveries, instance=instance)
        assert [reply[0] for reply in replies] == [b"claimed"] * len(items)
        return deliveries

    async def total(self, word: str) -> int:
        """This is how many runs have ended so, or were tried again, since the docket was first used."""
        return int(await self.store.backend.call("HGET", self.keys.meta, word) or 0)

    async def scores(self, key: str) -> dict[str, float]:
        """This is a sorted set, in order."""
        flat = await self.store.backend.call("ZRANGE", key, 0, -1, "WITHSCORES")
        return {member.decode(): float(score) for member, score in as_dict(flat).items()}

    async def holders(self, identity: str = "f") -> dict[str, float]:
        """This is who has a place under a concurrency limit: generations, and when their place lapses."""
        return await self.scores(self.keys.concurrency(identity)[0])

    async def waiters(self, identity: str = "f") -> list[str]:
        """This is who waits for a place, in order: generations and keys."""
        return list(await self.scores(self.keys.concurrency(identity)[1]))

    async def waited_for(self) -> list[str]:
        """This is the concurrency limits that somebody waits for, the one longest not looked at first."""
        return list(await self.scores(self.keys.waiting))

    async def move(self, key: str, member: str, by_us: int) -> None:
        """This moves a moment in a sorted set, as though time had passed."""
        await self.store.backend.call("ZADD", key, f"{(await self.scores(key))[member] + by_us:.0f}", member)

    async def move_field(self, key: str, field: str, by_us: int) -> None:
        """This moves a moment in a hash, as though time had passed."""
        await self.store.backend.call("HSET", key, field, int(await self.store.backend.call("HGET", key, field)) + by_us)

    async def record(self, key: str = "k") -> dict[str, str]:
        fields = as_dict(await self.store.backend.call("HGETALL", self.keys.run(key)))
        return {name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()}

    async def get(self, key: str) -> bytes | None:
        return await self.store.backend.call("GET", key)

    async def exists(self, *keys: str) -> int:
        return sum([await self.store.backend.call("EXISTS", key) for key in keys])

    async def spoil(self, key: str = "k") -> None:
        """This puts a text where the record of a task should be."""
        await self.store.backend.call("DEL", self.keys.run(key))
        await self.store.backend.call("SET", self.keys.run(key), "no record")

    async def mend(self, key: str = "k") -> None:
        """This takes what `spoil` put there away."""
        await self.store.backend.call("DEL", self.keys.run(key))

    async def depth(self) -> tuple[int, int]:
        return await self.delivery.depth()

    async def pending(self, instance: str = "w~1") -> list[Delivery]:
        return await self.delivery.pending(instance)

    async def now_us(self) -> int:
        """This is the time by the clock of the scripts."""
        _, _, now = await self.delivery.move_due([])
        return now


@contextmanager
def watched(server: RedisServer) -> Generator[Any]:
    """This is every command that reaches a server, those of scripts among them."""
    client = redis.Redis(host="127.0.0.1", port=server.port)
    try:
        with cast("Any", client).monitor() as monitor:
            yield monitor
    finally:
        client.close()
