"""The transitions of a run: schedule, claim, settle, cancel. Each is one script call, and most calls carry a batch."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from docket._messages import INLINE_LIMIT, dumps_outcome
from docket._redis.batcher import BATCH_BYTES, BATCH_ITEMS, Batcher
from docket._store.base import STATES, Base, moment_us, unless_refused_to_all, whole
from docket._store.records import Change, Changed, Claimed, Delivery, Order, Ordered, Refused, Revival, RunId, Settlement
from docket.errors import DocketError, InDoubt, RedisUnavailable, ServerError
from docket.states import TERMINAL, ExecutionState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend

__all__ = ["SCHEDULE_PATIENCE", "KnowsStrikes", "Lifecycle"]

SCHEDULE_PATIENCE = 5.0
"""Seconds for which a caller's request is tried again through an outage, before the caller learns of it."""

_NO_RUN = ("", "")
_OVERTAKEN = 20
"""How often in a row a number that was taken beforehand may come too late. More is no race: the number in the record is none that the docket gave out."""

_IN_FLIGHT = 2
"""Script calls of one `schedule_many` under way at once: one for the server to run, one to pack meanwhile."""


def _size(order: Order) -> int:
    return len(order.payload)


def _size_of_end(settlement: Settlement) -> int:
    return len(settlement.outcome.value or b"") + len(settlement.outcome.error or "") + len(settlement.payload or b"")


class KnowsStrikes(Protocol):
    """This knows what is struck."""

    async def catch_up(self, version: int, wanted: Callable[[], bool] | None = None) -> None:
        """This returns once everything is known that was struck when an answer gave this version."""
        ...


