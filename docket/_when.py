"""What callers give as `when` and `key`: checked, and turned into a moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from docket.errors import InvalidSchedule

if TYPE_CHECKING:
    from docket._clock import Clock

__all__ = ["When", "aware", "check_key", "check_when", "due"]

When = datetime | timedelta
"""When a task is to run: an aware datetime, or a timedelta from the moment it is scheduled."""


def due(when: When | None, clock: Clock) -> datetime | None:
    """This turns what a caller gave as `when` into a moment; None is now. Raises `InvalidSchedule`."""
    if when is None:
        return None
    if not isinstance(when, timedelta):
        return aware("when", when)
    try:
        return clock.now() + when
    except OverflowError as exc:
        raise InvalidSchedule(f"when is {when} from now, which is beyond the year 9999") from exc


def check_when(when: When | None) -> None:
    """This raises `InvalidSchedule` for what `due` would refuse whatever the time."""
    if when is not None and not isinstance(when, timedelta):
        aware("when", when)


def check_key(key: object) -> None:
    """This raises `InvalidSchedule` for what cannot be a key."""
    if not isinstance(key, str) or not key:
        raise InvalidSchedule(f"key is {key!r}; give a string that is not empty, or leave it out for a key of docket's own")


def aware(name: str, moment: object) -> datetime:
    """This gives an aware datetime back, and raises `InvalidSchedule` for anything else."""
    if not isinstance(moment, datetime):
        raise InvalidSchedule(f"{name} is {moment!r}; give an aware datetime or a timedelta from now")
    if moment.utcoffset() is None:
        raise InvalidSchedule(
            f"{name} is {moment.isoformat()}, without a time zone, so it could mean any of several moments; "
            f"write datetime.now(timezone.utc) + ..., or {name}.astimezone() for local time"
        )
    return moment
