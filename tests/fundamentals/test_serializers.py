"""Dockets that write JSON, or with a serializer of their user's own; and what workers and readers refuse."""

from __future__ import annotations

import json
import pickle
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest

from docket import CurrentDocket, Docket, ExecutionState, Perpetual, Worker
from docket.errors import InvalidArguments, NotSerializable, PayloadError, PayloadRefused, PayloadTooLarge

LATER = timedelta(hours=1)

detonated: list[str] = []


class Bomb:
    """This says that it was decoded."""

    def __reduce__(self) -> Any:
        return detonated.append, ("boom",)


@dataclass
class Order:
    number: int
    due: date


@pytest.fixture
async def docket(docket_name: str, url: str) -> AsyncIterator[Docket]:
    """This is an entered docket that writes JSON and reads nothing else."""
    detonated.clear()
    async with Docket(docket_name, url, serializer="json", accept=("json",)) as docket:
        yield docket


async def stored(docket: Docket, key: str) -> bytes:
    return await docket.store.backend.call("HGET", docket.store.keys.run(key), "payload")


async def test_arguments_and_results_arrive_as_they_were(docket: Docket, worker: Worker):
    @docket.task
    async def later(order: Order, days: int = 1) -> Order:
        assert type(order.due) is date
        return Order(order.number + 1, order.due + timedelta(days=days))

    execution = await later.schedule(Order(1, date(2026, 1, 1)), days=2, key="k")
    assert await stored(docket, "k") == b'\x01[[{"number":1,"due":"2026-01-01"}],{"days":2}]'
    read = await docket.get_execution("k")
    assert read is not None
    assert (read.args, read.kwargs) == ((Order(1, date(2026, 1, 1)),), {"days": 2})
    await worker.run_until_finished()

    assert await execution.get_result() == Order(2, date(2026, 1, 3))


async def test_what_would_not_arrive_is_refused_before_it_is_written(docket: Docket):
    @docket.task
    async def job(order: Order) -> None: ...

    with pytest.raises(InvalidArguments, match=r"argument 'order' \(annotated Order\)"):
        await job.schedule({"number": 1, "due": "2026-01-01"})  # type: ignore[arg-type]
    with pytest.raises(NotSerializable, match="the task is not registered here"):
        await docket.add("elsewhere")(date(2026, 1, 1))
    [failed] = await docket.add_many([docket.call(job)(5)])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert isinstance(failed.schedule_exception, InvalidArguments)


async def test_plain_json_by_name_is_read_by_the_annotations_of_the_worker(docket: Docket, docket_name: str, url: str):
    async with Docket(docket_name, url, serializer="json") as producer:
        execution = await producer.add("job", key="k")("2026-01-01")

    @docket.task
    async def job(day: date) -> date:
        return day + timedelta(days=1)

    async with Worker(docket) as worker:
        await worker.run_until_finished()
    found = await docket.get_execution("k")
    assert found is not None
    assert await found.get_result() == date(2026, 1, 2)
    async with Docket(docket_name, url, serializer="json") as producer:
        unknown = await producer.get_execution("k")
        assert unknown is not None
        assert await unknown.get_result() == "2026-01-02"  # nobody here knows that it is a date
    assert execution.key == "k"


async def test_chains_and_successors_are_written_so_too(docket: Docket, worker: Worker):
    days: list[date] = []

    @docket.task
    async def chain(day: date, perpetual: Perpetual = Perpetual(every=timedelta(0))) -> None:
        days.append(day)
        perpetual.perpetuate(day + timedelta(days=1))

    @docket.task
    async def again(order: Order, docket: Docket = CurrentDocket()) -> None:
        if order.number:
            await docket.add(again, key="again")(Order(order.number - 1, order.due))
        else:
            days.append(order.due)

    await chain.schedule(date(2026, 1, 1), key="chain")
    await again.schedule(Order(2, date(2025, 1, 1)), key="again")
    await worker.run_at_most({"chain": 3})

    assert sorted(days) == [date(2025, 1, 1), date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)]


async def test_a_link_whose_arguments_do_not_fit_fails_and_the_chain_goes_on(docket: Docket, worker: Worker):
    @docket.task
    async def chain(day: date, perpetual: Perpetual = Perpetual(every=timedelta(0))) -> None:
        perpetual.perpetuate("tomorrow")

    first = await chain.schedule(date(2026, 1, 1), key="chain")
    await worker.run_at_most({"chain": 2})

    with pytest.raises(Exception, match="InvalidArguments: argument 'day'"):
        await first.get_result()


