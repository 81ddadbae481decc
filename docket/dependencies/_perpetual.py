"""`Perpetual`: a task that runs again and again under its key. It decides; the next run is scheduled by the script that settles the last."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from docket.dependencies._base import CompletionHandler, TaskOutcome
from docket.errors import InvalidOption, InvalidSchedule

if TYPE_CHECKING:
    from docket.execution import Execution

__all__ = ["Perpetual"]

_NONE = timedelta(0)


class Perpetual(CompletionHandler):
    """This has a task run again `every` so often (also spelled `interval`), counted from the start of the last run.

    With `after_end` it counts from the end of the last run. With `fixed` it keeps a grid, counted from when the last run was due: whatever
    the runs take, they come at whole multiples of `every`, and a time that passes while one runs is left out. Retries do not move the grid.

    The chain goes on after success and after final failure, until `cancel`. An `automatic` one is started by the workers, under its name.
    """

    every: timedelta
    """The time from one run to the next. A body may assign it, for the run that follows."""
    automatic: bool
    """Whether workers start a chain of it by themselves."""
    args: tuple[Any, ...] | None
    """What the next run is called with, or None for the same again."""
    kwargs: dict[str, Any] | None
    """What the next run is called with by name, or None for the same again."""

    if TYPE_CHECKING:

        async def __aenter__(self) -> Self: ...

    def __init__(
        self, every: timedelta | None = None, automatic: bool = False, *, interval: timedelta | None = None, after_end: bool = False, fixed: bool = False
    ) -> None:
        if every is not None and interval is not None:
            raise InvalidOption("Perpetual takes `every` or `interval`, which mean the same; give one of them")
        given = every if interval is None else interval
        if given is not None and given < _NONE:
            raise InvalidOption(f"Perpetual(every={given!r}) goes backwards: give a timedelta of zero or more")
        self.every = _NONE if given is None else given
        if after_end and fixed:
            raise InvalidOption("Perpetual counts from the end of the last run (after_end=True) or keeps a fixed grid (fixed=True); give one of them")
        if fixed and not self.every:
            raise InvalidOption("Perpetual(fixed=True) needs the width of its grid: give `every`, a timedelta of more than zero")
        self.automatic = automatic
        self.after_end = after_end
        self.fixed = fixed
        self.cancelled = False
        self.args = None
        self.kwargs = None
        self._after: timedelta | None = None
        self._at: datetime | None = None
        self._due: datetime | None = None

    def __repr__(self) -> str:
        counts = ", after_end=True" if self.after_end else ", fixed=True" if self.fixed else ""
        return f"{type(self).__name__}(every={self.every!r}, automatic={self.automatic}{counts})"

    @property
    def initial_when(self) -> datetime | None:
        """This is when the first run of an automatic chain is due; None: at once."""
        return None

    def cancel(self) -> None:
        """This ends the chain with the current run, from inside its body. Safe to repeat."""
        self.cancelled = True

    def perpetuate(self, *args: Any, **kwargs: Any) -> None:
        """This has the next run called with these arguments, and those after it too, until told otherwise."""
        self.args, self.kwargs = args, kwargs

    def after(self, delay: timedelta) -> None:
        """This has the next run come so long after the end of this one."""
        self._after, self._at = max(delay, _NONE), None

    def at(self, when: datetime) -> None:
        """This has the next run come at that moment, an aware datetime; one that has passed means at once. Raises `InvalidSchedule` for a naive one."""
        if when.tzinfo is None:
            raise InvalidSchedule(f"Perpetual.at({when!r}): the datetime is naive; give an aware one, such as datetime.now(timezone.utc)")
        self._at, self._after = when, None

    @property
    def is_steered(self) -> bool:
        """This says whether the body has said itself what follows: nothing, or when."""
        return self.cancelled or self._at is not None or self._after is not None

    def for_run(self, execution: Execution[Any]) -> Self:
        own = super().for_run(execution)
        own._due = execution.first_due or execution.due  # noqa: SLF001 - its own copy
        return own

    def next_run(self, started: datetime, now: datetime) -> datetime | None:
        """This gives when the next run is due, or None when the chain has ended. It only decides."""
        if self.cancelled:
            return None
        if self._at is not None:
            return self._at
        if self._after is not None:
            return now + self._after
        if self.after_end:
            return now + self.every
        if self.fixed and self.every > _NONE:  # a body may have assigned zero
            due = self._due or started
            return due + max((now - due) // self.every + 1, 1) * self.every
        return max(started + self.every, now)

    async def on_complete(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
        """This says whether the chain goes on; scheduling the next run is the worker's."""
        return not self.cancelled
