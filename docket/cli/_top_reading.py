"""What `docket top` shows, as values: one look at a docket, and how its totals have moved. Showing it is `_top_frame`'s business.

A look is to cost a busy server next to nothing: some ten commands, and one for each running task that is shown.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from docket._clock import from_us
from docket.cli._server_time import server_now_us

if TYPE_CHECKING:
    from docket._store.records import Beat, Counts, Failure, Underway
    from docket.docket import Docket

__all__ = ["RATES", "Collector", "History", "Reading", "WorkerRow", "as_object"]

RATES = ("completed", "failed", "retried", "cancelled")

_RATE_OVER_US = 10_000_000
"""A rate is that of the last ten seconds: a longer time hides what happens now, and a shorter one jumps."""

_KEPT = 240
"""Looks that are remembered: as many as the widest of screens has room for."""

_MOST_ROWS = 30
"""Rows of each kind that are read, at most."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """This is one live worker: its last sign of life, how many runs it holds, and how many tasks it knows."""

    name: str
    seen_us: int
    running: int
    tasks: int | None
    """None: it was not asked, because there are too many workers to show."""


@dataclass(frozen=True, slots=True)
class Reading:
    """This is what one look at a docket saw."""

    now_us: int
    counts: Counts
    ready_since_us: int | None
    """Since when the oldest run waits for a worker."""
    next_due_us: int | None
    underway: Sequence[Underway]
    """The longest running first."""
    workers: Sequence[WorkerRow]
    failures: Sequence[Failure]
    """The last first."""
    strikes: Sequence[str]


class Collector:
    """This takes looks at one docket. What hardly changes it remembers between them."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._failed: tuple[int, int] | None = None
        self._failures: Sequence[Failure] = ()
        self._tasks: dict[str, int] = {}

    async def look(self, rows: int) -> Reading:
        """This reads what a screen of so many rows shows. Raises `RedisUnavailable`."""
        docket, glance = self._docket, self._docket.store.glance
        rows = min(rows, _MOST_ROWS)
        silence = docket.heartbeat_interval * docket.missed_heartbeats
        now = await server_now_us(docket)
        counts, underway, beats, held = await asyncio.gather(
            docket.counts(), glance.underway(rows), glance.beats(now - silence // timedelta(microseconds=1)), glance.held()
        )
        return Reading(
            now_us=now,
            counts=counts,
            ready_since_us=await glance.ready_since_us() if counts.queued else None,
            next_due_us=await glance.next_due_us() if counts.scheduled else None,
            underway=underway,
            workers=await self._workers(beats, held, rows),
            failures=await self._last_failures((counts.failed, counts.dead_letters), rows),
            strikes=tuple(strike.call_repr() for strike in docket.strike_list.instructions),
        )

    async def _workers(self, beats: Sequence[Beat], held: dict[str, int], rows: int) -> Sequence[WorkerRow]:
        """Those that run most come first: of a thousand, they are the ones to look at."""
        beats = sorted(beats, key=lambda beat: (-held.get(beat.instance, 0), beat.name, beat.instance))
        strangers = [beat.instance for beat in beats[:rows] if beat.instance not in self._tasks]
        known = await asyncio.gather(*map(self._docket.store.glance.tasks_of, strangers))
        self._tasks = {beat.instance: self._tasks[beat.instance] for beat in beats if beat.instance in self._tasks}
        self._tasks |= {instance: len(tasks) for instance, tasks in zip(strangers, known, strict=True)}
        return tuple(WorkerRow(beat.name, beat.seen_us, held.get(beat.instance, 0), self._tasks.get(beat.instance)) for beat in beats)

    async def _last_failures(self, failed: tuple[int, int], rows: int) -> Sequence[Failure]:
        if failed != self._failed:  # or one of them was run again, or thrown away
            self._failures = await self._docket.store.glance.failures(_MOST_ROWS)
            self._failed = failed
        return self._failures[:rows]


@dataclass
class History:
    """This remembers the totals of the last looks."""

    looks: deque[tuple[int, Counts]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def add(self, reading: Reading) -> None:
        """This takes the totals of a look."""
        self.looks.append((reading.now_us, reading.counts))

    def rate(self, total: str) -> float | None:
        """This is how fast a total grew of late, a second; None until there are two looks."""
        if len(self.looks) < 2:
            return None
        now, _ = self.looks[-1]
        recent = [look for look in self.looks if look[0] >= now - _RATE_OVER_US]
        return _growth(recent[0] if len(recent) > 1 else self.looks[-2], self.looks[-1], total)

    def course(self, total: str, points: int) -> list[float]:
        """This is how fast a total grew between the looks, of the last so many."""
        looks = list(self.looks)[-points - 1 :]
        return [_growth(one, other, total) for one, other in pairwise(looks)]


def _growth(earlier: tuple[int, Counts], later: tuple[int, Counts], total: str) -> float:
    """A total that fell was begun anew: somebody emptied the server."""
    seconds = (later[0] - earlier[0]) / 1e6
    grown = getattr(later[1], total) - getattr(earlier[1], total)
    return max(grown, 0) / seconds if seconds > 0 else 0.0


def as_object(docket: Docket, reading: Reading, history: History) -> dict[str, Any]:
    """This gives a look as JSON. The names are a promise."""
    counts = reading.counts
    return {
        "docket": docket.name,
        "time": _iso(reading.now_us),
        "queued": counts.queued,
        "queued_since": _iso(reading.ready_since_us),
        "scheduled": counts.scheduled,
        "next_due": _iso(reading.next_due_us),
        "overdue": counts.overdue,
        "waiting": counts.waiting,
        "running": counts.running,
        "dead_letters": counts.dead_letters,
        "totals": {total: getattr(counts, total) for total in RATES},
        "per_second": {total: round(history.rate(total) or 0.0, 3) for total in RATES},
        "longest_running": [
            {
                "key": run.key,
                "task": run.function,
                "worker": run.worker,
                "started_at": _iso(run.started_us),
                "attempt": run.attempt,
                "progress": None
                if run.progress is None
                else {
                    "current": run.progress.current,
                    "total": run.progress.total,
                    "message": run.progress.message,
                    "updated_at": _iso(run.progress.updated_us),
                },
            }
            for run in reading.underway
        ],
        "workers": [{"name": worker.name, "last_seen": _iso(worker.seen_us), "running": worker.running, "tasks": worker.tasks} for worker in reading.workers],
        "last_failures": [
            {
                "key": failure.key,
                "task": failure.function,
                "worker": failure.worker,
                "attempt": failure.attempt,
                "completed_at": _iso(failure.when_us),
                "error": failure.error,
            }
            for failure in reading.failures
        ],
        "strikes": list(reading.strikes),
    }


def _iso(microseconds: int | None) -> str | None:
    return None if microseconds is None else from_us(microseconds).isoformat()
