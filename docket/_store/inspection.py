"""Reading what is known of runs, changing nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from docket._messages import loads_outcome
from docket._store.base import STATES, Base, as_dict, number, text
from docket._store.records import Outcome, RunRecord
from docket.states import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Inspection"]

DEFAULT_TOTAL = 100

READ_PATIENCE = 5.0
"""Seconds for which reading is tried again through an outage, before the caller learns of it."""


class Inspection(Base):
    """This reads the records of runs."""

    async def _read(self, *command: Any) -> Any:
        """Reading may be repeated as one likes, so whoever waits for a task's end need not learn of every hiccup."""
        return await self._persist(lambda: self._backend.call(*command), READ_PATIENCE)

    async def load(self, key: str) -> RunRecord | None:
        """This gives the record of a key; None when there is none (any more)."""
        fields = as_dict(await self._read("HGETALL", self._keys.run(key)))
        if b"state" not in fields:
            return None
        payload, blob = fields.get(b"payload"), fields.get(b"outcome")
        generation = int(fields.get(b"generation", b"0"))
        if b"large" in fields or b"beside" in fields:
            payload_beside, blob_beside = await asyncio.gather(
                self._read("GET", self._keys.payload(key)), self._read("GET", self._keys.outcome(key, generation))
            )
            payload = payload_beside if b"large" in fields else payload
            blob = blob_beside if b"beside" in fields else blob
        return _record(key, generation, fields, payload, blob)

    async def outcome(self, key: str, generation: int) -> Outcome | None:
        """This tells how an earlier generation of a chain ended; None when that is not known (any more)."""
        blob = await self._read("GET", self._keys.outcome(key, generation))
        return None if blob is None else Outcome(*loads_outcome(blob))


def _record(key: str, generation: int, fields: Mapping[bytes, bytes], payload: bytes | None, blob: bytes | None) -> RunRecord:
    state = STATES[fields[b"state"]]
    outcome = None
    if state in TERMINAL:
        outcome = Outcome(state) if blob is None else Outcome(*loads_outcome(blob))
    worker = text(fields.get(b"worker"))
    current = number(fields.get(b"current"))
    return RunRecord(
        key=key,
        state=state,
        generation=generation,
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
    )


def worker_name(instance: str | None) -> str | None:
    """This gives the name of a worker from the name of its instance, which has a random suffix: two workers may share a name."""
    return instance.rpartition("~")[0] if instance else None
