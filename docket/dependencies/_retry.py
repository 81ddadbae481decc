"""`Retry`: how often a failed task is tried again, and when. It decides; scheduling the attempt is the worker's."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import Self

from docket._context import clock_here
from docket.dependencies._base import FailureHandler, TaskOutcome, Verdict
from docket.errors import DependencyFailed, InvalidOption, InvalidSchedule

if TYPE_CHECKING:
    from docket.execution import Execution

__all__ = ["ExponentialRetry", "ForcedRetry", "Retry"]

Kinds = type[BaseException] | tuple[type[BaseException], ...]
"""Which failures: a class of exceptions, or several."""

_CHANCE = SystemRandom()  # not one that forked workers would share the state of
_NONE = timedelta(0)
_MINIMUM, _MAXIMUM = timedelta(seconds=1), timedelta(seconds=64)


class ForcedRetry(Verdict):
    """This ends an attempt by asking for another, after a delay or at a moment; raised by `Retry.after` and `Retry.at`."""

    def __init__(self, delay: timedelta | None = None, when: datetime | None = None) -> None:
        super().__init__(f"Retry at {when.isoformat()}" if when is not None else f"Retry after {delay or _NONE}")
        self.delay = delay
        self.when = when

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.delay, self.when), self.__dict__

    def delay_from(self, now: datetime) -> timedelta | None:
        """This gives the delay that was asked for, or None when the `Retry` is to say."""
        if self.when is not None:
            return max(self.when - now, _NONE)
        return self.delay


class Retry(FailureHandler):
    """This has a failed task tried again: up to `attempts` runs in all (None: without end), each `delay` after the last.

    With `minimum_delay` or `maximum_delay` the delay doubles from attempt to attempt between the two. `attempt` counts from 1.

    * `on`, `not_on`: tries again only on these failures, and not on those; a dependency's failure counts as what caused it.
    * `jitter=True` takes each delay at random between zero and what it would have been, so that what failed together does not come back together.
      A `random.Random` may be given in its place.
    * `max_elapsed`: no attempt starts later than that after the first one started.

    What the body asks for with `after` and `at` needs no match with `on` and has no jitter. To decide otherwise, override `next_attempt`.
    """

    attempts: int | None
    """How many runs there are in all; None: without end."""
    delay: timedelta
    """What lies between two attempts, or between the first two."""
    minimum_delay: timedelta | None
    """The first delay where delays double; None: they stay the same."""
    maximum_delay: timedelta | None
    """The longest delay where delays double; None: they stay the same."""
    on: tuple[type[BaseException], ...]
    """The failures that are tried again."""
    not_on: tuple[type[BaseException], ...]
    """The failures among them that are not."""
    jitter: Random | None
    """Where chance comes from; None: delays are taken as they are."""
    max_elapsed: timedelta | None
    """How long after the first attempt started the last one may."""
    attempt: int
    """Which attempt this is, from 1."""

    if TYPE_CHECKING:

        async def __aenter__(self) -> Self: ...

    def __init__(
        self,
        attempts: int | None = 1,
        delay: timedelta | None = None,
        *,
        minimum_delay: timedelta | None = None,
        maximum_delay: timedelta | None = None,
        on: Kinds = BaseException,
        not_on: Kinds = (),
        jitter: bool | Random = False,
        max_elapsed: timedelta | None = None,
    ) -> None:
        backs_off = minimum_delay is not None or maximum_delay is not None
        if attempts is not None and attempts < 1:
            raise InvalidOption(f"{type(self).__name__}(attempts={attempts}) never runs: give at least 1, or None for no end")
        if delay is not None and backs_off:
            raise InvalidOption("Give a Retry either a fixed delay, or minimum_delay and maximum_delay to back off between")
        self.attempts = attempts
        self.attempt = 1
        if backs_off:
            self.minimum_delay = _MINIMUM if minimum_delay is None else minimum_delay
            self.maximum_delay = max(_MAXIMUM, self.minimum_delay) if maximum_delay is None else maximum_delay
        else:
            self.minimum_delay = self.maximum_delay = None
        self.delay = self.minimum_delay or delay or _NONE
        if self.delay < _NONE or (self.maximum_delay is not None and self.maximum_delay < self.delay):
            raise InvalidOption(f"{self!r}: delays cannot be negative, nor maximum_delay below minimum_delay")
        if max_elapsed is not None and max_elapsed < _NONE:
            raise InvalidOption(f"{type(self).__name__}(max_elapsed={max_elapsed!r}) is over before it starts: give a timedelta of zero or more")
        self.on, self.not_on = _classes("on", on), _classes("not_on", not_on)
        self.jitter = jitter if isinstance(jitter, Random) else _CHANCE if jitter else None
        self.max_elapsed = max_elapsed
        self._first_started: datetime | None = None

    def __repr__(self) -> str:
        delay = f"delay={self.delay!r}" if self.minimum_delay is None else f"minimum_delay={self.minimum_delay!r}, maximum_delay={self.maximum_delay!r}"
        return f"{type(self).__name__}(attempts={self.attempts}, {delay})"

    @classmethod
    def forever(cls, delay: timedelta = _NONE) -> Retry:
        """This tries again without end, each time after `delay`."""
        return cls(attempts=None, delay=delay)

    def for_run(self, execution: Execution[Any]) -> Self:
        retry = super().for_run(execution)
        retry.attempt = execution.attempt
        retry._first_started = execution.first_started_at or execution.started_at or execution.due  # noqa: SLF001 - its own copy
        return retry

    def after(self, delay: timedelta) -> NoReturn:
        """This ends the attempt now, by raising `ForcedRetry`; the next, if any is left, comes after `delay`, a timedelta. Where none is left, the run has failed."""
        raise ForcedRetry(delay=max(delay, _NONE))

    def at(self, when: datetime) -> NoReturn:
        """This ends the attempt now, by raising `ForcedRetry`; the next, if any is left, comes at `when`, an aware datetime. Raises `InvalidSchedule` for a naive one."""
        if when.tzinfo is None:
            raise InvalidSchedule(f"Retry.at({when!r}): the datetime is naive; give an aware one, such as datetime.now(timezone.utc)")
        raise ForcedRetry(when=when)

    def in_(self, delay: timedelta) -> NoReturn:
        """This is `after`, by its old name."""
        warnings.warn("Retry.in_ leaves in docket 2.0; write Retry.after, which does the same", DeprecationWarning, stacklevel=2)
        self.after(delay)

    def delay_after(self, attempt: int) -> timedelta:
        """This gives the delay between that attempt and the next, before jitter."""
        if self.minimum_delay is None or self.maximum_delay is None:
            return self.delay
        if not self.minimum_delay:
            return _NONE
        doublings = attempt - 1
        if doublings >= (self.maximum_delay // self.minimum_delay).bit_length():  # asked first: the product itself might overflow
            return self.maximum_delay
        return self.minimum_delay * 2**doublings

    def next_attempt(self, outcome: TaskOutcome, now: datetime | None = None) -> timedelta | None:
        """This gives the delay until the next attempt, or None when there is none. It only decides.

        `now` is what a `Retry.at` and `max_elapsed` count to: the system's time by default.
        """
        if self.attempts is not None and self.attempt >= self.attempts:
            return None
        now = now or clock_here().now()
        delay = self._delay(outcome.exception, now)
        if delay is not None and self.max_elapsed is not None and self._first_started is not None and now + delay - self._first_started > self.max_elapsed:
            return None
        return delay

    def _delay(self, exception: BaseException | None, now: datetime) -> timedelta | None:
        if isinstance(exception, ForcedRetry):
            forced = exception.delay_from(now)
            if forced is not None:
                return forced
        elif not self._is_for(exception):
            return None
        delay = self.delay_after(self.attempt)
        return delay if self.jitter is None else delay * self.jitter.random()

    def _is_for(self, exception: BaseException | None) -> bool:
        failures = list(_causes(exception))
        return any(isinstance(failure, self.on) for failure in failures) and not any(isinstance(failure, self.not_on) for failure in failures)

    async def handle_failure(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
        """This says whether another attempt follows; scheduling it is the worker's."""
        return self.next_attempt(outcome) is not None


