"""Reads the shards of a divided docket, fairly. What is done with what was read is `_intake`'s business.

Each shard has a reader of its own, because a command that blocks can read in one shard only. They share the worker's free slots:

* A shard that had work is read without blocking, for its share of the slots that are free then, and nobody else reads for these. When slots are few, shards
  take turns: who has waited longest is next.
* A shard that had none is waited for with a read that blocks, for one entry, and without a slot: an idle docket is not polled, and a shard without work
  keeps nothing from the others. So an entry may come while all slots are taken. It waits for a moment, and then goes back to the others, unclaimed;
  that shard is not waited for again until a slot is free. A worker so has at most one such entry a shard.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from docket._store.shards import ShardedLimits
from docket._worker._intake import BLOCK_MS, Intake
from docket.errors import DocketError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from docket._store.records import Delivery, Refused
    from docket._store.shard import Shard
    from docket._worker._crew import Crew
    from docket._worker._report import Report
    from docket._worker._runs import Runs
    from docket.errors import RedisUnavailable

__all__ = ["Intakes", "Slots", "intake_of"]

logger = logging.getLogger("docket.worker")

PATIENCE = 0.025
"""Seconds for which an entry that came while all slots were taken waits for one, before it goes to the other workers."""


def intake_of(crew: Crew, runs: Runs, report: Report, finished: Callable[..., Awaitable[bool]] | None) -> Intake | Intakes:
    """This is what reads for a worker."""
    return Intake(crew, runs, report, finished) if len(crew.store.shards) == 1 else Intakes(crew, runs, report, finished)


class Slots:
    """This shares out a worker's free slots among those who read."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._promised = 0
        """Slots that somebody reads for at this moment."""
        self._waiting: dict[object, int] = {}
        """Who waits for slots, and when their last turn was."""
        self._turns: dict[object, int] = {}
        self._turn = 0

    @property
    def free(self) -> int:
        """This is how many may still be read for."""
        return self._runs.free - self._promised

    async def share(self, reader: object, most: int) -> int:
        """This waits for a reader's turn, which is that of who had theirs longest ago, and promises it its part of the slots that are free."""
        waiting = self._waiting
        waiting[reader] = self._turns.get(reader, 0)
        try:
            await asyncio.sleep(0)  # for those who want a turn as well, and are about to say so
            while self.free <= 0 or min(waiting, key=waiting.__getitem__) is not reader:
                await self._runs.changed()
            # Those that have had theirs since leave what is free to those that have not
            count = min(most, -(-self.free // sum([turn <= waiting[reader] for turn in waiting.values()])))
        finally:
            del waiting[reader]
            self._runs.look_again()  # it may be the next one's turn
        self._promised += count
        self._turn += 1
        self._turns[reader] = self._turn
        return count

    def forget(self, reader: object) -> None:
        """This learns that a reader found no work: when it finds some again, it has not had a turn for long."""
        self._turns.pop(reader, None)

    def give_back(self, count: int) -> None:
        """This ends a promise: what was found has been reserved by now."""
        self._promised -= count
        self._runs.look_again()


class ShardIntake(Intake):
    """This reads one shard of several."""

    def __init__(self, crew: Crew, runs: Runs, report: Report, finished: Callable[[], Awaitable[bool]] | None, shard: Shard, slots: Slots) -> None:
        super().__init__(crew, runs, report, finished, shard)
        assert isinstance(crew.store.limits, ShardedLimits)
        self._limits = crew.store.limits
        self._slots = slots
        self._had_work = True
        """Whether the last read found something, so that the next one need not wait."""

    async def _read(self, instance: str, patience_ms: int) -> list[Delivery]:
        if self._had_work:
            return await self._read_for_slots(instance)
        block_ms = BLOCK_MS if self._finished is None else patience_ms
        found = await self._read_some(instance, 1, max(1, min(block_ms, int(self._look_due() * 1000))))
        if found:
            self._had_work = True
            has_slot = self._slots.free > 0 or await self._slot_comes()
            if not has_slot:  # pragma: no branch - where the wait above was cut off, coverage loses the way on; see tests/shards/test_fairness.py
                await self._return(instance, found)
                return []
        return found

    async def _read_some(self, instance: str, count: int, block_ms: int | None) -> list[Delivery]:
        found: list[Delivery] = []
        with self._interruptible() as scope:
            found = await self._shard.delivery.read(self._reader, instance, count, block_ms)
        if scope.cancelled_caught:
            self._broke()
        return found

    async def _slot_comes(self) -> bool:
        with self._interruptible(), anyio.move_on_after(PATIENCE):
            while self._slots.free <= 0:
                await self._runs.changed()
        return self._slots.free > 0 and not self._stopping

    async def _read_for_slots(self, instance: str) -> list[Delivery]:
        found: list[Delivery] = []
        count = 0
        with self._interruptible():
            count = await self._slots.share(self, self._most)
        if not count:
            return found
        try:
            found = await self._read_some(instance, count, None)
            self._had_work = bool(found)
            if not found:
                self._slots.forget(self)
        finally:
            self._slots.give_back(count)  # the slots of what was found are reserved before anybody else is woken by this
        return found

    def _free(self) -> int:
        """Others may be reading for some at this moment."""
        return max(0, self._slots.free)

    async def _left_behind(self, instance: str) -> list[Delivery]:
        """Entries are named within their shard: others may have the same name."""
        here = {running.claimed.message_id for running in self._runs.running() if self._crew.store.shard_of(running.claimed.run.key) is self._shard}
        return await self._shard.delivery.pending(instance, beyond=here | self._claiming)

    async def _claim(self, instance: str, found: list[Delivery]) -> None:
        foreign = [entry for entry in found if self._limits.is_foreign(entry, self._shard)]
        if not foreign:
            await super()._claim(instance, found)
            return
        self._runs.release(len(foreign))  # they tell of other shards' runs, and run nothing here
        async with anyio.create_task_group() as both:
            both.start_soon(self._forward, foreign)
            if ours := [entry for entry in found if entry not in foreign]:
                await super()._claim(instance, ours)

    async def _forward(self, foreign: list[Delivery]) -> None:
        """Takes word that runs were let in to their shards."""
        try:
            await self._limits.forward_all(self._shard, foreign)
        except DocketError as exc:
            logger.warning("Runs that were let in could not be told of, and will be: %s", exc, extra=self._crew.labels)
            await self._cool_down()
        finally:
            self._claiming -= {entry.message_id for entry in foreign}

    async def _return(self, instance: str, entries: list[Delivery]) -> None:
        await super()._return(instance, await self._limits.forward_all(self._shard, entries))

    async def _refused(self, delivery: Delivery, answer: Refused) -> None:
        await super()._refused(delivery, answer)
        # A run that was taken back waits under another entry, and so does its place
        if delivery.limit and answer.reason not in ("running", "taken back") and self._limits.is_elsewhere(delivery.limit, self._shard):
            await self._limits.left(delivery.limit, delivery.key, delivery.generation)


class Intakes:
    """This reads all shards, for as long as none of the readers has come to its end."""

    def __init__(self, crew: Crew, runs: Runs, report: Report, finished: Callable[[Callable[[], bool]], Awaitable[bool]] | None) -> None:
        slots = Slots(runs)
        self._runs = runs

        async def reached() -> bool:
            before = runs.reservations
            assert finished is not None
            # What the other readers fetch meanwhile may move on unseen while this looks
            return await finished(lambda: runs.idle and runs.reservations == before)

        # One of them looks whether anything is left in any shard
        self._all = [ShardIntake(crew, runs, report, None if shard.index or finished is None else reached, shard, slots) for shard in crew.store.shards]

    @property
    def has_begun(self) -> bool:
        """Whether fetching has begun."""
        return all(intake.has_begun for intake in self._all)

    @property
    def trouble(self) -> str | None:
        """This says in words why nothing can be fetched and run now; None while something can. Any thread may ask."""
        troubles = [intake.trouble for intake in self._all]
        return troubles[0] if all(troubles) else None

    def stop(self) -> None:
        """This ends `run` as soon as what was fetched is claimed."""
        for intake in self._all:
            intake.stop()

    def interrupt(self) -> None:
        """This ends the present reads, because they are done under an identity that no longer counts."""
        for intake in self._all:
            intake.interrupt()

    async def run(self) -> None:
        """This fetches until told to stop, or until nothing is left if that was what was wanted."""

        async def serve(intake: ShardIntake) -> None:
            await intake.run()
            self.stop()

        async with anyio.create_task_group() as group:
            for intake in self._all:
                group.start_soon(serve, intake)

    async def wait_out(self, exc: RedisUnavailable, failures: int = 0) -> None:
        """This waits until Redis may be back, or until told to stop."""
        await self._all[0].wait_out(exc, failures)
