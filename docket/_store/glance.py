"""Looks at a docket every few seconds, for as few commands as it takes: what runs longest, who runs how much, what waits longest, what failed last.

Listings that tell more, and at more cost, are `listing`'s business.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from docket._store.base import Base, as_dict, number, text
from docket._store.inspection import DEFAULT_TOTAL, worker_name
from docket._store.records import Beat, Failure, ProgressChange, Underway
from docket.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docket._keys import Keys
    from docket._redis.backend import Backend
    from docket._store.letters import Letters
    from docket._store.listing import Listing
    from docket._store.records import Delivery, Letter

__all__ = ["Glance"]

_MOST_TEXT = 200
_MOST_WORKERS = 1000


class Glance(Base):
    """This takes a look, whose work its caller bounds, and changes nothing."""

    def __init__(self, backend: Backend, keys: Keys, listing: Listing, letters: Letters) -> None:
        super().__init__(backend, keys)
        self._listing = listing
        self._letters = letters

    async def underway(self, count: int) -> list[Underway]:
        """This lists what runs, of the first so many entries of the stream: those that became ready first. Longest running first."""
        entries = await self._listing.entries(None, count)
        replies = await asyncio.gather(*(self._read("HGETALL", self._keys.run(entry.key)) for entry in entries))
        found = [_underway(entry, as_dict(flat)) for entry, flat in zip(entries, replies, strict=True)]
        return sorted((run for run in found if run is not None), key=lambda run: (run.started_us, run.key))

    async def ready_since_us(self) -> int | None:
        """This tells since when the oldest entry has been ready that no worker has fetched; None when there is none."""
        last = await self._listing.fetched_up_to()
        waiting = await self._listing.entries(None if last is None else f"{last[0]}-{last[1]}", 1)
        return int(waiting[0].message_id.partition(b"-")[0]) * 1000 if waiting else None

    async def next_due_us(self) -> int | None:
        """This tells when the first of what is scheduled is due; None when nothing is."""
        head = await self._read("ZRANGE", self._keys.queue, 0, 0, "WITHSCORES")
        return int(float(head[1])) if head else None

    async def held(self) -> dict[str, int]:
        """This tells how many runs each worker instance holds; those that hold none are left out."""
        try:
            pending = await self._read("XPENDING", self._keys.stream, self._keys.group)
        except ServerError as exc:
            if "NOGROUP" not in str(exc):
                raise
            return {}  # no worker has been here yet
        return {instance.decode(): int(held) for instance, held in pending[3] or ()}

    async def beats(self, since_us: int) -> list[Beat]:
        """This lists worker instances heard of since that moment, at most 1,000, in order of their names."""
        lead_us = self._backend.lead_us()
        flat = await self._read("ZRANGEBYSCORE", self._keys.workers, since_us - lead_us, "+inf", "WITHSCORES", "LIMIT", 0, _MOST_WORKERS)
        instances = [(instance.decode(), int(float(score)) + lead_us) for instance, score in zip(flat[::2], flat[1::2], strict=True)]
        return sorted(Beat(worker_name(instance) or instance, instance, seen) for instance, seen in instances)

    async def tasks_of(self, instance: str) -> frozenset[str]:
        """This tells which tasks a worker instance knows."""
        known = await self._read("HGET", self._keys.worker(instance), "tasks")
        return frozenset(json.loads(known or b"[]"))

    async def failures(self, count: int) -> list[Failure]:
        """This lists the runs that failed for good last, of which there still is a dead letter, the last of them first."""
        found = await self._letters.newest(None, count)
        letters = await self._letters.read([generation for _, generation in found], room=0)
        return [_failure(letter) for letter in letters if letter is not None]


def _underway(entry: Delivery, fields: Mapping[bytes, bytes]) -> Underway | None:
    if fields.get(b"state") != b"running" or fields.get(b"generation") != b"%d" % entry.generation:
        return None
    progress = None
    if b"updated_at" in fields:
        progress = ProgressChange(
            key=entry.key,
            generation=entry.generation,
            current=number(fields.get(b"current")),
            total=number(fields.get(b"total")) or DEFAULT_TOTAL,
            message=text(fields.get(b"note")),
            updated_us=number(fields[b"updated_at"]),
        )
    return Underway(
        key=entry.key,
        function=text(fields.get(b"function")) or "?",
        worker=worker_name(text(fields.get(b"worker"))) or "?",
        started_us=number(fields.get(b"started_at")) or 0,
        attempt=number(fields.get(b"attempt")) or 1,
        progress=progress,
    )


def _failure(letter: Letter) -> Failure:
    """In short: a screen has no room for more."""
    try:
        told = json.loads(letter.history[-1])
        worker, error = str(told["worker"]), str(told["error"])[:_MOST_TEXT]
    except (ValueError, TypeError, KeyError):  # written by somebody else
        worker = error = None
    return Failure(letter.key[:_MOST_TEXT], letter.function[:_MOST_TEXT] or "?", worker, letter.attempt, letter.died_us, error)
