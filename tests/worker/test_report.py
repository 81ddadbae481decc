"""What the log says of runs."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import timedelta
from typing import Annotated, Any

import pytest

from docket import Cancel, CurrentExecution, Discard, Docket, Execution, ExecutionCancelled, Logged, Perpetual, Retry, Snooze, Worker
from docket._logging import format_duration
from docket.dependencies import CompletionHandler, FailureHandler, ForcedRetry, TaskOutcome
from docket.dependencies._base import Verdict
from docket.dependencies._verdicts import Dropped
from tests._waiting import eventually
from tests.worker._hands import at_work, lasts

Lines = list[tuple[str, str]]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "docket.worker")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> Lines:
    """The arrows, with their levels and without the digits."""
    return [(entry.levelname, re.sub(r"\[ *\d+ms\]", "[ms]", entry.message)) for entry in log.records if entry.message[0] in "↪↩↫↬✗"]


@pytest.mark.parametrize(
    ("seconds", "printed"), [(0.0, "     0ms"), (0.0123, "    12ms"), (1.5, "  1500ms"), (99.9, " 99900ms"), (100, "   100s "), (123456, "123456s ")]
)
def test_durations_have_one_width(seconds: float, printed: str):
    assert format_duration(seconds) == printed


async def test_a_run_has_a_line_as_it_starts_and_one_as_it_ends(docket: Docket, worker: Worker, log: pytest.LogCaptureFixture):
    async def greet(name: Annotated[str, Logged], secret: str) -> None: ...

    await docket.add(greet, key="k")("Jane", secret="x")
    await worker.run_until_finished()

    assert lines(log) == [("INFO", "↪ [ms] greet('Jane', secret=...){k}"), ("INFO", "↩ [ms] greet('Jane', secret=...){k}")]


async def test_lines_have_fields(docket: Docket, log: pytest.LogCaptureFixture):
    async def greet() -> None: ...

    async with Worker(docket, name="worker-1") as worker:
        await docket.add(greet, key="k")()
        await worker.run_until_finished()

    start, end = (vars(entry) for entry in log.records if entry.message[0] in "↪↩")
    for fields in (start, end):
        assert {name: fields[name] for name in ("docket.name", "docket.worker", "docket.task", "docket.key", "docket.attempt")} == {
            "docket.name": docket.name, "docket.worker": "worker-1", "docket.task": "greet", "docket.key": "k", "docket.attempt": 1,
        }  # fmt: skip
        assert {"docket.queue_key", "docket.stream_key", "docket.when"} <= fields.keys()
    assert start["punctuality"] >= 0
    assert end["duration"] >= 0


async def test_a_failure_shows_its_traceback(docket: Docket, worker: Worker, log: pytest.LogCaptureFixture):
    async def fails() -> None:
        raise ValueError("no")

    await docket.add(fails, key="k")()
    await worker.run_until_finished()

    assert lines(log) == [("INFO", "↪ [ms] fails(){k}"), ("ERROR", "↩ [ms] fails(){k}")]
    assert log.records[-1].exc_info is not None
    assert isinstance(log.records[-1].exc_info[1], ValueError)


async def test_a_retry_is_announced_and_its_start_has_another_arrow(docket: Docket, worker: Worker, log: pytest.LogCaptureFixture):
    async def fails_once(retry: Retry = Retry(attempts=2)) -> None:
        if retry.attempt == 1:
            raise ValueError("no")

    await docket.add(fails_once, key="k")()
    await worker.run_until_finished()

    call = "[ms] fails_once(){k}"
    assert lines(log) == [("INFO", f"↪ {call}"), ("WARNING", f"↩ {call}"), ("INFO", f"↫ {call}"), ("INFO", f"↬ {call}"), ("INFO", f"↩ {call}")]


async def test_the_next_link_of_a_chain_is_announced(docket: Docket, worker: Worker, log: pytest.LogCaptureFixture):
    async def chain(perpetual: Perpetual = Perpetual(every=lasts(1))) -> None: ...

    await docket.add(chain, key="k")()
    await worker.run_at_most({"k": 2})

    call = "[ms] chain(){k}"
    assert lines(log) == [("INFO", f"↪ {call}"), ("INFO", f"↩ {call}"), ("INFO", f"↫ {call}"), ("INFO", f"↪ {call}"), ("INFO", f"↩ {call}")]


async def test_a_cancelled_run_says_so(docket: Docket, log: pytest.LogCaptureFixture):
    begun = asyncio.Event()

    async def long() -> None:
        begun.set()
        await asyncio.Event().wait()

    await docket.add(long, key="k")()
    async with at_work(docket):
        await begun.wait()
        await docket.cancel("k")
        await eventually(lambda: len(lines(log)) == 2)

    assert lines(log) == [("INFO", "↪ [ms] long(){k}"), ("INFO", "✗ [ms] long(){k} (cancelled)")]


async def test_a_superseded_run_says_so(docket: Docket, worker: Worker, log: pytest.LogCaptureFixture):
    async def replaces_itself(again: bool) -> None:
        if again:
            await docket.replace(replaces_itself, when=lasts(50), key="k")(False)

    await docket.add(replaces_itself, key="k")(True)
    await worker.run_until_finished()

    call = "[ms] replaces_itself(...){k}"
    assert lines(log) == [("INFO", f"↪ {call}"), ("INFO", f"↬ {call} (superseded)"), ("INFO", f"↪ {call}"), ("INFO", f"↩ {call}")]


async def test_a_chain_that_was_cancelled_while_its_run_went_on_is_not_announced_to_go_on(docket: Docket, worker: Worker, log: pytest.LogCaptureFixture):
    async def cancels_its_own_key(perpetual: Perpetual = Perpetual(every=timedelta(hours=1)), run: Execution[Any] = CurrentExecution()) -> None:
        try:
            await docket.cancel("k")
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            pass

    await docket.add(cancels_its_own_key, key="k")()
    await worker.run_until_finished()

    assert [line[:1] for _, line in lines(log)] == ["↪", "↩"]


async def test_a_worker_that_starts_names_its_tasks(docket: Docket, log: pytest.LogCaptureFixture):
    async def greet(name: str, retry: Retry = Retry(attempts=2)) -> None: ...

    docket.register(greet, names=["greet", "hello"])

    async with Worker(docket, name="worker-1") as worker:
        await worker.run_until_finished()

    assert log.messages[0] == "Starting worker 'worker-1' with the following tasks:"
    assert {"* greet(name: str, ...)", "* hello(name: str, ...)", "* trace(message: str, ...)"} <= set(log.messages)


async def test_nothing_is_printed_when_nobody_listens(docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR, "docket.worker")
    printed: list[str] = []

    class Noted(Logged):
        def format(self, argument: Any) -> str:
            printed.append(str(argument))
            return str(argument)

    async def greet(name: Annotated[str, Noted()]) -> None: ...

    await docket.add(greet)("Jane")
    await worker.run_until_finished()

    assert printed == []


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Snooze(timedelta(hours=1)), [("INFO", "↩ [ms] judged(){k} (snoozed for 1:00:00)"), ("INFO", "↫ [ms] judged(){k}")]),
        (ForcedRetry(timedelta(hours=1)), [("INFO", "↩ [ms] judged(){k} (Retry after 1:00:00)"), ("INFO", "↫ [ms] judged(){k}")]),
        (Discard("no such order"), [("WARNING", "↩ [ms] judged(){k} (discarded: no such order)"), ("INFO", "↫ [ms] judged(){k}")]),
        (Cancel("not wanted"), [("INFO", "✗ [ms] judged(){k} (cancelled: not wanted)")]),
        (Cancel(), [("INFO", "✗ [ms] judged(){k} (cancelled)")]),
        (Dropped("too late"), [("INFO", "✗ [ms] judged(){k} (cancelled: too late)"), ("INFO", "↫ [ms] judged(){k}")]),
    ],
    ids=repr,
)
async def test_a_verdict_is_told_without_a_traceback(docket: Docket, log: pytest.LogCaptureFixture, verdict: Verdict, expected: Lines):
    async def judged(retry: Retry = Retry(attempts=2), perpetual: Perpetual = Perpetual(timedelta(hours=1))) -> None:
        raise verdict

    await docket.add(judged, key="k")()
    async with at_work(docket):
        await eventually(lambda: len(lines(log)) > len(expected))

    assert lines(log) == [("INFO", "↪ [ms] judged(){k}"), *expected]
    assert not any(entry.exc_info for entry in log.records)
    await docket.cancel("k")


async def test_a_snooze_of_a_run_that_was_cancelled_meanwhile_is_a_cancellation(docket: Docket, log: pytest.LogCaptureFixture):
    async def judged() -> None:
        await docket.cancel("k")
        raise Snooze(timedelta(hours=1))

    execution = await docket.add(judged, key="k")()
    async with at_work(docket):
        with pytest.raises(ExecutionCancelled):
            await execution.get_result()
        await eventually(lambda: len(lines(log)) > 1)

    assert lines(log)[1:] == [("INFO", "✗ [ms] judged(){k} (cancelled)")]


async def test_what_a_handler_dealt_with_is_no_error_in_the_log(docket: Docket, worker: Worker, log: pytest.LogCaptureFixture):
    class Calm(FailureHandler):
        async def handle_failure(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
            return True

    class Follow(CompletionHandler):
        async def on_complete(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
            if len(lines(log)) > 2:
                return False
            await docket.add(fails, key="k")()
            return True

    async def fails(calm: Calm = Calm(), follow: Follow = Follow()) -> None:
        raise ValueError("no")

    await docket.add(fails, key="k")()
    await worker.run_until_finished()

    run = [("INFO", "↪ [ms] fails(){k}"), ("INFO", "↩ [ms] fails(){k} (dealt with: ValueError: no)")]
    assert lines(log) == [*run, ("INFO", "↫ [ms] fails(){k}"), *run]


async def test_an_applications_own_kind_of_record_is_used(docket: Docket, worker: Worker, log: pytest.LogCaptureFixture):
    class Marked(logging.LogRecord):
        marked = True

    async def fine() -> None: ...

    usual = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Marked)
    try:
        await docket.add(fine, key="k")()
        await worker.run_until_finished()
    finally:
        logging.setLogRecordFactory(usual)

    told = [record for record in log.records if "fine(){k}" in record.getMessage()]
    assert len(told) == 2
    assert all(isinstance(record, Marked) for record in told)
    assert vars(told[0])["docket.key"] == "k"
