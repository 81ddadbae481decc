"""What a worker is, how it is entered and run, and when its `run_` methods return."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
import os
import socket
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from docket import Depends, Docket, ExecutionState, Perpetual, Retry, TaskKey, Timeout, Worker
from docket.dependencies import Dependency
from docket.errors import InvalidOption, InvalidWorkerDependency, NotEntered
from tests._waiting import eventually
from tests.worker._hands import SOON, at_work, claim, dead_worker, lasts, leased, record

HOUR = timedelta(hours=1)


async def five() -> int:
    return 5


class TestBeingOne:
    def test_it_is_named_after_its_host_and_process_unless_told_otherwise(self):
        docket = Docket("orders")

        assert Worker(docket).name == f"{socket.gethostname()}#{os.getpid()}"
        worker = Worker(docket, name="worker-1", concurrency=3)
        assert (worker.name, worker.concurrency) == ("worker-1", 3)
        assert worker.labels() == {"docket.name": "orders", "docket.worker": "worker-1"}

    def test_its_options_are_checked_at_once(self):
        with pytest.raises(InvalidOption, match="concurrency"):
            Worker(Docket(), concurrency=0)
        with pytest.raises(ValueError, match="message_batch"):
            Worker(Docket(), message_batch=0)
        with pytest.raises(InvalidWorkerDependency):
            Worker(Docket(), dependencies=[5])


class TestEntering:
    async def test_the_docket_comes_first(self):
        with pytest.raises(NotEntered, match="not entered"):
            async with Worker(Docket()):
                pytest.fail("it was entered")  # pragma: no cover - the point

    async def test_it_is_entered_once_at_a_time_and_may_be_entered_again(self, docket: Docket):
        worker = Worker(docket)
        async with worker:
            with pytest.raises(NotEntered, match="entered already"):
                await worker.__aenter__()
        async with worker:
            asked = await docket.add(five)()
            await worker.run_until_finished()
            assert await asked.get_result(timeout=SOON) == 5

    async def test_it_runs_only_while_it_is_entered(self, docket: Docket):
        worker = Worker(docket)
        with pytest.raises(NotEntered, match="is not entered"):
            await worker.run_until_finished()
        async with worker:
            pass
        with pytest.raises(NotEntered, match="is not entered"):
            await worker.run_forever()
        await worker.__aexit__(None, None, None)

    async def test_it_runs_once_at_a_time(self, docket: Docket):
        async with at_work(docket) as worker:
            await asyncio.sleep(0)
            with pytest.raises(NotEntered, match="is running already"):
                await worker.run_until_finished()

    async def test_one_that_never_ran_leaves_at_once(self, worker: Worker):
        worker.stop()


class TestRunUntilFinished:
    async def test_future_work_is_waited_for(self, docket: Docket, worker: Worker):
        asked = await docket.add(five, when=lasts(200))()

        await worker.run_until_finished()

        assert (await record(docket, asked.key)).state is ExecutionState.COMPLETED

    async def test_work_that_work_makes_is_waited_for(self, docket: Docket, worker: Worker):
        ran: list[int] = []

        async def makes(depth: int) -> None:
            ran.append(depth)
            if depth:
                await docket.add(makes, when=lasts(20 * (depth % 2)))(depth - 1)

        await docket.add(makes)(4)
        await worker.run_until_finished()

        assert ran == [4, 3, 2, 1, 0]

    async def test_work_that_runs_elsewhere_is_waited_for(self, docket: Docket):
        asked = await docket.add(five, key="k")()
        await dead_worker(docket, "slow~1")
        await claim(docket, "slow~1")  # and then it dies

        async with Worker(docket, redelivery_timeout=lasts(300)) as worker:
            await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) == 5

    async def test_strangers_do_not_keep_it_and_are_named_in_one_line(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.INFO, "docket.worker")
        await docket.add("alien", when=HOUR, key="alien")()
        for number in range(3):
            await docket.add("foreign", key=f"foreign {number}")()
        asked = await docket.add(five)()

        await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) == 5
        assert [line for line in caplog.messages if line.startswith("Finished;")] == ["Finished; tasks left for workers that know them: alien, foreign"]
        for key in ("alien", "foreign 0", "foreign 1", "foreign 2"):
            await docket.cancel(key)

    async def test_many_tasks_are_each_run_once(self, docket: Docket):
        ran: list[int] = []

        async def noted(number: int) -> None:
            ran.append(number)

        await docket.add_many(docket.call(noted)(number) for number in range(1000))
        async with Worker(docket, concurrency=50) as worker:
            await worker.run_until_finished()

        assert sorted(ran) == list(range(1000))

    async def test_no_more_run_at_once_than_it_was_told(self, docket: Docket):
        running, most = 0, 0

        async def counted() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

        await docket.add_many(docket.call(counted)() for _ in range(100))
        async with Worker(docket, concurrency=7) as worker:
            await worker.run_until_finished()

        assert most == 7


class TestRunAtMost:
    async def test_a_perpetual_runs_so_often_and_its_chain_ends(self, docket: Docket, worker: Worker):
        ran: list[str] = []

        async def chain(key: str = TaskKey(), perpetual: Perpetual = Perpetual(every=lasts(5))) -> None:
            ran.append(key)

        await docket.add(chain, key="a")()
        await docket.add(chain, key="b")()
        await worker.run_at_most({"a": 3, "b": 1})

        assert sorted(ran) == ["a", "a", "a", "b"]
        assert await docket.store.delivery.depth() == (0, 0)

    async def test_a_self_scheduling_chain_runs_so_often(self, docket: Docket, worker: Worker):
        ran: list[int] = []

        async def poll(number: int, key: str = TaskKey()) -> None:
            ran.append(number)
            await docket.add(poll, when=datetime.now(timezone.utc) + lasts(5), key=key)(number + 1)

        await docket.add(poll, key="k")(1)
        await worker.run_at_most({"k": 3})

        assert ran == [1, 2, 3]
        assert await docket.store.delivery.depth() == (0, 0)

    async def test_the_attempts_of_a_retrying_key_count(self, docket: Docket, worker: Worker):
        attempts: list[int] = []

        async def fails(retry: Retry = Retry(attempts=None)) -> None:
            attempts.append(retry.attempt)
            raise ValueError("no")

        asked = await docket.add(fails, key="k")()
        await worker.run_at_most({"k": 3})

        assert attempts == [1, 2, 3]
        with pytest.raises(ValueError, match="no"):
            await asked.get_result(timeout=SOON)

    @pytest.mark.parametrize("times", [0, -1])
    async def test_none_is_none(self, docket: Docket, worker: Worker, times: int):
        ran: list[str] = []

        async def chain(perpetual: Perpetual = Perpetual(every=lasts(5), automatic=True)) -> None:
            ran.append("chain")

        docket.register(chain)
        await docket.add(chain, key="k")()
        await worker.run_at_most({"k": times, "chain": times})

        assert ran == []
        assert (await record(docket, "k")).state is ExecutionState.CANCELLED
        assert (await record(docket, "chain")).state is ExecutionState.CANCELLED

    async def test_other_keys_run_as_until_finished(self, docket: Docket, worker: Worker):
        async def chain(perpetual: Perpetual = Perpetual(every=lasts(5))) -> None: ...

        asked = await docket.add(five, when=lasts(100))()
        await docket.add(chain, key="k")()
        await worker.run_at_most({"k": 1})

        assert await asked.get_result(timeout=SOON) == 5

    async def test_what_is_scheduled_again_under_such_a_key_is_not_run(self, docket: Docket, worker: Worker):
        ran: list[str] = []

        async def once(key: str = TaskKey()) -> None:
            ran.append(key)

        async def again() -> None:
            async def ended() -> bool:
                return (await record(docket, "k")).state is ExecutionState.COMPLETED

            await eventually(ended)
            await docket.add(once, key="k")()

        await docket.add(once, key="k")()
        await docket.add(again)()
        await worker.run_at_most({"k": 1})

        assert ran == ["k"]


class TestTwoOfOneName:
    async def test_they_share_the_work_and_keep_each_their_own(self, docket: Docket):
        begun: list[str] = []
        go = asyncio.Event()

        async def held(key: str = TaskKey()) -> str:
            begun.append(key)
            await go.wait()
            return key

        async with at_work(docket, name="twin", concurrency=1), at_work(docket, name="twin", concurrency=1):
            asked = [await docket.add(held, key=key)() for key in "abc"]
            await eventually(lambda: len(begun) == 2)
            assert len(await leased(docket)) == 2
            assert {announced.name for announced in await docket.store.workers.live(since_us=0)} == {"twin"}
            assert [(await record(docket, key)).worker for key in begun] == ["twin", "twin"]

            go.set()
            assert [await one.get_result(timeout=SOON) for one in asked] == ["a", "b", "c"]
        assert sorted(begun) == ["a", "b", "c"]

    async def test_one_that_leaves_takes_nothing_of_the_others_along(self, docket: Docket):
        begun, go = asyncio.Event(), asyncio.Event()

        async def held() -> str:
            begun.set()
            await go.wait()
            return "whole"

        asked = await docket.add(held)()
        async with at_work(docket, name="twin"):
            await begun.wait()
            async with Worker(docket, name="twin", schedule_automatic_tasks=False) as other:
                running = asyncio.create_task(other.run_forever())
                await eventually(lambda: other._intake is not None)
                other.stop()
                await running
            go.set()

            assert await asked.get_result(timeout=SOON) == "whole"


class Noted(Dependency):
    """Notes which runs it was around."""

    seen: list[str]

    def __init__(self) -> None:
        self.seen = []

    async def __aenter__(self) -> Any:
        self.seen.append(self.execution.key)
        return self


class TestItsOwnDependencies:
    @pytest.mark.parametrize("as_mapping", [True, False])
    async def test_they_go_around_every_task(self, docket: Docket, as_mapping: bool):
        noted = Noted()

        async def greet(name: str) -> str:
            return f"Hello, {name}"

        asked = await docket.add(greet, key="k")("Jane")
        async with Worker(docket, dependencies={"noted": noted, "limit": Timeout(HOUR)} if as_mapping else [noted, Timeout(HOUR)]) as worker:
            await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) == "Hello, Jane"
        assert noted.seen == ["k"]

    async def test_what_they_depend_on_is_stood_in_for(self, docket: Docket, worker: Worker):
        async def real() -> str:
            return "real"

        async def stand_in() -> str:
            return "stand-in"

        async def uses(what: str = Depends(real)) -> str:
            return what

        with worker.override(real, stand_in):
            with worker.override(stand_in, real):
                assert worker.overrides == {real: stand_in, stand_in: real}
            first = await docket.add(uses)()
            await worker.run_until_finished()
        second = await docket.add(uses)()
        await worker.run_until_finished()

        assert await first.get_result(timeout=SOON) == "stand-in"
        assert await second.get_result(timeout=SOON) == "real"


async def test_a_second_run_follows_a_first(docket: Docket, worker: Worker):
    for _ in range(3):
        asked = await docket.add(five)()
        await worker.run_until_finished()
        assert await asked.get_result(timeout=SOON) == 5

    asked = await docket.add(five)()
    running = asyncio.create_task(worker.run_forever())
    assert await asked.get_result(timeout=SOON) == 5
    worker.stop()
    await running


async def test_it_says_whether_it_is_claiming(docket: Docket):
    async with at_work(docket) as worker:
        await eventually(worker.is_claiming)
        worker.stop()
        assert not worker.is_claiming()
    assert not worker.is_claiming()


async def test_what_is_wrong_with_its_start_is_raised(docket: Docket):
    async def needy(x: int, perpetual: Perpetual = Perpetual(every=HOUR, automatic=True)) -> None: ...

    docket.register(needy)

    async with Worker(docket) as worker:
        with pytest.raises(TypeError, match="needy"):
            await worker.run_until_finished()
    assert await leased(docket) == set()
