"""Reading what is known of runs, changing nothing."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from docket._messages import loads_outcome
from docket._store.base import READ_PATIENCE, STATES, Base, as_dict, number, text
from docket._store.records import Counts, Earlier, Outcome, RunRecord
from docket.errors import ServerError
from docket.states import TERMINAL, ExecutionState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docket._keys import Keys
    from docket._redis.backend import Backend

__all__ = ["CONTENDED", "Inspection", "record_of", "worker_name"]

CONTENDED = 1000
"""Concurrency limits with a line before them that are looked at; those longest not looked after come first."""

DEFAULT_TOTAL = 100

_ASK_TIME_EVERY = 60.0
"""Seconds for which the server's clock and this process' are taken to go alike."""

_OF_AN_END = (b"state", b"generation", b"large", b"beside")
_TOTALS = ("completed", "failed", "cancelled", "retried")


class Inspection(Base):
    """This reads the records of runs."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        super().__init__(backend, keys)
        self._ahead_us = 0
        self._ask_at = -math.inf

    async def server_now_us(self) -> int:
        """This gives the server's time, which every moment in a record is of, whatever this machine's clock says. The server is asked once a minute."""
        now = asyncio.get_running_loop().time()
        if now >= self._ask_at:
            seconds, microseconds = await self._read("TIME")
            now = asyncio.get_running_loop().time()
            self._ahead_us = int(seconds) * 1_000_000 + int(microseconds) - int(now * 1e6)
            self._ask_at = now + _ASK_TIME_EVERY
        return self._ahead_us + int(now * 1e6)

    async def load(self, key: str) -> RunRecord | None:
        """This gives the record of a key; None when there is none (any more).

        Arguments and results that stand beside the record are read after it, and again for as long as the key moves on meanwhile.
        """
        fields = as_dict(await self._read("HGETALL", self._keys.run(key)))
        while b"state" in fields:
            generation = int(fields.get(b"generation", b"0"))
            payload, blob = fields.get(b"payload"), fields.get(b"outcome")
            if b"large" in fields or b"beside" in fields:
                payload_beside, blob_beside, flat = await asyncio.gather(
                    self._read("GET", self._keys.payload(key)),
                    self._read("GET", self._keys.outcome(key, generation)),
                    self._read("HGETALL", self._keys.run(key)),
                )
                now = as_dict(flat)
                if any(now.get(name) != fields.get(name) for name in _OF_AN_END):
                    fields = now
                    continue
                payload = payload_beside if b"large" in fields else payload
                blob = blob_beside if b"beside" in fields else blob
            return record_of(key, fields, payload, blob)
        return None

    async def look(self, key: str, channel: str, mark: int) -> RunRecord | None:
        """This gives the record of a key, without arguments that stand beside it, and publishes `mark` on `channel`.

        What is heard before the mark is older than what this gives, and what is heard after it is newer.
        """
        fields = as_dict(await self._persist(lambda: self._script("look", [self._keys.run(key)], channel, mark), READ_PATIENCE))
        if b"state" not in fields:
            return None
        blob = fields.get(b"outcome")
        if b"beside" in fields:
            blob = await self._read("GET", self._keys.outcome(key, int(fields[b"generation"])))
        return record_of(key, fields, fields.get(b"payload"), blob)

    async def outcome(self, key: str, generation: int) -> Outcome | None:
        """This tells how an earlier generation of a chain ended; None when that is not known (any more)."""
        blob = await self._read("GET", self._keys.outcome(key, generation))
        return None if blob is None else Outcome(*loads_outcome(blob))

    async def counts(self, now_us: int) -> Counts:
        """This counts runs: a few commands in one go, and one for each concurrency limit that somebody waits for (at most `CONTENDED`)."""
        call, spell = self._read, self._keys
        scheduled, overdue, entries, fetched, limits, totals, dead = await asyncio.gather(
            call("ZCARD", spell.queue),
            call("ZCOUNT", spell.queue, "-inf", now_us),
            call("XLEN", spell.stream),
            self._fetched(),
            call("ZRANGE", spell.waiting, 0, CONTENDED - 1),
            call("HGETALL", spell.meta),
            call("ZCARD", spell.dead),
        )
        lines = await asyncio.gather(*(call("ZCARD", spell.concurrency(identity.decode())[1]) for identity in limits))
        ended = as_dict(totals)
        return Counts(
            scheduled=scheduled,
            overdue=overdue,
            queued=max(entries - fetched, 0),
            running=fetched,
            waiting=sum(lines),
            dead_letters=dead,
            **{total: int(ended.get(total.encode(), b"0")) for total in _TOTALS},
        )

    async def _fetched(self) -> int:
        try:
            return (await self._read("XPENDING", self._keys.stream, self._keys.group))[0]
        except ServerError as exc:
            if "NOGROUP" not in str(exc):
                raise
            return 0  # no worker has been here yet


def record_of(key: str, fields: Mapping[bytes, bytes], payload: bytes | None, blob: bytes | None) -> RunRecord:
    """This makes a record of the fields of its hash, and of what may stand beside it. Raises `KeyError` or `ValueError` for what is no record."""
    state = STATES[fields[b"state"]]
    outcome = None
    if state in TERMINAL:
        outcome = Outcome(state) if blob is None else Outcome(*loads_outcome(blob))
    worker = text(fields.get(b"worker"))
    current = number(fields.get(b"current"))
    return RunRecord(
        key=key,
        state=state,
        generation=int(fields.get(b"generation", b"0")),
        delivery=int(fields.get(b"delivery", b"0")),
        function=fields.get(b"function", b"").decode("utf-8", "replace"),
        payload=payload,
        when_us=int(fields.get(b"when", b"0")),
        attempt=int(fields.get(b"attempt", b"1")),
        worker=worker_name(worker),
        started_us=number(fields.get(b"started_at")),
        completed_us=number(fields.get(b"completed_at")),
        error=outcome.error if outcome else text(fields.get(b"error")),
        outcome=outcome,
        trace=fields.get(b"trace", b""),
        crashes=int(fields.get(b"crashes", b"0")),
        progress_current=0 if current is None and b"started_at" in fields else current,
        progress_total=number(fields.get(b"total")) or DEFAULT_TOTAL,
        progress_message=text(fields.get(b"note")),
        progress_us=number(fields.get(b"updated_at")),
        successor=number(fields.get(b"next_generation")),
        earlier=_earlier(fields.get(b"earlier")),
    )


def _earlier(told: bytes | None) -> Earlier | None:
    if told is None:
        return None
    generation, word, completed = told.split(b" ")
    return Earlier(int(generation), STATES.get(word, ExecutionState.CANCELLED), word == b"replaced", number(completed))


def worker_name(instance: str | None) -> str | None:
    """This gives the name of a worker from the name of its instance, which has a random suffix: two workers may share a name."""
    return instance.rpartition("~")[0] if instance else None
