"""Runs that are held back: what a worker does with them, and what becomes of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, cast

import pytest

from docket import ConcurrencyLimit, Cooldown, CurrentExecution, Debounce, Depends, Docket, Execution, ExecutionState, Perpetual, RateLimit, Retry, Worker
from docket._store.records import Admission, RunId
from docket._worker._admission import Gatekeeper, place_of
from docket._worker._reclaimer import Reclaimer
from docket._worker._runs import Running
from docket.dependencies import AdmissionBlocked, ConcurrencyBlocked, Dependency
from docket.errors import ExecutionCancelled, ExecutionSuperseded
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.worker._hands import SOON, at_work, claim, command, crew_of, dead_worker, lasts, leased, record, take_over

MINUTE = timedelta(minutes=1)
QUEUED, RUNNING, COMPLETED, CANCELLED = ExecutionState.QUEUED, ExecutionState.RUNNING, ExecutionState.COMPLETED, ExecutionState.CANCELLED


class Gate:
    """A task of which one may run at a time, and whose bodies last until they are let go, each by its name."""

    def __init__(self, docket: Docket) -> None:
        self.begun: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.ends: dict[str, asyncio.Event] = {}
        self.docket = docket

        @docket.task
        @ConcurrencyLimit(1)
        async def one_at_a_time(name: str) -> str:
            self.begun.append(name)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                await self.ends.setdefault(name, asyncio.Event()).wait()
            finally:
                self.at_once -= 1
            return name

        self.task = one_at_a_time

    async def add(self, name: str) -> Execution[str]:
        return await self.docket.add(self.task, key=name)(name)

    async def line_up(self, *names: str) -> list[Execution[str]]:
        """This adds them one after another to workers that run: on return the first runs, and the others wait in that order."""
        asked = [await self.add(names[0])]
        await eventually(lambda: self.begun == [names[0]])
        for number, name in enumerate(names[1:], 2):
            asked.append(await self.add(name))
            await self.parked(*names[1:number])
        return asked

    def end(self, *names: str) -> None:
        for name in names:
            self.ends.setdefault(name, asyncio.Event()).set()

    async def parked(self, *names: str) -> None:
        """This waits until these wait for the place, and nothing else does."""

        async def are() -> bool:
            async with self.docket.redis() as redis:
                waiters = await redis.execute_command("ZRANGE", self.docket.store.keys.concurrency("one_at_a_time")[1], 0, -1)
            return [waiter.decode().partition("|")[2] for waiter in waiters] == list(names)

        await eventually(are)


@pytest.fixture
async def gate(docket: Docket) -> Gate:
    return Gate(docket)


async def state_of(docket: Docket, key: str) -> ExecutionState:
    return (await record(docket, key)).state


class TestParked:
    async def test_it_is_queued_takes_no_slot_and_is_let_in_in_order_of_arrival(self, docket: Docket, gate: Gate):
        async def other() -> str:
            return "ran"

        async with at_work(docket, concurrency=2, schedule_automatic_tasks=False):
            asked = await gate.line_up(*"abcd")

            assert [await state_of(docket, name) for name in "abcd"] == [RUNNING, QUEUED, QUEUED, QUEUED]
            assert (await record(docket, "b")).worker is None
            assert await (await docket.add(other)()).get_result(timeout=SOON) == "ran"  # in the slot that they do not take

            for name in "abcd":
                await eventually(lambda name=name: gate.begun[-1] == name)
                gate.end(name)
            assert [await one.get_result(timeout=SOON) for one in asked] == list("abcd")

        assert gate.begun == list("abcd")
        assert gate.most_at_once == 1

    @pytest.mark.only_undivided("keys that were added one after another begin in that order")
    async def test_a_worker_that_runs_until_it_is_finished_waits_for_it(self, docket: Docket, gate: Gate, worker: Worker):
        for name in "abc":
            await gate.add(name)
        running = asyncio.create_task(worker.run_until_finished())
        await gate.parked("b", "c")

        gate.end("a", "b", "c")
        await running

        assert [await state_of(docket, name) for name in "abc"] == [COMPLETED] * 3

    async def test_another_worker_is_held_back_by_the_same_limit(self, docket: Docket, gate: Gate):
        async with at_work(docket, name="one"), at_work(docket, name="two"):
            asked = [await gate.add(name) for name in "abcdef"]
            for count in range(1, 7):
                await eventually(lambda count=count: len(gate.begun) == count)
                gate.end(gate.begun[-1])
            await asyncio.gather(*(one.get_result(timeout=SOON) for one in asked))

        assert gate.most_at_once == 1

    async def test_cancelling_it_ends_it_and_the_next_gets_its_place(self, docket: Docket, gate: Gate):
        async with at_work(docket):
            a, b, c = await gate.line_up(*"abc")

            await docket.cancel("b")
            with pytest.raises(ExecutionCancelled):
                await b.get_result(timeout=SOON)
            gate.end("a", "c")

            assert [await a.get_result(timeout=SOON), await c.get_result(timeout=SOON)] == ["a", "c"]
        assert gate.begun == ["a", "c"]

    async def test_what_replaces_it_stands_in_line_anew(self, docket: Docket, gate: Gate):
        async with at_work(docket):
            _, b, c = await gate.line_up(*"abc")

            replacement = await docket.replace(gate.task, when=docket.clock.now(), key="b")("new b")
            with pytest.raises(ExecutionSuperseded):
                await b.get_result(timeout=SOON)
            await gate.parked("b", "c", "b")  # the first of these is nobody's any more
            gate.end("a", "c", "new b")

            assert [await c.get_result(timeout=SOON), await replacement.get_result(timeout=SOON)] == ["c", "new b"]
        assert gate.begun == ["a", "c", "new b"]

    async def test_cancelling_the_one_under_way_lets_the_next_in(self, docket: Docket, gate: Gate):
        async with at_work(docket):
            _, b = await gate.line_up("a", "b")
            gate.end("b")

            await docket.cancel("a")

            assert await b.get_result(timeout=SOON) == "b"

    async def test_the_body_of_a_replaced_run_keeps_its_place_until_it_is_done(self, docket: Docket):
        begun, stopping, end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        at_once: list[int] = [0, 0]

        @docket.task
        @ConcurrencyLimit(1)
        async def stubborn(number: int) -> int:
            at_once[0] += 1
            at_once[1] = max(at_once)
            begun.set()
            try:
                if number == 1:
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                stopping.set()
                await end.wait()
                raise
            finally:
                at_once[0] -= 1
            return number

        async with at_work(docket):
            await docket.add(stubborn, key="k")(1)
            await begun.wait()
            replacement = await docket.replace(stubborn, when=docket.clock.now(), key="k")(2)
            await stopping.wait()

            async def waits() -> bool:
                return await docket.store.delivery.contended() == 1

            await eventually(waits)
            end.set()
            assert await replacement.get_result(timeout=SOON) == 2

        assert at_once == [0, 1]

    @pytest.mark.only_undivided("keys that were added one after another begin in that order")
    async def test_a_run_that_is_tried_again_gives_its_place_up_meanwhile(self, docket: Docket, worker: Worker):
        ran: list[tuple[str, int]] = []

        @docket.task
        @ConcurrencyLimit(1)
        async def fails_once(name: str, retry: Retry = Retry(attempts=2, delay=lasts(30))) -> None:
            ran.append((name, retry.attempt))
            if retry.attempt == 1:
                raise OSError("once")

        for name in "ab":
            await docket.add(fails_once, key=name)(name)
        await worker.run_until_finished()

        assert ran == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]

    async def test_a_failure_gives_the_place_up(self, docket: Docket, worker: Worker):
        @docket.task
        @ConcurrencyLimit(1)
        async def fails() -> None:
            raise OSError("no")

        for _ in range(5):
            await docket.add(fails)()
        await worker.run_until_finished()

        assert await docket.store.delivery.contended() == 0


class TestLeases:
    async def test_a_long_run_keeps_its_place_for_as_long_as_it_takes(self, docket: Docket, gate: Gate):
        lease = lasts(1000)
        async with at_work(docket, redelivery_timeout=lease):
            await gate.add("a")
            await eventually(lambda: gate.begun == ["a"])
            await gate.add("b")
            await gate.parked("b")

            await asyncio.sleep(1.5 * lease.total_seconds())

            assert gate.begun == ["a"]
            gate.end("a", "b")

    async def test_the_place_of_a_worker_that_died_lapses_and_who_waits_is_let_in_without_a_new_arrival(self, docket: Docket, gate: Gate):
        dead = await dead_worker(docket)
        a = await gate.add("a")
        [held] = await claim(docket, dead)
        crew = crew_of(docket, redelivery_timeout=lasts(300))
        running = Running(held)
        execution: Any = None
        registered = docket.registry.get("one_at_a_time")
        assert registered is not None
        plan = registered.plan
        requirements = plan.requirements(plan.begin(Execution(docket, gate.task.function, ("a",), {}, "a", None, 1, function_name="one_at_a_time")))
        assert (await Gatekeeper(crew).admit(running, execution, requirements)).word == "admitted"
        assert running.place == place_of(requirements) == "one_at_a_time"
        gate.end("a", "b")
        b = await gate.add("b")

        async with at_work(docket, redelivery_timeout=lasts(300)):
            assert await b.get_result(timeout=SOON) == "b"
            assert await a.get_result(timeout=SOON) == "a"

        assert sorted(gate.begun) == ["a", "b"]

    async def test_a_run_whose_worker_lost_its_lease_keeps_its_place_where_it_runs_now(self, docket: Docket, gate: Gate):
        async with at_work(docket, name="one", redelivery_timeout=lasts(2000)):
            a = await gate.add("a")
            await eventually(lambda: gate.begun == ["a"])
            b = await gate.add("b")
            await gate.parked("b")
            [loser] = await leased(docket)
            await dead_worker(docket, loser)

            await take_over(docket, loser)
            await eventually(lambda: gate.begun == ["a", "a"])
            assert (await record(docket, "b")).state is QUEUED

            gate.end("a", "b")
            assert [await a.get_result(timeout=SOON), await b.get_result(timeout=SOON)] == ["a", "b"]

    async def test_the_reclaimer_looks_after_limits_that_somebody_waits_for(self, docket: Docket, gate: Gate):
        await docket.store.delivery.ensure_group()
        crew = crew_of(docket, redelivery_timeout=lasts(100))
        async with docket.redis() as redis:
            await redis.execute_command("ZADD", docket.key("waiting"), 1, "left behind")
        await eventually(lambda: docket.store.backend.connected_for() > 0.1)

        await Reclaimer(crew).tick()

        assert await docket.store.delivery.contended() == 0


class TestDropped:
    @pytest.mark.only_undivided("keys that were added one after another begin in that order")
    async def test_it_ends_cancelled_and_who_waits_for_it_learns_why(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        ran: list[str] = []

        @docket.task
        @Cooldown(MINUTE)
        async def warm(name: str) -> None:
            ran.append(name)

        await docket.add(warm, key="first")("first")
        dropped = await docket.add(warm, key="second")("second")
        with caplog.at_level(logging.DEBUG, "docket.worker"):
            await worker.run_until_finished()

        assert ran == ["first"]
        with pytest.raises(ExecutionCancelled):
            await dropped.get_result(timeout=SOON)
        await dropped.sync()
        assert (dropped.state, dropped.error) == (CANCELLED, "blocked by cooldown")
        assert "⏭ Task second blocked by cooldown, dropping" in caplog.messages

    @pytest.mark.parametrize("limit", [Cooldown(MINUTE), RateLimit(1, per=MINUTE, drop=True)], ids=["cooldown", "rate"])
    async def test_a_chain_goes_on_when_a_link_is_dropped(self, docket: Docket, worker: Worker, limit: Dependency):
        ran: list[int] = []

        @docket.task
        @limit
        async def link(perpetual: Perpetual = Perpetual(every=lasts(10))) -> None:
            ran.append(1)

        first = await docket.add(link, key="k")()
        running = asyncio.create_task(worker.run_forever())
        await first.get_result(timeout=SOON)

        async def has_dropped_some() -> bool:
            return (await record(docket, "k")).generation > first.generation + 4

        await eventually(has_dropped_some)
        await docket.cancel("k")
        worker.stop()
        await running
        assert ran == [1]

    async def test_a_chain_that_is_to_run_so_often_does_not_count_what_was_dropped(self, docket: Docket, worker: Worker):
        ran: list[int] = []

        @docket.task
        @Cooldown(lasts(60))
        async def link(perpetual: Perpetual = Perpetual(every=lasts(10))) -> None:
            ran.append(1)

        await docket.add(link, key="k")()
        await worker.run_at_most({"k": 2})

        assert ran == [1, 1]


class TestLater:
    async def test_a_run_over_the_rate_is_queued_until_its_moment(self, docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
        starts: list[float] = []

        @docket.task
        @RateLimit(2, per=lasts(200))
        async def call() -> None:
            starts.append(asyncio.get_running_loop().time())

        for number in range(5):
            await docket.add(call, key=f"k{number}")()
        with caplog.at_level(logging.DEBUG, "docket.worker"):
            await worker.run_until_finished()

        assert len(starts) == 5
        assert all(later - earlier > 0.19 for earlier, later in zip(starts, starts[2:], strict=False))
        assert "⏳ Task k4 blocked by admission control, rescheduling" in caplog.messages

    @pytest.mark.only_undivided("keys that were added one after another begin in that order")
    async def test_a_burst_is_one_run(self, docket: Docket):
        ran: list[str] = []

        @docket.task
        async def index(name: Annotated[str, Debounce(lasts(150))], key: Execution[Any] = CurrentExecution()) -> str:
            ran.append(key.key)
            return key.key

        async with at_work(docket):
            asked = [await docket.add(index, key=f"k{number}")("a") for number in range(5)]
            other = await docket.add(index, key="other")("b")
            assert await asked[0].get_result(timeout=SOON) == "k0"
            assert await other.get_result(timeout=SOON) == "other"
            for dropped in asked[1:]:
                with pytest.raises(ExecutionCancelled):
                    await dropped.get_result(timeout=SOON)

        assert sorted(ran) == ["k0", "other"]

    @pytest.mark.only_undivided("keys that were added one after another begin in that order")
    @pytest.mark.parametrize("limit", [RateLimit(1, per=MINUTE), Debounce(MINUTE)], ids=["rate", "debounce"])
    async def test_cancelling_what_is_to_come_later_ends_it(self, docket: Docket, limit: Dependency):
        @docket.task
        @limit
        async def call() -> None: ...

        async with at_work(docket):
            await docket.add(call, key="a")()
            asked = await docket.add(call, key="b")()

            async def is_set_aside() -> bool:
                return await docket.store.delivery.depth() == (0, 1)

            await eventually(is_set_aside)
            key = "b" if isinstance(limit, RateLimit) else "a"
            assert await state_of(docket, key) is QUEUED
            await docket.cancel(key)
            with pytest.raises(ExecutionCancelled):
                await asked.get_result(timeout=SOON)
            assert await docket.store.delivery.depth() == (0, 0)


class TestCancelledAtTheGate:
    @asynccontextmanager
    async def slow_gate(self, docket: Docket, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[asyncio.Event, asyncio.Event]]:
        """Applicants are held up until the second event, after they have set the first."""
        here, go = asyncio.Event(), asyncio.Event()
        admit = docket.store.limits.admit

        async def slow(applicant: Any) -> Admission:
            here.set()
            await go.wait()
            return await admit(applicant)

        monkeypatch.setattr(docket.store.limits, "admit", slow)
        yield here, go

    async def test_a_run_that_is_cancelled_before_it_is_held_back_ends(self, docket: Docket, gate: Gate, monkeypatch: pytest.MonkeyPatch):
        async with at_work(docket):
            await gate.add("a")
            await eventually(lambda: gate.begun == ["a"])
            async with self.slow_gate(docket, monkeypatch) as (here, go):
                b = await gate.add("b")
                await here.wait()
                await docket.cancel("b")
                go.set()

                with pytest.raises(ExecutionCancelled):
                    await b.get_result(timeout=SOON)
            gate.end("a")
        assert gate.begun == ["a"]

    async def test_a_run_that_is_replaced_before_it_is_held_back_is_seen_out(self, docket: Docket, gate: Gate, monkeypatch: pytest.MonkeyPatch):
        async with at_work(docket), self.slow_gate(docket, monkeypatch) as (here, go):
            old = await gate.add("a")
            await here.wait()
            new = await docket.replace(gate.task, when=docket.clock.now(), key="a")("new")
            gate.end("new")
            go.set()

            assert await new.get_result(timeout=SOON) == "new"
            with pytest.raises(ExecutionSuperseded):
                await old.get_result(timeout=SOON)
        assert gate.begun == ["new"]


class TestWhatTheLogSays:
    @pytest.mark.only_undivided("keys that were added one after another begin in that order")
    @pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
    async def test_of_parked_work_at_debug_only(self, docket: Docket, gate: Gate, worker: Worker, caplog: pytest.LogCaptureFixture, level: int):
        for name in "ab":
            await gate.add(name)
            gate.end(name)

        with caplog.at_level(level, "docket.worker"):
            await worker.run_until_finished()

        told = [entry for entry in caplog.records if entry.getMessage() == "⏳ Task b parked until a place is free"]
        assert len(told) == (1 if level == logging.DEBUG else 0)
        if told:
            assert cast("Any", told[0]).__dict__["docket.key"] == "b"

    async def test_nothing_of_what_is_no_longer_ours(self, docket: Docket, gate: Gate, caplog: pytest.LogCaptureFixture):
        await docket.store.delivery.ensure_group()
        added = await gate.add("a")
        [claimed] = await claim(docket, "w~1")
        await docket.cancel("a")
        await take_over(docket, "w~1", own=True)
        caplog.clear()

        with caplog.at_level(logging.DEBUG, "docket.worker"):
            admission = await Gatekeeper(crew_of(docket)).admit(Running(claimed), Execution(docket, gate.task.function, (), {}, "a", None, 1), ())

        assert admission.word == "superseded"
        assert caplog.messages == []
        assert claimed.run == RunId("a", added.generation, 1)


class TestHoldingRunsBackOneself:
    async def test_a_run_is_put_off_as_the_same_attempt(self, docket: Docket, worker: Worker):
        tries: list[int] = []

        async def place(execution: Execution[Any] = CurrentExecution()) -> str:
            tries.append(execution.attempt)
            if len(tries) < 3:
                raise ConcurrencyBlocked(execution, "mail", 1) if len(tries) == 1 else AdmissionBlocked(execution, retry_delay=timedelta(0))
            return "in"

        @docket.task
        async def send(place: str = Depends(place), retry: Retry = Retry(attempts=1)) -> str:
            return place

        asked = await send.schedule()
        await worker.run_until_finished()

        assert await asked.get_result(timeout=SOON) == "in"
        assert tries == [1, 1, 1]
        await asked.sync()
        assert (asked.attempt, asked.error) == (1, None)

    @pytest.mark.parametrize("how", [{"reschedule": False}, {"handled": True}], ids=str)
    async def test_or_ends_cancelled_and_its_chain_goes_on(self, docket: Docket, worker: Worker, how: dict[str, Any]):
        ran: list[int] = []

        class Closed(Dependency):
            async def __aenter__(self) -> None:
                ran.append(1)
                raise AdmissionBlocked(self.execution, "opening hours", **how)

        @docket.task
        @Closed()
        async def send(perpetual: Perpetual = Perpetual(every=lasts(5)), retry: Retry = Retry(attempts=3)) -> None: ...

        asked = await docket.add(send, key="k")()
        await worker.run_at_most({"k": 3})

        with pytest.raises(ExecutionCancelled):
            await asked.get_result(timeout=SOON)
        assert len(ran) == 3
        assert (await record(docket, "k")).error == "Task k blocked by opening hours"

    async def test_what_is_not_wanted_again_is_not_put_off(self, docket: Docket, worker: Worker):
        @docket.task
        async def send(execution: Execution[Any] = CurrentExecution()) -> None:
            raise AdmissionBlocked(execution)

        await docket.add(send, key="k")()
        await worker.run_at_most({"k": 1})

        assert await state_of(docket, "k") is CANCELLED


@pytest.mark.only_server("whose commands are counted")
@pytest.mark.only_undivided("limits of another shard are asked there")
@pytest.mark.parametrize(
    ("limits", "more"), [((), 0), ((ConcurrencyLimit(100), RateLimit(100, per=MINUTE), Cooldown(MINUTE, scope="mine")), 1)], ids=["none", "three"]
)
async def test_limits_cost_one_round_trip_more_however_many_there_are(docket: Docket, redis_server: RedisServer, limits: tuple[Dependency, ...], more: int):
    async def noop() -> None: ...

    async with at_work(docket, schedule_automatic_tasks=False, dependencies=limits) as worker:
        await eventually(worker.is_claiming)
        await (await docket.add(noop)()).get_result(timeout=SOON)
        async with docket.redis() as redis:
            await redis.execute_command("DEL", docket.key("limits:cooldown:@mine"))
        command(redis_server, "CONFIG", "RESETSTAT")
        asked = await docket.add(noop)()
        await asked.get_result(timeout=SOON)
        stats = command(redis_server, "INFO", "commandstats")

    assert stats["cmdstat_evalsha"]["calls"] == 3 + more  # schedule, claim, (admit,) settle
