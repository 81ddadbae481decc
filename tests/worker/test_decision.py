"""What follows a run, as a table."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from docket import Cancel, Cron, Discard, ExecutionState, Perpetual, Retry, Snooze
from docket._worker._decision import Decision, decide
from docket.dependencies import AdmissionBlocked, ForcedRetry, TaskOutcome
from docket.dependencies._verdicts import Dropped

a_run: Any = SimpleNamespace(key="k")
COMPLETED, FAILED, CANCELLED = ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED
STARTED = datetime(2026, 1, 1, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)
ENDED = STARTED + 3 * SECOND
MINUTE = timedelta(minutes=1)
FAILURE = ValueError("no")
CANCELLATION = asyncio.CancelledError()
ASKED = ForcedRetry(delay=2 * SECOND)
SNOOZED, PUT_OFF, DISCARDED, CALLED_OFF, DROPPED = Snooze(), Snooze(SECOND), Discard("why"), Cancel("why"), Dropped("why")
HELD_BACK, TURNED_AWAY = AdmissionBlocked(a_run, retry_delay=SECOND), AdmissionBlocked(a_run, reschedule=False)
BOTH = {"retry": Retry(3), "perpetual": Perpetual(MINUTE)}


def ended() -> Perpetual:
    perpetual = Perpetual(every=MINUTE)
    perpetual.cancel()
    return perpetual


def with_others(*args: Any, **kwargs: Any) -> Perpetual:
    perpetual = Perpetual(every=MINUTE)
    perpetual.perpetuate(*args, **kwargs)
    return perpetual


@pytest.mark.parametrize(
    ("exception", "declared", "decision"),
    [
        pytest.param(None, {}, Decision(COMPLETED), id="it ends well"),
        pytest.param(FAILURE, {}, Decision(FAILED, FAILURE), id="it fails"),
        pytest.param(None, {"retry": Retry(3)}, Decision(COMPLETED), id="a success is not tried again"),
        pytest.param(FAILURE, {"retry": Retry(2)}, Decision(FAILED, FAILURE, "retry", None, 2), id="a failure is tried again at once"),
        pytest.param(FAILURE, {"retry": Retry(2, delay=SECOND)}, Decision(FAILED, FAILURE, "retry", ENDED + SECOND, 2), id="and after a delay"),
        pytest.param(ASKED, {"retry": Retry(2, delay=SECOND)}, Decision(FAILED, ASKED, "retry", ENDED + 2 * SECOND, 2), id="or after the delay it asks for"),
        pytest.param(FAILURE, {"retry": Retry(1)}, Decision(FAILED, FAILURE), id="the last attempt fails"),
        pytest.param(FAILURE, {"retry": Retry(2), "last": True}, Decision(FAILED, FAILURE, "end"), id="no attempt is wanted"),
        pytest.param(None, {"perpetual": Perpetual(MINUTE)}, Decision(COMPLETED, None, "next", STARTED + MINUTE), id="a chain goes on"),
        pytest.param(None, {"perpetual": Perpetual(SECOND)}, Decision(COMPLETED, None, "next", ENDED), id="a late chain goes on at once"),
        pytest.param(FAILURE, {"perpetual": Perpetual(MINUTE)}, Decision(FAILED, FAILURE, "next", STARTED + MINUTE), id="a chain outlives a failure"),
        pytest.param(
            FAILURE, {"retry": Retry(2), "perpetual": Perpetual(MINUTE)}, Decision(FAILED, FAILURE, "retry", None, 2), id="an attempt comes before the next link"
        ),
        pytest.param(None, {"perpetual": ended()}, Decision(COMPLETED, None, "end"), id="a chain was ended by its body"),
        pytest.param(None, {"perpetual": Perpetual(MINUTE), "last": True}, Decision(COMPLETED, None, "end"), id="no further link is wanted"),
        pytest.param(None, {"last": True}, Decision(COMPLETED, None, "end"), id="no successor is wanted"),
        pytest.param(
            None,
            {"perpetual": with_others(1, name="x")},
            Decision(COMPLETED, None, "next", STARTED + MINUTE, arguments=((1,), {"name": "x"})),
            id="the next link is called with other arguments",
        ),
        pytest.param(
            None, {"perpetual": with_others()}, Decision(COMPLETED, None, "next", STARTED + MINUTE, arguments=((), {})), id="or with none"
        ),
        pytest.param(FAILURE, {"retry": Retry(3, on=OSError)}, Decision(FAILED, FAILURE), id="not this failure"),
        pytest.param(None, {"perpetual": Perpetual(MINUTE, after_end=True)}, Decision(COMPLETED, None, "next", ENDED + MINUTE), id="a chain counts from the end"),
        pytest.param(None, {"perpetual": Cron("@hourly")}, Decision(COMPLETED, None, "next", STARTED + 60 * MINUTE), id="a chain goes by the clock"),
        pytest.param(SNOOZED, {"attempt": 2}, Decision(FAILED, SNOOZED, "retry", None, 2), id="a snooze uses no attempt"),
        pytest.param(PUT_OFF, {"retry": Retry(1), "attempt": 1}, Decision(FAILED, PUT_OFF, "retry", ENDED + SECOND, 1), id="nor needs one to be left"),
        pytest.param(PUT_OFF, BOTH, Decision(FAILED, PUT_OFF, "retry", ENDED + SECOND, 1), id="a snooze comes before the next link"),
        pytest.param(PUT_OFF, {"last": True}, Decision(CANCELLED, PUT_OFF, "end"), id="a last run is not put off"),
        pytest.param(DISCARDED, {}, Decision(FAILED, DISCARDED), id="what is discarded has failed"),
        pytest.param(DISCARDED, {"retry": Retry(3)}, Decision(FAILED, DISCARDED), id="and is not tried again"),
        pytest.param(DISCARDED, BOTH, Decision(FAILED, DISCARDED, "next", STARTED + MINUTE), id="but its chain goes on"),
        pytest.param(CALLED_OFF, {}, Decision(CANCELLED, CALLED_OFF, "end"), id="a body may cancel itself"),
        pytest.param(CALLED_OFF, BOTH, Decision(CANCELLED, CALLED_OFF, "end"), id="and its chain with it"),
        pytest.param(HELD_BACK, BOTH, Decision(FAILED, HELD_BACK, "retry", ENDED + SECOND, 1), id="what a dependency holds back is put off"),
        pytest.param(HELD_BACK, {"last": True}, Decision(CANCELLED, HELD_BACK, "end"), id="unless it is the last that is wanted"),
        pytest.param(TURNED_AWAY, {}, Decision(CANCELLED, TURNED_AWAY), id="or ends where it says so"),
        pytest.param(TURNED_AWAY, BOTH, Decision(CANCELLED, TURNED_AWAY, "next", STARTED + MINUTE), id="and the chain goes on"),
        pytest.param(DROPPED, {}, Decision(CANCELLED, DROPPED), id="what is dropped was cancelled"),
        pytest.param(DROPPED, BOTH, Decision(CANCELLED, DROPPED, "next", STARTED + MINUTE), id="and its chain goes on"),
        pytest.param(
            CANCELLATION, {"retry": Retry(2), "perpetual": Perpetual(MINUTE)}, Decision(CANCELLED, CANCELLATION, "end"), id="nothing follows a cancellation"
        ),
    ],
)  # fmt: skip
def test_what_follows_a_run(exception: BaseException | None, declared: dict[str, Any], decision: Decision):
    outcome = TaskOutcome(3 * SECOND, None, exception)
    given: dict[str, Any] = {"attempt": 1, "retry": None, "perpetual": None, "started": STARTED, "now": ENDED, **declared}

    assert decide(outcome, **given) == decision
