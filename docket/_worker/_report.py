"""What the log says of a run: one line as it starts, one as it ends. Built only when somebody listens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from docket._logging import format_duration
from docket._signatures import compact_signature, get_signature
from docket.dependencies._base import Verdict
from docket.dependencies._verdicts import Discard
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket._worker._crew import Crew
    from docket._worker._decision import Decision
    from docket.execution import Execution

__all__ = ["Report", "called", "described", "log_tasks"]

logger = logging.getLogger("docket.worker")


def described(exception: BaseException | None) -> str:
    """This prints a failure in a line: what kind, and what it says."""
    try:
        return f"{type(exception).__name__}: {exception}"
    except Exception:  # noqa: BLE001 - a user's `__str__`
        return f"{type(exception).__name__} (which cannot be printed)"


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


class Report:
    """This logs the runs of one worker."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def _extra(self, execution: Execution[Any], **more: object) -> dict[str, object]:
        return {**self._crew.labels, **execution.specific_labels(), **more}

    def started(self, execution: Execution[Any], lateness: float) -> None:
        """This says that a body starts, and how late."""
        if logger.isEnabledFor(logging.INFO):
            arrow = "↬" if execution.attempt > 1 else "↪"
            logger.info("%s [%s] %s", arrow, format_duration(lateness), called(execution), extra=self._extra(execution, punctuality=lateness))

    def settled(self, execution: Execution[Any], decision: Decision, duration: float, stands: ExecutionState | None) -> None:
        """This says how a run ended and what follows; `stands` is what its key's record says now, None when another took its place."""
        exception = decision.exception
        is_verdict = isinstance(exception, Verdict) and (decision.again == "retry" or isinstance(exception, Discard))
        failed = exception is not None and decision.state is ExecutionState.FAILED and not is_verdict and not decision.dealt_with
        level = logging.INFO
        if failed or isinstance(exception, Discard):
            level = logging.WARNING if is_verdict or decision.again == "retry" else logging.ERROR
        if not logger.isEnabledFor(level):
            return
        call, took, extra = called(execution), format_duration(duration), self._extra(execution, duration=duration)
        if stands is None:
            logger.info("↬ [%s] %s (superseded)", took, call, extra=extra)
        elif decision.state is ExecutionState.CANCELLED or (is_verdict and stands is ExecutionState.CANCELLED):
            why = f": {exception}" if isinstance(exception, Verdict) and not is_verdict and str(exception) else ""
            logger.info("✗ [%s] %s (cancelled%s)", took, call, why, extra=extra)
        elif is_verdict:
            word = "discarded: " if isinstance(exception, Discard) else ""
            logger.log(level, "↩ [%s] %s (%s%s)", took, call, word, exception, extra=extra)
        elif decision.dealt_with:
            logger.info("↩ [%s] %s (dealt with: %s)", took, call, described(exception), extra=extra)
        else:
            logger.log(level, "↩ [%s] %s", took, call, extra=extra, exc_info=exception if failed else None)
        if (decision.again in {"retry", "next"} or decision.follows) and stands in {ExecutionState.SCHEDULED, ExecutionState.QUEUED}:
            logger.info("↫ [%s] %s", took, call, extra=extra)

    def refused(self, key: str, reason: str) -> None:
        """This says that an entry was not ours to run."""
        if reason == "cancelled":
            logger.info("✗ %s (cancelled)", key, extra=self._crew.labels)
        elif reason.startswith("error"):
            logger.error("The record of %s cannot be read, so its entry was dropped: %s", key, reason, extra=self._crew.labels)
        else:
            logger.debug("↬ %s (superseded: %s)", key, reason, extra=self._crew.labels)
