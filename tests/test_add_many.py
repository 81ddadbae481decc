"""Scheduling many calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from docket import Disposition, Docket, ExecutionState, TaskCall
from docket._store.lifecycle import Lifecycle
from docket.errors import InDoubt, InvalidArguments, NotSerializable, RedisUnavailable

pytestmark = pytest.mark.leaves_keys("work is scheduled here, and no worker runs it")


async def send(number: int, name: str = "") -> None: ...


async def test_many_calls_are_scheduled_in_order(docket: Docket):
    task = docket.task(send)

    executions = await docket.add_many(task.call(number, "x") for number in range(450))

    assert [execution.args for execution in executions] == [(number, "x") for number in range(450)]
    assert {execution.disposition for execution in executions} == {Disposition.SCHEDULED}
    assert {execution.state for execution in executions} == {ExecutionState.QUEUED}
    assert len({execution.generation for execution in executions}) == 450


@pytest.mark.parametrize("chunk_size", [1, 3, 10, None])
async def test_any_chunk_size_schedules_everything(docket: Docket, chunk_size: int | None):
    executions = await docket.add_many([docket.call(send, key=f"k{number}")(number) for number in range(10)], chunk_size=chunk_size)

    assert [execution.key for execution in executions] == [f"k{number}" for number in range(10)]
    assert all([await docket.get_execution(f"k{number}") for number in range(10)])


async def test_no_calls_are_no_executions(docket: Docket):
    assert await docket.add_many([]) == []


@pytest.mark.parametrize("chunk_size", [0, -1])
async def test_a_chunk_holds_at_least_one(docket: Docket, chunk_size: int):
    with pytest.raises(ValueError, match="chunk_size"):
        await docket.add_many([], chunk_size=chunk_size)


async def test_live_keys_stay_and_are_replaced_by_replace_many(docket: Docket):
    call = docket.call(send, key="k")
    (first,) = await docket.add_many([call(1)])

    (second,) = await docket.add_many([call(2)])
    (third,) = await docket.replace_many([call(3)])

    assert second.disposition is Disposition.ALREADY_SCHEDULED
    assert second.generation == first.generation
    assert third.disposition is Disposition.SCHEDULED
    assert third.generation > first.generation


async def test_one_that_fails_leaves_the_others_alone(docket: Docket):
    call = docket.call(send)
    calls: list[TaskCall[Any]] = [
        call(1),
        call(number for number in range(2)),  # pyright: ignore[reportArgumentType]
        TaskCall(send, (), {}, "k"),
        TaskCall(send, (4,), {}, "l", function_name="alias"),
        call(5),
    ]

    executions = await docket.add_many(calls)

    assert [execution.disposition is Disposition.FAILED for execution in executions] == [False, True, True, False, False]
    assert isinstance(executions[1].schedule_exception, NotSerializable)
    assert isinstance(executions[2].schedule_exception, InvalidArguments)
    assert executions[3].function_name == "alias"
    assert await docket.get_execution("k") is None


async def test_names_registered_elsewhere_are_written_with_one_warning(docket: Docket, caplog: pytest.LogCaptureFixture):
    await docket.add_many(docket.call("elsewhere")(number) for number in range(3))

    assert caplog.text.count("Task 'elsewhere'") == 1


async def test_an_iterable_that_fails_leaves_what_it_gave_before(docket: Docket):
    def calls() -> Iterator[TaskCall[None]]:
        for number in range(200):
            yield docket.call(send, key=f"k{number}")(number)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        await docket.add_many(calls(), chunk_size=50)

    assert await docket.get_execution("k0")


async def test_a_cancelled_caller_leaves_nothing_running(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    started = asyncio.Event()

    async def never(self: Lifecycle, orders: object) -> list[Any]:
        started.set()
        await asyncio.sleep(3600)
        return []

    monkeypatch.setattr(Lifecycle, "schedule_many", never)
    adding = asyncio.create_task(docket.add_many([docket.call(send)(1)]))
    await started.wait()
    adding.cancel()

    with pytest.raises(asyncio.CancelledError):
        await adding
    assert not [task for task in asyncio.all_tasks() if "add_many" in task.get_name()]


async def test_a_caller_cancelled_while_it_prepares_leaves_nothing_running(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    async def never(self: Lifecycle, orders: object) -> list[Any]:
        await asyncio.sleep(3600)
        return []

    def calls() -> Iterator[TaskCall[None]]:
        yield docket.call(send)(1)
        adding.cancel()
        yield docket.call(send)(2)

    monkeypatch.setattr(Lifecycle, "schedule_many", never)
    adding = asyncio.create_task(docket.add_many(calls(), chunk_size=1))

    with pytest.raises(asyncio.CancelledError):
        await adding
    assert not [task for task in asyncio.all_tasks() if "add_many" in task.get_name()]


class TestOutages:
    @pytest.fixture
    async def answers(self, docket: Docket, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """What the store answers to one chunk after the other; None: the truth."""
        answers: list[Any] = []
        truth = docket.store.lifecycle.schedule_many

        async def answer(orders: Any) -> Any:
            given = answers.pop(0)
            return await truth(orders) if given is None else [given] * len(orders)

        monkeypatch.setattr(docket.store.lifecycle, "schedule_many", answer)
        return answers

    async def test_when_nothing_was_written_it_raises(self, docket: Docket, answers: list[Any]):
        answers.append(RedisUnavailable("gone"))

        with pytest.raises(RedisUnavailable, match="gone"):
            await docket.add_many((docket.call(send)(number) for number in range(10)), chunk_size=2)
        assert answers == []  # the rest was not tried

    async def test_when_some_were_written_each_says_what_became_of_it(self, docket: Docket, answers: list[Any]):
        answers += [None, RedisUnavailable("gone")]

        executions = await docket.add_many((docket.call(send)(number) for number in range(6)), chunk_size=2)

        assert [execution.disposition for execution in executions] == [Disposition.SCHEDULED] * 2 + [Disposition.FAILED] * 4
        assert isinstance(executions[-1].schedule_exception, RedisUnavailable)

    async def test_when_some_are_in_doubt_each_says_so(self, docket: Docket, answers: list[Any]):
        answers.append(InDoubt("perhaps"))

        (execution,) = await docket.add_many([docket.call(send)(1)])

        assert isinstance(execution.schedule_exception, InDoubt)
