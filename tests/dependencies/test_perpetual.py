from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket.dependencies import Perpetual, TaskOutcome
from docket.errors import InvalidOption, InvalidSchedule
from tests.dependencies._runs import an_execution

SECOND = timedelta(seconds=1)
STARTED = datetime(2026, 1, 1, tzinfo=timezone.utc)
ENDED = STARTED + 3 * SECOND
DONE = TaskOutcome(3 * SECOND)


def test_every_and_interval_are_the_same():
    assert Perpetual(every=SECOND).every == Perpetual(interval=SECOND).every == Perpetual(SECOND).every == SECOND
    assert Perpetual().every == timedelta(0) and Perpetual().initial_when is None
    assert repr(Perpetual(SECOND, automatic=True)) == "Perpetual(every=datetime.timedelta(seconds=1), automatic=True)"
    with pytest.raises(InvalidOption, match="the same"):
        Perpetual(every=SECOND, interval=SECOND)
    with pytest.raises(InvalidOption, match="backwards"):
        Perpetual(every=-SECOND)


@pytest.mark.parametrize(("every", "due"), [(10 * SECOND, STARTED + 10 * SECOND), (SECOND, ENDED), (timedelta(0), ENDED)])
def test_the_next_run_counts_from_the_start_of_the_last_and_is_never_in_the_past(every: timedelta, due: datetime):
    assert Perpetual(every=every).next_run(STARTED, ENDED) == due


async def test_a_body_ends_or_changes_its_chain_without_touching_the_template():
    async def task(): ...

    template = Perpetual(every=SECOND)

    def own() -> Perpetual:
        return template.for_run(an_execution(task))

    cancelled, sooner, later, at, other = own(), own(), own(), own(), own()
    cancelled.cancel()
    sooner.every = 10 * SECOND
    later.after(5 * SECOND)
    at.after(5 * SECOND)
    at.at(STARTED + 60 * SECOND)
    other.perpetuate(1, b=2)

    assert cancelled.next_run(STARTED, ENDED) is None and not await cancelled.on_complete(an_execution(task), DONE)
    assert sooner.next_run(STARTED, ENDED) == STARTED + 10 * SECOND and await sooner.on_complete(an_execution(task), DONE)
    assert later.next_run(STARTED, ENDED) == ENDED + 5 * SECOND
    assert at.next_run(STARTED, ENDED) == STARTED + 60 * SECOND
    assert (other.args, other.kwargs) == ((1,), {"b": 2})
    assert (template.args, template.kwargs, template.every) == (None, None, SECOND)
    assert template.next_run(STARTED, ENDED) == ENDED
    with pytest.raises(InvalidSchedule, match="naive"):
        at.at(datetime(2026, 1, 1))


def own(template: Perpetual, *, due: datetime = STARTED, first_due: datetime | None = None) -> Perpetual:
    """This is a run's own copy, of a run that was due then."""

    async def task(): ...

    execution = an_execution(task)
    execution.when, execution.first_due = due, first_due
    return template.for_run(execution)


def test_the_interval_may_count_from_the_end():
    assert own(Perpetual(every=10 * SECOND, after_end=True)).next_run(STARTED, ENDED) == ENDED + 10 * SECOND


@pytest.mark.parametrize(
    ("due", "first_due", "ended", "following"),
    [
        (STARTED, None, STARTED + SECOND, STARTED + 10 * SECOND),
        (STARTED - 4 * SECOND, None, STARTED + SECOND, STARTED + 6 * SECOND),  # it started late: the grid stays
        (STARTED, None, STARTED + 25 * SECOND, STARTED + 30 * SECOND),  # it took long: what passed is left out
        (STARTED, None, STARTED + 20 * SECOND, STARTED + 30 * SECOND),
        (STARTED, None, STARTED - SECOND, STARTED + 10 * SECOND),  # a clock that is behind
        (STARTED + 4 * SECOND, STARTED, STARTED + 6 * SECOND, STARTED + 10 * SECOND),  # a further attempt: the grid stays
    ],
)
def test_a_fixed_grid_stays_whatever_the_runs_take(due: datetime, first_due: datetime | None, ended: datetime, following: datetime):
    assert own(Perpetual(every=10 * SECOND, fixed=True), due=due, first_due=first_due).next_run(STARTED, ended) == following


@given(every=st.timedeltas(SECOND / 1000, timedelta(days=30)), runs=st.lists(st.timedeltas(timedelta(0), timedelta(days=30)), max_size=10))
def test_every_run_of_a_fixed_grid_is_on_it(every: timedelta, runs: list[timedelta]):
    template, due = Perpetual(every=every, fixed=True), STARTED

    for took in runs:
        following = own(template, due=due).next_run(due, due + took)
        assert following is not None and due + took < following <= due + took + every
        assert (following - STARTED) % every == timedelta(0)
        due = following


def test_a_body_may_change_the_grid():
    wider, none = own(Perpetual(every=10 * SECOND, fixed=True)), own(Perpetual(every=10 * SECOND, fixed=True))
    wider.every = 60 * SECOND
    none.every = timedelta(0)

    assert wider.next_run(STARTED, ENDED) == STARTED + 60 * SECOND
    assert none.next_run(STARTED, ENDED) == ENDED
    assert Perpetual(every=10 * SECOND, fixed=True).next_run(STARTED, ENDED) == STARTED + 10 * SECOND  # a template has no due time


def test_an_interval_counts_in_one_way():
    assert "after_end=True" in repr(Perpetual(SECOND, after_end=True)) and "fixed=True" in repr(Perpetual(SECOND, fixed=True))
    with pytest.raises(InvalidOption, match="give one of them"):
        Perpetual(SECOND, after_end=True, fixed=True)
    with pytest.raises(InvalidOption, match="the width of its grid"):
        Perpetual(fixed=True)
