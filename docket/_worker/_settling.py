"""How a run ends: what was decided becomes a settlement, is written, and is then told to whoever is to know. Deciding is `_decision`'s business."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from docket._clock import to_us
from docket._context import witness
from docket._results import kept_failure, kept_result, sealed, struck_by
from docket._signing import unsealed
from docket._store.records import Outcome, Settlement
from docket._worker._decision import Decision
from docket._worker._failures import failed_attempt, reason_of
from docket._worker._report import called, described
from docket.dependencies._admission import AdmissionBlocked
from docket.dependencies._base import Verdict
from docket.dependencies._verdicts import Snooze
from docket.errors import InvalidArguments, NotSerializable, ServerError
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket._instructions import StrikeInstruction
    from docket._store.records import Claimed
    from docket._worker._crew import Crew
    from docket._worker._report import Report
    from docket._worker._runs import Running
    from docket._worker._undertaker import Undertaker
    from docket.execution import Execution

__all__ = ["Settler"]

logger = logging.getLogger("docket.worker")


class Settler:
    """This settles runs, and tells of each that is settled: the log and the counters, the witness of a test, and whoever waits for dead letters."""

    def __init__(self, crew: Crew, report: Report, undertaker: Undertaker) -> None:
        self._crew = crew
        self._report = report
        self._undertaker = undertaker
        self._lifecycle = crew.store.lifecycle
        self._payloads = crew.payloads
        self._witness = witness.get()

    async def conclude(self, running: Running, execution: Execution[Any], decision: Decision, duration: float, result: Any = None) -> None:
        """This writes what was decided of a run, and tells of it."""
        claimed = running.claimed
        payload = None
        if decision.arguments is not None:
            try:
                payload = self._payloads.dumps_call(*decision.arguments, execution.function)
            except (NotSerializable, InvalidArguments) as exc:  # the chain goes on as a failure leaves it: with the arguments it had
                decision = replace(decision, state=ExecutionState.FAILED, exception=exc, arguments=None)
        outcome = sealed(execution, await self._outcome(execution, decision, result))
        settlement = Settlement(
            claimed.run, claimed.message_id, outcome, again=decision.again,
            when_us=None if decision.when is None else to_us(decision.when), attempt=decision.attempt,
            payload=payload,
            limit=running.place or claimed.limit, wide=_is_wide(running),
        )  # fmt: skip
        if decision.state is ExecutionState.FAILED and not isinstance(decision.exception, (Snooze, AdmissionBlocked)):
            settlement.failure = self._failed(claimed, decision.exception)
        if decision.again == "next" and self._payloads.signs:  # also the arguments it had: a seal is good for one generation
            settlement.seal = self._payloads.sealing(claimed.function, claimed.run.key, unsealed(claimed.payload) if payload is None else payload)
        is_settled, stands = await self._settle(settlement)
        if is_settled:
            self._report.settled(running, execution, decision, duration, stands)
            if self._witness is not None:
                self._witness.settled(execution, decision, result, stands)
            if settlement.failure and decision.again != "retry" and stands is not None:
                await self._undertaker.buried(claimed.run)

    async def strike(self, running: Running, execution: Execution[Any], by: StrikeInstruction) -> None:
        """This ends a run that is struck, chain and all."""
        claimed = running.claimed
        outcome = Outcome(ExecutionState.CANCELLED, struck_by(by), struck=True)
        is_settled, stands = await self._settle(
            Settlement(claimed.run, claimed.message_id, outcome, again="end", limit=claimed.limit, wide=claimed.large_payload)
        )
        if is_settled and stands is not None:
            self._report.struck(running, execution)
        if is_settled and self._witness is not None:
            self._witness.settled(execution, Decision(ExecutionState.CANCELLED, again="end"), None, stands)

    async def give_up(self, running: Running, execution: Execution[Any], exc: BaseException) -> None:
        """This ends a run as failed for what went wrong around it."""
        claimed = running.claimed
        outcome = sealed(execution, Outcome(ExecutionState.FAILED, described(exc)))
        failure = self._failed(claimed, exc)
        is_settled, stands = await self._settle(
            Settlement(claimed.run, claimed.message_id, outcome, limit=running.place or claimed.limit, failure=failure, wide=_is_wide(running))
        )
        if is_settled and stands is not None:
            self._report.broke(execution, exc)
        if is_settled and running.execution is not None and self._witness is not None:
            self._witness.settled(execution, Decision(ExecutionState.FAILED, exc), None, stands)
        if is_settled and failure and stands is not None:
            await self._undertaker.buried(claimed.run)

    async def hand_back(self, running: Running) -> tuple[bool, ExecutionState | None]:
        """This gives a run to the other workers at once, as though it had not been claimed: same attempt, its place under a limit free.

        It answers whether that could be done, and what stands under the key then.
        """
        claimed = running.claimed
        settlement = Settlement(
            claimed.run, claimed.message_id, Outcome(ExecutionState.FAILED), again="release", limit=running.place or claimed.limit, wide=_is_wide(running)
        )
        return await self._settle(settlement)

    async def leave_to_others(self, claimed: Claimed, when_us: int) -> None:
        """This hands a run of a task that is not known here back, to be claimed again at that moment."""
        settlement = Settlement(
            claimed.run,
            claimed.message_id,
            Outcome(ExecutionState.FAILED),
            again="release",
            when_us=when_us,
            limit=claimed.limit,
            unknown=True,
            wide=claimed.large_payload,
        )
        await self._settle(settlement)

    async def _settle(self, settlement: Settlement) -> tuple[bool, ExecutionState | None]:
        try:
            return True, await self._lifecycle.settle(settlement)
        except Exception as exc:  # whatever it was, the others go on
            if isinstance(exc, ServerError) and not settlement.wide:
                settlement.wide = True  # somebody wrote a successor or a large payload into its record, and more keys are touched than was thought
                return await self._settle(settlement)
            logger.exception("Settling %s failed; it stays with this worker until its lease lapses", settlement.run.key, extra=self._crew.labels)
            return False, None

    async def _outcome(self, execution: Execution[Any], decision: Decision, result: Any) -> Outcome:
        exception = decision.exception
        if decision.state is ExecutionState.CANCELLED:
            return Outcome(ExecutionState.CANCELLED, (str(exception) or None) if isinstance(exception, Verdict) else None)
        if decision.again == "retry":
            return Outcome(ExecutionState.FAILED, None if isinstance(exception, (Snooze, AdmissionBlocked)) else described(exception))
        error = None if exception is None else described(exception)
        try:
            value = await (kept_result(execution, result) if exception is None else kept_failure(execution, exception))
            return Outcome(decision.state, error, value)
        except NotSerializable as exc:
            logger.warning("The result of %s is not kept: %s", called(execution), exc, extra=self._crew.labels)
            return Outcome(decision.state, str(exc))
        except Exception as exc:  # the docket's `result_storage`, which is the user's
            logger.exception("The result of %s is not kept", called(execution), extra=self._crew.labels)
            return Outcome(decision.state, error or f"the result is not kept: {described(exc)}")

    def _failed(self, claimed: Claimed, exception: BaseException | None) -> bytes:
        """What a dead letter is to tell of this attempt; nothing where none are kept."""
        if not self._crew.docket.options.dead_letter_retention:
            return b""
        return failed_attempt(claimed, exception, worker=self._crew.options.name, ended_us=self._crew.server_now_us(), reason=reason_of(exception))


def _is_wide(running: Running) -> bool:
    """Whether more than its record may have to be touched to settle it."""
    execution = running.execution
    return running.claimed.large_payload or (execution is not None and execution.successor_asked)
