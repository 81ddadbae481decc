from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import __version__
from docket.dependencies import ExponentialRetry, ForcedRetry, Retry, TaskOutcome
from docket.dependencies._failures import failure_of
from docket.dependencies._steps import Recipe
from docket.errors import DependencyFailed, InvalidOption, InvalidSchedule
from tests.dependencies._runs import an_execution

SECOND = timedelta(seconds=1)
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
FAILED = TaskOutcome(SECOND, exception=OSError())


def at_attempt(retry: Retry, attempt: int) -> Retry:
    async def task(): ...

    return retry.for_run(an_execution(task, attempt=attempt))


@pytest.mark.parametrize(
    ("retry", "attempt", "delay"),
    [
        (Retry(), 1, None),
        (Retry(attempts=3), 1, timedelta(0)),
        (Retry(attempts=3, delay=5 * SECOND), 2, 5 * SECOND),
        (Retry(attempts=3, delay=5 * SECOND), 3, None),
        (Retry(attempts=None), 10_000, timedelta(0)),
        (Retry.forever(delay=SECOND), 10_000, SECOND),
        (ExponentialRetry(attempts=9), 1, SECOND),
        (ExponentialRetry(attempts=9), 2, 2 * SECOND),
        (ExponentialRetry(attempts=9), 8, 64 * SECOND),
        (ExponentialRetry.forever(maximum_delay=10 * SECOND), 10_000, 10 * SECOND),
        (ExponentialRetry.forever(delay=2 * SECOND), 3, 8 * SECOND),
        (Retry(attempts=9, minimum_delay=2 * SECOND), 2, 4 * SECOND),
        (Retry(attempts=9, maximum_delay=3 * SECOND), 4, 3 * SECOND),
        (Retry(attempts=9, minimum_delay=100 * SECOND), 4, 100 * SECOND),
        (Retry(attempts=9, minimum_delay=timedelta(0), maximum_delay=SECOND), 4, timedelta(0)),
    ],
)
async def test_the_delay_to_the_next_attempt(retry: Retry, attempt: int, delay: timedelta | None):
    own = at_attempt(retry, attempt)

    assert own.attempt == attempt
    assert own.next_attempt(FAILED) == delay
    assert await own.handle_failure(cast("Any", None), FAILED) is (delay is not None)


@given(
    attempt=st.integers(1, 100_000),
    minimum=st.timedeltas(timedelta(0), timedelta(days=365)),
    more=st.timedeltas(timedelta(0), timedelta(days=3650)),
)
def test_backing_off_stays_between_its_bounds_and_never_shrinks(attempt: int, minimum: timedelta, more: timedelta):
    retry = ExponentialRetry(None, minimum, minimum + more)

    assert minimum <= retry.delay_after(attempt) <= retry.delay_after(attempt + 1) <= minimum + more


@pytest.mark.parametrize(
    ("exception", "delay"),
    [
        (ForcedRetry(delay=7 * SECOND), 7 * SECOND),
        (ForcedRetry(when=NOW + SECOND), SECOND),
        (ForcedRetry(when=NOW - SECOND), timedelta(0)),
        (ForcedRetry(), 3 * SECOND),
    ],
)
def test_a_body_may_choose_the_time_and_does_not_get_more_attempts(exception: ForcedRetry, delay: timedelta):
    retry = Retry(attempts=2, delay=3 * SECOND)
    outcome = TaskOutcome(SECOND, exception=exception)

    assert at_attempt(retry, 1).next_attempt(outcome, NOW) == delay
    assert at_attempt(retry, 2).next_attempt(outcome, NOW) is None


def test_after_and_at_end_the_attempt():
    with pytest.raises(ForcedRetry, match="0:00:03") as after:
        Retry().after(3 * SECOND)
    with pytest.raises(ForcedRetry, match="2026-01-01") as at:
        Retry().at(NOW)
    with pytest.raises(InvalidSchedule, match="naive"):
        Retry().at(datetime(2026, 1, 1))

    assert after.value.delay == 3 * SECOND and at.value.when == NOW


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retry(attempts=0), "never runs"),
        (lambda: Retry(delay=-SECOND), "negative"),
        (lambda: Retry(delay=SECOND, maximum_delay=SECOND), "either a fixed delay"),
        (lambda: ExponentialRetry(minimum_delay=2 * SECOND, maximum_delay=SECOND), "below minimum_delay"),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], Retry], message: str):
    with pytest.raises(InvalidOption, match=message):
        make()


