"""What the world learns of a run: its log lines, its span and its counters, told together, step by step. Built only where somebody listens."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace

from docket import instrumentation
from docket._context import onlookers
from docket._logging import RunLines, format_duration
from docket._signatures import compact_signature, get_signature
from docket._tally import Tally
from docket.dependencies._admission import AdmissionBlocked
from docket.dependencies._base import Verdict
from docket.dependencies._verdicts import Cancel, Discard, Dropped
from docket.states import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import Histogram

    from docket._worker._crew import Crew
    from docket._worker._decision import Decision
    from docket._worker._runs import Running
    from docket.execution import Execution

__all__ = ["Became", "Report", "became", "called", "described", "log_tasks"]

logger = logging.getLogger("docket.worker")


_LONGEST = 10_000
"""Characters of what a failure says that are told: it stands in Redis, and goes to everybody who listens."""


def described(exception: BaseException | None) -> str:
    """This prints a failure in a line: what kind, and what it says, the first ten thousand characters of it."""
    try:
        told = f"{type(exception).__name__}: {exception}"
    except Exception:  # noqa: BLE001 - a user's `__str__`
        return f"{type(exception).__name__} (which cannot be printed)"
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}... ({len(told):,} characters)"


def called(execution: Execution[Any]) -> str:
    """This prints a call for a log line."""
    try:
        return execution.call_repr()
    except Exception:  # noqa: BLE001 - the `__repr__` of a user's argument
        return f"{execution.function_name}(which cannot be printed){{{execution.key}}}"


def log_tasks(crew: Crew) -> None:
    """This says which tasks a worker that starts can run."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("Starting worker %r with the following tasks:", crew.options.name, extra=crew.labels)
        for registered in crew.registry:
            logger.info("* %s(%s)", registered.name, compact_signature(get_signature(registered.function)), extra=crew.labels)


class Became(enum.Enum):
    """This is what became of one attempt of a run, for whoever looks from outside."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "failed, and is tried again"
    DEALT_WITH = "failed, and a handler of the task's dealt with it"
    DISCARDED = "discarded"
    PUT_OFF = "put off"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed back to the other workers"
    SUPERSEDED = "superseded"


def became(decision: Decision, stands: ExecutionState | None) -> Became:
    """This tells, from what was decided and what the key's record says now (None: another run took its place)."""
    exception = decision.exception
    if stands is None:
        return Became.SUPERSEDED
    if decision.state is ExecutionState.CANCELLED:
        return Became.CANCELLED
    if decision.again == "retry" and stands is ExecutionState.CANCELLED:  # cancelled while it ran, so there is no next attempt
        return Became.CANCELLED
    if exception is None:
        return Became.SUCCEEDED
    if decision.dealt_with:
        return Became.DEALT_WITH
    if decision.again == "retry":
        return Became.PUT_OFF if isinstance(exception, (Verdict, AdmissionBlocked)) else Became.RETRIED
    return Became.DISCARDED if isinstance(exception, Discard) else Became.FAILED


_ERRORS = frozenset({Became.FAILED, Became.RETRIED, Became.DISCARDED})
_TRACED_BACK = frozenset({Became.FAILED, Became.RETRIED})
_LEVELS = {Became.FAILED: logging.ERROR, Became.RETRIED: logging.WARNING, Became.DISCARDED: logging.WARNING}


