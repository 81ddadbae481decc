from __future__ import annotations

import pickle
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from docket import Cancel, Depends, Discard, Retry, Snooze
from docket.dependencies._base import Verdict
from docket.dependencies._verdicts import Dropped
from docket.testing import run_task

SECOND = timedelta(seconds=1)
VERDICTS = [Snooze(SECOND), Discard("why"), Cancel("why"), Cancel(), Dropped("why")]


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Snooze(SECOND), "snoozed for 0:00:01"),
        (Snooze(-SECOND), "snoozed for 0:00:00"),
        (Snooze(), "snoozed for 0:00:00"),
        (Discard("no such order"), "no such order"),
        (Discard(), "discarded"),
        (Cancel("no longer wanted"), "no longer wanted"),
        (Cancel(), ""),
        (Dropped("too late"), "too late"),
    ],
)
def test_a_verdict_says_why(verdict: Verdict, text: str):
    assert str(verdict) == text


@pytest.mark.parametrize("verdict", VERDICTS, ids=repr)
def test_it_can_be_sent_to_who_waits(verdict: Verdict):
    again = pickle.loads(pickle.dumps(verdict))

    assert type(again) is type(verdict) and str(again) == str(verdict) and vars(again) == vars(verdict)


@pytest.mark.parametrize("verdict", VERDICTS, ids=repr)
async def test_it_passes_unwrapped_through_dependencies_which_are_closed(verdict: Verdict):
    log: list[str] = []

    async def opened() -> AsyncGenerator[str, None]:
        try:
            yield "open"
        finally:
            log.append("closed")

    def judge(opened: str = Depends(opened)) -> None:
        raise verdict

    async def by_dependency(judged: None = Depends(judge), retry: Retry = Retry(attempts=3)) -> None: ...

    async def by_body(opened: str = Depends(opened), retry: Retry = Retry(attempts=3)) -> None:
        raise verdict

    for task in (by_dependency, by_body):
        assert (await run_task(task, raises=False)).exception is verdict

    assert log == ["closed", "closed"]
