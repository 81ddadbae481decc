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
from typing_extensions import Self, TypeVar

from docket import _changes
from docket._clock import from_us, iso_us
from docket._context import witness
from docket._ending import Ending
from docket._events import InterruptionEvent, ProgressEvent, StateEvent, moment, progress_event, progress_of
from docket._messages import loads_trace
from docket._progress import ExecutionProgress
from docket._results import cancelled, result_of, struck_by
from docket._signatures import compact_signature, get_signature, shape_of
from docket._stopping import Stopping
from docket._store.events import Reading
from docket._store.records import Changed, Claimed, Ordered, RunId, RunRecord
from docket._watching import Watch
from docket._when import When, aware, check_key, check_when, due
from docket.errors import InvalidOption, NotReplicated, PayloadError
from docket.states import Disposition, ExecutionState

if TYPE_CHECKING:
    from docket._instructions import StrikeInstruction
    from docket.docket import Docket

__all__ = [
    "Disposition",
    "Execution",
    "ExecutionProgress",
    "ExecutionState",
    "InterruptionEvent",
    "ProgressEvent",
    "StateEvent",
    "Stopping",
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
"""What can be a task: a function, `async def` or `def`, or a handle."""
R_co = TypeVar("R_co", covariant=True, default=Any)


@dataclass(frozen=True, slots=True)
class TaskCall(Generic[R_co]):
    """This is a call that is yet to be scheduled; making one touches no Redis. Hand many to `Docket.add_many`."""

    function: TaskFunction
    """The task's handle, or its function."""
    args: tuple[Any, ...]
    """What it passes by position."""
    kwargs: dict[str, Any]
    """What it passes by name."""
    key: str
    """The key that its run will have: one of its own, unless one was chosen."""
    when: When | None = None
    """When it is to run: an aware datetime, or a timedelta from when it is scheduled on; None: at once."""
    function_name: str | None = None
    """The name that the task is scheduled under."""


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
        "_payload",
        "_progress",
        "_redelivered",
        "_stopping",
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
        self._args: tuple[Any, ...] | None = args
        self._kwargs = kwargs
        self._key = key
        self._when = when
        self._when_us = 0
        self._trace_context = trace_context
        self._redelivered = redelivered
        self._function_name = function_name
        self._generation = generation
        self._progress: ExecutionProgress | None = None
        self._stopping: Stopping | None = None
        self.attempt = attempt
        """Which attempt this is, from 1."""
        self.delivery = 0
        """How often this run had been claimed when a worker claimed it for this; 0 outside a worker."""
        self.message_id = message_id
        """The entry of the stream that it was delivered with; None outside a worker."""
        self.successor_asked = False
        """Whether this run has asked for a successor under its own key; on a worker."""
        self.replaced_itself = False
        """Whether this run has replaced itself under its own key; on a worker."""
        self.state = ExecutionState.SCHEDULED
        """Where it stands, as of when it was made or last `sync`ed."""
        self.worker: str | None = None
        """The name of the worker that runs it, or ran it last."""
        self.started_at: datetime | None = None
        """When its present or last attempt started, in UTC."""
        self.completed_at: datetime | None = None
        """When it ended, in UTC."""
        self.first_due: datetime | None = None
        """When a run that is tried again was due at first; on a worker, None in the first attempt."""
        self.first_started_at: datetime | None = None
        """When the first attempt of a run that is tried again started; on a worker, None in the first attempt."""
        self.error: str | None = None
        """What its last attempt failed of, in a line; of a run that was cancelled, why."""
        self.result_key: str | None = None
        """Always None; kept for programs that read it."""
        self.disposition = Disposition.LOADED
        """What became of the request to schedule; `LOADED` when this was read rather than asked for."""
        self.schedule_exception: Exception | None = None
        """Why it could not be scheduled, for an item of `add_many` whose disposition is `FAILED`."""

    @classmethod
    def loaded(cls, docket: Docket, function: TaskFunction, record: RunRecord) -> Self:
        """This makes an execution of what was read. Its arguments stay undecoded until somebody asks for them; not part of the public interface."""
        execution = cls.stored(docket, function, record.function, record.key, record.payload, record.trace)
        execution.attempt = record.attempt
        execution.read(record)
        return execution

    @classmethod
    def stored(cls, docket: Docket, function: TaskFunction, name: str, key: str, payload: bytes | None, trace: bytes, generation: int = 0) -> Self:
        """This makes an execution of a call that stands in Redis. Its arguments stay undecoded until somebody asks for them; not part of the public interface."""
        execution = cls(docket, function, (), {}, key, None, 1, loads_trace(trace) or None, function_name=name, generation=generation)
        execution._args, execution._payload = None, payload
        return execution

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
        """This is the name of the task, as it was scheduled."""
        return self._function_name or self._function.__name__

    @property
    def args(self) -> tuple[Any, ...]:
        """This is what the call passes by position. Of a run that was read it is decoded when it is first asked for, which may raise `PayloadError`."""
        if self._args is None:
            self._args, self._kwargs = self._decoded()
        return self._args

    @property
    def kwargs(self) -> dict[str, Any]:
        """This is what the call passes by name; as with `args`, it may raise `PayloadError`."""
        if self._args is None:
            self._args, self._kwargs = self._decoded()
        return self._kwargs

    def _decoded(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._payload is None:
            raise PayloadError(
                f"the arguments of {self.function_name}{{{self._key}}} were not read: they are gone, or too large for a listing; "
                f"read them with docket.get_execution({self._key!r})"
            )
        return self._docket.payloads.loads_call(self._payload, self.function_name, self._key, self._generation, self._function)

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
        """This is when it is due, an aware datetime to the microsecond; of a run that is to start at once, and was not scheduled yet, now."""
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

    @property
    def stopping(self) -> Stopping:
        """This says whether the worker that runs it was told to stop: `execution.stopping.is_set()`, `await execution.stopping.wait()`.

        Outside a worker that is never so.
        """
        if self._stopping is None:
            self._stopping = Stopping()
        return self._stopping

    def report_through(self, progress: ExecutionProgress) -> None:
        """This has `progress` be the progress of this run, on a worker; not part of the public interface."""
        self._progress = progress

    def general_labels(self) -> dict[str, str]:
        """This gives the labels of its metrics: the task."""
        return {"docket.task": self.function_name}

    def specific_labels(self) -> dict[str, str | int]:
        """This gives the labels that tell this run from others, for spans and log lines."""
        when = iso_us(self._when_us) if self._when is None and self._when_us else self.when.isoformat()
        return {"docket.task": self.function_name, "docket.key": self._key, "docket.when": when, "docket.attempt": self.attempt}

    def get_argument(self, parameter: str) -> Any:
        """This gives what the call passes for a parameter. Raises `KeyError` when it passes nothing for it."""
        return shape_of(self._function).signature.bind_partial(*self.args, **self.kwargs).arguments[parameter]

    def call_repr(self) -> str:
        """This prints the call for a log line, with the values of parameters annotated `Logged` and `...` for the others.

        Arguments that cannot be decoded are `...` together, as are those of a run that was read and whose function is not known here.
        """
        return f"{self.function_name}({self._arguments_repr()}){{{self._key}}}"

    def _arguments_repr(self) -> str:
        if self._args is None and getattr(self._function, "shape", self) is None:
            return "..."
        try:
            args, kwargs = self.args, self.kwargs
        except PayloadError:
            return "..."
        return shape_of(self._function).call_repr(args, kwargs)

    def incoming_span_links(self) -> list[trace.Link]:
        """This links to the span that scheduled it, if there was one."""
        if not self._trace_context:
            return []
        origin = trace.get_current_span(propagate.extract(dict(self._trace_context))).get_span_context()
        return [trace.Link(origin)] if origin.is_valid else []

    async def schedule(self, *, replace: bool = False) -> Disposition:
        """This schedules it, as `Docket.schedule` does, and says what became of it. Raises what that raises."""
        await self._docket.schedule(self, replace=replace)
        return self.disposition

    async def reschedule(self, when: When) -> None:
        """This moves a run that has not begun to another moment; one that is due by then is ready at once. Whoever waits for its result goes on waiting.

        Queued work may be moved too; one that waits for a place under a limit leaves the line, and asks again when it is due. One step, safe to repeat.
        Raises `WrongState` when it runs or has ended, `ExecutionSuperseded` when another run has its place, `ResultUnavailable` when its record is gone.
        """
        self._changed(await _changes.reschedule(self, when))

    async def promote(self) -> None:
        """This makes a scheduled run ready now; what is ready or runs stays as it is. Limits hold all the same. Raises as `reschedule` does."""
        self._changed(await _changes.promote(self))

    async def retry(self) -> Execution[R_co]:
        """This runs a run that failed or was cancelled again, and gives the new run: same key, same arguments, first attempt.

        Its arguments are copied in Redis, so its task need not be known here. How this run ended can still be read from this execution; its dead letter, if
        there is one, goes.
        Raises `WrongState` when it completed or has not ended, `ExecutionSuperseded` when another run has its place under the key,
        `ResultUnavailable` when its record is gone (`execution_ttl` has passed); with signing keys `PayloadRefused` when its arguments are not signed for it.
        """
        answer, payload = await _changes.retry(self)
        again = Execution[R_co](self._docket, self._function, (), self._kwargs, self._key, None, 1, self._trace_context, function_name=self._function_name)
        again._args = self._args
        if self._args is None:
            again._payload = payload or self._payload
        again._changed(answer)
        again.disposition = Disposition.SCHEDULED
        return again

    async def cancel(self) -> None:
        """This cancels this very run, as `Docket.cancel` does what stands under a key. One that has ended, or was replaced, is left as it is. Safe to repeat."""
        if self._generation:
            await _changes.cancel(self._docket, self._key, self._generation)

    def _changed(self, change: Changed) -> None:
        assert change.state is not None
        self._generation, self.state = change.generation, change.state
        self._when_us, self._when = change.when_us, None

    def within(self) -> RunId | None:
        """This names the claim that a worker holds while it runs this, None outside a worker; not part of the public interface."""
        return RunId(self._key, self._generation, self.delivery) if self.delivery else None

    def claimed(self, claim: Claimed, worker: str, stopping: Stopping | None = None) -> None:
        """This takes what a worker's claim says of the run, and what says whether that worker is to stop; not part of the public interface."""
        run = claim.run
        self._stopping = stopping
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
        """This takes the store's answer to the request to schedule; not part of the public interface."""
        self._generation = answer.generation
        self._when_us = answer.when_us
        self._when = None
        self.state = answer.state
        self.disposition = Disposition.SCHEDULED if answer.created else Disposition.ALREADY_SCHEDULED
        wanted = self._docket.options.durable_adds
        self.schedule_exception = None
        if answer.replicas < wanted:
            self.schedule_exception = NotReplicated(
                f"{self.function_name} is scheduled under the key {self._key!r}, but only {answer.replicas} of the {wanted} replicas that durable_adds asks for "
                "have confirmed it within a second; it runs unless the server is lost before they do. Repeating the same key is safe, and asks them again."
            )
        if answer.created and (watching := witness.get()) is not None:
            watching.scheduled(self)

    def struck(self, by: StrikeInstruction) -> None:
        """This takes the strike that kept it from being scheduled. Nothing was written, so there is no run that this stands for; not part of the public interface."""
        self._generation = 0
        self.state = ExecutionState.CANCELLED
        self.error = struck_by(by)
        self.disposition = Disposition.STRUCK

    def failed(self, error: Exception) -> None:
        """This takes the reason why it could not be scheduled; not part of the public interface."""
        self.schedule_exception = error
        self.disposition = Disposition.FAILED

    async def sync(self) -> None:
        """This reads where the run stands. One that is not known (any more) changes nothing; one that was replaced becomes `SUPERSEDED`, one that was struck `STRUCK`."""
        if self.disposition is Disposition.STRUCK and not self._generation:
            return
        record = await self._docket.store.inspection.load(self._key)
        if record is None:
            return
        if self._generation in (0, record.generation):
            self.read(record)
        elif record.successor != self._generation:  # a successor stands as it was asked for until its run ends
            await self._sync_earlier(record)

    async def _sync_earlier(self, record: RunRecord) -> None:
        outcome = await self._docket.store.inspection.outcome(self._key, self._generation)
        earlier = record.earlier if record.earlier is not None and record.earlier.generation == self._generation else None
        if earlier is not None:
            self.state, self.completed_at = earlier.state, moment(earlier.completed_us)
        elif record.generation < self._generation:  # a successor that never began
            self.state = ExecutionState.CANCELLED
        if outcome is not None:
            self.state, self.error = outcome.state, outcome.error
            self.disposition = Disposition.STRUCK if outcome.struck else self.disposition
        elif earlier is None or earlier.was_replaced:
            self.disposition = Disposition.SUPERSEDED

    def read(self, record: RunRecord) -> None:
        """This takes everything the record of this run says; not part of the public interface."""
        self._generation = record.generation
        self._redelivered = record.crashes > 0
        self._when_us, self._when = record.when_us, None
        self.state = record.state
        self.attempt = record.attempt
        self.worker = record.worker
        self.started_at = moment(record.started_us)
        self.completed_at = moment(record.completed_us)
        self.error = record.error
        if record.outcome is not None and record.outcome.struck:
            self.disposition = Disposition.STRUCK
        self.progress.take(progress_of(record))

    async def is_superseded(self) -> bool:
        """This says whether another run has taken this one's place before its end. It reads that from Redis, as `sync` does."""
        await self.sync()
        return self.disposition is Disposition.SUPERSEDED

    async def get_result(self, *, timeout: timedelta | None = None, deadline: datetime | None = None) -> R_co:
        """This waits for the end of this very run and gives its result; a task without one gives None.

        A run that ended before is told of as well, for `execution_ttl` after its end, by any process, as often as it is asked. What came of a finished run goes
        when its key is scheduled again: `ResultUnavailable`, so give every run that somebody waits for a key of its own. `timeout` is a timedelta,
        `deadline` an aware datetime; without either it waits for as long as it takes. Whoever stops waiting leaves the run alone.

        Raises what the task raised; `ExecutionCancelled`, also when it was struck, and then it says by what; `ExecutionSuperseded` when it was replaced; `ResultUnavailable`
        when its record is gone; `ResultTimeout` (a `TimeoutError`) after `timeout`, or at `deadline`; `InvalidOption` where both are given.
        """
        if timeout is not None and deadline is not None:
            raise InvalidOption("Cannot specify both timeout and deadline")
        if self.disposition is Disposition.STRUCK:
            raise cancelled(self._key, self.error)
        if deadline is not None:
            timeout = aware("deadline", deadline) - self._docket.clock.now()
        ending = Ending(self._docket, self._key, self._generation)
        outcome = await ending.wait(None if timeout is None else self._docket.clock.monotonic() + timeout.total_seconds())
        self._generation = ending.generation
        return None if outcome is None else await result_of(self, outcome, ending.task)  # pyright: ignore[reportReturnType] - a task that gives nothing has `None` as R

    async def subscribe(self, *, ready: asyncio.Event | None = None) -> AsyncGenerator[StateEvent | ProgressEvent, None]:
        """This gives the state and the progress as they stand, then every change of this run and of those that follow it under its key.

        It never ends by itself. Every transition comes once, and every run that was told of gets an end: what happened while nobody
        listened is read from the record, once the connection is back. Raises `ResultUnavailable` when the run has ended and nothing
        of it is kept (see `execution_ttl`), and `NotEntered` once the docket is left. `ready` is set when no change can be missed.
        """
        await self.sync()
        state, progress = self._event(), self.progress.change()
        watch = Watch(self._docket, self._key, self._generation, state, progress)
        yield state
        yield progress_event(progress)
        async with self._docket.store.events.track(self._key) as track:
            while True:
                found = await track.get()
                if ready is not None and isinstance(found, Reading) and found.in_place:
                    ready.set()
                for event in await watch.take(found):
                    yield event

    def _event(self) -> StateEvent:
        return StateEvent(
            type="state",
            key=self._key,
            state=self.state,
            when=self.when.isoformat(),
            worker=self.worker,
            started_at=self.started_at and self.started_at.isoformat(),
            completed_at=self.completed_at and self.completed_at.isoformat(),
            error=None if self.state is ExecutionState.RUNNING else self.error,
        )
