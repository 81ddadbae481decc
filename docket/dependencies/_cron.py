"""`Cron`: a perpetual task that runs by the clock on the wall. cronsim knows which wall times an expression means; when these come is worked out here.

cronsim is only ever asked about naive times. By itself it goes wrong around a change of the clock: it passes over skipped times and repeats repeated ones
when there is a field for seconds, and where the clock moves by half an hour it steps over minutes that match.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Literal

from cronsim import CronSim, CronSimError
from typing_extensions import Self

from docket._context import clock_here
from docket.dependencies._perpetual import Perpetual
from docket.dependencies._verdicts import Dropped
from docket.errors import InvalidOption, InvalidSchedule

if TYPE_CHECKING:
    from docket.execution import Execution

__all__ = ["Cron"]

UTC = timezone.utc
WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L (the last) or LW (the last weekday)",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 (0 and 7 are Sunday) or SUN-SAT, 5L (the last Friday), 5#2 (the second)",
}
"""The fields by cronsim's names, with what each takes."""
SHAPES = "five fields (minute hour day-of-month month day-of-week), six with seconds first, or a word such as @daily"

_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_STRIDE = timedelta(hours=6)  # no zone changes its clock twice in such a time
_GRACE = timedelta(minutes=1)


class Cron(Perpetual):
    """This is a `Perpetual` that runs by a cron expression, in the wall time of `tz`.

    The expression has five fields, six with seconds first, or is one of the words `@yearly @annually @monthly @weekly @daily @midnight @hourly`.

    Where the clock changes: an expression that names hours (`30 2 * * *`) runs for a time that the clock skips at the first instant after the gap, and once for
    a time that comes twice, the first time. One whose hour field starts with `*`, or has every hour, follows elapsed time: it runs
    whenever the clock shows a matching time.

    `missed` is about times at which nothing could run: no worker was there, or the last run took too long. With "run_once" one late run makes up for
    all of them; with "skip" the next run is the next one on time, and a run that would start a minute late, or not before the next one is due, ends CANCELLED
    instead.
    """

    def __init__(self, expression: str, automatic: bool = True, tz: tzinfo = UTC, *, missed: Literal["run_once", "skip"] = "run_once") -> None:
        super().__init__(automatic=automatic)
        if not isinstance(tz, tzinfo):  # pyright: ignore[reportUnnecessaryIsInstance] - a name is an easy mistake
            raise InvalidOption(f"Cron({expression!r}, tz={tz!r}): give a time zone, such as zoneinfo.ZoneInfo('Europe/Berlin')")
        if missed not in {"run_once", "skip"}:
            raise InvalidOption(f"Cron({expression!r}, missed={missed!r}): missed times are made up for with 'run_once', or left out with 'skip'")
        self.expression = expression
        self.tz = tz
        self.missed = missed
        self._fields = _fields_of(expression)
        try:
            hours = CronSim(self._fields, datetime(2000, 1, 1)).hours  # noqa: DTZ001 - see the top: naive on purpose
        except CronSimError as exc:  # each field is fine, and no month has such a day
            raise self._never() from exc
        self._follows_elapsed_time = len(hours) == 24 or self._fields.split()[-4].startswith("*")
        self._is_late = False
        self.next_time()  # raises for an expression that no time matches

    def __repr__(self) -> str:
        return f"Cron({self.expression!r}, automatic={self.automatic}, tz={self.tz!r}, missed={self.missed!r})"

    @property
    def initial_when(self) -> datetime:
        """This is when the first run of an automatic chain is due: the next time that matches."""
        return self.next_time()

    def next_time(self, after: datetime | None = None) -> datetime:
        """This gives the first time that matches after a moment, by default after now, as an aware datetime in `tz`."""
        if after is not None and after.utcoffset() is None:
            raise InvalidSchedule(f"Cron.next_time({after!r}): the datetime is naive; give an aware one, such as datetime.now(timezone.utc)")
        moment = (after or clock_here().now()).astimezone(UTC).replace(microsecond=0)  # whole seconds match, so none lies between
        found = self._next_by_elapsed_time(moment) if self._follows_elapsed_time else self._next_by_wall_time(moment)
        return found.astimezone(self.tz)

    def next_run(self, started: datetime, now: datetime) -> datetime | None:
        """This gives when the next run is due, or None when the chain has ended. It only decides."""
        if self.is_steered:
            return super().next_run(started, now)
        if self.missed == "skip":
            return self.next_time(max(started, now))
        return max(self.next_time(started), now)

    def for_run(self, execution: Execution[Any]) -> Self:
        own = super().for_run(execution)
        due, started = execution.due, execution.started_at
        is_tried_again = execution.first_due is not None or execution.redelivered
        if self.missed == "skip" and due is not None and started is not None and not is_tried_again:
            own._is_late = started - due >= _GRACE or started >= self.next_time(due)  # noqa: SLF001 - its own copy
        return own

    async def __aenter__(self) -> Self:
        if self._is_late:
            raise Dropped("it missed its time")
        return self

    def _next_by_wall_time(self, after: datetime) -> datetime:
        # Later wall times never come earlier, so what is due after `after` is among the wall times after that of `after`.
        for wall in self._walls(after + self._offset(after)):
            instant = self._first_instant_of(wall)
            if instant > after:
                return instant
        raise self._never()

    def _next_by_elapsed_time(self, after: datetime) -> datetime:
        stretch, offset = after, self._offset(after)
        while (wall := next(self._walls(after + offset), None)) is not None:  # once for each stretch between changes of the clock
            instant = wall.replace(tzinfo=UTC) - offset
            change = self._change(stretch, instant)
            if change is None:
                return instant
            after, stretch, offset = change - _SECOND, change, self._offset(change)
        raise self._never()

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """This gives the matching wall times after one, naive."""
        return CronSim(self._fields, after.replace(tzinfo=None))

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self.tz).utcoffset() or timedelta(0)

    def _first_instant_of(self, wall: datetime) -> datetime:
        """This gives when the clock first shows a wall time, or, if it skips it, the first instant after the gap."""
        near = wall.replace(tzinfo=UTC)
        before, after = self._offset(near - _DAY), self._offset(near + _DAY)
        earliest, latest = near - max(before, after), near - min(before, after)
        for instant in (earliest, latest):
            if instant + self._offset(instant) == near:
                return instant
        return self._change(earliest, latest) or latest

    def _change(self, start: datetime, end: datetime) -> datetime | None:
        """This gives the first instant in (start, end] with another offset from UTC than at the start, whole seconds all."""
        offset, low = self._offset(start), start
        while low < end:
            high = min(low + _STRIDE, end)
            if self._offset(high) != offset:
                while high - low > _SECOND:
                    middle = low + (high - low) // _SECOND // 2 * _SECOND
                    low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
                return high
            low = high
        return None

    def _never(self) -> InvalidOption:
        return InvalidOption(f"Cron({self.expression!r}): no time in the next 50 years matches; look at the day and the month")