class Lifecycle(Base):
    """This moves runs from state to state."""

    def __init__(self, backend: Backend, keys: Keys, ttl_ms: int, retention_ms: int, strikes: KnowsStrikes, replicas: int = 0) -> None:
        super().__init__(backend, keys)
        self._ttl_ms = ttl_ms
        self._retention_ms = retention_ms
        self._strikes = strikes
        self._replicas = replicas
        """How many have to confirm what was scheduled."""
        self.on_left: Callable[[str, str, int], Awaitable[None]] | None = None
        """Told of each run that was taken out of the line before a limit, which may be in another shard: limit, key and generation."""
        self._touch = ("HINCRBY", keys.meta, "arrivals", 0)
        self._head = (keys.stream, keys.queue, keys.meta)
        self._settle_head = (*self._head, keys.waiting, keys.dead)
        self._orders: Batcher[Order, Ordered] = Batcher("schedule", self._schedule_gathered, size=_size)
        self._settlements: Batcher[Settlement, ExecutionState | None] = Batcher("settle", self._settle_batch, size=_size_of_end)

    def services(self) -> tuple[Any, ...]:
        """This names what has to run for calls to be answered."""
        return (self._orders.run, self._settlements.run)

    async def schedule(self, order: Order) -> Ordered:
        """This makes a run, together with whatever else is being scheduled at this moment. Safe to repeat with the same `Order`."""
        return await self._orders.submit(order)

    async def schedule_many(self, orders: Sequence[Order]) -> list[Ordered | Exception]:
        """This makes many runs, at most 200 and 1 MB a script call; what goes wrong with one is in its place of the answer."""
        batches: list[list[Order]] = []
        room = -1
        for order in orders:
            if room < len(order.payload) or len(batches[-1]) >= BATCH_ITEMS:
                batches.append([])
                room = BATCH_BYTES
            batches[-1].append(order)
            room -= len(order.payload)
        answers: list[list[Ordered | Exception]] = [[] for _ in batches]
        positions = iter(range(len(batches)))
        patience = SCHEDULE_PATIENCE

        async def send() -> None:
            nonlocal patience
            for position in positions:
                try:
                    answers[position] = await self._schedule_batch(batches[position], asyncio.get_running_loop().time() + patience)
                    patience = SCHEDULE_PATIENCE
                except DocketError as exc:
                    answers[position] = [exc] * len(batches[position])
                    if isinstance(exc, RedisUnavailable):  # it was waited for once; the others only look whether it is back
                        patience = 0.0

        await asyncio.gather(*(send() for _ in range(min(_IN_FLIGHT, len(batches)))))
        return [answer for batch in answers for answer in batch]

    async def _schedule_gathered(self, orders: Sequence[Order]) -> list[Ordered | Exception]:
        """Waits for no longer than its newest order may: who waited while the batches before it did has waited as well."""
        return await self._schedule_batch(orders, self._orders.newest + SCHEDULE_PATIENCE)

    async def _schedule_batch(self, orders: Sequence[Order], until: float) -> list[Ordered | Exception]:
        """Schedules, and once more what another run came to stand before meanwhile: its number was taken before that one's, and no key's numbers go back."""
        replies: list[Ordered | Exception | None] = await self._schedule_once(orders, until)
        for _ in range(_OVERTAKEN):
            stale = [place for place, reply in enumerate(replies) if reply is None]
            if not stale:
                break
            try:
                again = await self._schedule_once([orders[place] for place in stale], until)
            except DocketError as exc:  # theirs alone: what was answered before stands
                again = [exc] * len(stale)
            for place, reply in zip(stale, again, strict=True):
                replies[place] = reply
        return [_ahead(order.key) if reply is None else reply for order, reply in zip(orders, replies, strict=True)]

    async def _schedule_once(self, orders: Sequence[Order], until: float) -> list[Ordered | Exception | None]:
        spell, clock = self._keys, asyncio.get_running_loop().time
        generations, payloads = await self._numbered(orders, max(0.0, until - clock()))
        keys: list[str] = [*self._head]
        args: list[Any] = [spell.cancellations, spell.wake]
        for order, generation, payload in zip(orders, generations, payloads, strict=True):
            large = len(payload) > INLINE_LIMIT
            wide = large or order.replace or order.within is not None
            keys.append(spell.run(order.key))
            if wide:
                keys.append(spell.payload(order.key))
                keys.append(spell.successor(order.key))
            within = order.within
            args += (
                order.key, order.function, "" if order.when_us is None else order.when_us, payload, order.trace, order.token,
                "1" if order.replace else "", "1" if wide else "", "1" if large else "", generation,
            )  # fmt: skip
            args += _NO_RUN if within is None else (within.generation, within.delivery)

        async def attempt() -> tuple[Sequence[Any], int]:
            replies, confirmed = await self._schedule_script(keys, args)
            return unless_refused_to_all(replies), confirmed

        replies, confirmed = await self._persist(attempt, max(0.0, until - clock()))
        return [_ordered(reply, confirmed) if reply[0] != b"error" else self._failure(reply) for reply in replies]

    async def _schedule_script(self, keys: Sequence[str], args: Sequence[Any]) -> tuple[Any, int]:
        if not self._replicas:
            return await self._script("schedule", keys, *args), 0
        return await self._backend.durably(self._replicas, "schedule", keys, (self._states, *args), self._touch)

    async def _numbered(
        self, items: Sequence[Order] | Sequence[Settlement] | Sequence[Change] | Sequence[Revival], patience: float | None
    ) -> tuple[Sequence[int | str], Sequence[bytes]]:
        """Takes the generations of those that seal their payload, one call for all of them; and gives each its generation ('': the script takes one) and payload."""
        payloads = [item.payload or b"" for item in items]
        sealing = sum([item.seal is not None for item in items])
        if not sealing:
            return [""] * len(items), payloads
        last = await self._persist(lambda: self._script("number", [self._keys.stream, self._keys.meta], sealing), patience)
        numbers = iter(range(last - sealing + 1, last + 1))
        generations = ["" if item.seal is None else next(numbers) for item in items]
        sealed = [
            payload if item.seal is None else item.seal(cast("int", generation)) for item, generation, payload in zip(items, generations, payloads, strict=True)
        ]
        return generations, sealed

    async def claim(self, instance: str, deliveries: Sequence[Delivery], wanted: Callable[[], bool] | None = None) -> list[Claimed | Refused]:
        """This takes fetched entries for a worker instance. Safe to repeat: it answers as the first time did.

        It answers once this process knows everything that was struck when they were taken, so that nothing is run that was struck before.
        It is repeated through an outage for as long as it is `wanted`, then raises `RedisUnavailable`.
        """
        spell = self._keys
        keys: list[str] = [spell.stream, spell.waiting, spell.meta, spell.leases]
        args: list[Any] = [spell.group, instance]
        for delivery in deliveries:
            keys.append(spell.run(delivery.key))
            keys.append(spell.payload(delivery.key))
            if delivery.limit:
                keys += spell.concurrency(delivery.limit)
            args += (delivery.message_id, delivery.key, delivery.generation, delivery.limit)
        struck, *replies = await self._persist(lambda: self._script("claim", keys, *args), None, wanted)
        await self._strikes.catch_up(whole(struck), wanted)
        return [_claimed(delivery, reply) for delivery, reply in zip(deliveries, replies, strict=True)]

    async def settle(self, settlement: Settlement) -> ExecutionState | None:
        """This ends a claim. It answers the state that now stands under the key, or None when another had taken the run's place.

        It is repeated through an outage for as long as the docket is open, and safe to repeat.
        """
        return await self._settlements.submit(settlement)

    async def _settle_batch(self, settlements: Sequence[Settlement]) -> list[ExecutionState | Exception | None]:
        spell = self._keys
        keys: list[str] = [*self._settle_head]
        args: list[Any] = [spell.wake, spell.group, self._ttl_ms, self._retention_ms]
        generations, payloads = await self._numbered(settlements, None)
        for settlement, generation, payload in zip(settlements, generations, payloads, strict=True):
            run, outcome = settlement.run, settlement.outcome
            large_payload = len(payload) > INLINE_LIMIT
            wide = settlement.wide or settlement.again == "next" or large_payload
            blob = b""
            if wide or outcome.value is not None or outcome.error is not None:
                state = outcome.state if outcome.state in TERMINAL else ExecutionState.FAILED
                blob = dumps_outcome(state, outcome.error, outcome.value, struck=outcome.struck)
            large = len(blob) > INLINE_LIMIT
            wide = wide or large
            keys.append(spell.run(run.key))
            if wide:
                keys += (spell.payload(run.key), spell.successor(run.key), spell.outcome(run.key, run.generation))
            if settlement.limit:
                keys += spell.concurrency(settlement.limit)
            failure = settlement.failure if self._retention_ms else b""
            if failure:
                keys.append(spell.letter(run.generation))
            args += (
                settlement.message_id, run.key, run.generation, run.delivery, outcome.state.value, settlement.again or "",
                "" if settlement.when_us is None else settlement.when_us, generation if settlement.again == "next" else "unknown" if settlement.unknown else settlement.attempt, payload, "1" if large_payload else "",
                blob, "1" if large else "", (outcome.error or "").encode("utf-8", "replace"), "1" if wide else "",
                settlement.limit, failure,
            )  # fmt: skip
        in_doubt = False

        async def attempt() -> Any:
            nonlocal in_doubt
            try:
                return await self._script("settle", keys, *args)
            except InDoubt:
                in_doubt = True
                raise

        replies = await self._persist(attempt, None)
        return [self._failure(reply) or _settled(reply, settlement, in_doubt) for reply, settlement in zip(replies, settlements, strict=True)]

    async def suspect(self, run: RunId, *, alone: bool = True) -> bool:
        """This says that the body of a run is alone in its worker from here on, or is not any more; False when the run is no longer ours. Safe to repeat."""
        args = (run.generation, run.delivery, "1" if alone else "")
        return await self._persist(lambda: self._script("suspect", [self._keys.run(run.key)], *args), None) == b"noted"

    async def cancel(self, key: str, generation: int | None = None) -> tuple[ExecutionState | None, int]:
        """This cancels what lives under a key, or that very run; and answers the state it was in and its generation, None when there was nothing to cancel."""
        spell = self._keys
        keys = [spell.queue, spell.run(key), spell.payload(key), spell.successor(key), spell.meta, spell.outcome(key, generation or 0)]
        args = (spell.cancellations, self._ttl_ms, key, "" if generation is None else generation)
        (word, found), line = await self._in_line("cancel", keys, (spell.stream, spell.waiting), args)
        await self._has_left(line, key, found)
        return STATES.get(word), found

    async def _has_left(self, line: str, key: str, generation: int) -> None:
        if line and self.on_left is not None:
            await self.on_left(line, key, generation)

    async def _in_line(self, name: str, keys: Sequence[str], keys_of_a_line: Sequence[str], args: Sequence[Any]) -> tuple[Any, str]:
        """Runs a script that takes a run out of the line before a limit, if it stands in one: then it answers which, and is run again with that limit's keys.

        Of a limit in another shard there is nothing under these keys; `on_left` does what is to be done there.
        """
        line = ""
        while True:
            more = (*keys_of_a_line, *self._keys.concurrency(line)) if line else ()
            reply = await self._persist(partial(self._script, name, (*keys, *more), *args, line), SCHEDULE_PATIENCE)
            if reply[0] != b"line":
                return reply, line
            line = reply[1].decode()

    async def reschedule(self, change: Change) -> Changed:
        """This moves a run that has not begun to another moment, or makes it ready now. Safe to repeat with the same `Change`."""
        spell = self._keys
        args = (spell.wake, change.key, change.generation, change.token, "" if change.when_us is None else change.when_us)
        reply, line = await self._in_line("reschedule", (spell.stream, spell.queue, spell.waiting, spell.run(change.key)), (), args)
        await self._has_left(line, change.key, change.generation)
        if reply[0] != b"moved":
            return _refused(reply)
        return Changed("done", STATES[reply[1]], change.generation, int(reply[2]))

    async def retry(self, change: Change) -> Changed:
        """This runs again what failed or was cancelled, as a new run. Safe to repeat with the same `Change`."""
        spell, key = self._keys, change.key
        died = change.generation
        keys = [spell.stream, spell.meta, spell.run(key), spell.payload(key), spell.outcome(key, died), spell.dead, spell.letter(died)]
        [generation], [payload] = await self._numbered([change], SCHEDULE_PATIENCE)
        args = (self._ttl_ms, key, change.generation, change.token, generation, payload, "1" if len(payload) > INLINE_LIMIT else "")
        reply = await self._persist(lambda: self._script("retry", keys, *args), SCHEDULE_PATIENCE)
        if reply[0] != b"created":
            return _refused(reply)
        return Changed("done", STATES[reply[2]], reply[1], int(reply[3]))

    async def revive(self, revival: Revival) -> Changed:
        """This runs a dead letter again, as a new run, and throws the letter away. Safe to repeat with the same `Revival`.

        A repeat that finds neither the letter nor its run any more, after a lost reply, raises `InDoubt`. Also answers `sealed`: a payload is wanted that is sealed anew.
        """
        spell, key, died = self._keys, revival.key, revival.generation
        keys = [*self._head, spell.dead, spell.letter(died), spell.run(key), spell.payload(key), spell.outcome(key, died)]
        doubt: InDoubt | None = None
        for _ in range(_OVERTAKEN):
            [generation], [payload] = await self._numbered([revival], SCHEDULE_PATIENCE)
            is_given = "" if revival.payload is None and revival.seal is None else "1"
            when = "" if revival.when_us is None else revival.when_us
            args = (spell.wake, self._ttl_ms, died, key, revival.token, when, generation, payload, is_given)

            async def attempt(args: tuple[Any, ...] = args) -> Any:
                nonlocal doubt
                try:
                    return await self._script("revive", keys, *args)
                except InDoubt as exc:
                    doubt = exc
                    raise

            reply = await self._persist(attempt, SCHEDULE_PATIENCE)
            if reply[0] == b"stale":
                continue
            if reply[0] == b"gone" and doubt is not None:
                raise doubt
            return Changed("done", STATES[reply[2]], reply[1], int(reply[3])) if reply[0] == b"created" else _refused(reply)
        raise _ahead(key)


