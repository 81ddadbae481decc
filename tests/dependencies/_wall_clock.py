"""A second implementation of cron, slow and simple: it looks at every minute (or second), one after the other, at what the clock on the wall shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from functools import cache

__all__ = ["Fields", "next_by_looking"]

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
NAMES = {name: str(number) for number, name in enumerate(MONTHS, 1)} | {name: str(number) for number, name in enumerate(WEEKDAYS)}


def numbers(field: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.upper().split(","):
        span, _, step = part.partition("/")
        if span == "*":
            first, last = low, high
        else:
            start, _, end = span.partition("-")
            first = int(NAMES.get(start, start))
            last = int(NAMES.get(end, end)) if end else high if step else first
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


@dataclass(frozen=True)
class Fields:
    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    by_elapsed_time: bool

    @classmethod
    def read(cls, expression: str) -> Fields:
        second, minute, hour, day, month, weekday = ["0", *expression.split()][-6:]
        hours = numbers(hour, 0, 23)
        return cls(
            numbers(second, 0, 59), numbers(minute, 0, 59), hours, numbers(day, 1, 31), numbers(month, 1, 12),
            frozenset(number % 7 for number in numbers(weekday, 0, 7)),
            either_day=day[0] != "*" and weekday[0] != "*",
            by_elapsed_time=hour[0] == "*" or len(hours) == 24,
        )  # fmt: skip

    def match(self, wall: datetime) -> bool:
        day, weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return (
            wall.second in self.seconds
            and wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.month in self.months
            and (day or weekday if self.either_day else day and weekday)
        )


@cache
def clock(tz: tzinfo, start: datetime, end: datetime, step: timedelta) -> list[tuple[datetime, datetime]]:
    """This is what the clock shows, at each step: the instant and the naive wall time."""
    shown: list[tuple[datetime, datetime]] = []
    while start < end:
        shown.append((start, start.astimezone(tz).replace(tzinfo=None, fold=0)))
        start += step
    return shown


def instants(fields: Fields, shown: list[tuple[datetime, datetime]], step: timedelta) -> Iterator[datetime]:
    furthest = shown[0][1] - step
    for instant, wall in shown:
        if fields.by_elapsed_time:
            if fields.match(wall):
                yield instant
            continue
        while furthest < wall:  # usually one step; more where the clock jumped over times, none where it shows times again
            furthest += step
            if fields.match(furthest):
                yield instant


def next_by_looking(expression: str, tz: tzinfo, after: datetime, *, start: datetime, end: datetime) -> datetime | None:
    """This gives the first matching instant after a moment, or None when there is none before the end. It looks from `start` on."""
    step = timedelta(minutes=1) if len(expression.split()) == 5 else timedelta(seconds=1)
    found = instants(Fields.read(expression), clock(tz, start.astimezone(timezone.utc), end.astimezone(timezone.utc), step), step)
    return next((instant for instant in found if instant > after), None)