def _fields_of(expression: str) -> str:
    """This checks an expression and gives it as fields, words translated."""
    text = expression.strip()
    if text.startswith("@"):
        if (word := text.lower()) not in WORDS:
            close = difflib.get_close_matches(word, WORDS, n=1)
            raise InvalidOption(f"Cron({expression!r}): the words are {' '.join(WORDS)}" + (f"; did you mean {close[0]!r}?" if close else ""))
        return WORDS[word]
    fields = text.split()
    if len(fields) not in {5, 6}:
        raise InvalidOption(f"Cron({expression!r}) has {len(fields)} fields; give {SHAPES}")
    names = list(FIELDS)[-len(fields) :]
    blank = dict.fromkeys(names, "*")
    for name, field in zip(names, fields, strict=True):  # one at a time, to tell which is wrong
        try:
            CronSim(" ".join({**blank, name: field}.values()), datetime(2000, 1, 1))  # noqa: DTZ001 - see the top: naive on purpose
        except (CronSimError, AssertionError, TypeError, ValueError) as exc:  # cronsim lets some of what it trips over through
            raise InvalidOption(
                f"Cron({expression!r}): {field!r} is no {name}; it takes {FIELDS[name]}, and of these lists (1,2), ranges (1-5) and steps (*/2)"
            ) from exc
    return text
