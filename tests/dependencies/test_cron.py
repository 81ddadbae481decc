from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from docket.dependencies import Cron, Perpetual
from docket.dependencies._verdicts import Dropped
from docket.errors import InvalidOption, InvalidSchedule
from tests.dependencies._runs import an_execution, run
from tests.dependencies._wall_clock import next_by_looking

UTC = timezone.utc
BERLIN, NEW_YORK, LORD_HOWE, APIA = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Pacific/Apia")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def times(cron: Cron, after: datetime, count: int) -> list[str]:
    """This lists the next times, as the clock on the wall shows them."""
    found: list[str] = []
    for _ in range(count):
        after = cron.next_time(after)
        found.append(after.strftime("%d. %H:%M:%S %z").replace(":00 ", " ") if after.second == 0 else after.strftime("%d. %H:%M:%S %z"))
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/15 * * * *", "2026-01-31T23:15"),
        ("0 9-17/2 * * MON-FRI", "2026-02-02T09:00"),
        ("30 * * * * *", "2026-01-31T23:01:30"),
        ("0 0 L * *", "2026-02-28T00:00"),
        ("0 12 * * 5#2", "2026-02-13T12:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("@hourly", "2026-02-01T00:00"),
        ("@daily", "2026-02-01T00:00"),
        ("@midnight", "2026-02-01T00:00"),
        ("@weekly", "2026-02-01T00:00"),
        ("@monthly", "2026-02-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
        (" @Annually ", "2027-01-01T00:00"),
    ],
)
def test_the_next_time(expression: str, expected: str):
    saturday = at("2026-01-31T23:00:00.5+00:00") if expression.count(" ") == 5 else at("2026-01-31T23:00+00:00")
    expected_time = datetime.fromisoformat(expected).replace(tzinfo=UTC)
    if expression == "30 * * * * *":
        expected_time -= MINUTE

    assert Cron(expression).next_time(saturday) == expected_time


def test_the_next_time_is_by_default_the_next_from_now_and_in_the_zone():
    before = datetime.now(UTC)

    cron = Cron("* * * * *", tz=BERLIN)

    assert before < cron.initial_when <= cron.next_time() <= datetime.now(UTC) + MINUTE
    assert cron.next_time().tzinfo is BERLIN
    with pytest.raises(InvalidSchedule, match="naive"):
        cron.next_time(datetime(2026, 1, 1))