async def test_a_result_that_is_not_what_was_annotated_is_not_kept(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> int:
        return "text"  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    execution = await job.schedule()
    await worker.run_until_finished()
    await execution.sync()

    assert execution.state is ExecutionState.COMPLETED
    assert "the result (annotated int) cannot be written as JSON" in str(execution.error)
    assert await execution.get_result() is None


async def test_a_failure_is_told_in_words_and_shows_where_it_was_raised(docket: Docket, worker: Worker):
    class Own(Exception):
        """This is nothing that a reader could make anew."""

    @docket.task
    async def builtin() -> None:
        raise KeyError("name")

    @docket.task
    async def own() -> None:
        raise Own("why")

    first, second = await builtin.schedule(), await own.schedule()
    await worker.run_until_finished()

    with pytest.raises(KeyError, match="name") as known:
        await first.get_result()
    with pytest.raises(Exception, match="Own: why") as described:
        await second.get_result()
    assert "in builtin" in str(known.value.__cause__)
    assert "in own" in str(described.value.__cause__)


async def test_a_pickle_is_refused_by_workers_and_readers_before_it_is_decoded(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def job(word: str) -> str:
        ran.append(word)
        return word

    bad, good = await job.schedule("bad", key="bad", when=LATER), await job.schedule("good", key="good")
    await docket.store.backend.call("HSET", docket.store.keys.run("bad"), "payload", pickle.dumps(((Bomb(),), {})))
    await bad.promote()
    await worker.run_until_finished()
    with pytest.raises(Exception, match="PayloadRefused: the arguments .* written by 'cloudpickle'"):
        await bad.get_result()

    await docket.store.backend.call("HSET", docket.store.keys.run("good"), "outcome", b"c0:,=" + pickle.dumps(Bomb()))
    with pytest.raises(PayloadRefused, match="only 'json' is accepted here"):
        await good.get_result()
    assert (ran, detonated) == (["good"], [])


async def test_a_worker_may_accept_less_than_its_docket(docket_name: str, url: str):
    async with Docket(docket_name, url) as pickling:
        execution = await pickling.add("job", key="k")(1)
    async with Docket(docket_name, url, serializer="json") as docket, Worker(docket, accept=("json",)) as worker:

        @docket.task
        async def job(number: int) -> None: ...

        found = await docket.get_execution("k")
        assert found is not None
        assert found.args == (1,)
        await worker.run_until_finished()
        with pytest.raises(Exception, match="PayloadRefused"):
            await found.get_result()
    assert execution.key == "k"


async def test_without_accept_old_pickles_and_new_json_run_side_by_side(docket_name: str, url: str):
    numbers: list[int] = []

    async def job(number: int) -> int:
        numbers.append(number)
        return number

    async with Docket(docket_name, url) as before:
        await before.add(job)(1)
    async with Docket(docket_name, url, serializer="json") as docket, Worker(docket) as worker:
        docket.register(job)
        await docket.add(job)(2)
        await worker.run_until_finished()
    assert sorted(numbers) == [1, 2]


async def test_what_the_annotation_cannot_be_made_of_fails_that_run_alone(docket: Docket, worker: Worker):
    @docket.task
    async def job(day: date) -> None: ...

    bad, good = await job.schedule(date(2026, 1, 1), key="bad", when=LATER), await job.schedule(date(2026, 1, 2))
    await docket.store.backend.call("HSET", docket.store.keys.run("bad"), "payload", b'\x01[["tomorrow"]]')
    await bad.promote()
    await worker.run_until_finished()

    with pytest.raises(Exception, match=r"PayloadError: .*argument 'day' \(annotated date\) cannot be read: 'tomorrow' is no date"):
        await bad.get_result()
    assert await good.get_result() is None


async def test_a_serializer_of_ones_own(docket_name: str, url: str):
    class Own:
        name = "own"

        def dumps_call(self, args: tuple[Any, ...], kwargs: Any, function: Any) -> bytes:
            return json.dumps([args, kwargs]).encode()

        def loads_call(self, data: bytes, function: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
            args, kwargs = json.loads(data)
            return tuple(args), kwargs

        def dumps_result(self, value: Any, function: Any) -> bytes:
            return json.dumps(value).encode()

        def loads_result(self, data: bytes, function: Any) -> Any:
            return json.loads(data)

    async with Docket(docket_name, url, serializer=Own()) as docket, Worker(docket) as worker:

        @docket.task
        async def job(number: int, by: int = 1) -> int:
            return number + by

        execution = await job.schedule(1, by=2, key="k")
        assert (await stored(docket, "k")).startswith(b"\x02\x03own[")
        await worker.run_until_finished()
        assert await execution.get_result() == 3
    async with Docket(docket_name, url) as stranger:
        found = await stranger.get_execution("k")
        assert found is not None
        with pytest.raises(PayloadError, match="written by 'own'"):
            await found.get_result()


async def test_arguments_and_results_have_a_largest_size(docket_name: str, url: str):
    async with Docket(docket_name, url, max_payload_bytes=1000) as docket, Worker(docket) as worker:

        @docket.task
        async def repeat(text: str, times: int = 1) -> str:
            return text * times

        with pytest.raises(PayloadTooLarge, match="The largest is argument 'text', of about 5,0"):
            await repeat.schedule("x" * 5000)
        execution = await repeat.schedule("x", times=5000)
        await worker.run_until_finished()
        await execution.sync()

        assert execution.state is ExecutionState.COMPLETED
        assert "the result takes 5,0" in str(execution.error)
        assert await execution.get_result() is None