def _refused(reply: Any) -> Changed:
    return Changed(reply[0].decode(), STATES[reply[1]] if len(reply) > 1 else None)


def _ahead(key: str) -> ServerError:
    return ServerError(
        f"the run under {key!r} has a number that this docket has not reached, so nothing that is signed can follow it and nothing was scheduled; "
        "its record was written over, or the docket's counter was lost: delete the record, or wait until it expires"
    )


def _ordered(reply: Any, confirmed: int) -> Ordered | ServerError | None:
    """What became of one order, whatever somebody made of the record under its key: that is to fail none of the others in its batch. None: it is stale."""
    try:
        return Ordered(reply[0] == b"created", reply[1], STATES[reply[2]], int(reply[3]), confirmed) if reply[0] != b"stale" else None
    except (IndexError, KeyError, TypeError, ValueError):
        return ServerError(
            "the record under this key cannot be read, so nothing was scheduled; cancel what stands there, or put another in its place with replace"
        )


def _moments(origin: bytes) -> tuple[int | None, int | None]:
    """When a run that is tried again was first due, and first started."""
    first_when, _, first_started = origin.partition(b" ")
    return moment_us(first_when), moment_us(first_started)


def _claimed(delivery: Delivery, reply: Any) -> Claimed | Refused:
    if reply[0] != b"claimed":
        return Refused(delivery.key, delivery.generation, b": ".join(reply if reply[0] == b"error" else reply[1:]).decode("utf-8", "replace"))
    _, number, function, payload, large, when, started, trace, *past = reply
    started_us = moment_us(started) or 0
    when_us = moment_us(when)
    claimed = Claimed(
        run=RunId(delivery.key, delivery.generation, number),
        message_id=delivery.message_id,
        function=function.decode("utf-8", "replace"),
        payload=payload,
        large_payload=large == b"1",
        when_us=started_us if when_us is None else when_us,
        started_us=started_us,
        trace=trace,
        limit=delivery.limit,
    )
    if past:  # few have one, and this is done for every run
        attempt, crashes, origin, blamed, unknown_since = past
        claimed.attempt, claimed.crashes, claimed.blamed = whole(attempt, 1), whole(crashes), whole(blamed)
        claimed.first_when_us, claimed.first_started_us = _moments(origin) if origin else (None, None)
        claimed.unknown_since_us = moment_us(unknown_since)
    return claimed


def _settled(reply: Any, settlement: Settlement, in_doubt: bool) -> ExecutionState | None:
    if reply[0] == b"settled":
        return STATES[reply[1]]
    if reply[0] == b"gone" and in_doubt and settlement.again in (None, "end"):
        return settlement.outcome.state  # with nothing kept, a repeat after a lost reply finds nothing
    return None
