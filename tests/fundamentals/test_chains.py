"""Chains: a run may schedule its own key, and its successor goes live in the step that settles the run."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from docket import (
    CurrentDocket,
    CurrentExecution,
    Disposition,
    Docket,
    Execution,
    ExecutionCancelled,
    ExecutionState,
    ExecutionSuperseded,
    Retry,
    TaskKey,
    Worker,
)

POLLING_INTERVAL = timedelta(milliseconds=20)
LATER = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(timezone.utc)


async def test_a_polling_chain_keeps_its_key_from_link_to_link(docket: Docket, running_worker: Worker, tmp_path: Path):
    polls: list[str] = []
    seen = asyncio.Event()

    async def poll_for_changes(file: Path, key: str = TaskKey(), docket: Docket = CurrentDocket()) -> None:
        polls.append(key)
        if file.exists():
            seen.set()
            return
        if len(polls) == 3:
            file.touch()
        await docket.add(poll_for_changes, when=now() + POLLING_INTERVAL, key=key)(file)

    await docket.add(poll_for_changes, key="poll")(tmp_path / "file")
    await seen.wait()

    assert polls == ["poll"] * 4


async def test_each_link_has_a_result_of_its_own(docket: Docket, worker: Worker):
    links: list[Execution[int]] = []

    @docket.task
    async def count_down(number: int, key: str = TaskKey()) -> int:
        if number:
            links.append(await count_down.options(key=key).schedule(number - 1))
        return number

    links.append(await count_down.options(key="k").schedule(3))
    await worker.run_until_finished()

    assert [await link.get_result() for link in links] == [3, 2, 1, 0]
    assert len({link.generation for link in links}) == 4


async def test_who_waits_for_a_link_learns_of_its_end_and_not_of_the_next(docket: Docket, running_worker: Worker):
    @docket.task
    async def chain(number: int, key: str = TaskKey()) -> int:
        await chain.options(key=key, when=LATER).schedule(number + 1)
        return number

    first = await chain.options(key="k").schedule(1)

    assert await first.get_result(timeout=timedelta(seconds=10)) == 1
    waiting = await docket.get_execution("k")
    assert waiting is not None
    assert (waiting.state, waiting.args) == (ExecutionState.SCHEDULED, (2,))
    await docket.cancel("k")


async def test_the_first_successor_counts_and_a_second_is_a_no_op(docket: Docket, worker: Worker):
    ran: list[str] = []
    dispositions: list[Disposition] = []

    @docket.task
    async def chain(name: str, key: str = TaskKey()) -> None:
        ran.append(name)
        if name == "first":
            dispositions.extend([(await chain.options(key=key).schedule(successor)).disposition for successor in ("second", "third")])

    await chain.options(key="k").schedule("first")
    await worker.run_until_finished()

    assert dispositions == [Disposition.SCHEDULED, Disposition.ALREADY_SCHEDULED]
    assert ran == ["first", "second"]


async def test_from_outside_a_running_key_stays_a_no_op(docket: Docket, running_worker: Worker):
    ran: list[str] = []
    started, finish = asyncio.Event(), asyncio.Event()

    @docket.task
    async def job(name: str) -> None:
        ran.append(name)
        started.set()
        await finish.wait()

    @docket.task
    async def another_run() -> Disposition:
        return (await job.schedule("from another run", key="k")).disposition

    first = await job.schedule("first", key="k")
    await started.wait()
    from_outside = await job.schedule("from outside", key="k")
    from_another_run = await another_run.schedule(key="other")

    assert from_outside.disposition is await from_another_run.get_result() is Disposition.ALREADY_SCHEDULED
    finish.set()
    await first.get_result()
    assert ran == ["first"]


async def test_the_successor_does_not_start_before_the_run_has_ended(docket: Docket, worker: Worker):
    told: list[str] = []

    @docket.task
    async def chain(name: str, key: str = TaskKey()) -> None:
        told.append(f"{name} starts")
        if name == "first":
            await chain.options(key=key).schedule("second")
            await asyncio.sleep(0.1)
        told.append(f"{name} ends")

    await chain.options(key="k").schedule("first")
    await worker.run_until_finished()

    assert told == ["first starts", "first ends", "second starts", "second ends"]


async def test_an_attempt_that_is_retried_drops_its_successor(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def chain(name: str, key: str = TaskKey(), retry: Retry = Retry(attempts=2)) -> None:
        ran.append(name)
        if name == "first":
            await chain.options(key=key).schedule(f"asked for by attempt {retry.attempt}")
            if retry.attempt == 1:
                raise RuntimeError("not yet")

    await chain.options(key="k").schedule("first")
    await worker.run_until_finished()

    assert ran == ["first", "first", "asked for by attempt 2"]


async def test_a_run_that_fails_for_good_keeps_its_successor(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def chain(name: str, key: str = TaskKey()) -> None:
        ran.append(name)
        if name == "first":
            await chain.options(key=key).schedule("second")
            raise RuntimeError("and yet it moves on")

    first = await chain.options(key="k").schedule("first")
    await worker.run_until_finished()

    assert ran == ["first", "second"]
    with pytest.raises(RuntimeError, match="it moves on"):
        await first.get_result()


async def test_cancelling_ends_the_chain(docket: Docket, running_worker: Worker):
    links: list[Execution[Any]] = []
    asked = asyncio.Event()

    @docket.task
    async def chain(key: str = TaskKey()) -> None:
        links.append(await chain.options(key=key).schedule())
        asked.set()
        await asyncio.sleep(3600)

    first = await chain.options(key="k").schedule()
    await asked.wait()
    await docket.cancel("k")

    with pytest.raises(ExecutionCancelled):
        await first.get_result()
    with pytest.raises((ExecutionCancelled, ExecutionSuperseded)):
        await links[0].get_result()  # which never came to be
    assert len(links) == 1


async def test_run_at_most_ends_a_chain(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def chain(execution: Execution = CurrentExecution()) -> None:
        ran.append(execution.key)
        await chain.options(key=execution.key).schedule()

    await chain.options(key="k").schedule()
    await worker.run_at_most({"k": 3})

    assert ran == ["k"] * 3
