"""Progress of running tasks, which lives and dies with the run's record."""

from __future__ import annotations

import enum
from typing import Final

from docket._store.base import Base, text
from docket._store.records import ProgressChange, RunId

__all__ = ["UNCHANGED", "ProgressStore"]


class _Unchanged(enum.Enum):
    UNCHANGED = enum.auto()


UNCHANGED: Final = _Unchanged.UNCHANGED
"""This stands for a message that stays what it is; None takes it away."""


class ProgressStore(Base):
    """This records how far a run has come."""

    async def update(
        self,
        key: str,
        run: RunId | None = None,
        *,
        add: int = 0,
        total: int | None = None,
        message: str | _Unchanged | None = UNCHANGED,
        number: int | None = None,
    ) -> ProgressChange | None:
        """This reports progress and answers what then stands; None when the run is not running (any more).

        With a `run`, only that claim of it is reported for. A report with the `number` of the last one is that one again, and counts once.
        """
        note = "" if message is UNCHANGED else (message or "").encode("utf-8", "replace")
        reply = await self._script(
            "progress", [self._keys.run(key)], key, "" if run is None else run.generation, "" if run is None else run.delivery,
            add, "" if total is None else total, "" if message is UNCHANGED else "1", note, "" if number is None else number,
        )  # fmt: skip
        if reply[0] != b"reported":
            return None
        _, current, now_total, now_note, updated = reply
        return ProgressChange(key, 0 if run is None else run.generation, int(current), int(now_total), text(now_note), int(updated))

    async def land(self, key: str, run: RunId | None, number: int, *, add: int, total: int | None, message: str | _Unchanged | None) -> ProgressChange | None:
        """This reports progress through an outage, for as long as it takes; `number` tells a report from its repeat. Otherwise it is `update`."""
        return await self._persist(lambda: self.update(key, run, add=add, total=total, message=message, number=number), None)
