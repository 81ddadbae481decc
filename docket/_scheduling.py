"""The road of a call into the store: what is asked is checked, becomes an order, is sent, counted and traced, alone or among many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from opentelemetry import propagate, trace
from typing_extensions import Self

from docket import _context, instrumentation
from docket._clock import to_us
from docket._messages import dumps_trace
from docket._store.records import Order, Ordered, RunId
from docket._tally import Tally
from docket._task import NamedTask
from docket._when import check_key, due
from docket.errors import DocketError, InDoubt, InvalidOption, RedisUnavailable
from docket.execution import Execution
from docket.states import Disposition

if TYPE_CHECKING:
    from docket._registry import Registered
    from docket.docket import Docket
    from docket.execution import TaskCall, TaskFunction

__all__ = ["Scheduling"]

logger = logging.getLogger("docket.docket")

R = TypeVar("R")

_SLICE = 100
"""Tasks of a batch that are prepared without a pause: about a millisecond of work, in which nothing else in the event loop runs."""


_NO_SPAN = nullcontext(trace.INVALID_SPAN)


class _Prepared(NamedTuple):
    execution: Execution[Any]
    order: Order | None  # None: it failed on the way here, or is struck


class Scheduling:
    """This schedules calls on one docket."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._looked_for: set[str] = set()
        self._listeners = instrumentation.Listeners()
        self._tally = Tally(docket.labels(), docket.registry.functions.__contains__)

    def flush(self) -> None:
        """This hands over what was counted, before the docket is left."""
        self._tally.flush()

    async def schedule(self, call: TaskCall[R] | Execution[R], *, replace: bool) -> Execution[R]:
        """This schedules one call; see `Docket.schedule`."""
        lifecycle, listeners = self._docket.store.lifecycle, self._listeners.now()
        execution, registered = self._execution(call)
        if not listeners.traced:
            if not self._is_struck(execution):
                execution.ordered(await lifecycle.schedule(self._order(execution, replace)))
        else:
            with self._span("docket.replace" if replace else "docket.add", execution) as span:
                if not self._is_struck(execution):
                    execution.ordered(await lifecycle.schedule(self._order(execution, replace, _trace_context())))
                span.set_attribute("docket.disposition", execution.disposition.value)
        if listeners.metered:
            self._count((execution,), replace=replace)
        if execution.schedule_exception is not None:
            raise execution.schedule_exception
        if registered is None and execution.disposition is not Disposition.STRUCK:
            await self._warn_if_unknown(execution.function_name)
        return execution

    async def schedule_many(self, calls: Iterable[TaskCall[Any]], chunk_size: int | None, *, replace: bool, quietly: bool = False) -> list[Execution[Any]]:
        """This schedules many; see `Docket.add_many`."""
        if chunk_size is not None and chunk_size < 1:
            raise InvalidOption(f"chunk_size is {chunk_size}; give a whole number of at least 1, or None for everything at once")
        lifecycle, listeners = self._docket.store.lifecycle, self._listeners.now()
        many_span = self._many_span("docket.replace_many" if replace else "docket.add_many") if listeners.traced and not quietly else _NO_SPAN
        with many_span as span:
            trace_context = _trace_context() if listeners.traced else b""
            async with _Batch(lifecycle.schedule_many) as batch:
                remaining = iter(calls)
                while chunk := await self._prepared(islice(remaining, chunk_size), replace, trace_context):
                    await batch.send(chunk)
                executions = await batch.finish()
            struck = sum(execution.disposition is Disposition.STRUCK for execution in executions)
            span.set_attributes({"docket.batch.count": len(executions), "docket.batch.stricken": struck, "messaging.batch.message_count": len(executions)})
        if listeners.metered:
            self._count(executions, replace=replace)
        scheduled = (execution for execution in executions if execution.disposition is not Disposition.STRUCK)
        for name in {execution.function_name for execution in scheduled if isinstance(execution.function, NamedTask)}:
            await self._warn_if_unknown(name)
        return executions

    def _execution(self, call: TaskCall[Any] | Execution[Any]) -> tuple[Execution[Any], Registered | None]:
        """This gives the execution that a call asks for, and what its task is registered as; None for one that is known by name only."""
        if isinstance(call, Execution):
            registered = self._registered(call.function, call.function_name)
            execution = call
        else:
            registered = self._registered(call.function, call.function_name)
            name = call.function_name if registered is None else registered.name
            function = call.function if registered is None else registered.function
            execution = Execution(self._docket, function, call.args, call.kwargs, call.key, due(call.when, self._docket.clock), 1, function_name=name)
        if registered is not None:
            registered.handle.shape.check(registered.name, execution.args, execution.kwargs)
        check_key(execution.key)
        return execution, registered

    def _registered(self, function: TaskFunction, name: str | None) -> Registered | None:
        if type(function) is NamedTask:  # not isinstance: handles are abstract classes, whose checks take longer, and this is asked for every call
            return self._docket.registry.get(cast("NamedTask", function).name)
        return self._docket.registry.ensure(function, name, bind=False)  # a handle that takes the ambient docket may take another next time

    def _is_struck(self, execution: Execution[Any]) -> bool:
        """This looks whether a strike keeps a call from being scheduled, and if so tells the execution and the log."""
        strikes = self._docket.strike_list
        strike = strikes.stricken_by(execution) if strikes.in_effect else None
        if strike is None:
            return False
        execution.struck(strike)
        extra = {**self._docket.labels(), "docket.task": execution.function_name, "docket.key": execution.key}
        logger.warning("%r is stricken, skipping schedule of %r", execution.function_name, execution.key, extra=extra)
        return True

    def _order(self, execution: Execution[Any], replace: bool, trace_context: bytes = b"") -> Order:
        when, payloads = execution.due, self._docket.payloads
        payload = payloads.dumps_call(execution.args, execution.kwargs, execution.function)
        return Order(
            execution.key,
            execution.function_name,
            payload,
            None if when is None else to_us(when),
            replace,
            trace_context,
            self._own_run(execution.key, replace),
            payloads.sealing(execution.function_name, execution.key, payload),
        )

    def _own_run(self, key: str, replace: bool) -> RunId | None:
        """This names the run that asks, when it asks for its own key; the run remembers what it asked for."""
        running = _context.current_execution.get(None)
        if running is None or running.key != key:
            return None
        around, docket = running.docket, self._docket
        if around is not docket and (around.name, around.url) != (docket.name, docket.url):
            return None
        if replace:
            running.replaced_itself = True
        else:
            running.successor_asked = True
        return running.within()

    async def _prepared(self, calls: Iterator[TaskCall[Any]], replace: bool, trace_context: bytes) -> list[_Prepared]:
        prepared: list[_Prepared] = []
        while some := [self._prepare(call, replace, trace_context) for call in islice(calls, _SLICE)]:
            prepared += some
            await asyncio.sleep(0)
        return prepared

    def _prepare(self, call: TaskCall[Any], replace: bool, trace_context: bytes) -> _Prepared:
        try:
            execution, _ = self._execution(call)
            return _Prepared(execution, None if self._is_struck(execution) else self._order(execution, replace, trace_context))
        except DocketError as exc:
            execution = Execution(self._docket, call.function, call.args, call.kwargs, call.key, None, 1, function_name=call.function_name)
            execution.failed(exc)
            return _Prepared(execution, None)

    async def _warn_if_unknown(self, name: str) -> None:
        """This warns, once a name, when a task that is not registered here is not known to any live worker either."""
        if name in self._looked_for:
            return
        docket = self._docket
        silence = docket.heartbeat_interval * docket.missed_heartbeats
        try:
            workers = await self._docket.store.workers.live(since_us=to_us(self._docket.clock.now() - silence))
        except DocketError:
            return  # the task is written; whether anybody waits for it can be seen next time
        self._looked_for.add(name)
        if not any(name in worker.tasks for worker in workers):
            logger.warning(
                "Task %r is scheduled, but is not registered with docket %r in this process, and none of its %d live workers knows it; it waits for one that does.",
                name,
                docket.name,
                len(workers),
                extra={**self._docket.labels(), "docket.task": name},
            )

    def _count(self, executions: Iterable[Execution[Any]], *, replace: bool) -> None:
        count = self._tally.count
        for execution in executions:
            task = execution.function_name
            if execution.disposition is Disposition.SCHEDULED:
                count(task, instrumentation.TASKS_REPLACED if replace else instrumentation.TASKS_ADDED, instrumentation.TASKS_SCHEDULED)
            elif execution.disposition is Disposition.STRUCK:
                count(task, instrumentation.TASKS_STRICKEN, where="docket")

    def _span(self, name: str, execution: Execution[Any]) -> Any:
        attributes = {
            **self._docket.labels(),
            **execution.specific_labels(),
            **self._messaging(name),
            "code.function.name": execution.function_name,
            "messaging.message.id": execution.key,
        }
        return instrumentation.tracer.start_as_current_span(name, kind=trace.SpanKind.PRODUCER, attributes=attributes)

    def _many_span(self, name: str) -> Any:
        attributes = {**self._docket.labels(), **self._messaging(name)}
        return instrumentation.tracer.start_as_current_span(name, kind=trace.SpanKind.PRODUCER, attributes=attributes)

    def _messaging(self, span: str) -> dict[str, str]:
        """What OpenTelemetry's conventions for messaging ask of a sender's span."""
        return instrumentation.messaging_attributes(self._docket.name, span.removeprefix("docket."), "send")


