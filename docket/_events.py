"""The events that subscribers are given, made of what the store read or heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from docket._clock import from_us
from docket._store.records import ProgressChange

if TYPE_CHECKING:
    from datetime import datetime

    from docket._store.records import RunRecord, StateChange
    from docket.states import ExecutionState

__all__ = ["ProgressEvent", "StateEvent", "iso", "moment", "progress_event", "progress_of", "state_event"]


class StateEvent(TypedDict):
    """This is what `Execution.subscribe` gives for a change of state."""

    type: Literal["state"]
    key: str
    state: ExecutionState
    when: str
    worker: str | None
    started_at: str | None
    completed_at: str | None
    error: str | None


class ProgressEvent(TypedDict):
    """This is what `Execution.subscribe` and `ExecutionProgress.subscribe` give for a report of progress."""

    type: Literal["progress"]
    key: str
    current: int | None
    total: int
    message: str | None
    updated_at: str | None


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
        error=change.error,
    )


def progress_of(record: RunRecord) -> ProgressChange:
    return ProgressChange(record.key, record.generation, record.progress_current, record.progress_total, record.progress_message, record.progress_us)


def progress_event(change: ProgressChange) -> ProgressEvent:
    return ProgressEvent(type="progress", key=change.key, current=change.current, total=change.total, message=change.message, updated_at=iso(change.updated_us))
