"""What a caller holds: a call that is yet to be scheduled, and one that was (`Execution`).

Scheduling and cancelling go through the docket; what a worker does with a run is written in `_worker`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic

from opentelemetry import propagate, trace
from typing_extensions import TypeVar

from docket._clock import from_us
from docket._ending import Ending
from docket._events import ProgressEvent, StateEvent, moment, progress_event, progress_of, state_event
from docket._messages import loads_trace
from docket._progress import REREAD_EVERY, ExecutionProgress
from docket._results import result_of
from docket._signatures import compact_signature, get_signature, shape_of
from docket._store.records import Claimed, Ordered, ProgressChange, RunId, RunRecord, StateChange
from docket._when import When, aware, check_key, check_when, due
from docket.errors import InvalidOption
from docket.states import Disposition, ExecutionState

if TYPE_CHECKING:
    from docket.docket import Docket

__all__ = [
    "Disposition",
    "Execution",
    "ExecutionProgress",
    "ExecutionState",
    "ProgressEvent",
    "StateEvent",
    "TaskCall",
    "TaskFunction",
    "When",
    "check_key",
    "check_when",
    "compact_signature",
    "due",
    "get_signature",
]

TaskFunction = Callable[..., Any]
R_co = TypeVar("R_co", covariant=True, default=Any)


@dataclass(frozen=True, slots=True)
class TaskCall(Generic[R_co]):
    """This is a call that is yet to be scheduled; making one touches no Redis. Hand many to `Docket.add_many`."""

    function: TaskFunction
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: str
    when: When | None = None
    function_name: str | None = None


class Execution(Generic[R_co]):
    """This is one scheduled call of a task: what was asked, where it stands, and its result.

    What it says of the run (`state`, `worker`, `error`, ...) is as of when it was made or last `sync`ed.
    """

    __slots__ = (
        "_args",
        "_docket",
        "_function",
        "_function_name",
        "_generation",
        "_key",
        "_kwargs",
        "_progress",
        "_redelivered",
        "_trace_context",
        "_when",
        "_when_us",
        "attempt",
        "completed_at",
        "delivery",
        "disposition",
        "error",
        "first_due",
        "first_started_at",
        "message_id",
        "replaced_itself",
        "result_key",
        "schedule_exception",
        "started_at",
        "state",
        "successor_asked",
        "worker",
    )

    def __init__(
        self,
        docket: Docket,
        function: TaskFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: str,
        when: datetime | None,
        attempt: int,
        trace_context: Mapping[str, str] | None = None,
        redelivered: bool = False,
        function_name: str | None = None,
        generation: int = 0,
        message_id: bytes | None = None,
    ) -> None:
        self._docket = docket
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._key = key
        self._when = when
        self._when_us = 0
        self._trace_context = trace_context
        self._redelivered = redelivered
        self._function_name = function_name
        self._generation = generation
        self._progress: ExecutionProgress | None = None
        self.attempt = attempt
        """Which attempt this is, from 1."""
        self.delivery = 0
        """How often this run had been claimed when a worker claimed it for this; 0 outside a worker."""
        self.message_id = message_id
        self.successor_asked = False
        """Whether this run has asked for a successor under its own key; on a worker."""
        self.replaced_itself = False
        """Whether this run has replaced itself under its own key; on a worker."""
        self.state = ExecutionState.SCHEDULED
        self.worker: str | None = None
        self.started_at: datetime | None = None
        self.completed_at: datetime | None = None
        self.first_due: datetime | None = None
        """When a run that is tried again was due at first; on a worker, None in the first attempt."""
        self.first_started_at: datetime | None = None
        """When the first attempt of a run that is tried again started; on a worker, None in the first attempt."""
        self.error: str | None = None
        self.result_key: str | None = None
        self.disposition = Disposition.LOADED
        """What became of the request to schedule; `LOADED` when this was read rather than asked for."""
        self.schedule_exception: Exception | None = None
        """Why it could not be scheduled, for an item of `add_many` whose disposition is `FAILED`."""

    def __repr__(self) -> str:
        return f"<Execution {self.function_name}{{{self._key}}} {self.state.value}, generation {self._generation}>"

    @property
    def docket(self) -> Docket:
        """This is the docket it was scheduled on."""
        return self._docket

    @property
    def function(self) -> TaskFunction:
        """This is what runs; for a task not registered in this process a stand-in that raises `UnknownTask`."""
        return self._function

    @property
    def function_name(self) -> str:
        """This is the name of the task."""
        return self._function_name or self._function.__name__

    @property
    def args(self) -> tuple[Any, ...]:
        """This is what the call passes by position."""
        return self._args

    @property
    def kwargs(self) -> dict[str, Any]:
        """This is what the call passes by name."""
        return self._kwargs

    @property
    def key(self) -> str:
        """This is the key: at most one run of a key is scheduled, queued or running."""
        return self._key

    @property
    def generation(self) -> int:
        """This is the number of this run, never used again on its docket; 0 before it is scheduled."""
        return self._generation

    @property
    def redelivered(self) -> bool:
        """This says whether a worker had this run before and was lost with it."""
        return self._redelivered

    @property
    def trace_context(self) -> Mapping[str, str] | None:
        """This is the W3C trace context of the code that scheduled it."""
        return self._trace_context

    @property
    def when(self) -> datetime:
        """This is when it is due."""
        return self.due or self._docket.clock.now()

    @when.setter
    def when(self, moment: datetime) -> None:
        self._when = moment

    @property
    def due(self) -> datetime | None:
        """This is when it is asked to run, or will; None for at once."""
        return self._when or (from_us(self._when_us) if self._when_us else None)

    @property
    def progress(self) -> ExecutionProgress:
        """This is how far it says it is."""
        if self._progress is None:
            self._progress = ExecutionProgress(self._docket, self._key, self.within())
        return self._progress

    def report_through(self, progress: ExecutionProgress) -> None:
        """This has `progress` be the progress of this run, on a worker."""
        self._progress = progress

    def general_labels(self) -> dict[str, str]:
        """This gives the labels of its metrics: the task."""
        return {"docket.task": self.function_name}

    def specific_labels(self) -> dict[str, str | int]:
        """This gives the labels that tell this run from others, for spans and log lines."""
        return {"docket.task": self.function_name, "docket.key": self._key, "docket.when": self.when.isoformat(), "docket.attempt": self.attempt}

    def get_argument(self, parameter: str) -> Any:
        """This gives what the call passes for a parameter. Raises `KeyError` when it passes nothing for it."""
        return shape_of(self._function).signature.bind_partial(*self._args, **self._kwargs).arguments[parameter]

    def call_repr(self) -> str:
        """This prints the call for a log line, with the values of parameters annotated `Logged` and `...` for the others."""
        return f"{self.function_name}({shape_of(self._function).call_repr(self._args, self._kwargs)}){{{self._key}}}"

    def incoming_span_links(self) -> list[trace.Link]:
        """This links to the span that scheduled it, if there was one."""
        if not self._trace_context:
            return []
        origin = trace.get_current_span(propagate.extract(dict(self._trace_context))).get_span_context()
        return [trace.Link(origin)] if origin.is_valid else []

    async def schedule(self, *, replace: bool = False) -> Disposition:
        """This schedules it, as `Docket.schedule` does, and says what became of it."""
        await self._docket.schedule(self, replace=replace)
        return self.disposition

    def within(self) -> RunId | None:
        """This names the claim that a worker holds while it runs this; None outside a worker."""
        return RunId(self._key, self._generation, self.delivery) if self.delivery else None

    def claimed(self, claim: Claimed, worker: str) -> None:
        """This takes what a worker's claim says of the run."""
        run = claim.run
        self._generation = run.generation
        self.delivery = run.delivery
        self._redelivered = claim.crashes > 0
        self._when_us, self._when = claim.when_us, None
        self._trace_context = loads_trace(claim.trace) if claim.trace else None
        self.message_id = claim.message_id
        self.state = ExecutionState.RUNNING
        self.worker = worker
        self.started_at = from_us(claim.started_us)
        self.first_due, self.first_started_at = moment(claim.first_when_us), moment(claim.first_started_us)

    def ordered(self, answer: Ordered) -> None:
        """This takes the store's answer to the request to schedule."""
        self._generation = answer.generation
        self._when_us = answer.when_us
        self._when = None
        self.state = answer.state
        self.disposition = Disposition.SCHEDULED if answer.created else Disposition.ALREADY_SCHEDULED

    def failed(self, error: Exception) -> None:
        """This takes the reason why it could not be scheduled."""
        self.schedule_exception = error
        self.disposition = Disposition.FAILED

    async def sync(self) -> None:
        """This reads where the run stands. One that is not known (any more) changes nothing; one that was replaced becomes `SUPERSEDED`."""
        record = await self._docket.store.inspection.load(self._key)
        if record is None:
            return
        if self._generation in (0, record.generation):
            self.read(record)
        elif record.successor != self._generation:  # a successor stands as it was asked for until its run ends
            await self._sync_earlier()

    async def _sync_earlier(self) -> None:
        outcome = await self._docket.store.inspection.outcome(self._key, self._generation)
        if outcome is None:
            self.disposition = Disposition.SUPERSEDED
        else:
            self.state, self.error = outcome.state, outcome.error

    def read(self, record: RunRecord) -> None:
        """This takes everything the record of this run says."""
        self._generation = record.generation
        self._redelivered = record.crashes > 0
        self._when_us, self._when = record.when_us, None
        self.state = record.state
        self.attempt = record.attempt
        self.worker = record.worker
        self.started_at = moment(record.started_us)
        self.completed_at = moment(record.completed_us)
        self.error = record.error
        self.progress.take(progress_of(record))

    async def is_superseded(self) -> bool:
        """This says whether another run has taken this one's place before its end."""
        await self.sync()
        return self.disposition is Disposition.SUPERSEDED

    async def get_result(self, *, timeout: timedelta | None = None, deadline: datetime | None = None) -> R_co:
        """This waits for the end of this very run and gives its result; a task without one gives None.

        Raises what the task raised; `ExecutionCancelled`; `ExecutionSuperseded` when it was replaced; `ResultUnavailable`
        when its record has expired; `ResultTimeout` (a `TimeoutError`) after `timeout`, or at `deadline`.
        """
        if timeout is not None and deadline is not None:
            raise InvalidOption("Cannot specify both timeout and deadline")
        if deadline is not None:
            timeout = aware("deadline", deadline) - self._docket.clock.now()
        ending = Ending(self._docket, self._key, self._generation)
        outcome = await ending.wait(None if timeout is None else self._docket.clock.monotonic() + timeout.total_seconds())
        self._generation = ending.generation
        return None if outcome is None else await result_of(self._docket, self._key, self._generation, outcome)  # pyright: ignore[reportReturnType] - a task that gives nothing has `None` as R

    async def subscribe(self, *, ready: asyncio.Event | None = None) -> AsyncGenerator[StateEvent | ProgressEvent, None]:
        """This gives the state and the progress as they stand, then every change of the key's runs, without end.

        `ready` is set once no change can be missed. What happened between the first events and then comes as well.
        """
        store = self._docket.store
        await self.sync()
        state, progress = self._event(), self.progress.event()
        yield state
        yield progress
        async with store.events.feed(self._key) as feed:
            # Before anybody is told that it is ready: what this reads is then older than every event that follows.
            change: StateChange | ProgressChange | RunRecord | None = await store.inspection.load(self._key)
            if ready is not None:
                ready.set()
            while True:
                if isinstance(change, (StateChange, RunRecord)) and (told := state_event(change)) != state:
                    state = told
                    yield state
                if isinstance(change, RunRecord):
                    change = progress_of(change)
                if isinstance(change, ProgressChange) and (reported := progress_event(change)) != progress:
                    progress = reported
                    yield progress
                change = await feed.get(REREAD_EVERY) or await store.inspection.load(self._key)

    def _event(self) -> StateEvent:
        return StateEvent(
            type="state",
            key=self._key,
            state=self.state,
            when=self.when.isoformat(),
            worker=self.worker,
            started_at=self.started_at and self.started_at.isoformat(),
            completed_at=self.completed_at and self.completed_at.isoformat(),
            error=self.error,
        )
