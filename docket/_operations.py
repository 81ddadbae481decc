"""Looking at a docket as a whole, and clearing it: what stands behind the methods of `Docket` that an operator calls."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from docket import instrumentation
from docket._clock import from_us
from docket._listing import FUTURE, RUNNING, Cursor, Wanted, check_count, dumps_cursor, execution_of, loads_cursor, read_page
from docket._redis.batcher import BATCH_ITEMS
from docket._snapshot import Counts, DocketSnapshot, RunningExecution, WorkerInfo
from docket.states import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docket.docket import Docket
    from docket.execution import Execution

__all__ = ["CLEAR_BATCH", "Operations"]

CLEAR_BATCH = BATCH_ITEMS
"""Runs that are cancelled in one step when a docket is cleared."""

_NOT_BEGUN = Wanted(states=(ExecutionState.SCHEDULED, ExecutionState.QUEUED))
_BEGUN = Wanted(states=(ExecutionState.RUNNING,))


class Operations:
    """This looks at one docket."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket

    async def get_execution(self, key: str) -> Execution[Any] | None:
        """This reads one; see `Docket.get_execution`."""
        record = await self._docket.store.inspection.load(key)
        return None if record is None else execution_of(self._docket, record)

    async def counts(self) -> Counts:
        """This counts; see `Docket.counts`."""
        return await self._docket.store.inspection.counts(await self._now_us())

    async def workers(self) -> list[WorkerInfo]:
        """This lists who is alive; see `Docket.workers`."""
        docket = self._docket
        silence = docket.heartbeat_interval * docket.missed_heartbeats
        live = await docket.store.workers.live(since_us=await self._now_us() - silence // timedelta(microseconds=1))
        return [WorkerInfo(worker.name, from_us(worker.last_seen_us), set(worker.tasks)) for worker in live]

    async def clear(self) -> int:
        """This cancels what has not begun; see `Docket.clear`."""
        docket, labels = self._docket, self._docket.labels()
        with instrumentation.span("docket.clear", labels):
            cleared = await docket.store.clearing.clear()
        if cleared:
            instrumentation.TASKS_CANCELLED.add(cleared, labels)
        return cleared

    async def snapshot(self, limit: int, after: str | None) -> DocketSnapshot:
        """This looks at everything at once; see `Docket.snapshot`."""
        check_count("limit", limit, None)
        cursors = [(FUTURE[0], None), (RUNNING[0], None)] if after is None else loads_cursor(after, FUTURE, RUNNING)
        taken = from_us(await self._now_us())
        (future, future_on), counts, workers = await asyncio.gather(self._page(FUTURE, _NOT_BEGUN, cursors[0], limit), self.counts(), self.workers())
        # After the future, so that what begins meanwhile comes twice rather than not at all; and then it has begun.
        running, running_on = await self._page(RUNNING, _BEGUN, cursors[1], limit)
        begun = {(each.key, each.generation) for each in running}
        future = [each for each in future if (each.key, each.generation) not in begun]
        is_all = future_on is None and running_on is None
        return DocketSnapshot(
            taken,
            counts.live,
            future,
            [RunningExecution(each, each.worker or "", each.started_at or taken) for each in running],
            workers,
            None if is_all else dumps_cursor([future_on, running_on]),
        )

    async def _now_us(self) -> int:
        """The time by the clock of the scripts, which wrote every moment that is read here."""
        docket = self._docket
        return docket.clock.now_us() if docket.store.is_memory else await docket.store.inspection.server_now_us()

    async def _page(self, where: Sequence[str], wanted: Wanted, cursor: Cursor | None, size: int) -> tuple[list[Execution[Any]], Cursor | None]:
        """Gives a page of a listing, or nothing more of one that has come to its end."""
        if cursor is None:
            return [], None
        records, onward = await read_page(self._docket.store.listing, where, wanted, cursor, size)
        return [execution_of(self._docket, record) for record in records], onward
