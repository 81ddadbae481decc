"""Asks a user's own handlers what follows a run. What a `Retry` or a `Perpetual` says is `_decision`'s business."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from docket._worker._report import called
from docket.dependencies._base import TaskOutcome, Verdict
from docket.dependencies._perpetual import Perpetual
from docket.dependencies._retry import Retry
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket._worker._decision import Decision
    from docket.dependencies._plan import Resolved
    from docket.execution import Execution

__all__ = ["ask_on_completion", "ask_on_failure"]

logger = logging.getLogger("docket.worker")


async def ask_on_failure(resolved: Resolved, execution: Execution[Any], outcome: TaskOutcome) -> tuple[TaskOutcome, bool]:
    """This has a user's `FailureHandler` look at a failure. It gives the outcome, a verdict in the failure's place if it raised one,
    and whether the failure is dealt with.
    """
    handler = resolved.failure_handler
    if handler is None or isinstance(handler, Retry) or outcome.exception is None or isinstance(outcome.exception, (Verdict, asyncio.CancelledError)):
        return outcome, False
    try:
        return outcome, await handler.handle_failure(execution, outcome)
    except Verdict as verdict:
        return replace(outcome, exception=verdict), False
    except Exception:
        logger.exception("The failure handler of %s failed itself", called(execution), extra=execution.specific_labels())
        return outcome, False


async def ask_on_completion(resolved: Resolved, execution: Execution[Any], outcome: TaskOutcome, decision: Decision) -> bool:
    """This tells a user's `CompletionHandler` of an end. It gives whether something follows."""
    handler = resolved.completion_handler
    if handler is None or isinstance(handler, Perpetual) or decision.again == "retry" or decision.state is ExecutionState.CANCELLED:
        return False
    try:
        return await handler.on_complete(execution, outcome)
    except Exception:
        logger.exception("The completion handler of %s failed itself", called(execution), extra=execution.specific_labels())
        return False