CHANGES = [
    # A time that the clock skips: at the first instant after the gap, once, however many were skipped
    (BERLIN, "30 2 * * *", "2026-03-28T00:00+01:00", ["28. 02:30 +0100", "29. 03:00 +0200", "30. 02:30 +0200"]),
    (NEW_YORK, "30 2 * * *", "2026-03-07T00:00-05:00", ["07. 02:30 -0500", "08. 03:00 -0400", "09. 02:30 -0400"]),
    (LORD_HOWE, "15 2 * * *", "2026-10-03T00:00+10:30", ["03. 02:15 +1030", "04. 02:30 +1100", "05. 02:15 +1100"]),
    (BERLIN, "15,45 2,3 * * *", "2026-03-29T00:00+01:00", ["29. 03:00 +0200", "29. 03:15 +0200", "29. 03:45 +0200", "30. 02:15 +0200"]),
    (BERLIN, "*/20 2 * * *", "2026-03-29T00:00+01:00", ["29. 03:00 +0200", "30. 02:00 +0200"]),
    (BERLIN, "0 2,3 * * *", "2026-03-29T00:00+01:00", ["29. 03:00 +0200", "30. 02:00 +0200"]),
    (BERLIN, "15 30 2 * * *", "2026-03-29T00:00+01:00", ["29. 03:00 +0200", "30. 02:30:15 +0200"]),
    (APIA, "0 12 * * *", "2011-12-29T00:00-10:00", ["29. 12:00 -1000", "31. 00:00 +1400", "31. 12:00 +1400"]),
    # One that comes twice: the first time
    (BERLIN, "30 2 * * *", "2026-10-25T00:00+02:00", ["25. 02:30 +0200", "26. 02:30 +0100"]),
    (NEW_YORK, "30 1 * * *", "2026-11-01T00:00-04:00", ["01. 01:30 -0400", "02. 01:30 -0500"]),
    (LORD_HOWE, "45 1 * * *", "2026-04-05T00:00+11:00", ["05. 01:45 +1100", "06. 01:45 +1030"]),
    (BERLIN, "0 30 2 * * *", "2026-10-25T00:00+02:00", ["25. 02:30 +0200", "26. 02:30 +0100"]),
    (BERLIN, "45 2 * * *", "2026-10-25T02:30+01:00", ["26. 02:45 +0100"]),
    (BERLIN, "*/30 2,3 * * *", "2026-10-25T02:00+02:00", ["25. 02:30 +0200", "25. 03:00 +0100", "25. 03:30 +0100"]),
    # Sub-daily: by elapsed time
    (BERLIN, "*/30 * * * *", "2026-03-29T01:00+01:00", ["29. 01:30 +0100", "29. 03:00 +0200", "29. 03:30 +0200"]),
    (BERLIN, "*/30 * * * *", "2026-10-25T02:00+02:00", ["25. 02:30 +0200", "25. 02:00 +0100", "25. 02:30 +0100", "25. 03:00 +0100"]),
    (BERLIN, "30 0-23 * * *", "2026-10-25T02:00+02:00", ["25. 02:30 +0200", "25. 02:30 +0100", "25. 03:30 +0100"]),
    (NEW_YORK, "30 * * * *", "2026-03-08T01:00-05:00", ["08. 01:30 -0500", "08. 03:30 -0400"]),
    (NEW_YORK, "30 * * * *", "2026-11-01T01:00-04:00", ["01. 01:30 -0400", "01. 01:30 -0500", "01. 02:30 -0500"]),
    (LORD_HOWE, "*/15 * * * *", "2026-10-04T01:40+10:30", ["04. 01:45 +1030", "04. 02:30 +1100", "04. 02:45 +1100", "04. 03:00 +1100"]),
    (LORD_HOWE, "*/15 * * * *", "2026-04-05T01:40+11:00", ["05. 01:45 +1100", "05. 01:30 +1030", "05. 01:45 +1030", "05. 02:00 +1030"]),
    (LORD_HOWE, "*/15 */3 4 10 *", "2026-10-04T01:00+10:30", ["04. 03:00 +1100", "04. 03:15 +1100"]),
    (BERLIN, "0 */12 1 8 *", "2026-01-01T00:00+01:00", ["01. 00:00 +0200", "01. 12:00 +0200", "01. 00:00 +0200"]),
]  # fmt: skip


@pytest.mark.parametrize(("tz", "expression", "after", "expected"), CHANGES)
def test_where_the_clock_changes(tz: tzinfo, expression: str, after: str, expected: list[str]):
    assert times(Cron(expression, tz=tz), at(after), len(expected)) == expected


WINDOWS = [
    (BERLIN, at("2026-03-29T02:00+01:00")),
    (BERLIN, at("2026-10-25T02:00+01:00")),
    (NEW_YORK, at("2026-03-08T02:00-05:00")),
    (NEW_YORK, at("2026-11-01T01:00-05:00")),
    (LORD_HOWE, at("2026-10-04T02:00+10:30")),
    (LORD_HOWE, at("2026-04-05T01:30+10:30")),
    (UTC, at("2026-12-31T12:00+00:00")),
]


def a_field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.lists(number, min_size=2, max_size=2, unique=True).map(lambda ends: f"{min(ends)}-{max(ends)}")
    step = st.integers(1, high).map(lambda every: f"/{every}")
    part = st.one_of(number.map(str), span, st.tuples(span, step).map("".join))
    return st.one_of(st.just("*"), step.map(lambda every: f"*{every}"), number.map(str), st.lists(part, min_size=1, max_size=3).map(",".join))


