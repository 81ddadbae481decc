"""One run, top to bottom: recognise, prepare, call, decide, conclude. Writing what was decided, and telling of it, is `_settling`'s business."""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import replace
from datetime import timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any

from docket._clock import from_us
from docket._context import current_docket, current_execution, current_worker, witness
from docket._logging import bind_run
from docket._signatures import shape_of
from docket._worker._admission import Gatekeeper
from docket._worker._decision import Decision, decide
from docket._worker._handlers import ask_on_completion, ask_on_failure
from docket._worker._report import called
from docket._worker._runs import ABANDONED, HANDED_BACK, LOST
from docket._worker._strangers import Strangers
from docket._worker._turn import Turn
from docket.dependencies._base import TaskOutcome, Verdict
from docket.dependencies._verdicts import Dropped
from docket.errors import ArgumentsChanged, DeliveriesExhausted, DocketError, InvalidArguments, UnknownTask
from docket.execution import Execution
from docket.states import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from docket._store.records import Claimed
    from docket._threads import Threads
    from docket._worker._crew import Crew
    from docket._worker._report import Report
    from docket._worker._runs import Running, Runs
    from docket._worker._settling import Settler
    from docket.dependencies._plan import Plan, Resolved
    from docket.dependencies._shared import SharedContext

__all__ = ["Runner"]

logger = logging.getLogger("docket.worker")

_COMPLETED = Decision(ExecutionState.COMPLETED)


