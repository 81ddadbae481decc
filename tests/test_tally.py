"""Counts are gathered, and handed over together, under labels of which there is a bounded number."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from docket import _tally, instrumentation
from docket._tally import OTHER, Tally
from tests._telemetry import Metrics, metered
from tests._waiting import eventually


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metrics]:
    with metered(monkeypatch) as metrics:
        yield metrics


def tally_of(*known: str) -> Tally:
    return Tally({"docket.name": "d"}, frozenset(known).__contains__)


async def test_what_was_gathered_is_handed_over_by_itself(recorded: Metrics):
    tally = tally_of("f")

    tally.count("f", instrumentation.TASKS_STARTED, instrumentation.TASKS_RUNNING)
    tally.count("f", instrumentation.TASKS_STARTED, instrumentation.TASKS_RUNNING)
    tally.count("f", instrumentation.TASKS_COMPLETED, less=instrumentation.TASKS_RUNNING)
    tally.measure("f", instrumentation.TASK_DURATION, 0.5)
    assert recorded.of("docket_tasks_started") == []

    await eventually(lambda: recorded.of("docket_tasks_started") == [({"docket.name": "d", "docket.task": "f"}, 2)])
    assert recorded.total("docket_tasks_running") == 1
    assert recorded.total("docket_tasks_completed") == 1
    assert recorded.total("docket_task_duration") == 1


async def test_many_values_do_not_wait_for_the_counts(recorded: Metrics):
    tally = tally_of("f")

    for _ in range(_tally.MOST_MEASURED):
        tally.measure("f", instrumentation.TASK_DURATION, 0.5)

    assert recorded.total("docket_task_duration") == _tally.MOST_MEASURED


async def test_where_it_happened_is_a_label(recorded: Metrics):
    tally = tally_of("f")

    tally.count("f", instrumentation.TASKS_STRICKEN, where="docket")
    tally.flush()

    assert recorded.of("docket_tasks_stricken") == [({"docket.name": "d", "docket.task": "f", "docket.where": "docket"}, 1)]


async def test_the_names_of_unknown_tasks_are_bounded(recorded: Metrics, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_tally, "MOST_STRANGERS", 2)
    tally = tally_of("known")

    for task in ("a", "b", "c", "d", "known", "a"):
        tally.count(task, instrumentation.TASKS_ADDED)
    tally.flush()

    assert {labels["docket.task"]: count for labels, count in recorded.of("docket_tasks_added")} == {"a": 2, "b": 1, OTHER: 2, "known": 1}


def test_an_sdk_that_is_set_up_late_is_noticed(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(instrumentation, "monotonic", lambda: now)
    listeners = instrumentation.Listeners()
    assert not listeners.now().metered

    with metered(monkeypatch):
        assert not listeners.now().metered  # it has looked just now
        now = 1.5
        assert listeners.now().metered


async def test_nothing_is_left_over_after_a_flush(recorded: Metrics):
    tally = tally_of("f")
    tally.count("f", instrumentation.TASKS_ADDED)
    tally.flush()
    tally.flush()
    await asyncio.sleep(0)

    assert recorded.total("docket_tasks_added") == 1
