"""Where a result is kept, how it comes back, and how a stored failure is raised again.

Waiting for the end of a run is `execution`'s business, and writing how it ended is the worker's.
"""

from __future__ import annotations

import base64
import traceback
from typing import TYPE_CHECKING, Any

from docket.errors import ExecutionCancelled, PayloadError
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket._instructions import StrikeInstruction
    from docket._payloads import Payloads
    from docket._store.records import Outcome
    from docket.execution import Execution

__all__ = ["cancelled", "fetch_result", "kept_failure", "kept_result", "remember_traceback", "result_of", "sealed", "store_result", "struck_by"]

_ELSEWHERE = b"elsewhere"  # what stands in Redis for a value in `result_storage`; no payload starts with a letter
_TRACEBACK = "__docket_traceback__"


class _WorkerTraceback(Exception):
    """This shows where in the worker a task failed."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


async def kept_result(execution: Execution[Any], result: Any) -> bytes | None:
    """This gives what is to stand in Redis for a result. Raises `NotSerializable`, and what the docket's `result_storage` raises."""
    docket = execution.docket
    if result is None:
        return None
    return await store_result(execution, docket.payloads.dumps_result(result, execution.function, limited=docket.result_storage is None))


async def kept_failure(execution: Execution[Any], error: BaseException) -> bytes | None:
    """This gives what is to stand in Redis for a failure, beside its text; None where that has to do. Raises what the docket's `result_storage` raises."""
    docket = execution.docket
    where = remember_traceback(error)
    return await store_result(execution, docket.payloads.dumps_exception(error, where, limited=docket.result_storage is None))


def sealed(execution: Execution[Any], outcome: Outcome) -> Outcome:
    """This seals how a run ended, where the docket signs. A cancellation needs none: whoever may write to Redis may cancel."""
    payloads = execution.docket.payloads
    if payloads.signs and outcome.state is not ExecutionState.CANCELLED:
        outcome.value = payloads.seal_outcome(execution.function_name, execution.key, execution.generation, outcome.state.value, outcome.error, outcome.value)
    return outcome


async def store_result(execution: Execution[Any], value: bytes | None) -> bytes | None:
    """This puts a value into the docket's `result_storage`, if it has one, and gives what is to stand in Redis."""
    docket, key, generation = execution.docket, execution.key, execution.generation
    storage = docket.result_storage
    if storage is None or value is None:
        return value
    data = {"data": base64.b64encode(docket.payloads.seal_result(execution.function_name, key, generation, value)).decode()}
    await storage.put(f"{key}:{generation}", data, collection=docket.results_collection, ttl=docket.execution_ttl.total_seconds() or None)
    return _ELSEWHERE


async def fetch_result(execution: Execution[Any], value: bytes | None, task: str = "") -> bytes | None:
    """This gives the value that `store_result` was given: None when there was none, or when the storage has lost it. Raises `PayloadRefused`."""
    docket, key, generation = execution.docket, execution.key, execution.generation
    if value != _ELSEWHERE or docket.result_storage is None:
        return None if value == _ELSEWHERE else value
    data = await docket.result_storage.get(f"{key}:{generation}", collection=docket.results_collection)
    return None if data is None else docket.payloads.open_result(task or execution.function_name, key, generation, base64.b64decode(data["data"]))


def remember_traceback(error: BaseException) -> str:
    """This gives an exception's traceback as text, and writes it into the exception, where it survives pickling, so that a waiter sees where it was raised."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        setattr(error, _TRACEBACK, text)
    except Exception:  # noqa: BLE001, S110 - a user's exception may refuse attributes; the traceback is an extra
        pass
    return text


def struck_by(strike: StrikeInstruction) -> str:
    """This says why a run was struck: what its error is, and what waiting for it says."""
    return f"struck by {strike.call_repr()}"


def cancelled(key: str, why: str | None) -> ExecutionCancelled:
    """This is what whoever waits for a cancelled run is told."""
    return ExecutionCancelled(f"Execution {key} was cancelled" + (f": {why}" if why else ""))


async def result_of(execution: Execution[Any], outcome: Outcome, task: str = "") -> Any:
    """This gives the result of a run that ended well, and raises what ended it otherwise; `PayloadRefused` where the end is not signed as it should be.

    `task`: the task of that run, where it is known better than by the execution.
    """
    if outcome.state is ExecutionState.CANCELLED:
        raise cancelled(execution.key, outcome.error)
    payloads, function = execution.docket.payloads, execution.function
    if task and task != execution.function_name:
        registered = execution.docket.registry.get(task)
        function = registered and registered.function
    task = task or execution.function_name
    value = payloads.open_outcome(task, execution.key, execution.generation, outcome.state.value, outcome.error, outcome.value)
    value = await fetch_result(execution, value, task)
    if outcome.state is ExecutionState.FAILED:
        raise _failure(payloads, outcome.error, value)
    return None if value is None else payloads.loads_result(value, function)


def _failure(payloads: Payloads, text: str | None, value: bytes | None) -> BaseException:
    described = Exception(text or "the task failed, and nothing more is known")
    if value is None:
        return described
    try:
        error, where = payloads.loads_exception(value)
    except PayloadError:  # its class cannot be imported here, or is not accepted; the text says as much as can be said
        return described
    if not isinstance(error, Exception):
        error = described
    if (where := error.__dict__.pop(_TRACEBACK, where)) is not None:
        error.__cause__ = _WorkerTraceback(where)
    return error