HOURS = st.one_of(a_field(0, 4), a_field(0, 23))
DAYS = st.one_of(st.just("*"), a_field(1, 31))
MONTHS = st.one_of(st.just("*"), a_field(1, 12))
WEEKDAYS = st.one_of(st.just("*"), a_field(0, 7), st.sampled_from(["SUN", "mon-fri", "SAT,SUN"]))


@given(
    window=st.sampled_from(WINDOWS),
    fields=st.tuples(a_field(0, 59), HOURS, DAYS, MONTHS, WEEKDAYS),
    seconds_off=st.integers(-86_400, 86_400),
)
def test_a_slow_look_at_every_minute_finds_the_same(window: tuple[tzinfo, datetime], fields: tuple[str, ...], seconds_off: int):
    tz, change = window
    after, end = change + timedelta(seconds=seconds_off), change + timedelta(days=3)
    expression = " ".join(fields)
    cron = a_cron(expression, tz)

    looked = next_by_looking(expression, tz, after, start=change - timedelta(days=2), end=end)

    found = cron.next_time(after).astimezone(UTC)
    assert found == looked if looked is not None else found >= end


@settings(deadline=None)  # it looks through days second by second; how long that takes says nothing
@given(
    window=st.sampled_from(WINDOWS),
    fields=st.tuples(a_field(0, 59), a_field(0, 59), HOURS),
    seconds_off=st.integers(-5000, 5000),
)
def test_and_so_does_one_at_every_second(window: tuple[tzinfo, datetime], fields: tuple[str, ...], seconds_off: int):
    tz, change = window
    after, end = change + timedelta(seconds=seconds_off), change + 3 * HOUR
    expression = " ".join((*fields, "*", "*", "*"))

    looked = next_by_looking(expression, tz, after, start=change - 3 * HOUR, end=end)

    found = Cron(expression, tz=tz).next_time(after).astimezone(UTC)
    assert found == looked if looked is not None else found >= end


def a_cron(expression: str, tz: tzinfo) -> Cron:
    """This is the cron, unless no time matches."""
    try:
        return Cron(expression, tz=tz)
    except InvalidOption as exc:
        assume("no time" not in str(exc))
        raise


@given(expression=st.text(alphabet="0159 */-,#LW@aSUN²", max_size=14))
def test_whatever_is_written_is_a_cron_or_an_error_that_quotes_it(expression: str):
    started, answer = datetime.now(UTC), ""

    try:
        found = Cron(expression).next_time(started)
    except InvalidOption as exc:
        found, answer = None, str(exc)

    assert found > started if found else repr(expression) in answer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cron("* * * *"), "has 4 fields; give five"),
        (lambda: Cron(""), "has 0 fields"),
        (lambda: Cron("61 * * * *"), "'61' is no minute; it takes 0-59"),
        (lambda: Cron("* 24 * * *"), "'24' is no hour; it takes 0-23"),
        (lambda: Cron("* * * * * FUN"), "'FUN' is no day-of-week"),
        (lambda: Cron("* * * * 1#2/2"), "'1#2/2' is no day-of-week"),
        (lambda: Cron("99 * * * * *"), "'99' is no second"),
        (lambda: Cron("0 0 30 2 *"), "no time in the next 50 years"),
        (lambda: Cron("0 0 */30 2 1#5"), "no time in the next 50 years"),
        (lambda: Cron("0 * */30 2 1#5"), "no time in the next 50 years"),
        (lambda: Cron("@dayly"), "did you mean '@daily'"),
        (lambda: Cron("@x"), "the words are @yearly"),
        (lambda: Cron("@daily", tz="Europe/Berlin"), "ZoneInfo"),  # pyright: ignore[reportArgumentType] - the mistake
        (lambda: Cron("@daily", missed="twice"), "'run_once'"),  # pyright: ignore[reportArgumentType] - the mistake
    ],
)
def test_a_bad_expression_says_what_is_wrong(make: Callable[[], Cron], message: str):
    with pytest.raises(InvalidOption) as caught:
        make()

    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_it_is_an_automatic_perpetual():
    cron = Cron("@daily")

    assert isinstance(cron, Perpetual) and cron.automatic and not Cron("@daily", automatic=False).automatic
    assert repr(cron) == "Cron('@daily', automatic=True, tz=datetime.timezone.utc, missed='run_once')"


