"""What a body can raise to say what is to become of its run. What then becomes of it is decided in the worker.

A verdict is no failure: no `Retry` and no `FailureHandler` is asked, and the log shows no traceback. It passes unwrapped through
dependencies, so a dependency may raise one too.
"""

from __future__ import annotations

from datetime import timedelta

from docket.dependencies._base import Verdict

__all__ = ["Cancel", "Discard", "Dropped", "Snooze"]


class Snooze(Verdict):
    """This puts the run off: it is scheduled again after `delay`, as the same attempt, and what it has said of its last error stays."""

    def __init__(self, delay: timedelta = timedelta(0)) -> None:
        super().__init__(delay)
        self.delay = max(delay, timedelta(0))

    def __str__(self) -> str:
        return f"snoozed for {self.delay}"


class Discard(Verdict):
    """This ends the run FAILED for the given reason, whatever attempts are left. A perpetual chain goes on. Who waits for the result gets this raised."""

    def __init__(self, reason: str = "discarded") -> None:
        super().__init__(reason)
        self.reason = reason


class Cancel(Verdict):
    """This ends the run CANCELLED, for the given reason if there is one, and its perpetual chain with it."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or ""


class Dropped(Verdict):
    """This ends a run CANCELLED that was not to take place. A perpetual chain goes on. Raised by behaviours before the body."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