class ExponentialRetry(Retry):
    """This is a `Retry` whose delay doubles from attempt to attempt, from `minimum_delay` to `maximum_delay`."""

    def __init__(
        self,
        attempts: int | None = 1,
        minimum_delay: timedelta = _MINIMUM,
        maximum_delay: timedelta = _MAXIMUM,
        *,
        on: Kinds = BaseException,
        not_on: Kinds = (),
        jitter: bool | Random = False,
        max_elapsed: timedelta | None = None,
    ) -> None:
        super().__init__(
            attempts, minimum_delay=minimum_delay, maximum_delay=maximum_delay, on=on, not_on=not_on, jitter=jitter, max_elapsed=max_elapsed
        )  # fmt: skip

    @classmethod
    def forever(cls, delay: timedelta = _MINIMUM, maximum_delay: timedelta = _MAXIMUM) -> ExponentialRetry:
        """This tries again without end, backing off from `delay` to `maximum_delay`."""
        return cls(None, delay, maximum_delay)


def _classes(name: str, given: Kinds) -> tuple[type[BaseException], ...]:
    classes = given if isinstance(given, tuple) else (given,)
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):  # pyright: ignore[reportUnnecessaryIsInstance] - an instance is an easy mistake
            raise InvalidOption(f"Retry({name}={given!r}): give a class of exceptions, or a tuple of such classes")
    return classes


def _causes(exception: BaseException | None) -> Iterable[BaseException]:
    """This gives a failure, and for one of dependencies what failed in them."""
    if exception is None:
        return
    yield exception
    if isinstance(exception, DependencyFailed) and exception.__cause__ is not None:
        yield exception.__cause__
        yield from getattr(exception.__cause__, "exceptions", ())
