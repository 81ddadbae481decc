"""Batches: many calls, scheduled together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from docket import Disposition, Docket, Perpetual, TaskCall, Worker
from docket.errors import InvalidArguments

SOON = timedelta(milliseconds=50)
LATER = timedelta(hours=1)


async def test_many_calls_are_scheduled_at_once_and_each_runs_once(docket: Docket):
    ran: list[int] = []

    @docket.task
    async def send(number: int, name: str) -> None:
        ran.append(number)

    executions = await docket.add_many(send.call(number, "x") for number in range(1_000))
    async with Worker(docket, concurrency=50) as worker:
        await worker.run_until_finished()

    assert [execution.args for execution in executions] == [(number, "x") for number in range(1_000)]
    assert sorted(ran) == list(range(1_000))


async def test_calls_have_keys_times_and_functions_of_their_own(docket: Docket, worker: Worker):
    @docket.task
    async def send(number: int) -> int:
        return number

    async def other(text: str) -> str:
        return text

    calls: list[TaskCall[Any]] = [
        send.call(1),
        send.options(key="b", when=SOON).call(2),
        docket.call(other, key="c")("three"),
        docket.call("send", when=SOON, key="d")(4),
    ]
    executions = await docket.add_many(calls)
    await worker.run_until_finished()

    assert [execution.key for execution in executions[1:]] == ["b", "c", "d"]
    assert [await execution.get_result() for execution in executions] == [1, 2, "three", 4]


async def test_a_call_is_only_a_description(docket: Docket):
    @docket.task
    async def send(number: int) -> None: ...

    call = send.options(key="k").call(1)

    assert (call.key, call.args, call.function_name) == ("k", (1,), "send")
    assert await docket.get_execution("k") is None


async def test_live_keys_are_left_alone_by_add_many_and_replaced_by_replace_many(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def job(key: str, order: str) -> None:
        ran.append(f"{key} {order}")

    def calls(order: str, when: timedelta | None) -> list[TaskCall[None]]:
        return [job.options(key=key, when=when).call(key, order) for key in ("a", "b")]

    first = await docket.add_many(calls("first", LATER))
    second = await docket.add_many(calls("second", None))
    third = await docket.replace_many(calls("third", None))
    await worker.run_until_finished()

    assert {execution.disposition for execution in (*first, *third)} == {Disposition.SCHEDULED}
    assert {execution.disposition for execution in second} == {Disposition.ALREADY_SCHEDULED}
    assert sorted(ran) == ["a third", "b third"]


async def test_a_bad_call_leaves_the_others_alone(docket: Docket, worker: Worker):
    ran: list[int] = []

    @docket.task
    async def job(number: int) -> None:
        ran.append(number)

    good = job.call(1)
    bad = TaskCall(job.function, (), {"nmuber": 2}, key="bad")
    executions = await docket.add_many([good, bad, job.call(3)])
    await worker.run_until_finished()

    assert [execution.disposition for execution in executions] == [Disposition.SCHEDULED, Disposition.FAILED, Disposition.SCHEDULED]
    assert isinstance(executions[1].schedule_exception, InvalidArguments)
    assert sorted(ran) == [1, 3]


async def test_chunks_bound_what_is_under_way(docket: Docket, worker: Worker):
    ran: list[int] = []

    @docket.task
    async def job(number: int) -> None:
        ran.append(number)

    await docket.add_many((job.call(number) for number in range(10)), chunk_size=3)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        await docket.add_many([], chunk_size=0)
    await worker.run_until_finished()

    assert sorted(ran) == list(range(10))


async def test_behaviours_hold_for_batches_too(docket: Docket, worker: Worker):
    ran: list[int] = []

    @docket.task
    @Perpetual(every=timedelta(0))
    async def beat(number: int) -> None:
        ran.append(number)

    await docket.add_many(beat.options(key=f"k{number}").call(number) for number in range(3))
    await worker.run_at_most({f"k{number}": 2 for number in range(3)})

    assert sorted(ran) == [0, 0, 1, 1, 2, 2]
