"""`Timeout`: a body is cancelled once when its time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from docket._clock import SYSTEM
from docket.dependencies._base import Runtime
from docket.dependencies._deadline import Deadline
from docket.errors import InvalidOption

if TYPE_CHECKING:
    from docket.execution import Execution

__all__ = ["Timeout"]


class Timeout(Runtime):
    """This gives a body so much time, then cancels it once, so that its `finally` blocks run whole.

    The run fails with `asyncio.TimeoutError` (and is tried again if it has a `Retry`), also when the body swallows the cancellation
    and returns. `extend` moves the deadline while there is time left.
    """

    if TYPE_CHECKING:

        async def __aenter__(self) -> Self: ...

    def __init__(self, base: timedelta) -> None:
        if base <= timedelta(0):
            raise InvalidOption(f"Timeout(base={base!r}) leaves no time: give a positive timedelta")
        self.base = base
        self._ends: float | None = None
        self._deadline: Deadline | None = None

    def __repr__(self) -> str:
        return f"Timeout({self.base!r})"

    def start(self) -> None:
        """This starts the time over, with `base` to go."""
        self._end_in(self.base.total_seconds())

    def expired(self) -> bool:
        """This says whether the time is up."""
        return self.remaining() <= timedelta(0)

    def remaining(self) -> timedelta:
        """This gives the time left: `base` before the start, negative once the time is up."""
        if self._ends is None:
            return self.base
        return timedelta(seconds=self._ends - SYSTEM.monotonic())

    def extend(self, by: timedelta | None = None) -> None:
        """This moves the deadline by so much, or by `base`."""
        seconds = (self.base if by is None else by).total_seconds()
        self._end_in(self.remaining().total_seconds() + seconds)

    async def run(self, execution: Execution[Any], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """This runs the body under the deadline."""
        deadline = self._deadline = Deadline(self.base.total_seconds())
        result: Any = None
        stopped_by: BaseException | None = None
        with deadline:
            self.start()
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                if not deadline.fired:
                    raise
                stopped_by = error
        if deadline.foreign:  # somebody else cancelled as well: that wins
            raise asyncio.CancelledError from stopped_by
        if deadline.fired:
            raise asyncio.TimeoutError(f"{execution.function_name!r} took longer than its timeout of {self.base}") from stopped_by
        return result

    def _end_in(self, seconds: float) -> None:
        self._ends = SYSTEM.monotonic() + seconds
        if self._deadline is not None:
            self._deadline.move(seconds)
