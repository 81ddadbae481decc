"""What a dependency of the user's own raises before the body to hold a run back, as the limits do. What then becomes of the run is decided in the worker."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from docket.dependencies._base import Verdict

if TYPE_CHECKING:
    from docket.execution import Execution

__all__ = ["AdmissionBlocked", "ConcurrencyBlocked"]

_RETRY_DELAY = timedelta(milliseconds=100)


class AdmissionBlocked(Verdict):
    """This holds a run back: it is put off by `retry_delay`, 100 ms unless given, as the same attempt.

    With `reschedule=False`, or `handled=True` (whoever raised it has seen to what is to happen instead), the run ends CANCELLED and is
    not put off; a perpetual chain goes on. Neither is a failure: no `Retry` is asked.
    """

    def __init__(
        self,
        execution: Execution[Any],
        reason: str = "admission control",
        *,
        handled: bool = False,
        reschedule: bool = True,
        retry_delay: timedelta | None = None,
    ) -> None:
        super().__init__(f"Task {execution.key} blocked by {reason}")
        self.execution = execution
        self.reason = reason
        self.handled = handled
        self.reschedule = reschedule
        self.retry_delay = retry_delay

    @property
    def delay(self) -> timedelta | None:
        """This is how long the run is put off; None when it is not to run at all."""
        if self.handled or not self.reschedule:
            return None
        return _RETRY_DELAY if self.retry_delay is None else max(self.retry_delay, timedelta(0))


class ConcurrencyBlocked(AdmissionBlocked):
    """This holds a run back because `max_concurrent` others of the same `concurrency_key` are under way."""

    def __init__(self, execution: Execution[Any], concurrency_key: str, max_concurrent: int) -> None:
        super().__init__(execution, f"concurrency limit ({max_concurrent} max) on {concurrency_key}")
        self.concurrency_key = concurrency_key
        self.max_concurrent = max_concurrent
