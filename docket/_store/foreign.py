"""Limits whose shard is not that of the run: what is asked there, and what is then done with the run in its own shard. Two scripts, where one shard needs one.

Between the two a worker may die. So the limit is asked first: a place or a turn in line that a run has there, and does not know of, is found again when it
asks anew, or lapses. Let in, a run is announced in the stream of the limit's shard, which like any other is read until somebody has acknowledged it,
and whoever reads that puts the run into its own. What is lost all the same is found by `sweep`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docket._redis.batcher import BATCH_ITEMS, Batcher
from docket._store.base import Base
from docket._store.records import Applicant, Delivery, Requirement, RunId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend

__all__ = ["Asked", "ForeignLimits", "Given"]

Asked = tuple[Applicant, str, str]
"""A run before limits of this shard, and whether its record says `quiet` and `first`."""

Given = tuple[RunId, Requirement]
"""What a run gives up."""


class ForeignLimits(Base):
    """This is one shard towards the others: its limits for their runs, and its runs before their limits."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        super().__init__(backend, keys)
        self._asked: Batcher[Asked, tuple[str, str, str]] = Batcher("ask", self._ask_batch)
        self._given: Batcher[Given, bool] = Batcher("forgo", self._forgo_batch)

    def services(self) -> tuple[Any, ...]:
        """This names what has to run for calls to be answered."""
        return (self._asked.run, self._given.run)

    # In the limit's shard

    async def ask(self, applicant: Applicant, quiet: str, first: str) -> tuple[str, str, str]:
        """This asks limits of this shard: a word (admitted, parked, later, dropped), a detail, and what the run's record is to say. Safe to repeat."""
        return await self._asked.submit((applicant, quiet, first))

    async def _ask_batch(self, asked: Sequence[Asked]) -> list[tuple[str, str, str] | Exception]:
        spell = self._keys
        keys = [spell.stream, spell.queue, spell.meta, spell.waiting]
        args: list[Any] = [spell.group, spell.wake]
        for applicant, quiet, first in asked:
            run = applicant.run
            args += (run.key, run.generation, run.delivery, applicant.lease_us, quiet, first, len(applicant.requirements))
            for requirement in applicant.requirements:
                keys += self._keys_of(requirement)
                args += (requirement.kind, requirement.identity, requirement.a, requirement.b, requirement.c)
        replies = await self._persist(lambda: self._script("ask", keys, *args), None)
        return [self._failure(reply) or (reply[0].decode(), reply[1].decode(), reply[2].decode()) for reply in replies]

    async def forgo(self, run: RunId, requirements: Sequence[Requirement]) -> None:
        """This gives up what a run has under limits of this shard, and lets in whoever waits for that. Safe to repeat."""
        for requirement in requirements:
            await self._given.submit((run, requirement))

    async def _forgo_batch(self, given: Sequence[Given]) -> list[bool | Exception]:
        keys = [self._keys.stream, self._keys.waiting]
        args: list[Any] = []
        for run, requirement in given:
            keys += self._keys_of(requirement)
            args += (run.key, run.generation, run.delivery, requirement.kind, requirement.identity)
        replies = await self._persist(lambda: self._script("forgo", keys, *args), None)
        return [self._failure(reply) or True for reply in replies]

    def _keys_of(self, requirement: Requirement) -> Sequence[str]:
        if requirement.kind == "concurrency":
            return self._keys.concurrency(requirement.identity)
        if requirement.kind == "rate":
            return self._keys.rate(requirement.identity)
        return (self._keys.limit(requirement.kind, requirement.identity),)

    async def knows(self, identity: str, key: str, generation: int) -> bool:
        """This says whether a run stands in a limit's line."""
        _, waiters, _ = self._keys.concurrency(identity)
        return await self._backend.call("ZSCORE", waiters, f"{generation}|{key}") is not None

    async def done_with(self, entry: Delivery) -> None:
        """This acknowledges word that a run of another shard was let in."""
        # Deleted first: acknowledged first, it would stay for ever where the other is lost
        await self._backend.call("XDEL", self._keys.stream, entry.message_id)
        await self._backend.call("XACK", self._keys.stream, self._keys.group, entry.message_id)

    # In the run's shard

    async def flags(self, key: str) -> tuple[str, str]:
        """This reads what the record of a run says of a debounce: `quiet` and `first`."""
        quiet, first = [await self._backend.call("HGET", self._keys.run(key), field) for field in ("quiet", "first")]
        return (quiet or b"").decode(), (first or b"").decode()

    async def set_aside(self, applicant: Applicant, word: str, detail: str, marks: str) -> str:
        """This does with a run what a limit has said, and answers `aside`, `admitted`, or `superseded` or `cancelled`: then it is still claimed. Safe to repeat."""
        run, spell = applicant.run, self._keys
        keys = [spell.stream, spell.queue, spell.run(run.key), spell.away]
        args = (spell.group, spell.wake, applicant.message_id, run.key, run.generation, run.delivery, word, detail, marks)
        [answer] = await self._persist(lambda: self._script("aside", keys, *args), None)
        return answer.decode()

    async def enter(self, key: str, generation: int, identity: str) -> str:
        """This makes a run ready that was let in: `entered`, `running` or `gone`. Safe to repeat."""
        keys = [self._keys.stream, self._keys.run(key), self._keys.away]
        [answer] = await self._script("enter", keys, key, generation, identity)
        return answer.decode()

    async def back(self, key: str) -> None:
        """This notes that a run waits no longer."""
        await self._backend.call("ZREM", self._keys.away, key)

    async def away(self, before_us: int) -> list[tuple[str, int, str]]:
        """This names runs that wait and that nobody has looked at since that moment: key, generation and limit; at most 200. Those that wait no longer are forgotten."""
        found: list[tuple[str, int, str]] = []
        for member in await self._backend.call("ZRANGEBYSCORE", self._keys.away, "-inf", before_us, "LIMIT", 0, BATCH_ITEMS):
            key = member.decode()
            generation, parked = [await self._backend.call("HGET", self._keys.run(key), field) for field in ("generation", "parked")]
            if parked is None:
                await self.back(key)
            else:
                found.append((key, int(generation), parked.decode()))
        return found

    async def looked_at(self, key: str, now_us: int) -> None:
        """This notes that a run was found waiting."""
        await self._backend.call("ZADD", self._keys.away, now_us, key)
