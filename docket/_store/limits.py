"""Limits: admitting claimed runs, and keeping or freeing the places they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docket._redis.batcher import BATCH_ITEMS, Batcher
from docket._store.base import Base, chunks
from docket._store.records import Admission, Applicant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend
    from docket._store.records import RunId

__all__ = ["LimitsStore"]


class LimitsStore(Base):
    """This holds runs back and lets them through."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        super().__init__(backend, keys)
        self._applicants: Batcher[Applicant, Admission] = Batcher("admit", self._admit_batch)

    def services(self) -> tuple[Any, ...]:
        """This names what has to run for calls to be answered."""
        return (self._applicants.run,)

    async def admit(self, applicant: Applicant) -> Admission:
        """This lets a claimed run through all its limits, or sets it aside; together with whatever else asks at this moment. Safe to repeat."""
        return await self._applicants.submit(applicant)

    async def _admit_batch(self, applicants: Sequence[Applicant]) -> list[Admission | Exception]:
        spell = self._keys
        keys = [spell.stream, spell.queue, spell.meta, spell.waiting]
        args: list[Any] = [spell.group, spell.wake]
        for applicant in applicants:
            run = applicant.run
            keys.append(spell.run(run.key))
            args += (applicant.message_id, run.key, run.generation, run.delivery, applicant.lease_us, len(applicant.requirements))
            for requirement in applicant.requirements:
                if requirement.kind == "concurrency":
                    keys += spell.concurrency(requirement.identity)
                elif requirement.kind == "rate":
                    keys += spell.rate(requirement.identity)
                else:
                    keys.append(spell.limit(requirement.kind, requirement.identity))
                args += (requirement.kind, requirement.identity, requirement.a, requirement.b, requirement.c)
        replies = await self._persist(lambda: self._script("admit", keys, *args), None)
        return [self._failure(reply) or Admission(*(word.decode() for word in reply)) for reply in replies]

    def holder(self, identity: str, run: RunId) -> int | str:
        """This is the name under which a run holds a place under a limit."""
        return run.generation

    async def hold(self, places: Sequence[tuple[str, int | str]], lease_us: int) -> None:
        """This keeps places that running tasks hold: pairs of a concurrency limit's identity and a holder."""
        for part in chunks(places, BATCH_ITEMS):
            keys = [self._keys.concurrency(identity)[0] for identity, _ in part]
            await self._script("hold", keys, lease_us, *(holder for _, holder in part))

    async def sweep(self, before_us: int) -> int:
        """This looks after limits that somebody waits for and that nobody has looked at since that moment, at most 200. It answers how many."""
        waiting = await self._backend.call("ZRANGEBYSCORE", self._keys.waiting, "-inf", before_us, "LIMIT", 0, BATCH_ITEMS)
        identities = [identity.decode() for identity in waiting]
        if identities:
            keys = [self._keys.stream, self._keys.waiting, *(key for identity in identities for key in self._keys.concurrency(identity))]
            await self._script("sweep", keys, *identities)
        return len(identities)
