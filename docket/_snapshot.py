"""What looking at a docket gives: values, as of when they were read. Reading them is `_operations`' business."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from docket._store.records import Counts
from docket.execution import Execution

__all__ = ["Counts", "DocketSnapshot", "ExecutionPage", "RunningExecution", "WorkerInfo"]


@dataclass(frozen=True)
class WorkerInfo:
    """This is a worker that is alive, and what it can run."""

    name: str
    """What it is called."""
    last_seen: datetime
    """When it was last heard of, in UTC."""
    tasks: set[str]
    """The names of the tasks that it can run."""


class RunningExecution(Execution[Any]):
    """This is an execution that a worker is running."""

    __slots__ = ("started",)

    def __init__(self, execution: Execution[Any], worker: str, started: datetime) -> None:
        for name in Execution.__slots__:
            if hasattr(execution, name):
                setattr(self, name, getattr(execution, name))
        self.worker: str = worker  # pyright: ignore[reportIncompatibleVariableOverride] - of one that runs, it is known
        self.started = started
        """When its present attempt started."""


@dataclass(frozen=True)
class ExecutionPage:
    """This is a part of a listing. It may be empty and not the last."""

    executions: list[Execution[Any]]
    """What is on it."""
    cursor: str | None
    """Where the next page begins; None: this is the last."""


@dataclass(frozen=True)
class DocketSnapshot:
    """This is what a docket is doing, or a page of it."""

    taken: datetime
    """When it was taken, in UTC."""
    total_tasks: int
    """How many runs are scheduled, ready, waiting or running; not how many are listed here."""
    future: Sequence[Execution[Any]]
    """What has not begun: ready work and what waits for a limit, then what is scheduled, in order of due time."""
    running: Sequence[RunningExecution]
    """What workers run, each with its worker and when it started."""
    workers: Collection[WorkerInfo]
    """The workers that are alive."""
    next: str | None = None
    """What to pass to `Docket.snapshot(after=...)` for the rest; None: this is all."""
