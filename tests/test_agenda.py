"""Collecting calls, and scattering them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from random import Random

import pytest

from docket import Agenda, Disposition, Docket, Execution
from docket.errors import DocketError, InvalidArguments, InvalidOption, InvalidSchedule

NOON = datetime(2100, 1, 1, 12, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


async def work(number: int) -> None: ...


def an_agenda(calls: int, *, seed: int = 1) -> Agenda:
    agenda = Agenda(random=Random(seed))
    for number in range(calls):
        agenda.add(work, key=f"k{number}")(number)
    return agenda


async def clear(docket: Docket, executions: list[Execution]) -> None:
    for execution in executions:
        await docket.cancel(execution.key)


def test_it_tells_what_it_holds():
    agenda = Agenda()

    agenda.add(work)(1)
    agenda.add("elsewhere", key="k")(2, name="x")

    assert (len(agenda), repr(agenda)) == (2, "<Agenda of 2 calls>")
    assert list(agenda) == [(work, (1,), {}, None), ("elsewhere", (2,), {"name": "x"}, "k")]


def test_it_can_be_emptied():
    agenda = an_agenda(3)

    agenda.clear()

    assert list(agenda) == []


def test_what_cannot_be_called_so_is_refused_at_once():
    agenda = Agenda()

    with pytest.raises(InvalidArguments, match=r"work\(number: int\) cannot be called like that"):
        agenda.add(work)()  # pyright: ignore[reportCallIssue]
    with pytest.raises(InvalidSchedule, match="key is ''"):
        agenda.add(work, key="")

    assert len(agenda) == 0


async def test_functions_handles_and_names_can_be_scattered(docket: Docket):
    @docket.task
    async def handled(number: int) -> None: ...

    @docket.task(name="by.name")
    async def named(number: int) -> None: ...

    agenda = Agenda()
    agenda.add(work)(1)
    agenda.add(handled)(2)
    agenda.add("by.name")(3)
    agenda.add(docket.add(handled))(4)
    executions = await agenda.scatter(docket, over=MINUTE, start=NOON)

    assert [(execution.function_name, execution.args) for execution in executions] == [("work", (1,)), ("handled", (2,)), ("by.name", (3,)), ("handled", (4,))]
    assert {execution.disposition for execution in executions} == {Disposition.SCHEDULED}
    await clear(docket, executions)


@pytest.mark.parametrize(("calls", "minutes"), [(0, []), (1, [0]), (2, [0, 60]), (5, [0, 15, 30, 45, 60])])
async def test_calls_are_at_even_distances_from_the_start_to_the_end(docket: Docket, calls: int, minutes: list[int]):
    executions = await an_agenda(calls).scatter(docket, over=60 * MINUTE, start=NOON)

    assert [(execution.when - NOON) / MINUTE for execution in executions] == minutes
    await clear(docket, executions)


async def test_without_a_start_they_begin_now(docket: Docket):
    before = docket.clock.now()

    executions = await an_agenda(2).scatter(docket, over=60 * MINUTE)

    assert before - timedelta(seconds=1) <= executions[1].when - 60 * MINUTE <= docket.clock.now() + timedelta(seconds=1)
    await clear(docket, executions)


async def test_jitter_moves_them_a_little_and_never_before_the_start(docket: Docket):
    executions = await an_agenda(50).scatter(docket, over=49 * MINUTE, start=NOON, jitter=5 * MINUTE)

    moved = [(execution.when - NOON) / MINUTE - number for number, execution in enumerate(executions)]
    assert all(-5 <= minutes <= 5 for minutes in moved)
    assert len(set(moved)) > 40 and min(moved) < -1 and max(moved) > 1
    assert all(execution.when >= NOON for execution in executions)
    await clear(docket, executions)


async def test_it_can_be_scattered_again(docket: Docket):
    agenda = an_agenda(2)
    first = await agenda.scatter(docket, over=MINUTE, start=NOON)

    second = await agenda.scatter(docket, over=MINUTE, start=NOON)

    assert [execution.disposition for execution in second] == [Disposition.ALREADY_SCHEDULED] * 2
    await clear(docket, first)


@pytest.mark.parametrize("over", [timedelta(0), -MINUTE])
async def test_there_must_be_time_to_scatter_over(docket: Docket, over: timedelta):
    with pytest.raises(ValueError, match="'over' parameter must be a positive duration"):
        await an_agenda(1).scatter(docket, over=over)


async def test_jitter_cannot_be_negative(docket: Docket):
    with pytest.raises(InvalidOption, match="jitter is .*; give"):
        await an_agenda(1).scatter(docket, over=MINUTE, jitter=-MINUTE)


async def test_a_start_without_a_time_zone_is_refused(docket: Docket):
    with pytest.raises(InvalidSchedule, match="without a time zone"):
        await an_agenda(1).scatter(docket, over=MINUTE, start=datetime(2100, 1, 1))


async def test_a_name_that_nobody_registered_is_refused_before_anything_is_scheduled(docket: Docket):
    agenda = an_agenda(1)
    agenda.add("wrok")(1)
    docket.register(work)

    with pytest.raises(KeyError) as raised:
        await agenda.scatter(docket, over=MINUTE)

    assert str(raised.value) == "Task 'wrok' is not registered; did you mean 'work'?"
    assert isinstance(raised.value, DocketError)
    assert await docket.get_execution("k0") is None