class Half(Random):
    """Always picks the middle."""

    def random(self) -> float:
        return 0.5


async def failing(): ...


def dependency_failed(*errors: Exception) -> DependencyFailed:
    """This is what a run fails with whose dependencies failed in these ways."""
    step = cast("Any", object())
    recipe = Recipe((step,) * len(errors), tuple((f"p{index}", index) for index in range(len(errors))))
    return failure_of(recipe, dict(enumerate(errors)))


@pytest.mark.parametrize(
    ("retry", "failure", "is_tried_again"),
    [
        (Retry(attempts=2, on=OSError), OSError(), True),
        (Retry(attempts=2, on=(OSError, KeyError)), FileNotFoundError(), True),
        (Retry(attempts=2, on=(OSError,)), ValueError(), False),
        (Retry(attempts=2, not_on=ValueError), OSError(), True),
        (Retry(attempts=2, not_on=(ValueError,)), UnicodeError(), False),
        (Retry(attempts=2, on=OSError, not_on=FileNotFoundError), FileNotFoundError(), False),
        (Retry(attempts=2, on=OSError, not_on=FileNotFoundError), PermissionError(), True),
        (Retry(attempts=2, on=()), OSError(), False),
        (Retry(attempts=2, on=()), ForcedRetry(), True),  # the body asked for it
        (Retry(attempts=2, on=OSError), dependency_failed(OSError()), True),
        (Retry(attempts=2, on=OSError), dependency_failed(ValueError()), False),
        (Retry(attempts=2, on=OSError), dependency_failed(ValueError(), OSError()), True),
        (Retry(attempts=2, not_on=OSError), dependency_failed(ValueError(), OSError()), False),
        (Retry(attempts=2, on=DependencyFailed), dependency_failed(ValueError()), True),
        (Retry(attempts=2, on=OSError), DependencyFailed("by hand"), False),
        (ExponentialRetry(attempts=2, on=OSError, not_on=FileNotFoundError), OSError(), True),
        (ExponentialRetry(attempts=2, on=OSError, not_on=FileNotFoundError), FileNotFoundError(), False),
    ],
)
def test_only_some_failures_may_be_worth_another_attempt(retry: Retry, failure: BaseException, is_tried_again: bool):
    assert (at_attempt(retry, 1).next_attempt(TaskOutcome(SECOND, exception=failure)) is not None) is is_tried_again


def test_no_failure_is_not_tried_again():
    assert at_attempt(Retry(attempts=2), 1).next_attempt(TaskOutcome(SECOND)) is None


def test_jitter_takes_a_part_of_the_delay():
    fixed = Retry(attempts=3, delay=4 * SECOND, jitter=Half())
    growing = ExponentialRetry(attempts=3, jitter=Half())

    assert at_attempt(fixed, 1).next_attempt(FAILED) == 2 * SECOND
    assert at_attempt(growing, 2).next_attempt(FAILED) == SECOND
    assert at_attempt(growing, 2).delay_after(2) == 2 * SECOND
    assert at_attempt(fixed, 1).next_attempt(TaskOutcome(SECOND, exception=ForcedRetry(delay=3 * SECOND))) == 3 * SECOND


@given(
    attempt=st.integers(1, 1000),
    minimum=st.timedeltas(timedelta(0), timedelta(days=365)),
    more=st.timedeltas(timedelta(0), timedelta(days=365)),
    chance=st.one_of(st.just(True), st.randoms(use_true_random=False)),
)
def test_a_delay_with_jitter_is_between_zero_and_the_one_without(attempt: int, minimum: timedelta, more: timedelta, chance: Random | bool):
    retry = at_attempt(ExponentialRetry(None, minimum, minimum + more, jitter=chance), attempt)

    delay = retry.next_attempt(FAILED)

    assert delay is not None and timedelta(0) <= delay <= retry.delay_after(attempt)