class Report:
    """This tells of the runs of one worker."""

    def __init__(self, crew: Crew, knows: Callable[[str], bool]) -> None:
        self._crew = crew
        self.tally = Tally(crew.worker.labels(), knows)
        self._lines = RunLines(logger)
        self._listeners = instrumentation.Listeners()

    def claimed(self, running: Running, execution: Execution[Any]) -> None:
        """This opens the run's span. What the run does from here on, in this task of the event loop, is inside it."""
        if onlookers:
            for onlooker in onlookers.values():
                self._tell(execution, onlooker.began)
        if not self._listeners.now().traced:
            return
        attributes = {
            **self._crew.worker.labels(),
            **execution.specific_labels(),
            **instrumentation.messaging_attributes(self._crew.docket.name, "process", "process"),
            "code.function.name": execution.function_name,
            "messaging.message.id": execution.key,
            "messaging.consumer.group.name": self._crew.docket.worker_group_name,
            "messaging.client.id": self._crew.options.name,
        }
        running.span = instrumentation.worker_tracer.start_span(
            execution.function_name,
            context.Context(),  # a trace of its own, linked to the one it was scheduled in
            trace.SpanKind.CONSUMER,
            attributes,
            execution.incoming_span_links(),
        )
        context.attach(trace.set_span_in_context(running.span))  # the task's own context goes with the task, so nobody need detach

    def started(self, running: Running, execution: Execution[Any]) -> None:
        """This says that a body starts, and how late."""
        claimed = running.claimed
        tally = self.tally
        if self._listeners.metered:
            task = execution.function_name
            running.is_counted = True
            tally.count(task, instrumentation.TASKS_STARTED, instrumentation.TASKS_RUNNING)
            if claimed.crashes:
                tally.count(task, instrumentation.TASKS_REDELIVERED)
            self._measure(task, instrumentation.TASK_PUNCTUALITY, (claimed.started_us - claimed.when_us) / 1e6)
        if logger.isEnabledFor(logging.INFO):
            call, fields = self._noted(running, execution)
            arrow = "↬" if execution.attempt > 1 else "↪"
            self._lines.write(logging.INFO, f"{arrow} [{format_duration((claimed.started_us - claimed.when_us) / 1e6)}] {call}", fields)

    def settled(self, running: Running, execution: Execution[Any], decision: Decision, duration: float, stands: ExecutionState | None) -> None:
        """This says how a run ended and what follows; `stands` is what its key's record says now, None when another took its place."""
        if decision.exception is None and running.span is None and not self._listeners.metered and not logger.isEnabledFor(logging.INFO):
            return  # nobody listens, as is usual
        what = became(decision, stands)
        follows = (decision.again in {"retry", "next"} or decision.follows) and stands in {ExecutionState.SCHEDULED, ExecutionState.QUEUED}
        self._count(running, execution, what, duration, perpetuated=decision.again == "next" and follows)
        self._end_span(running, decision, what)
        if onlookers and decision.exception is not None and what in _ERRORS:
            self._tell_failure(execution, decision.exception, what)
        level = _LEVELS.get(what, logging.INFO)
        if logger.isEnabledFor(level):
            call, fields = self._noted(running, execution)
            fields = {**fields, "duration": duration}
            told = f"[{format_duration(duration)}] {call}"
            self._lines.write(level, _ending(what, told, decision.exception), fields, decision.exception if what in _TRACED_BACK else None)
            if follows and logger.isEnabledFor(logging.INFO):
                self._lines.write(logging.INFO, f"↫ {told}", fields)

    def broke(self, execution: Execution[Any], exception: BaseException) -> None:
        """This says that what surrounds a run failed, and so the run."""
        self._tell_failure(execution, exception, Became.FAILED)

    def handed_back(self, running: Running, execution: Execution[Any], duration: float, stands: ExecutionState | None) -> None:
        """This says that a run goes to another worker, because this one stops: what its key's record says then is `stands`."""
        if running.span is not None:
            running.span.set_status(trace.StatusCode.OK)
        if not logger.isEnabledFor(logging.INFO):
            return
        what = Became.HANDED_BACK
        if stands is None or stands is ExecutionState.CANCELLED:  # replaced or cancelled meanwhile
            what = Became.SUPERSEDED if stands is None else Became.CANCELLED
        call, fields = self._noted(running, execution)
        self._lines.write(logging.INFO, _ending(what, f"[{format_duration(duration)}] {call}", None), {**fields, "duration": duration})

    def struck(self, running: Running, execution: Execution[Any]) -> None:
        """This says that a strike kept a run from being called."""
        if self._listeners.metered:
            self.tally.count(execution.function_name, instrumentation.TASKS_STRICKEN, where="worker")
        if running.span is not None:
            running.span.set_status(trace.StatusCode.OK)
        if logger.isEnabledFor(logging.WARNING):
            call, fields = self._noted(running, execution)
            self._lines.write(logging.WARNING, f"🗙 {call}", fields)

    def left(self, running: Running) -> None:
        """This says that the worker is done with a run, however that came about."""
        if onlookers and running.execution is not None:
            for onlooker in onlookers.values():
                self._tell(running.execution, onlooker.left)
        if running.is_counted:
            running.is_counted = False
            self.tally.count(running.claimed.function, less=instrumentation.TASKS_RUNNING)
        if running.span is not None:
            running.span.end()
            running.span = None

    def refused(self, key: str, reason: str) -> None:
        """This says that an entry was not ours to run."""
        if reason == "cancelled":
            logger.info("✗ %s (cancelled)", key, extra=self._crew.labels)
        elif reason.startswith("error"):
            logger.error("The record of %s cannot be read, so its entry was dropped: %s", key, reason, extra=self._crew.labels)
        else:
            logger.debug("↬ %s (superseded: %s)", key, reason, extra=self._crew.labels)

    def _tell_failure(self, execution: Execution[Any], exception: BaseException, what: Became) -> None:
        for onlooker in onlookers.values():
            self._tell(execution, onlooker.failed, exception, what.name.lower())

    def _tell(self, execution: Execution[Any], told: Callable[..., None], *about: object) -> None:
        try:
            told(execution, *about)
        except Exception:  # an error tracker's; the run goes on without it
            logger.exception("What looks on while %s runs failed itself", execution.key, extra=self._crew.labels)

    def _noted(self, running: Running, execution: Execution[Any]) -> tuple[str, dict[str, object]]:
        """How lines call the run, and what they carry: its identity and how late it was."""
        if running.note is None:
            claimed = running.claimed
            fields: dict[str, object] = {**self._crew.labels, **execution.specific_labels(), "punctuality": (claimed.started_us - claimed.when_us) / 1e6}
            running.note = called(execution), fields
        return running.note

    def _count(self, running: Running, execution: Execution[Any], what: Became, duration: float, *, perpetuated: bool) -> None:
        tally = self.tally
        if not self._listeners.metered:
            return
        task = execution.function_name
        if running.is_counted:
            self._measure(task, instrumentation.TASK_DURATION, duration)
        if what is Became.SUCCEEDED:
            less = instrumentation.TASKS_RUNNING if running.is_counted else None
            running.is_counted = False
            tally.count(task, instrumentation.TASKS_COMPLETED, instrumentation.TASKS_SUCCEEDED, less=less)
        elif what is Became.SUPERSEDED:
            tally.count(task, instrumentation.TASKS_SUPERSEDED, where="worker")
        elif what is Became.CANCELLED:
            if running.stopped != "cancelled":  # else whoever cancelled it has counted that
                tally.count(task, instrumentation.TASKS_CANCELLED)
        elif what is not Became.PUT_OFF:
            tally.count(task, instrumentation.TASKS_COMPLETED, instrumentation.TASKS_FAILED)
            if what is Became.RETRIED:
                tally.count(task, instrumentation.TASKS_RETRIED)
        if perpetuated:
            tally.count(task, instrumentation.TASKS_PERPETUATED)

    def _measure(self, task: str, histogram: Histogram, value: float) -> None:
        """Inside a span, at once: the SDK then remembers the trace as an example. Else with the others, which is quicker."""
        if self._listeners.traced:
            histogram.record(value, self.tally.labels_of(task))
        else:
            self.tally.measure(task, histogram, value)

    def _end_span(self, running: Running, decision: Decision, what: Became) -> None:
        span = running.span
        if span is None:
            return
        exception = decision.exception
        if what in _ERRORS and exception is not None:
            span.record_exception(exception)
            span.set_status(trace.StatusCode.ERROR, described(exception))
            span.set_attribute("error.type", type(exception).__qualname__)
        else:
            span.set_status(trace.StatusCode.OK)
        span.end()
        running.span = None


def _ending(what: Became, call: str, exception: BaseException | None) -> str:
    """The line that tells of an end."""
    if what is Became.SUPERSEDED:
        return f"↬ {call} (superseded)"
    if what is Became.HANDED_BACK:
        return f"↫ {call} (handed back)"
    if what is Became.CANCELLED:
        why = str(exception) if isinstance(exception, (Cancel, Dropped)) else ""
        return f"✗ {call} (cancelled: {why})" if why else f"✗ {call} (cancelled)"
    if what is Became.DEALT_WITH:
        return f"↩ {call} (dealt with: {described(exception)})"
    if what is Became.DISCARDED:
        return f"↩ {call} (discarded: {exception})"
    if what is Became.PUT_OFF:
        return f"↩ {call} ({exception})"
    return f"↩ {call}"
