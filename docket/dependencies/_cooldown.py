"""`Cooldown`: after a run, none for a while."""

from __future__ import annotations

from datetime import timedelta

from docket._store.records import Requirement
from docket.dependencies._limits import Limit, microseconds

__all__ = ["Cooldown"]


class Cooldown(Limit):
    """This lets the first run through; those that come within `window` of its start end CANCELLED."""

    kind = "cooldown"

    def __init__(self, window: timedelta, *, scope: str | None = None) -> None:
        super().__init__(scope)
        self.window = window
        self._window_us = microseconds("Cooldown(window)", window)

    def __repr__(self) -> str:
        return f"Cooldown({self.window!r})"

    def requirement(self, identity: str) -> Requirement:
        return Requirement(self.kind, identity, str(self._window_us))
