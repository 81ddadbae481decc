"""What a caller holds: a call that is yet to be scheduled, one that was (`Execution`), its result and its progress.

Scheduling and cancelling go through the docket; what a worker does with a run is written in `_worker`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict

from opentelemetry import propagate, trace
from typing_extensions import Self, TypeVar

from docket._clock import from_us, to_us
from docket._messages import loads_trace
from docket._results import result_of
from docket._signatures import compact_signature, get_signature, shape_of
from docket._store.records import Claimed, Ordered, Outcome, ProgressChange, RunId, RunRecord, StateChange
from docket.errors import ExecutionSuperseded, InvalidOption, InvalidSchedule, ResultTimeout, ResultUnavailable
from docket.states import TERMINAL, Disposition, ExecutionState

if TYPE_CHECKING:
    from docket._clock import Clock
    from docket._store.events import Feed
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
When = datetime | timedelta
"""When a task is to run: an aware datetime, or a timedelta from the moment it is scheduled."""

R_co = TypeVar("R_co", covariant=True, default=Any)

_REREAD_EVERY = 5.0  # seconds a waiter trusts events alone
_LATE_EVENT = 0.25  # seconds in which the event of an end arrives after the record went


def due(when: When | None, clock: Clock) -> datetime | None:
    """This turns what a caller gave as `when` into a moment; None is now. Raises `InvalidSchedule`."""
    if when is None:
        return None
    if not isinstance(when, timedelta):
        return _aware("when", when)
    try:
        return clock.now() + when
    except OverflowError as exc:
        raise InvalidSchedule(f"when is {when} from now, which is beyond the year 9999") from exc


def check_when(when: When | None) -> None:
    """This raises `InvalidSchedule` for what `due` would refuse whatever the time."""
    if when is not None and not isinstance(when, timedelta):
        _aware("when", when)


def check_key(key: object) -> None:
    """This raises `InvalidSchedule` for what cannot be a key."""
    if not isinstance(key, str) or not key:
        raise InvalidSchedule(f"key is {key!r}; give a string that is not empty, or leave it out for a key of docket's own")


def _aware(name: str, moment: object) -> datetime:
    if not isinstance(moment, datetime):
        raise InvalidSchedule(f"{name} is {moment!r}; give an aware datetime or a timedelta from now")
    if moment.utcoffset() is None:
        raise InvalidSchedule(
            f"{name} is {moment.isoformat()}, without a time zone, so it could mean any of several moments; "
            f"write datetime.now(timezone.utc) + ..., or {name}.astimezone() for local time"
        )
    return moment


@dataclass(frozen=True, slots=True)
class TaskCall(Generic[R_co]):
    """This is a call that is yet to be scheduled; making one touches no Redis. Hand many to `Docket.add_many`."""

    function: TaskFunction
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: str
    when: When | None = None
    function_name: str | None = None


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


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)


def _iso(microseconds: int | None) -> str | None:
    return None if microseconds is None else from_us(microseconds).isoformat()


def _state_event(change: RunRecord | StateChange) -> StateEvent:
    return StateEvent(
        type="state",
        key=change.key,
        state=change.state,
        when=from_us(change.when_us).isoformat(),
        worker=change.worker,
        started_at=_iso(change.started_us),
        completed_at=_iso(change.completed_us),
        error=change.error,
    )


def _progress_of(record: RunRecord) -> ProgressChange:
    return ProgressChange(record.key, record.generation, record.progress_current, record.progress_total, record.progress_message, record.progress_us)


def _progress_event(change: ProgressChange) -> ProgressEvent:
    return ProgressEvent(
        type="progress", key=change.key, current=change.current, total=change.total, message=change.message, updated_at=_iso(change.updated_us)
    )


class ExecutionProgress:
    """This is how far a task says it is. The task reports with `set_total`, `increment` and `set_message`; others read or subscribe."""

    def __init__(self, docket: Docket, key: str, run: RunId | None = None) -> None:
        self._docket = docket
        self.key = key
        self.current: int | None = None
        self.total: int = 1
        self.message: str | None = None
        self.updated_at: datetime | None = None
        self._run = run

    @property
    def docket(self) -> Docket:
        """This is the docket of the task."""
        return self._docket

    @classmethod
    async def create(cls, docket: Docket, key: str) -> Self:
        """This reads the progress of the task that has this key."""
        progress = cls(docket, key)
        await progress.sync()
        return progress

    def set_total(self, total: int) -> Coroutine[Any, Any, None]:
        """This says how much there is to do."""
        if total < 1:
            raise InvalidOption("Total must be at least 1")
        return self._update(total=total)

    def increment(self, amount: int = 1) -> Coroutine[Any, Any, None]:
        """This says that so much more is done; many at once add up."""
        if amount < 1:
            raise InvalidOption("Amount must be at least 1")
        return self._update(add=amount)

    def set_message(self, message: str | None) -> Coroutine[Any, Any, None]:
        """This says in words what is being done."""
        return self._update(message=message)

    async def _update(self, **changes: Any) -> None:
        self._take(await self.docket.store.progress.update(self.key, self._run, **changes))

    async def sync(self) -> None:
        """This reads what was last reported. A task that is not known (any more) changes nothing."""
        record = await self.docket.store.inspection.load(self.key)
        self._take(record and _progress_of(record))

    async def subscribe(self, *, ready: asyncio.Event | None = None) -> AsyncGenerator[ProgressEvent, None]:
        """This gives the progress as it stands, then every change, without end. `ready` is set once no change can be missed."""
        await self.sync()
        last = self.event()
        yield last
        async with self.docket.store.events.feed(self.key) as feed:
            await self.sync()  # before anybody is told that it is ready: what this reads is then older than every event that follows
            if ready is not None:
                ready.set()
            change: object = self
            while True:
                if change is None:  # events may have been lost
                    await self.sync()
                elif isinstance(change, ProgressChange):
                    self._take(change)
                if (event := self.event()) != last:
                    last = event
                    yield event
                change = await feed.get(_REREAD_EVERY)

    def event(self) -> ProgressEvent:
        """This gives the progress as last read, in the form of an event."""
        return _progress_event(ProgressChange(self.key, 0, self.current, self.total, self.message, self.updated_at and to_us(self.updated_at)))

    def _take(self, change: ProgressChange | None) -> None:
        if change is None:
            return
        self.current, self.total, self.message = change.current, change.total, change.message
        self.updated_at = _moment(change.updated_us)


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
        self.first_due, self.first_started_at = _moment(claim.first_when_us), _moment(claim.first_started_us)

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
        self.started_at = _moment(record.started_us)
        self.completed_at = _moment(record.completed_us)
        self.error = record.error
        self.progress._take(_progress_of(record))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - one noun in two classes

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
            timeout = _aware("deadline", deadline) - self._docket.clock.now()
        ending = await self._ending(None if timeout is None else self._docket.clock.monotonic() + timeout.total_seconds())
        return None if ending is None else await result_of(self._docket, self._key, self._generation, ending)  # pyright: ignore[reportReturnType] - a task that gives nothing has `None` as R

    async def _ending(self, until: float | None) -> Outcome | None:
        """This waits for how the run ended; None when it has ended and nothing was kept."""
        ended, outcome = await self._ended()
        if ended:
            return outcome
        async with self._docket.store.events.feed(self._key) as feed:
            while True:
                ended, outcome = await self._ended()
                if outcome is None and ended:
                    return await self._announced_ending(feed)
                if ended:
                    return outcome
                change = await feed.get(self._patience(until))
                if isinstance(change, StateChange) and (told := self._told_by(change)):
                    return told

    async def _ended(self) -> tuple[bool, Outcome | None]:
        """This says whether the run has ended, and how, as far as it was kept."""
        inspection = self._docket.store.inspection
        record = await inspection.load(self._key)
        if record is not None and self._generation in (0, record.generation):
            self._generation = record.generation
            return record.state in TERMINAL, record.outcome or Outcome(record.state)
        if record is not None and record.successor == self._generation:
            return False, None
        if (outcome := await inspection.outcome(self._key, self._generation)) is not None:
            return True, outcome
        if not self._docket.execution_ttl:
            return True, None
        if record is not None:
            raise self._superseded()
        raise ResultUnavailable(
            f"nothing is known of execution {self._key} (any more): its record is kept for {self._docket.execution_ttl} after its end; raise execution_ttl, or ask earlier"
        )

    async def _announced_ending(self, feed: Feed) -> Outcome | None:
        """This gives the end that was published when nothing is kept (`execution_ttl` of zero): the record may go before its event arrives."""
        clock = self._docket.clock
        until = clock.monotonic() + _LATE_EVENT
        told: Outcome | None = None
        while told is None and (left := until - clock.monotonic()) > 0:
            change = await feed.get(left)  # None need not mean that time is up
            told = self._told_by(change) if isinstance(change, StateChange) else None
        return told

    def _told_by(self, change: StateChange) -> Outcome | None:
        """This gives the end that an event tells of, if it is this run's and nothing else tells it."""
        if change.generation != self._generation or change.state not in TERMINAL:
            return None
        if change.superseded:
            raise self._superseded()
        return None if self._docket.execution_ttl else Outcome(change.state, change.error)

    def _superseded(self) -> ExecutionSuperseded:
        return ExecutionSuperseded(f"Execution {self._key} was replaced before it ended; the run that took its place is docket.get_execution({self._key!r})")

    def _patience(self, until: float | None) -> float:
        if until is None:
            return _REREAD_EVERY
        remaining = until - self._docket.clock.monotonic()
        if remaining <= 0:
            raise ResultTimeout(f"Timeout waiting for execution {self._key} to complete")
        return min(remaining, _REREAD_EVERY)

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
                if isinstance(change, (StateChange, RunRecord)) and (told := _state_event(change)) != state:
                    state = told
                    yield state
                if isinstance(change, RunRecord):
                    change = _progress_of(change)
                if isinstance(change, ProgressChange) and (reported := _progress_event(change)) != progress:
                    progress = reported
                    yield progress
                change = await feed.get(_REREAD_EVERY) or await store.inspection.load(self._key)

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
