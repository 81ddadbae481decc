"""Reads new messages for free slots and claims them. Running them is `_run`'s business."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from docket import instrumentation
from docket._redis.batcher import BATCH_ITEMS
from docket._redis.wire import backoff
from docket._store.records import Claimed, Refused
from docket.errors import DocketError, RedisUnavailable, ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from anyio.abc import TaskGroup

    from docket._store.records import Delivery
    from docket._store.shard import Shard
    from docket._worker._crew import Crew
    from docket._worker._report import Report
    from docket._worker._runs import Runs

__all__ = ["Intake"]

logger = logging.getLogger("docket.worker")

BLOCK_MS = 5000
"""How long one read waits for entries. New ones, a stop and a lost lease end it at once; this is only a sign of life."""

SHORTEST_PAUSE_MS = 10
"""How long the first read waits where the worker wants to know soon whether nothing is left; the next ones wait longer."""

STRAY_SECONDS = BLOCK_MS / 1000 + 1
"""For how long a server that does not know of a lost connection may go on handing entries to the read that was under way there."""

STRAY_LOOKS = 1.0
"""Seconds between looks for such entries."""

LEAST_BATCH = 8
"""Below this, smaller reads that overlap cost more round trips than they save."""


class Intake:
    """This fetches as much as there are free slots, at most half of all in one read, and claims what one read brought in one call.

    The claim of one batch and the read of the next overlap, so that the server and this process work at the same time.
    """

    def __init__(self, crew: Crew, runs: Runs, report: Report, finished: Callable[[], Awaitable[bool]] | None, shard: Shard | None = None) -> None:
        self._crew = crew
        self._shard = crew.store.shards[0] if shard is None else shard
        self._runs = runs
        self._finished = finished
        concurrency = crew.options.concurrency
        # in process there is nobody to overlap with
        self._most = min(crew.options.message_batch, BATCH_ITEMS, concurrency if crew.store.is_memory else max(LEAST_BATCH, (concurrency + 1) // 2))
        self._reader = self._shard.delivery.reader()
        self._report = report
        self._reading: anyio.CancelScope | None = None
        self._claiming: set[bytes] = set()
        self._stopping = False
        self._told = anyio.Event()
        """Set when it was told to stop."""
        self._refusals = 0
        """How many claims in a row were refused whole."""
        self._unsure = False
        """A read or a claim was cancelled or broke: entries may be pending with us that we do not know of."""
        self._loop = asyncio.get_running_loop()
        self._strays_until = self._looked_at = self._loop.time()
        """Until when a read that broke may be handed entries, and when it was last looked for any that are pending with us."""
        self._groupless = False
        """The consumer group went, and is to be made again."""
        self.has_begun = False
        """Whether fetching has begun."""
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """This says in words why nothing can be fetched and run now; None while it can. Any thread may ask."""
        return self._trouble or self._crew.store.strikes.trouble

    def stop(self) -> None:
        """This ends `run` as soon as what was fetched is claimed."""
        self._stopping = True
        self._told.set()
        self.interrupt()

    def interrupt(self) -> None:
        """This ends the present read, because it is done under an identity that no longer counts."""
        if self._reading is not None:
            self._reading.cancel()

    async def run(self) -> None:
        """This fetches until told to stop, or until nothing is left if that was what was wanted."""
        try:
            async with anyio.create_task_group() as claims:
                await self._fetch_until_done(claims)
        finally:
            with anyio.CancelScope(shield=True):
                await self._give_back()
                await self._reader.aclose()

    async def _fetch_until_done(self, claims: TaskGroup) -> None:
        failures, patience_ms = 0, SHORTEST_PAUSE_MS
        self.has_begun = True
        instrumentation.REDIS_DISRUPTIONS.add(
            0, self._crew.worker.labels()
        )  # a counter begins with its first value: else nobody could see the first disruption
        while not self._stopping:
            with self._interruptible():
                await self._runs.slot()
            if self._stopping or self._runs.free <= 0:  # it was interrupted; a read of no entries at most would be one of all there are
                continue
            instance = self._crew.instance
            try:
                found = await (self._find_again(instance) if self._unsure or self._look_due() <= 0 else self._read(instance, patience_ms))
                if not found and self._finished is not None and self._runs.idle and not self._unsure and await self._finished():
                    return
            except RedisUnavailable as exc:
                self._trouble = str(exc)
                self._broke()
                await self.wait_out(exc, failures)
                failures += 1
                continue
            except ServerError as exc:
                self._unsure, self._trouble = True, str(exc)
                await self._note(exc, failures)
                failures += 1
                continue
            failures, self._trouble = 0, None
            if not found:
                patience_ms = min(patience_ms * 2, int(self._crew.options.minimum_check_interval.total_seconds() * 1000))
                continue
            patience_ms = SHORTEST_PAUSE_MS
            self._runs.reserve(len(found))
            self._claiming |= {entry.message_id for entry in found}
            claims.start_soon(self._claim, instance, found)

    async def _read(self, instance: str, patience_ms: int) -> list[Delivery]:
        block_ms = BLOCK_MS if self._finished is None else patience_ms
        block_ms = max(1, min(block_ms, int(self._look_due() * 1000)))
        found: list[Delivery] = []
        with self._interruptible() as scope:
            found = await self._shard.delivery.read(self._reader, instance, min(self._runs.free, self._most), block_ms)
        if scope.cancelled_caught:
            self._broke()
        return found

    def _broke(self) -> None:
        """Notes that a read may have been handed entries, or may yet be: a connection that is lost here may stand for a while on the server."""
        self._unsure = True
        self._strays_until = self._loop.time() + STRAY_SECONDS

    def _look_due(self) -> float:
        """The seconds until it is time to look for entries that are pending with us and that we do not know of: soon after a read broke, and once a lease in any case."""
        pause = STRAY_LOOKS if self._looked_at < self._strays_until else self._crew.lease_seconds
        return self._looked_at + pause - self._loop.time()

    async def _find_again(self, instance: str) -> list[Delivery]:
        """What a broken read or claim left with us."""
        if self._groupless:
            await self._shard.delivery.ensure_group()
            self._groupless = False
        self._unsure, self._looked_at = False, self._loop.time()  # first: a claim that breaks meanwhile says so again
        found = await self._left_behind(instance)
        count = self._free()
        self._unsure = self._unsure or len(found) > count
        if found:
            logger.debug("Found %d entries that a broken read had left", len(found), extra=self._crew.labels)
        return found[:count]

    def _free(self) -> int:
        """How many slots there are for what is found again."""
        return self._runs.free

    async def _left_behind(self, instance: str) -> list[Delivery]:
        return await self._shard.delivery.pending(instance, beyond=self._runs.messages() | self._claiming)

    @contextmanager
    def _interruptible(self) -> Generator[anyio.CancelScope, None, None]:
        """What happens in here, `stop` and `interrupt` cut short."""
        with anyio.CancelScope() as scope:
            self._reading = scope
            try:
                yield scope
            finally:
                self._reading = None

    async def _return(self, instance: str, entries: list[Delivery]) -> None:
        await self._shard.delivery.reclaim(instance, entries, own=True)

    async def _claim(self, instance: str, found: list[Delivery]) -> None:
        """Claims for the instance that fetched. Under another, whoever takes over what the one held would not see that a run is under way."""
        crew = self._crew
        try:
            answers = await self._shard.lifecycle.claim(instance, found, wanted=lambda: not self._stopping)
            if instance != crew.instance:  # the lease was lost meanwhile: what was claimed under it is for whoever takes it over
                return
            refused: list[tuple[Delivery, Refused]] = []
            for delivery, answer in zip(found, answers, strict=True):
                if isinstance(answer, Claimed):
                    self._runs.start(answer)
                else:
                    refused.append((delivery, answer))
            self._refusals = 0
            for delivery, answer in refused:  # last: it may take a while
                await self._refused(delivery, answer)
        except DocketError as exc:
            self._unsure = True
            logger.warning("Claiming %d entries failed; they are looked for again: %s", len(found), exc, extra=crew.labels)
            await self._cool_down()  # the slots stay taken meanwhile: the next claim would go no better
        finally:
            self._claiming -= {entry.message_id for entry in found}
            self._runs.release(len(found))

    async def _cool_down(self) -> None:
        """Waits after a refusal, unless told to stop, and has what was refused looked for again."""
        with anyio.move_on_after(backoff(self._refusals) + 1):
            self._refusals += 1
            await self._told.wait()
        self._unsure = True  # whoever looked meanwhile has passed these over
        self.interrupt()

    async def _refused(self, delivery: Delivery, answer: Refused) -> None:
        self._report.refused(answer.key, answer.reason)

    async def wait_out(self, exc: RedisUnavailable, failures: int = 0) -> None:
        """This waits until Redis may be back, or until told to stop."""
        if self._stopping:
            return
        delay = self._crew.options.reconnection_delay
        if failures == 0:
            instrumentation.REDIS_DISRUPTIONS.add(1, self._crew.worker.labels())
            logger.warning("Redis is unavailable, retrying in %s...", delay, extra=self._crew.labels, exc_info=exc)
        with self._interruptible():
            await anyio.sleep(backoff(failures, delay.total_seconds()))
            await self._shard.backend.available(delay.total_seconds())

    async def _note(self, exc: ServerError, failures: int) -> None:
        """Says why a read was refused, and waits before the next where that may help."""
        if "NOGROUP" in str(exc):
            logger.warning("The consumer group of docket %r is gone; making it again", self._crew.docket.name, extra=self._crew.labels)
            self._groupless = True
            return
        logger.error("Reading new work failed and will be tried again: %s", exc, extra=self._crew.labels)
        with self._interruptible():
            await anyio.sleep(backoff(failures) + 1)

    async def _give_back(self) -> None:
        """Entries fetched and never claimed go back to the others at once. If Redis is away now, they go back when the lease lapses."""
        crew, instance = self._crew, self._crew.instance
        if not self._unsure:
            return
        looks = 0
        try:
            # Twice: the server may come upon our closed connection only after the first question, and hands it what is added until then
            while looks < 2:
                entries = await self._left_behind(instance)
                if entries:
                    await self._return(instance, entries)
                looks = 0 if entries else looks + 1
        except DocketError as exc:
            logger.warning("Could not give back what was fetched last; others take it over when the lease lapses: %s", exc, extra=crew.labels)