def test_full_jitter_is_even():
    retry = at_attempt(Retry(attempts=None, delay=100 * SECOND, jitter=Random(7)), 1)

    delays = sorted(retry.next_attempt(FAILED) or timedelta(0) for _ in range(1000))

    assert delays[0] < SECOND and delays[-1] > 99 * SECOND
    assert all(abs(delay / SECOND - number / 10) < 5 for number, delay in enumerate(delays))


def begun(retry: Retry, **moments: datetime) -> Retry:
    """This is a run's own copy, of a run that knows these moments of itself."""
    execution = an_execution(failing)
    for name, moment in moments.items():
        setattr(execution, name, moment)
    return retry.for_run(execution)


def test_no_attempt_starts_later_than_max_elapsed_after_the_first():
    retry = Retry(attempts=None, delay=10 * SECOND, max_elapsed=60 * SECOND)

    first = begun(retry, when=NOW - 99 * SECOND, started_at=NOW)
    later = begun(retry, when=NOW + 40 * SECOND, started_at=NOW + 40 * SECOND, first_started_at=NOW)
    by_hand = begun(retry, when=NOW)

    for own in (first, later, by_hand):
        assert own.next_attempt(FAILED, NOW + 50 * SECOND) == 10 * SECOND
        assert own.next_attempt(FAILED, NOW + 51 * SECOND) is None
        assert own.next_attempt(TaskOutcome(SECOND, exception=ForcedRetry(delay=SECOND)), NOW + 59 * SECOND) == SECOND
        assert own.next_attempt(TaskOutcome(SECOND, exception=ForcedRetry(when=NOW + 61 * SECOND)), NOW + SECOND) is None
    assert begun(Retry(attempts=None, delay=10 * SECOND), when=NOW).next_attempt(FAILED, NOW + 999 * SECOND) == 10 * SECOND
    assert retry.next_attempt(FAILED, NOW + 999 * SECOND) == 10 * SECOND  # a template has no run


@given(
    delay=st.timedeltas(timedelta(0), timedelta(days=1)),
    took=st.lists(st.timedeltas(timedelta(0), timedelta(hours=1)), min_size=1, max_size=30),
    most=st.timedeltas(timedelta(0), timedelta(days=3)),
)
def test_whatever_attempts_take_none_starts_after_max_elapsed(delay: timedelta, took: list[timedelta], most: timedelta):
    retry, now = ExponentialRetry(None, delay / 10, delay, max_elapsed=most), NOW

    for attempt, duration in enumerate(took, 1):
        own = begun(retry, started_at=now, first_started_at=NOW)
        own.attempt = attempt
        now += duration
        following = own.next_attempt(FAILED, now)
        if following is None:
            assert now + own.delay_after(attempt) > NOW + most
            break
        now += following
        assert now <= NOW + most


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retry(on=OSError()), "Retry(on=OSError()): give a class"),  # pyright: ignore[reportArgumentType] - the mistake
        (lambda: Retry(not_on=("OSError",)), "Retry(not_on=('OSError',))"),  # pyright: ignore[reportArgumentType] - the mistake
        (lambda: Retry(max_elapsed=-SECOND), "over before it starts"),
    ],
)
def test_what_cannot_be_matched_is_refused(make: Callable[[], Retry], message: str):
    with pytest.raises(InvalidOption) as caught:
        make()

    assert message in str(caught.value)


def test_in_is_deprecated():
    with pytest.warns(DeprecationWarning, match="leaves in docket 2.0") as warned, pytest.raises(ForcedRetry) as asked:
        Retry().in_(3 * SECOND)

    assert asked.value.delay == 3 * SECOND
    assert warned[0].filename == __file__
    assert int(__version__.split(".")[0]) < 2, "Retry.in_ was to leave by now"


@pytest.mark.parametrize("asked", [ForcedRetry(delay=SECOND), ForcedRetry(when=NOW), ForcedRetry()])
def test_a_request_that_nobody_could_grant_survives_its_journey_to_who_waits(asked: ForcedRetry):
    again = pickle.loads(pickle.dumps(asked))

    assert (again.delay, again.when, str(again)) == (asked.delay, asked.when, str(asked))