DUE = at("2026-01-01T10:00+00:00")


@pytest.mark.parametrize(
    ("missed", "started", "ended", "following"),
    [
        ("run_once", DUE, DUE + MINUTE, DUE + HOUR),
        ("run_once", DUE, DUE + 1.5 * HOUR, DUE + 1.5 * HOUR),  # one time passed while it ran
        ("run_once", DUE, DUE + 5.5 * HOUR, DUE + 5.5 * HOUR),  # or more: once all the same
        ("run_once", DUE + 5.5 * HOUR, DUE + 5.6 * HOUR, DUE + 6 * HOUR),  # the late run has made up for them
        ("skip", DUE, DUE + MINUTE, DUE + HOUR),
        ("skip", DUE, DUE + 1.5 * HOUR, DUE + 2 * HOUR),
        ("skip", DUE, DUE - MINUTE, DUE + HOUR),  # a worker's clock that is behind does not make it run twice
    ],
)
def test_missed_times_are_made_up_for_once_or_left_out(missed: Any, started: datetime, ended: datetime, following: datetime):
    assert Cron("@hourly", missed=missed).next_run(started, ended) == following


def test_a_body_may_still_say_what_follows():
    after, at_, ended = Cron("@daily"), Cron("@daily"), Cron("@daily", missed="skip")
    after.after(MINUTE)
    at_.at(DUE)
    ended.cancel()

    assert after.next_run(DUE, DUE + HOUR) == DUE + HOUR + MINUTE
    assert at_.next_run(DUE, DUE + HOUR) == DUE
    assert ended.next_run(DUE, DUE + HOUR) is None


async def task(cron: Cron = Cron("@hourly", missed="skip")) -> str:
    return "ran"


async def fast(cron: Cron = Cron("*/10 * * * * *", missed="skip")) -> str:
    return "ran"


async def patient(cron: Cron = Cron("*/10 * * * * *")) -> str:
    return "ran"


@pytest.mark.parametrize(
    ("function", "late", "changed", "runs"),
    [
        (task, timedelta(seconds=59), {}, True),
        (task, MINUTE, {}, False),
        (fast, timedelta(seconds=9), {}, True),
        (fast, timedelta(seconds=10), {}, False),
        (patient, HOUR, {}, True),
        (task, HOUR, {"first_due": DUE}, True),  # a further attempt
        (task, HOUR, {"_redelivered": True}, True),  # begun in time by a worker that died
        (task, None, {}, True),
    ],
)
async def test_a_run_that_missed_its_time_is_left_out_where_asked(function: Any, late: timedelta | None, changed: dict[str, Any], runs: bool):
    execution = an_execution(function)
    execution.when = DUE
    execution.started_at = None if late is None else DUE + late
    for name, value in changed.items():
        setattr(execution, name, value)
    own = function.__defaults__[0].for_run(execution)

    if runs:
        assert await own.__aenter__() is own
    else:
        with pytest.raises(Dropped, match="missed its time"):
            await own.__aenter__()


async def test_a_body_is_given_its_own_copy():
    async def look(cron: Cron = Cron("@hourly")) -> Cron:
        return cron

    given = await run(look)

    assert isinstance(given, Cron) and given is not look.__defaults__[0]  # pyright: ignore[reportOptionalSubscript] - it has one
