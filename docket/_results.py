"""Where a result is kept, how it comes back, and how a stored failure is raised again.

Waiting for the end of a run is `execution`'s business, and writing how it ended is the worker's.
"""

from __future__ import annotations

import base64
import traceback
from typing import TYPE_CHECKING, Any

from docket._messages import loads_value
from docket.errors import ExecutionCancelled, PayloadError
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket._instructions import StrikeInstruction
    from docket._store.records import Outcome
    from docket.docket import Docket

__all__ = ["cancelled", "fetch_result", "remember_traceback", "result_of", "store_result", "struck_by"]

_ELSEWHERE = b"elsewhere"  # what stands in Redis for a value in `result_storage`; no pickle starts with a letter
_TRACEBACK = "__docket_traceback__"


class _WorkerTraceback(Exception):
    """This shows where in the worker a task failed."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


async def store_result(docket: Docket, key: str, generation: int, value: bytes | None) -> bytes | None:
    """This puts a value into the docket's `result_storage`, if it has one, and gives what is to stand in Redis."""
    storage = docket.result_storage
    if storage is None or value is None:
        return value
    data = {"data": base64.b64encode(value).decode()}
    await storage.put(f"{key}:{generation}", data, collection=docket.results_collection, ttl=docket.execution_ttl.total_seconds() or None)
    return _ELSEWHERE


async def fetch_result(docket: Docket, key: str, generation: int, value: bytes | None) -> bytes | None:
    """This gives the value that `store_result` was given: None when there was none, or when the storage has lost it."""
    if value != _ELSEWHERE or docket.result_storage is None:
        return None if value == _ELSEWHERE else value
    data = await docket.result_storage.get(f"{key}:{generation}", collection=docket.results_collection)
    return None if data is None else base64.b64decode(data["data"])


def remember_traceback(error: BaseException) -> None:
    """This writes an exception's traceback into it as text, which survives pickling, so that a waiter sees where it was raised."""
    try:
        setattr(error, _TRACEBACK, "".join(traceback.format_exception(type(error), error, error.__traceback__)))
    except Exception:  # noqa: BLE001, S110 - a user's exception may refuse attributes; the traceback is an extra
        pass


def struck_by(strike: StrikeInstruction) -> str:
    """This says why a run was struck: what its error is, and what waiting for it says."""
    return f"struck by {strike.call_repr()}"


def cancelled(key: str, why: str | None) -> ExecutionCancelled:
    """This is what whoever waits for a cancelled run is told."""
    return ExecutionCancelled(f"Execution {key} was cancelled" + (f": {why}" if why else ""))


async def result_of(docket: Docket, key: str, generation: int, outcome: Outcome) -> Any:
    """This gives the result of a run that ended well, and raises what ended it otherwise."""
    if outcome.state is ExecutionState.CANCELLED:
        raise cancelled(key, outcome.error)
    value = await fetch_result(docket, key, generation, outcome.value)
    if outcome.state is ExecutionState.FAILED:
        raise _failure(outcome.error, value)
    return None if value is None else loads_value(value)


def _failure(text: str | None, value: bytes | None) -> BaseException:
    described = Exception(text or "the task failed, and nothing more is known")
    if value is None:
        return described
    try:
        error = loads_value(value)
    except PayloadError:  # its class cannot be imported here; the text says as much as can be said
        return described
    if not isinstance(error, Exception):
        return described
    if (where := error.__dict__.pop(_TRACEBACK, None)) is not None:
        error.__cause__ = _WorkerTraceback(where)
    return error
