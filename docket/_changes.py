"""What an operator may ask of one run: move it, have it now, run it again, cancel it. Each is one step in Redis, and fenced by the run's generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from docket import instrumentation
from docket._clock import to_us
from docket._store.records import Change, Changed
from docket._when import due
from docket.errors import ExecutionSuperseded, InvalidSchedule, ResultUnavailable, WrongState
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket._when import When
    from docket.docket import Docket
    from docket.execution import Execution

__all__ = ["cancel", "promote", "reschedule", "retry"]

_TO_MOVE_IT = {
    ExecutionState.RUNNING: "cancel it, or put another run in its place with docket.replace(...)",
    ExecutionState.COMPLETED: "schedule it again with docket.add(...)",
    ExecutionState.FAILED: "run it again with retry()",
    ExecutionState.CANCELLED: "run it again with retry()",
}
_TO_RUN_IT_AGAIN = {
    ExecutionState.SCHEDULED: "have it run now with promote()",
    ExecutionState.QUEUED: "it runs as soon as a worker is free and its limits let it",
    ExecutionState.RUNNING: "wait for its end, or cancel it first",
    ExecutionState.COMPLETED: "schedule it again with docket.add(...)",
}
_ADVICE = {"rescheduled": _TO_MOVE_IT, "promoted": _TO_MOVE_IT, "retried": _TO_RUN_IT_AGAIN}


async def reschedule(execution: Execution[Any], when: When) -> Changed:
    """This moves a run that has not begun to another moment. Raises as `Execution.reschedule` does."""
    docket = execution.docket
    moment = due(when, docket.clock)
    if moment is None:
        raise InvalidSchedule("when is None; give an aware datetime or a timedelta from now, or have it run now with promote()")
    _check_scheduled(execution, "rescheduled")
    answer = await docket.store.lifecycle.reschedule(Change(execution.key, execution.generation, to_us(moment)))
    return answer if answer.word == "done" else _refuse(execution, "rescheduled", answer)


async def promote(execution: Execution[Any]) -> Changed:
    """This has a run that has not begun run now. Raises as `Execution.promote` does."""
    _check_scheduled(execution, "promoted")
    answer = await execution.docket.store.lifecycle.reschedule(Change(execution.key, execution.generation))
    return answer if answer.word == "done" else _refuse(execution, "promoted", answer)


async def retry(execution: Execution[Any]) -> tuple[Changed, bytes | None]:
    """This runs again what failed or was cancelled, and gives its payload where that had to be sealed anew. Raises as `Execution.retry` does."""
    _check_scheduled(execution, "retried")
    docket, key, generation = execution.docket, execution.key, execution.generation
    seal = None
    if docket.payloads.signs:
        record = await docket.store.inspection.load(key)
        if record is not None and record.generation == generation and record.payload is not None:  # else the script says what became of it
            seal = docket.payloads.resealing(record.function, key, generation, record.payload)
    answer = await docket.store.lifecycle.retry(Change(key, generation, seal=seal))
    if answer.word != "done":
        _refuse(execution, "retried", answer)
    return answer, seal and seal(answer.generation)


async def cancel(docket: Docket, key: str, generation: int | None = None) -> None:
    """This cancels what stands under a key, or one very run there; nothing where nothing of the kind stands."""
    store, labels = docket.store, docket.labels()
    with instrumentation.span("docket.cancel", {**labels, "docket.key": key}):
        was, _ = await store.lifecycle.cancel(key, generation)
    if was is not None:
        instrumentation.TASKS_CANCELLED.add(1, labels)


def _check_scheduled(execution: Execution[Any], asked: str) -> None:
    if not execution.generation:
        raise WrongState(f"{_named(execution)} cannot be {asked}: it was never scheduled; schedule it first")


def _refuse(execution: Execution[Any], asked: str, answer: Changed) -> NoReturn:
    named = _named(execution)
    if answer.word == "superseded":
        raise ExecutionSuperseded(
            f"{named} cannot be {asked}: another run has taken its place under this key (a replacement, the next link of a chain, or one that was scheduled "
            f"after its end); that is docket.get_execution({execution.key!r})"
        )
    if answer.word == "gone":
        raise ResultUnavailable(
            f"{named} cannot be {asked}: nothing is known of it (any more); a record is kept for {execution.docket.execution_ttl} after the end: "
            "raise execution_ttl, or schedule it anew with docket.add(...)"
        )
    assert answer.state is not None
    raise WrongState(f"{named} cannot be {asked}: it is {answer.state.value}; {_ADVICE[asked][answer.state]}")


def _named(execution: Execution[Any]) -> str:
    return f"{execution.function_name}{{{execution.key}}}"
