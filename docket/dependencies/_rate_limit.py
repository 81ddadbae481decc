"""`RateLimit`: at most so many runs in any stretch of time."""

from __future__ import annotations

from datetime import timedelta

from docket._store.records import Requirement
from docket.dependencies._limits import Limit, microseconds
from docket.errors import InvalidOption

__all__ = ["RateLimit"]


class RateLimit(Limit):
    """This lets at most `limit` runs start in any stretch of `per` (a sliding window).

    A run over the limit is QUEUED for the first moment that is free, which is kept for it; with `drop=True` it ends CANCELLED instead.
    Every attempt of a retried run counts.
    """

    kind = "rate"

    def __init__(self, limit: int, *, per: timedelta, drop: bool = False, scope: str | None = None) -> None:
        super().__init__(scope)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            raise InvalidOption(f"RateLimit lets {limit!r} runs start; give a whole number of at least 1")
        self.limit = limit
        self.per = per
        self.drop = drop
        self._per_us = microseconds("RateLimit(per=...)", per)

    def __repr__(self) -> str:
        return f"RateLimit({self.limit}, per={self.per!r}{', drop=True' if self.drop else ''})"

    def requirement(self, identity: str) -> Requirement:
        return Requirement(self.kind, identity, str(self.limit), str(self._per_us), "1" if self.drop else "")
