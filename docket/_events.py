"""The events that subscribers are given, made of what the store read or heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from docket._clock import from_us
from docket._store.inbox import Gap
from docket._store.records import ProgressChange
from docket.states import ExecutionState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from docket._store.events import Events
    from docket._store.records import RunRecord, StateChange

__all__ = [
    "InterruptionEvent",
    "ProgressEvent",
    "StateEvent",
    "events_of",
    "interruption_event",
    "iso",
    "moment",
    "progress_event",
    "progress_of",
    "state_event",
]


class StateEvent(TypedDict):
    """This is what `Execution.subscribe` and `Docket.events` give for a change of state.

    `error` tells how a run failed, and of one that waits for another attempt, how the last one did.
    """

    type: Literal["state"]
    """Which of the events this is."""
    key: str
    """The key of the run."""
    state: ExecutionState
    """What it has become."""
    when: str
    """When it is or was due, in ISO 8601."""
    worker: str | None
    """The worker that runs it, or ran it last."""
    started_at: str | None
    """When its last attempt started, in ISO 8601."""
    completed_at: str | None
    """When it ended, in ISO 8601."""
    error: str | None
    """What it failed of, in a line."""


class ProgressEvent(TypedDict):
    """This is what `Execution.subscribe` and `ExecutionProgress.subscribe` give for a report of progress."""

    type: Literal["progress"]
    """Which of the events this is."""
    key: str
    """The key of the run."""
    current: int | None
    """How much is done; None: it has not begun."""
    total: int
    """How much there is to do."""
    message: str | None
    """What is being done, in the task's words."""
    updated_at: str | None
    """When it was reported, in ISO 8601."""


class InterruptionEvent(TypedDict):
    """This is what `Docket.events` gives where events are missing: what became of tasks meanwhile is to be read, with `Docket.executions`.

    `reason`: the connection was lost and is back, events came faster than they were taken, or one could not be decoded.
    `missed`: how many events; None where nobody knows.
    """

    type: Literal["interruption"]
    """Which of the events this is."""
    reason: Literal["disconnected", "overflow", "undecodable"]
    missed: int | None


def moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)


def iso(microseconds: int | None) -> str | None:
    return None if microseconds is None else from_us(microseconds).isoformat()


def state_event(change: RunRecord | StateChange) -> StateEvent:
    return StateEvent(
        type="state",
        key=change.key,
        state=change.state,
        when=from_us(change.when_us).isoformat(),
        worker=change.worker,
        started_at=iso(change.started_us),
        completed_at=iso(change.completed_us),
        error=None if change.state is ExecutionState.RUNNING else change.error,
    )


async def events_of(
    events: Events, ready: asyncio.Event | None, *, include_progress: bool
) -> AsyncGenerator[StateEvent | ProgressEvent | InterruptionEvent, None]:
    """This gives what happens to all tasks of a docket; see `Docket.events`."""
    async with events.stream() as stream:
        if ready is not None:
            ready.set()
        while True:
            change = await stream.get()
            if isinstance(change, Gap):
                yield interruption_event(change)
            elif isinstance(change, ProgressChange):
                if include_progress:
                    yield progress_event(change)
            elif not change.never_began:
                yield state_event(change)


def interruption_event(gap: Gap) -> InterruptionEvent:
    return InterruptionEvent(type="interruption", reason=gap.reason, missed=gap.missed)


def progress_of(record: RunRecord) -> ProgressChange:
    return ProgressChange(record.key, record.generation, record.progress_current, record.progress_total, record.progress_message, record.progress_us)


def progress_event(change: ProgressChange) -> ProgressEvent:
    return ProgressEvent(type="progress", key=change.key, current=change.current, total=change.total, message=change.message, updated_at=iso(change.updated_us))
