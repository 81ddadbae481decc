"""The transitions of a run: schedule, claim, settle, cancel. Each is one script call, and most calls carry a batch."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from docket._messages import INLINE_LIMIT, dumps_outcome
from docket._redis.batcher import BATCH_BYTES, BATCH_ITEMS, Batcher
from docket._store.base import STATES, Base
from docket._store.records import Change, Changed, Claimed, Delivery, Order, Ordered, Refused, RunId, Settlement
from docket.errors import DocketError, InDoubt
from docket.states import TERMINAL, ExecutionState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend
    from docket._store.strikes import StrikesStore

__all__ = ["SCHEDULE_PATIENCE", "Lifecycle"]

SCHEDULE_PATIENCE = 5.0
"""Seconds for which a caller's request is tried again through an outage, before the caller learns of it."""

_NO_RUN = ("", "")
_IN_FLIGHT = 2
"""Script calls of one `schedule_many` under way at once: one for the server to run, one to pack meanwhile."""


def _size(order: Order) -> int:
    return len(order.payload)


def _size_of_end(settlement: Settlement) -> int:
    return len(settlement.outcome.value or b"") + len(settlement.outcome.error or "") + len(settlement.payload or b"")


class Lifecycle(Base):
    """This moves runs from state to state."""

    def __init__(self, backend: Backend, keys: Keys, ttl_ms: int, strikes: StrikesStore) -> None:
        super().__init__(backend, keys)
        self._ttl_ms = ttl_ms
        self._strikes = strikes
        self._head = (keys.stream, keys.queue, keys.meta)
        self._settle_head = (*self._head, keys.waiting, keys.failures)
        self._orders: Batcher[Order, Ordered] = Batcher("schedule", self._schedule_batch, size=_size)
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

        async def send() -> None:
            for position in positions:
                try:
                    answers[position] = await self._schedule_batch(batches[position])
                except DocketError as exc:
                    answers[position] = [exc] * len(batches[position])

        await asyncio.gather(*(send() for _ in range(min(_IN_FLIGHT, len(batches)))))
        return [answer for batch in answers for answer in batch]

    async def _schedule_batch(self, orders: Sequence[Order]) -> list[Ordered | Exception]:
        spell = self._keys
        keys: list[str] = [*self._head]
        args: list[Any] = [spell.cancellations, spell.wake]
        for order in orders:
            large = len(order.payload) > INLINE_LIMIT
            wide = large or order.replace or order.within is not None
            keys.append(spell.run(order.key))
            if wide:
                keys.append(spell.payload(order.key))
                keys.append(spell.successor(order.key))
            within = order.within
            args += (
                order.key, order.function, "" if order.when_us is None else order.when_us, order.payload, order.trace, order.token,
                "1" if order.replace else "", "1" if wide else "", "1" if large else "",
            )  # fmt: skip
            args += _NO_RUN if within is None else (within.generation, within.delivery)
        replies = await self._persist(lambda: self._script("schedule", keys, *args), SCHEDULE_PATIENCE)
        return [
            self._failure(reply) or Ordered(created=reply[0] == b"created", generation=reply[1], state=STATES[reply[2]], when_us=int(reply[3]))
            for reply in replies
        ]

    async def claim(self, instance: str, deliveries: Sequence[Delivery], wanted: Callable[[], bool] | None = None) -> list[Claimed | Refused]:
        """This takes fetched entries for a worker instance. Safe to repeat: it answers as the first time did.

        It answers once this process knows everything that was struck when they were taken, so that nothing is run that was struck before.
        It is repeated through an outage for as long as it is `wanted`, then raises `RedisUnavailable`.
        """
        spell = self._keys
        keys: list[str] = [spell.stream, spell.waiting, spell.meta]
        args: list[Any] = [spell.group, instance]
        for delivery in deliveries:
            keys.append(spell.run(delivery.key))
            keys.append(spell.payload(delivery.key))
            if delivery.limit:
                keys += spell.concurrency(delivery.limit)
            args += (delivery.message_id, delivery.key, delivery.generation, delivery.limit)
        struck, *replies = await self._persist(lambda: self._script("claim", keys, *args), None, wanted)
        await self._strikes.catch_up(int(struck), wanted)
        return [_claimed(delivery, reply) for delivery, reply in zip(deliveries, replies, strict=True)]

    async def settle(self, settlement: Settlement) -> ExecutionState | None:
        """This ends a claim. It answers the state that now stands under the key, or None when another had taken the run's place.

        It is repeated through an outage for as long as the docket is open, and safe to repeat.
        """
        return await self._settlements.submit(settlement)

    async def _settle_batch(self, settlements: Sequence[Settlement]) -> list[ExecutionState | Exception | None]:
        spell = self._keys
        keys: list[str] = [*self._settle_head]
        args: list[Any] = [spell.wake, spell.group, self._ttl_ms]
        for settlement in settlements:
            run, outcome = settlement.run, settlement.outcome
            payload = b"" if settlement.payload is None else settlement.payload
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
            args += (
                settlement.message_id, run.key, run.generation, run.delivery, outcome.state.value, settlement.again or "",
                "" if settlement.when_us is None else settlement.when_us, settlement.attempt, payload, "1" if large_payload else "",
                blob, "1" if large else "", (outcome.error or "").encode("utf-8", "replace"), "1" if wide else "",
                settlement.limit,
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

    async def cancel(self, key: str, generation: int | None = None) -> tuple[ExecutionState | None, int]:
        """This cancels what lives under a key, or that very run; and answers the state it was in and its generation, None when there was nothing to cancel."""
        spell = self._keys
        keys = [spell.queue, spell.run(key), spell.payload(key), spell.successor(key), spell.meta, spell.outcome(key, generation or 0)]
        args = (spell.cancellations, self._ttl_ms, key, "" if generation is None else generation)
        word, found = await self._in_line("cancel", keys, (spell.stream, spell.waiting), args)
        return STATES.get(word), found

    async def _in_line(self, name: str, keys: Sequence[str], keys_of_a_line: Sequence[str], args: Sequence[Any]) -> Any:
        """Runs a script that takes a run out of the line before a limit, if it stands in one: then it answers which, and is run again with that limit's keys."""
        line = ""
        while True:
            more = (*keys_of_a_line, *self._keys.concurrency(line)) if line else ()
            reply = await self._persist(partial(self._script, name, (*keys, *more), *args, line), SCHEDULE_PATIENCE)
            if reply[0] != b"line":
                return reply
            line = reply[1].decode()

    async def reschedule(self, change: Change) -> Changed:
        """This moves a run that has not begun to another moment, or makes it ready now. Safe to repeat with the same `Change`."""
        spell = self._keys
        args = (spell.wake, change.key, change.generation, change.token, "" if change.when_us is None else change.when_us)
        reply = await self._in_line("reschedule", (spell.stream, spell.queue, spell.waiting, spell.run(change.key)), (), args)
        if reply[0] != b"moved":
            return _refused(reply)
        return Changed("done", STATES[reply[1]], change.generation, int(reply[2]))

    async def retry(self, change: Change) -> Changed:
        """This runs again what failed or was cancelled, as a new run. Safe to repeat with the same `Change`."""
        spell, key = self._keys, change.key
        keys = [spell.stream, spell.meta, spell.run(key), spell.payload(key), spell.outcome(key, change.generation)]
        reply = await self._persist(lambda: self._script("retry", keys, self._ttl_ms, key, change.generation, change.token), SCHEDULE_PATIENCE)
        if reply[0] != b"created":
            return _refused(reply)
        return Changed("done", STATES[reply[2]], reply[1], int(reply[3]))


def _refused(reply: Any) -> Changed:
    return Changed(reply[0].decode(), STATES[reply[1]] if len(reply) > 1 else None)


def _claimed(delivery: Delivery, reply: Any) -> Claimed | Refused:
    if reply[0] != b"claimed":
        return Refused(delivery.key, delivery.generation, b": ".join(reply if reply[0] == b"error" else reply[1:]).decode("utf-8", "replace"))
    _, number, function, payload, large, when, started, attempt, crashes, trace, origin = reply
    first_when, first_started = map(int, origin.split()) if origin else (None, None)
    return Claimed(
        run=RunId(delivery.key, delivery.generation, number),
        message_id=delivery.message_id,
        function=function.decode("utf-8", "replace"),
        payload=payload,
        large_payload=large == b"1",
        when_us=int(when),
        started_us=int(started),
        attempt=int(attempt),
        crashes=int(crashes),
        trace=trace,
        limit=delivery.limit,
        first_when_us=first_when,
        first_started_us=first_started,
    )


def _settled(reply: Any, settlement: Settlement, in_doubt: bool) -> ExecutionState | None:
    if reply[0] == b"settled":
        return STATES[reply[1]]
    if reply[0] == b"gone" and in_doubt and settlement.again is None:
        return settlement.outcome.state  # with nothing kept, a repeat after a lost reply finds nothing
    return None
