"""Replacing: the newer order wins, whatever the older run still does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from docket import CurrentExecution, Disposition, Docket, Execution, ExecutionSuperseded, Perpetual, Retry, Worker

LATER = timedelta(hours=1)
SOON = timedelta(milliseconds=50)


@pytest.mark.parametrize("when", [None, LATER], ids=["queued", "scheduled"])
async def test_the_replacement_runs_instead(docket: Docket, worker: Worker, when: timedelta | None):
    ran: list[tuple[int, str]] = []

    @docket.task
    async def send_welcome_email(customer_id: int, name: str) -> None:
        ran.append((customer_id, name))

    await docket.add(send_welcome_email, when=when, key="k")(12345, "Jane Smith")
    replacement = await docket.replace(send_welcome_email, when=SOON, key="k")(12345, "Jane Q. Smith")
    await worker.run_until_finished()

    assert replacement.disposition is Disposition.SCHEDULED
    assert ran == [(12345, "Jane Q. Smith")]


async def test_replacing_on_a_free_key_is_adding(docket: Docket, worker: Worker):
    @docket.task
    async def job(name: str) -> str:
        return name

    executions = [await docket.replace(job, when=SOON, key="a")("docket"), await job.replace("handle", key="b")]
    await worker.run_until_finished()

    assert [await execution.get_result() for execution in executions] == ["docket", "handle"]


async def test_another_function_may_take_the_place(docket: Docket, worker: Worker):
    async def first() -> str:
        return "first"

    async def second(number: int) -> int:
        return number

    await docket.add(first, when=LATER, key="k")()
    replacement = await docket.replace(second, when=None, key="k")(2)
    await worker.run_until_finished()

    assert await replacement.get_result() == 2


async def test_who_waits_for_the_replaced_run_learns_of_it(docket: Docket, worker: Worker):
    @docket.task
    async def job(name: str) -> str:
        return name

    replaced = await job.schedule("old", key="k", when=LATER)
    waiting = asyncio.create_task(replaced.get_result())
    replacement = await job.replace("new", key="k")
    await worker.run_until_finished()

    with pytest.raises(ExecutionSuperseded, match="Execution k was replaced"):
        await waiting
    with pytest.raises(ExecutionSuperseded):
        await replaced.get_result()
    assert await replaced.is_superseded()
    assert await replacement.get_result() == "new"


async def test_a_replaced_body_is_told_to_stop(docket: Docket, running_worker: Worker):
    started, stopped = asyncio.Event(), asyncio.Event()

    @docket.task
    async def job(name: str) -> str:
        if name == "old":
            try:
                started.set()
                await asyncio.sleep(3600)
            finally:
                stopped.set()
        return name

    replaced = await job.schedule("old", key="k")
    await started.wait()
    replacement = await job.replace("new", key="k")

    assert await replacement.get_result() == "new"
    await stopped.wait()
    with pytest.raises(ExecutionSuperseded):
        await replaced.get_result()


def returns() -> str:
    return "old"


def fails() -> str:
    raise RuntimeError("old")


@pytest.mark.parametrize("ending", [returns, fails])
@pytest.mark.parametrize("behaviour", [Retry(attempts=3), Perpetual(every=timedelta(0))], ids=["retry", "perpetual"])
async def test_a_replaced_run_leaves_its_replacement_alone(docket: Docket, running_worker: Worker, ending: Any, behaviour: Retry | Perpetual):
    runs: list[str] = []
    started, replaced = asyncio.Event(), asyncio.Event()

    @docket.task
    @behaviour
    async def old() -> str:
        runs.append("old")
        started.set()
        while not replaced.is_set():
            try:
                await replaced.wait()
            except asyncio.CancelledError:
                continue  # it will not be told
        return ending()

    @docket.task
    async def new() -> str:
        runs.append("new")
        return "new"

    await old.schedule(key="k")
    await started.wait()
    replacement = await docket.replace(new, when=4 * SOON, key="k")()
    replaced.set()

    assert await replacement.get_result() == "new"
    assert runs == ["old", "new"]


async def test_a_replaced_run_cannot_report_progress_for_its_replacement(docket: Docket, running_worker: Worker):
    started, replaced, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @docket.task
    async def job(name: str, execution: Execution = CurrentExecution()) -> None:
        await execution.progress.set_message(f"said by the {name} one")
        started.set()
        while not replaced.is_set():
            try:
                await replaced.wait()
            except asyncio.CancelledError:
                continue  # it will not be told
        await execution.progress.increment(5)
        await execution.progress.set_message(f"said too late by the {name} one")
        ended.set()

    await job.schedule("old", key="k")
    await started.wait()
    replacement = await job.replace("new", key="k", when=LATER)
    replaced.set()
    await ended.wait()

    await replacement.sync()
    assert (replacement.progress.current, replacement.progress.message) == (None, None)
    await docket.cancel("k")


async def test_a_run_may_replace_itself_and_sees_itself_out(docket: Docket, worker: Worker):
    runs: list[str] = []

    @docket.task
    async def job(name: str) -> None:
        runs.append(f"{name} starts")
        if name == "first":
            await job.replace("second", key="k")
        await asyncio.sleep(0.01)
        runs.append(f"{name} ends")

    await job.schedule("first", key="k")
    await worker.run_until_finished()

    assert sorted(runs) == ["first ends", "first starts", "second ends", "second starts"]


async def test_a_run_that_was_replaced_twice_is_superseded_still(docket: Docket):
    async def nothing() -> None: ...

    first = await docket.add(nothing, when=timedelta(hours=1), key="twice")()
    await docket.replace(nothing, timedelta(hours=1), "twice")()
    await docket.replace(nothing, timedelta(hours=1), "twice")()

    await first.sync()

    assert first.disposition is Disposition.SUPERSEDED
    await docket.cancel("twice")