class _Batch:
    """This sends chunks one after another; while one is under way, the next is prepared."""

    def __init__(self, schedule_many: Callable[[Sequence[Order]], Coroutine[Any, Any, Sequence[Ordered | Exception]]]) -> None:
        self._schedule_many = schedule_many
        self._executions: list[Execution[Any]] = []
        self._sending: asyncio.Task[None] | None = None
        self._written = False
        self._outage: RedisUnavailable | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        if self._sending is None or self._sending.done():
            return
        if isinstance(exc, asyncio.CancelledError):
            self._sending.cancel()
        await asyncio.wait([self._sending])  # the caller's iterable failed: what is under way still arrives

    async def send(self, chunk: list[_Prepared]) -> None:
        """This sends a chunk once the one before it has arrived."""
        await self._sent()
        self._executions += [prepared.execution for prepared in chunk]
        self._sending = asyncio.create_task(self._send(chunk), name="docket: a chunk of add_many")
        await asyncio.sleep(0)

    async def finish(self) -> list[Execution[Any]]:
        """This waits for the last chunk and gives all executions. Raises `RedisUnavailable` when nothing was written, for want of a server."""
        await self._sent()
        if self._outage is not None and not self._written:
            raise self._outage
        return self._executions

    async def _sent(self) -> None:
        if self._sending is not None:
            await self._sending

    async def _send(self, chunk: list[_Prepared]) -> None:
        executions = [prepared.execution for prepared in chunk if prepared.order is not None]
        orders = [prepared.order for prepared in chunk if prepared.order is not None]
        answers: Sequence[Ordered | Exception] = [self._outage] * len(orders) if self._outage else await self._schedule_many(orders)
        for execution, answer in zip(executions, answers, strict=True):
            if isinstance(answer, Ordered):
                self._written = True
                execution.ordered(answer)
            else:
                execution.failed(answer)
                self._written = self._written or isinstance(answer, InDoubt)
        if executions and all(isinstance(answer, RedisUnavailable) for answer in answers):
            self._outage = cast("RedisUnavailable", answers[0])  # nobody there: the rest is not tried


def _trace_context() -> bytes:
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return dumps_trace(carrier)
