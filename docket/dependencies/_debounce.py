"""`Debounce`: of many runs in a burst, one, once it is quiet."""

from __future__ import annotations

from datetime import timedelta

from docket._store.records import Requirement
from docket.dependencies._limits import Limit, microseconds

__all__ = ["Debounce"]


class Debounce(Limit):
    """This lets the first run of a burst through, once none has come for `settle`; it is QUEUED until then. The others end CANCELLED."""

    kind = "debounce"
    single = True

    def __init__(self, settle: timedelta, *, scope: str | None = None) -> None:
        super().__init__(scope)
        self.settle = settle
        self._settle_us = microseconds("Debounce(settle)", settle)

    def __repr__(self) -> str:
        return f"Debounce({self.settle!r})"

    def requirement(self, identity: str) -> Requirement:
        return Requirement(self.kind, identity, str(self._settle_us))
