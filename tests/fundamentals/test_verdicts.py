"""Verdicts: a body, or a dependency of its, raises what is to become of its run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from docket import Cancel, Depends, Discard, Docket, Execution, ExecutionCancelled, ExecutionState, Perpetual, Retry, Snooze, Worker
from docket.dependencies import CompletionHandler, FailureHandler, TaskOutcome
from tests._waiting import eventually

SHORT = timedelta(milliseconds=20)
LATER = timedelta(hours=1)


async def test_snooze_puts_a_run_off_without_using_an_attempt(docket: Docket, worker: Worker):
    attempts: list[int] = []

    @docket.task
    async def patient(retry: Retry = Retry(attempts=2)) -> str:
        attempts.append(retry.attempt)
        if len(attempts) < 4:
            raise Snooze(SHORT)
        if retry.attempt == 1:
            raise RuntimeError("an attempt")
        return "done"

    execution = await patient.schedule()
    await worker.run_until_finished()

    assert attempts == [1, 1, 1, 1, 2]
    assert await execution.get_result() == "done"


async def test_a_snoozed_run_is_scheduled_again(docket: Docket, running_worker: Worker):
    @docket.task
    async def patient() -> None:
        raise Snooze(LATER)

    execution = await patient.schedule()
    await eventually(lambda: has_run(execution))

    assert (execution.state, execution.attempt, execution.error) == (ExecutionState.SCHEDULED, 1, None)
    assert execution.when > datetime.now(timezone.utc) + 0.9 * LATER
    await docket.cancel(execution.key)


async def test_discard_fails_a_run_whatever_attempts_are_left(docket: Docket, worker: Worker):
    attempts: list[int] = []

    @docket.task
    async def picky(order: int, retry: Retry = Retry(attempts=5)) -> None:
        attempts.append(retry.attempt)
        raise Discard(f"there is no order {order}")

    execution = await picky.schedule(7)
    await worker.run_until_finished()

    assert attempts == [1]
    with pytest.raises(Discard, match="there is no order 7"):
        await execution.get_result()
    await execution.sync()
    assert (execution.state, execution.error) == (ExecutionState.FAILED, "Discard: there is no order 7")


async def test_a_chain_goes_on_after_discard_and_ends_with_cancel(docket: Docket, worker: Worker):
    runs: list[int] = []

    @docket.task
    @Perpetual(every=timedelta(0))
    async def beat() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise Discard("this run, not the chain")
        raise Cancel("enough")

    await beat.schedule(key="k")
    await worker.run_until_finished()

    assert runs == [0, 1, 2]
    last = await docket.get_execution("k")
    assert last is not None
    assert (last.state, last.error) == (ExecutionState.CANCELLED, "enough")
    with pytest.raises(ExecutionCancelled, match="enough"):
        await last.get_result()


async def test_a_dependency_may_say_it_as_well(docket: Docket, worker: Worker):
    ran: list[str] = []

    def ready() -> None:
        ran.append("asked")
        if len(ran) < 3:
            raise Snooze(SHORT)

    @docket.task
    async def careful(ready: None = Depends(ready)) -> None:
        ran.append("ran")

    await careful.schedule()
    await worker.run_until_finished()

    assert ran == ["asked", "asked", "asked", "ran"]


async def test_attempts_delays_and_the_last_error_are_seen_between_attempts(docket: Docket, running_worker: Worker):
    @docket.task
    async def flaky(retry: Retry = Retry(attempts=3, delay=LATER)) -> None:
        if retry.attempt == 2:
            raise Snooze(LATER)
        raise OSError("the line is dead")

    execution = await flaky.schedule()
    await eventually(lambda: has_run(execution))

    assert (execution.state, execution.attempt, execution.error) == (ExecutionState.SCHEDULED, 2, "OSError: the line is dead")
    assert execution.when > datetime.now(timezone.utc) + 0.9 * LATER
    assert execution.started_at is None
    await docket.cancel(execution.key)


async def test_max_elapsed_counts_from_the_first_attempt(docket: Docket, worker: Worker):
    attempts: list[int] = []

    @docket.task
    async def flaky(retry: Retry = Retry(attempts=None, delay=5 * SHORT, max_elapsed=12 * SHORT)) -> None:
        attempts.append(retry.attempt)
        raise OSError

    await flaky.schedule()
    await worker.run_until_finished()

    assert 1 <= len(attempts) <= 3
    assert attempts == list(range(1, len(attempts) + 1))


class Note(FailureHandler, CompletionHandler):
    """Deals with failures as it is told, and notes what it was called for."""

    def __init__(self, answer: bool | Exception = True, calls: list[str] | None = None) -> None:
        self.answer = answer
        self.calls: list[str] = [] if calls is None else calls

    async def handle_failure(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
        self.calls.append(f"failure of {execution.key}: {outcome.exception}")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def on_complete(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
        self.calls.append(f"end of {execution.key}: {outcome.result or outcome.exception}")
        if isinstance(self.answer, ValueError):
            raise self.answer
        return False


@pytest.mark.parametrize("answer", [True, False, ValueError("the handler's own")])
async def test_a_handler_of_the_users_learns_of_failures_and_ends(docket: Docket, worker: Worker, answer: bool | Exception):
    calls: list[str] = []

    @docket.task
    @Note(answer, calls)
    async def task(fails: bool) -> str:
        if fails:
            raise OSError("no line")
        return "done"

    failing, working = await task.schedule(fails=True, key="a"), await task.schedule(fails=False, key="b")
    await worker.run_until_finished()

    assert sorted(calls) == ["end of a: no line", "end of b: done", "failure of a: no line"]
    assert await working.get_result() == "done"
    with pytest.raises(OSError, match="no line"):
        await failing.get_result()
    await failing.sync()
    assert failing.state is ExecutionState.FAILED


async def test_a_handler_may_say_what_is_to_become_of_the_run(docket: Docket, worker: Worker):
    calls: list[str] = []

    @docket.task
    @Note(Discard("the handler says so"), calls)
    async def task() -> None:
        raise OSError("no line")

    @docket.task
    @Note(Cancel(), calls)
    async def other() -> None:
        raise OSError("no line")

    discarded, cancelled = await task.schedule(key="a"), await other.schedule(key="b")
    await worker.run_until_finished()

    with pytest.raises(Discard, match="the handler says so"):
        await discarded.get_result()
    with pytest.raises(ExecutionCancelled):
        await cancelled.get_result()
    assert sorted(calls) == ["end of a: the handler says so", "failure of a: no line", "failure of b: no line"]


async def test_a_verdict_is_no_failure_and_no_end_to_a_handler(docket: Docket, worker: Worker):
    calls: list[str] = []
    runs: list[int] = []

    @docket.task
    @Note(True, calls)
    async def task() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise Snooze
        raise Cancel

    await task.schedule()
    await worker.run_until_finished()

    assert (runs, calls) == ([0, 1], [])


async def test_what_a_handler_schedules_under_the_runs_key_is_its_successor(docket: Docket, worker: Worker):
    runs: list[int] = []

    class Again(FailureHandler):
        async def handle_failure(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
            await docket.add(execution.function, key=execution.key)(execution.args[0] + 1)
            return True

    @docket.task
    @Again()
    async def count(number: int) -> int:
        runs.append(number)
        if number < 3:
            raise OSError
        return number

    first = await count.schedule(1, key="k")
    await worker.run_until_finished()

    assert runs == [1, 2, 3]
    with pytest.raises(OSError):
        await first.get_result()
    last = await docket.get_execution("k")
    assert last is not None
    assert await last.get_result() == 3


async def has_run(execution: Execution[Any]) -> bool:
    """This says whether an attempt has been made of a run, and another is scheduled."""
    await execution.sync()
    return execution.state is ExecutionState.SCHEDULED