class Runner:
    """This performs claimed runs."""

    def __init__(
        self,
        crew: Crew,
        report: Report,
        settler: Settler,
        shared: SharedContext,
        threads: Threads,
        plan_of: Callable[[str], Plan | None],
        limits: dict[str, int],
    ) -> None:
        self._crew = crew
        self._shared = shared
        self._threads = threads
        self._plan_of = plan_of
        self._left = limits
        """How many more runs are wanted, of keys for which that is limited."""
        self._report = report
        self._settler = settler
        self._strangers = Strangers(crew)
        self._gatekeeper = Gatekeeper(crew)
        self._payloads = crew.payloads
        self._strikes = crew.docket.strike_list
        self._witness = witness.get()

    async def perform(self, running: Running, runs: Runs) -> None:
        """This takes a claimed run to its settled end."""
        try:
            await self._perform(running, runs)
        except (Exception, asyncio.CancelledError) as exc:
            # A user's code has more ways in than the body: copies of behaviours, what decides, where results are kept, ...
            if isinstance(exc, asyncio.CancelledError) and (running.stopped == ABANDONED or runs.is_torn_down):
                raise
            logger.exception("What surrounds the run of %s failed, so the run ends as failed", running.claimed.run.key, extra=self._crew.labels)
            await self._end(running, runs, exc)
        finally:
            self._report.left(running)

    async def _end(self, running: Running, runs: Runs, exc: BaseException) -> None:
        runs.free_slot(running)
        if running.stopped in (LOST, ABANDONED):
            return
        execution = running.execution or self._execution(running.claimed, self._unrunnable, (), {})
        await self._settler.give_up(running, execution, exc)

    async def _perform(self, running: Running, runs: Runs) -> None:
        claimed = running.claimed
        try:
            plan = self._plan_of(claimed.function)
            if plan is None:
                runs.free_slot(running)
                await self._set_aside(running)
                return
            args, kwargs = self._payloads.loads_call(claimed.payload, claimed.function, claimed.run.key, claimed.run.generation, plan.function)
        except DocketError as exc:  # it cannot be decoded, or the task and the worker's own dependencies do not go together
            await self._conclude_unrunnable(running, exc)
            return

        execution = self._begin(running, plan, args, kwargs)
        if self._strikes.in_effect and await self._is_struck(running, runs, execution):
            return
        if self._left.get(claimed.run.key) == 0:
            await self._settler.conclude(running, execution, Decision(ExecutionState.CANCELLED, again="end"), 0.0)
            return
        if claimed.blamed and claimed.blamed >= (plan.max_deliveries or self._crew.docket.options.max_deliveries):
            await self._settler.conclude(running, execution, Decision(ExecutionState.FAILED, _exhausted(execution, claimed.blamed), again="end"), 0.0)
            return
        resolved = None if plan.trivial else plan.begin(execution)
        if resolved is not None and plan.limits and not await self._passes(running, execution, plan, resolved):
            return

        if claimed.crashes:
            await Turn(self._crew, running, runs).begin()
        elif runs.has_suspects:
            await runs.turn()
        last = self._is_last(claimed.run.key)
        self._report.started(running, execution)
        result, exception, duration = await self._try(running, runs, plan, resolved, args, kwargs)
        if running.stopped is not None and await self._goes_elsewhere(running, runs, execution, exception, duration):
            return
        if resolved is None and exception is None and not last:  # most runs: nothing is declared that could say otherwise
            runs.free_slot(running)
            await self._settler.conclude(running, execution, _COMPLETED, duration, result)
            return
        if isinstance(exception, TypeError) and (changed := _changed(execution)) is not None:  # no other attempt would go better
            runs.free_slot(running)
            await self._settler.conclude(running, execution, Decision(ExecutionState.FAILED, changed, again="end"), duration)
            return
        decision = await self._decide(running, plan, resolved, TaskOutcome(timedelta(seconds=duration), result, exception), last=last)
        runs.free_slot(running)
        await self._settler.conclude(running, execution, decision, duration, result)

    async def _goes_elsewhere(self, running: Running, runs: Runs, execution: Execution[Any], exception: BaseException | None, duration: float) -> bool:
        """Looks whether a run that was told to stop is another worker's, now or from here on: then nothing that its body did decides anything.

        A body that came to its end, or says what is to follow, although it was told to stop because the worker stops, has its way.
        """
        if running.stopped == LOST:
            logger.warning("Stopped %s: another worker has taken it over", called(execution), extra=self._crew.labels)
            return True
        if running.stopped == ABANDONED:
            logger.warning("%s has come to an end after it was abandoned; that counts for nothing", called(execution), extra=self._crew.labels)
            return True
        if running.stopped != HANDED_BACK or exception is None or isinstance(exception, Verdict):
            return False
        runs.free_slot(running)
        is_settled, stands = await self._settler.hand_back(running)
        if is_settled:
            self._report.handed_back(running, execution, duration, stands)
        return True

    async def _is_struck(self, running: Running, runs: Runs, execution: Execution[Any]) -> bool:
        """Looks whether a strike means the run. One that is struck ends here, chain and all, before anything of the user's is called."""
        strike = self._strikes.stricken_by(execution)
        if strike is None:
            return False
        runs.free_slot(running)
        await self._settler.strike(running, execution, strike)
        return True

    def _begin(self, running: Running, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Execution[Any]:
        """Says, to whoever asks in this task from here on, which run this is."""
        execution = running.execution = self._execution(running.claimed, plan.function, args, kwargs)
        current_docket.set(self._crew.docket)
        current_worker.set(self._crew.worker)
        current_execution.set(execution)
        bind_run(execution.function_name, execution.key, execution.attempt)
        self._report.claimed(running, execution)
        if self._witness is not None:
            self._witness.began(execution)
        return execution

    async def _try(
        self, running: Running, runs: Runs, plan: Plan, resolved: Resolved | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, BaseException | None, float]:
        """Calls the body and tells what it gave, what it raised, and how long it took."""
        result, exception = None, None
        began = perf_counter()
        try:
            result = await self._call(running, plan, resolved, args, kwargs)
        except asyncio.CancelledError as exc:
            if running.stopped is None and runs.is_torn_down:
                raise  # the event loop is being torn down; the lease lapses and another worker runs it
            exception = exc
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - whatever a task raises, SystemExit too, is how that task failed; the worker goes on
            exception = exc
        duration = perf_counter() - began
        if running.stopped is not None:
            await _forget_cancellation(running)
        return result, exception, duration

    async def _decide(self, running: Running, plan: Plan, resolved: Resolved | None, outcome: TaskOutcome, *, last: bool) -> Decision:
        """Decides what follows, with what the user's own handlers say."""
        execution = running.execution
        assert execution is not None
        asked = resolved if plan.has_handlers else None
        dealt_with = False
        if asked is not None:
            outcome, dealt_with = await ask_on_failure(asked, execution, outcome)
        decision = decide(
            outcome,
            attempt=execution.attempt,
            retry=None if resolved is None else resolved.retry,
            perpetual=None if resolved is None else resolved.perpetual,
            started=from_us(running.claimed.started_us),
            now=from_us(self._crew.server_now_us()),
            last=last,
        )
        if asked is None:
            return decision
        return replace(decision, dealt_with=dealt_with, follows=await ask_on_completion(asked, execution, outcome, decision))

    async def _passes(self, running: Running, execution: Execution[Any], plan: Plan, resolved: Resolved) -> bool:
        """Takes the run through its limits. One that is set aside is no longer ours; one that is dropped, or was cancelled meanwhile, ends here."""
        admission = await self._gatekeeper.admit(running, execution, plan.requirements(resolved))
        if admission.word == "admitted":
            return True
        decision = Decision(ExecutionState.CANCELLED, again="end")
        if admission.word == "dropped":
            started, now = from_us(running.claimed.started_us), from_us(self._crew.server_now_us())
            dropped = TaskOutcome(timedelta(0), exception=Dropped(f"blocked by {admission.detail}"))
            decision = decide(dropped, attempt=execution.attempt, retry=None, perpetual=resolved.perpetual, started=started, now=now)
        if admission.word in ("dropped", "cancelled", "superseded"):
            await self._settler.conclude(running, execution, decision, 0.0)
        return False

    async def _conclude_unrunnable(self, running: Running, exc: DocketError) -> None:
        """Ends a run whose body cannot even be called."""
        execution = running.execution = self._execution(running.claimed, self._unrunnable, (), {})
        self._report.claimed(running, execution)
        await self._settler.conclude(running, execution, Decision(ExecutionState.FAILED, exc), 0.0)

    @staticmethod
    def _unrunnable() -> None:
        """Stands in for the function of a run that cannot be called."""

    def _execution(self, claimed: Claimed, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Execution[Any]:
        execution: Execution[Any] = Execution(self._crew.docket, function, args, kwargs, claimed.run.key, None, claimed.attempt, function_name=claimed.function)
        execution.claimed(claimed, self._crew.options.name, self._crew.stopping)
        return execution

    def _is_last(self, key: str) -> bool:
        if key not in self._left:
            return False
        self._left[key] -= 1
        return self._left[key] == 0

    async def _call(self, running: Running, plan: Plan, resolved: Resolved | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if resolved is None and plan.is_coroutine:
            function, thread = plan.function, None
        else:
            assert running.execution is not None
            thread = self._threads.thread(functools.partial(called, running.execution), self._crew.labels)
            function = plan.function if plan.is_coroutine else functools.partial(thread.call_out, lambda: running.stopped == HANDED_BACK, plan.function)
        if running.stopped is not None:  # told to stop before it began
            raise asyncio.CancelledError
        running.in_body = True
        try:
            if resolved is None:
                return await function(*args, **kwargs)
            resolution = resolved.dependencies(
                docket=self._crew.docket, worker=self._crew.worker, shared=self._shared, overrides=self._crew.worker.overrides,
                cleanup_timeout=self._crew.options.cleanup_timeout, thread=thread,
            )  # fmt: skip
            async with resolution as given:
                try:
                    if resolved.runtime is not None:
                        return await resolved.runtime.run(resolved.execution, function, args, {**kwargs, **given})
                    return await function(*args, **kwargs, **given)
                finally:
                    running.in_body, running.is_over = False, True  # what follows is closing, which is not cut short
        finally:
            running.in_body, running.is_over = False, True

    async def _set_aside(self, running: Running) -> None:
        """Leaves a task that this worker does not know to others, until that has gone on for too long."""
        claimed, limit = running.claimed, self._crew.docket.options.unknown_task_limit
        now_us = self._crew.server_now_us()
        if claimed.unknown_since_us is None or from_us(now_us) - from_us(claimed.unknown_since_us) < limit:
            await self._settler.leave_to_others(claimed, now_us + int(self._strangers.delay(claimed) * 1e6))
            return
        waited = f"no worker has known the task {claimed.function!r} for {limit}; register it on a worker, and run this again from the dead letters"
        await self._conclude_unrunnable(running, UnknownTask(waited))


def _changed(execution: Execution[Any]) -> ArgumentsChanged | None:
    """Looks whether the stored arguments bind to the function at all: it may have changed since they were stored."""
    try:
        shape_of(execution.function).check(execution.function_name, execution.args, execution.kwargs)
    except InvalidArguments as exc:
        return ArgumentsChanged(str(exc))
    return None


def _exhausted(execution: Execution[Any], deaths: int) -> DeliveriesExhausted:
    return DeliveriesExhausted(
        f"{execution.function_name} took down every worker that ran it alone, {deaths} in all, so it is not run again; "
        "see what those workers left behind (out of memory, a crash in a C extension, os._exit), and raise max_deliveries if they died of something else"
    )


async def _forget_cancellation(running: Running) -> None:
    """What cancelled the body is not to cut short what comes after it (`asyncio.timeout` looks at this count)."""
    uncancel = getattr(running.task, "uncancel", int)  # from Python 3.11; before, there is no count
    uncancel()
    try:
        await asyncio.sleep(0)  # it has not arrived yet where a body cancelled itself, on `memory://`, and then ended without another await
    except asyncio.CancelledError:
        pass
