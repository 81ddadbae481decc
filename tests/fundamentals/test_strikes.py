"""Strikes: what is struck is neither scheduled nor run, anywhere, until it is restored."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from docket import Agenda, ConcurrencyLimit, Cron, Disposition, Docket, Execution, ExecutionCancelled, ExecutionState, Perpetual, Retry, Worker
from docket.errors import WrongState
from docket.execution import StateEvent
from tests._telemetry import metered, traced
from tests._waiting import eventually

LATER = timedelta(hours=1)
SOON = timedelta(seconds=20)


class Plan(Enum):
    FREE = "free"
    PAID = "paid"


class Sent:
    """A task that notes what it was called with."""

    def __init__(self, docket: Docket) -> None:
        self.to: list[int] = []

        @docket.task
        async def send(customer: int, region: str = "eu", *, plan: Plan = Plan.FREE) -> int:
            self.to.append(customer)
            return customer

        self.task = send


@pytest.fixture
def sent(docket: Docket) -> Sent:
    return Sent(docket)


async def struck(execution: Execution[Any], by: str) -> None:
    """This waits for the end of a run, which has to be a strike's doing."""
    with pytest.raises(ExecutionCancelled, match="^Execution .* was cancelled: struck by ") as caught:
        await execution.get_result(timeout=SOON)
    assert str(caught.value).endswith(f"struck by {by}")
    await execution.sync()
    assert (execution.disposition, execution.state, execution.error) == (Disposition.STRUCK, ExecutionState.CANCELLED, f"struck by {by}")


# Scheduling


async def test_a_struck_call_is_not_scheduled_and_says_so_at_once(docket: Docket, sent: Sent):
    assert await docket.strike(sent.task) is True

    execution = await sent.task.schedule(5, key="k")

    assert execution.disposition is Disposition.STRUCK
    assert execution.state is ExecutionState.CANCELLED
    assert await docket.get_execution("k") is None
    await struck(execution, "send(*)")
    assert not await execution.is_superseded()


async def test_whatever_schedules_is_refused(docket: Docket, sent: Sent):
    await docket.strike(sent.task, "customer", "==", 5)
    agenda = Agenda()
    agenda.add(sent.task)(5)

    executions = [
        await docket.add(sent.task)(5),
        await docket.add("send")(customer=5),
        await docket.replace(sent.task, LATER, "a")(5),
        await sent.task.options(key="b", when=LATER).replace(5),
        *await docket.add_many([docket.call(sent.task, key="c")(5)]),
        *await docket.replace_many([docket.call(sent.task, LATER, "d")(5)]),
        *await agenda.scatter(docket, LATER),
    ]
    prepared = Execution[Any](docket, sent.task, (5,), {}, "e", None, 1)

    assert await prepared.schedule() is Disposition.STRUCK
    for execution in (*executions, prepared):
        await struck(execution, "send(customer == 5)")
    assert await docket.store.delivery.depth() == (0, 0)


async def test_of_a_batch_only_the_struck_calls_are_left_out(docket: Docket, worker: Worker, sent: Sent):
    await docket.strike(sent.task, "customer", "between", (2, 3))

    executions = await docket.add_many(docket.call(sent.task)(customer) for customer in range(5))

    assert [execution.disposition is Disposition.STRUCK for execution in executions] == [False, False, True, True, False]
    await worker.run_until_finished()
    assert sorted(sent.to) == [0, 1, 4]


async def test_a_replacement_that_is_struck_leaves_what_stands(docket: Docket, worker: Worker, sent: Sent):
    stands = await sent.task.schedule(1, key="k", when=LATER)
    await docket.strike(sent.task, "customer", "==", 5)

    await struck(await docket.replace(sent.task, timedelta(0), "k")(5), "send(customer == 5)")

    found = await docket.get_execution("k")
    assert found is not None
    assert (found.generation, found.args, found.disposition) == (stands.generation, (1,), Disposition.LOADED)
    await docket.cancel("k")


async def test_a_struck_execution_may_be_scheduled_again_once_it_is_restored(docket: Docket, worker: Worker, sent: Sent):
    await docket.strike(sent.task)
    execution = await sent.task.schedule(5)
    assert await docket.restore(sent.task) is True

    assert await execution.schedule() is Disposition.SCHEDULED

    await worker.run_until_finished()
    assert await execution.get_result() == 5


@pytest.mark.parametrize(
    ("parameter", "operator", "value", "left"),
    [
        ("customer", "==", 2, [0, 1, 3]),
        ("customer", "!=", 2, [2]),
        ("customer", ">", 2, [0, 1, 2]),
        ("customer", ">=", 2, [0, 1]),
        ("customer", "<", 2, [2, 3]),
        ("customer", "<=", 2, [3]),
        ("customer", "between", (1, 2), [0, 3]),
        ("region", "==", "eu", [1, 3]),  # the default
        ("region", "!=", "eu", [0, 2]),
        ("plan", "==", Plan.PAID, [0, 1, 2]),
        ("plan", "==", Plan.FREE, [3]),
        ("other", "==", None, [0, 1, 2, 3]),
    ],
)
async def test_calls_are_struck_by_what_they_pass(docket: Docket, worker: Worker, sent: Sent, parameter: str, operator: Any, value: Any, left: list[int]):
    """Those that are scheduled are struck by the worker, and those that come after it by the docket."""
    calls = [
        docket.call(sent.task)(0),
        docket.call(sent.task)(1, "us"),
        docket.call(sent.task)(customer=2),
        docket.call(sent.task)(customer=3, region="us", plan=Plan.PAID),
    ]
    await docket.add_many(calls)
    assert await docket.strike(sent.task, parameter, operator, value) is True
    await docket.add_many(docket.call(sent.task)(*call.args, **call.kwargs) for call in calls)

    await worker.run_until_finished()

    assert sorted(sent.to) == sorted(left * 2)


async def test_values_of_every_kind_are_struck_after_their_journey(docket: Docket, worker: Worker):
    ran: list[object] = []

    @docket.task
    async def take(value: object) -> None:
        ran.append(value)

    values: list[Any] = [1, 1.5, "a", None, UUID(int=1), datetime(2030, 1, 31, tzinfo=timezone.utc), timedelta(1), Plan.PAID]
    await docket.add_many(docket.call(take)(value) for value in [*values, "left"])
    for value in values:
        await docket.strike(take, "value", "==", value)

    await worker.run_until_finished()

    assert ran == ["left"]


async def test_everything_can_be_struck(docket: Docket, worker: Worker, sent: Sent):
    queued = await sent.task.schedule(5)
    await docket.strike()

    await struck(await sent.task.schedule(6), "*(*)")
    await worker.run_until_finished()

    await struck(queued, "*(*)")
    assert sent.to == []


async def test_a_strike_of_all_functions_means_those_that_have_the_parameter(docket: Docket, worker: Worker, sent: Sent):
    @docket.task
    async def other(name: str) -> str:
        return name

    await docket.strike(parameter="customer", operator=">", value=3)

    await struck(await sent.task.schedule(5), "*(customer > 3)")
    execution = await other.schedule("other")
    await worker.run_until_finished()
    assert await execution.get_result() == "other"


async def test_a_task_that_is_not_known_here_is_struck_by_name(docket: Docket, caplog: pytest.LogCaptureFixture):
    await docket.strike("elsewhere", "customer", "==", 5)

    execution = await docket.add("elsewhere")(customer=5)

    await struck(execution, "elsewhere(customer == 5)")
    assert "waits for one that does" not in caplog.text
    await docket.strike("elsewhere")
    for execution in await docket.add_many([docket.call("elsewhere")(6)]):
        await struck(execution, "elsewhere(*)")
    assert "waits for one that does" not in caplog.text


# Running


@pytest.mark.parametrize("when", [None, timedelta(milliseconds=50)], ids=["queued", "scheduled"])
async def test_struck_work_that_waits_is_dropped_when_it_is_due(
    docket: Docket, worker: Worker, sent: Sent, when: timedelta | None, caplog: pytest.LogCaptureFixture
):
    execution = await sent.task.schedule(5, key="k", when=when)
    await docket.strike(sent.task)

    before = await docket.get_execution("k")
    assert before is not None and before.state in {ExecutionState.QUEUED, ExecutionState.SCHEDULED}
    await worker.run_until_finished()

    await struck(execution, "send(*)")
    assert sent.to == []
    assert [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "docket.worker"] == [(logging.WARNING, "🗙 send(...){k}")]


async def test_struck_work_that_is_restored_before_it_is_due_runs(docket: Docket, worker: Worker, sent: Sent):
    execution = await sent.task.schedule(5, when=timedelta(milliseconds=100))
    await docket.strike(sent.task)
    await docket.restore(sent.task)

    await worker.run_until_finished()

    assert await execution.get_result() == 5


async def test_a_run_under_way_goes_on_and_its_retry_is_dropped(docket: Docket, worker: Worker):
    attempts: list[int] = []

    @docket.task
    async def flaky(retry: Retry = Retry(attempts=3)) -> None:
        attempts.append(retry.attempt)
        await docket.strike("flaky")
        raise RuntimeError("not yet")

    execution = await flaky.schedule()
    await worker.run_until_finished()

    assert attempts == [1]
    await struck(execution, "flaky(*)")


async def test_arguments_too_large_for_the_record_go_with_the_run(docket: Docket, worker: Worker):
    @docket.task
    async def store(blob: bytes) -> None: ...

    execution = await store.schedule(b"x" * 100_000)
    await docket.strike(store)
    await worker.run_until_finished()

    await struck(execution, "store(*)")


async def test_a_waiting_caller_learns_what_struck_the_run(docket: Docket, running_worker: Worker, sent: Sent):
    execution = await sent.task.schedule(5, when=timedelta(milliseconds=100))
    waiting = asyncio.create_task(execution.get_result())
    await docket.strike(sent.task, "customer", "<", 7)

    with pytest.raises(ExecutionCancelled, match="struck by send\\(customer < 7\\)"):
        await asyncio.wait_for(waiting, 20)


async def test_with_no_time_to_live_it_learns_that_too(docket_name: str, url: str):
    async with Docket(docket_name, url, execution_ttl=timedelta(0)) as docket, Worker(docket) as worker:
        sent = Sent(docket)
        execution = await sent.task.schedule(5, when=timedelta(milliseconds=100))
        waiting = asyncio.create_task(execution.get_result())
        await docket.strike(sent.task)
        await worker.run_until_finished()

        with pytest.raises(ExecutionCancelled, match="struck by send"):
            await asyncio.wait_for(waiting, 20)


async def test_a_struck_run_takes_no_place_under_a_limit(docket: Docket, worker: Worker):
    ran: list[int] = []

    @docket.task
    async def one_at_a_time(number: int, limit: ConcurrencyLimit = ConcurrencyLimit("number", 1)) -> None:
        ran.append(number)

    await docket.add_many(docket.call(one_at_a_time)(number % 2) for number in range(10))
    await docket.strike(one_at_a_time, "number", "==", 1)
    await asyncio.wait_for(worker.run_until_finished(), 20)

    assert ran == [0] * 5


async def test_conditions_of_the_users_own_strike_as_well(docket: Docket, worker: Worker, sent: Sent):
    queued = await sent.task.schedule(5)
    docket.strike_list.add_condition(lambda execution: execution.get_argument("customer") > 3)

    added = await sent.task.schedule(6)
    await sent.task.schedule(1)
    await worker.run_until_finished()

    assert sent.to == [1]
    for execution in (queued, added):
        with pytest.raises(ExecutionCancelled, match="struck by the condition "):
            await execution.get_result(timeout=SOON)


@pytest.mark.parametrize("value", ["short", "long" * 100])
async def test_whoever_looks_at_a_struck_run_sees_it(docket: Docket, worker: Worker, value: str):
    @docket.task
    async def take(value: str) -> None: ...

    await take.schedule(value, key="k")
    await docket.strike(take, "value", "==", value)
    await worker.run_until_finished()

    found = await docket.get_execution("k")
    [listed] = [execution async for execution in docket.executions(state="cancelled")]
    for one in (found, listed):
        assert one is not None
        assert (one.key, one.state, one.disposition) == ("k", ExecutionState.CANCELLED, Disposition.STRUCK)
        assert one.error is not None and one.error.startswith(f"struck by take(value == {value[:50]!r}"[:-1])


async def test_a_struck_run_that_is_tried_again_by_hand_runs_once_it_is_restored(docket: Docket, worker: Worker, sent: Sent):
    execution = await sent.task.schedule(5)
    await docket.strike(sent.task)
    await worker.run_until_finished()
    await struck(execution, "send(*)")
    await docket.restore(sent.task)

    again = await execution.retry()
    await worker.run_until_finished()

    assert again.disposition is Disposition.SCHEDULED
    assert await again.get_result() == 5

    await docket.strike(sent.task)
    refused = await sent.task.schedule(6)
    with pytest.raises(WrongState, match="it was never scheduled"):
        await refused.retry()


async def test_a_subscriber_sees_the_end_of_a_struck_run(docket: Docket, running_worker: Worker, sent: Sent):
    execution = await sent.task.schedule(5, when=timedelta(milliseconds=100))
    await docket.strike(sent.task)

    async def last() -> StateEvent:
        async for event in execution.subscribe():
            if event["type"] == "state" and event["state"] is ExecutionState.CANCELLED:
                return event
        raise AssertionError("it never ends by itself")

    assert (await asyncio.wait_for(last(), 20))["error"] == "struck by send(*)"


# Successors and chains


async def test_a_successor_that_is_struck_does_not_follow(docket: Docket, worker: Worker):
    asked: list[Execution[Any]] = []

    @docket.task
    async def again(number: int) -> int:
        if number == 1:
            await docket.strike(again, "number", ">", 1)
            asked.append(await docket.add(again, key="k")(2))
            asked.append(await docket.replace(again, timedelta(0), "k")(3))
        return number

    execution = await again.schedule(1, key="k")
    await worker.run_until_finished()

    assert await execution.get_result() == 1
    for one in asked:
        await struck(one, "again(number > 1)")


async def test_a_chain_ends_with_the_link_that_is_struck(docket: Docket, worker: Worker):
    ran: list[int] = []

    @docket.task
    async def beat(perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=10))) -> None:
        ran.append(len(ran))
        if len(ran) == 3:
            await docket.strike(beat)

    await beat.schedule(key="k")
    await asyncio.wait_for(worker.run_until_finished(), 20)

    assert ran == [0, 1, 2]
    last = await docket.get_execution("k")
    assert last is not None
    assert (last.state, last.disposition) == (ExecutionState.CANCELLED, Disposition.STRUCK)


async def test_automatic_tasks_stay_away_while_they_are_struck_and_come_back_at_once(docket: Docket):
    ran: list[str] = []

    @docket.task
    async def beat(perpetual: Perpetual = Perpetual(every=LATER, automatic=True)) -> None:
        ran.append("beat")

    @docket.task
    @Cron("0 0 1 1 *")
    async def yearly() -> None: ...

    await docket.strike(beat)
    await docket.strike(yearly)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await eventually(worker.is_claiming)
        assert await docket.get_execution("beat") is None
        assert await docket.get_execution("yearly") is None

        await docket.restore(beat)
        await eventually(lambda: ran == ["beat"])
        await docket.restore(yearly)

        async def is_back() -> bool:
            return await docket.get_execution("yearly") is not None

        await eventually(is_back)
        worker.stop()
        await running
    for key in ("beat", "yearly"):
        await docket.cancel(key)


async def test_an_automatic_chain_that_was_struck_begins_anew(docket: Docket, running_worker: Worker):
    ran: list[int] = []

    @docket.task
    async def beat(perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=20), automatic=True)) -> None:
        ran.append(len(ran))

    await docket.strike("nothing")
    await docket.restore("nothing")  # which has the worker look for automatic tasks
    await eventually(lambda: len(ran) > 1)
    await docket.strike(beat)

    async def is_struck() -> bool:
        found = await docket.get_execution("beat")
        return found is not None and found.disposition is Disposition.STRUCK

    await eventually(is_struck)
    before = len(ran)
    await docket.restore(beat)
    await eventually(lambda: len(ran) > before + 1)
    running_worker.stop()
    await docket.cancel("beat")


# What is told


async def test_the_docket_says_what_it_did_not_schedule(docket: Docket, sent: Sent, caplog: pytest.LogCaptureFixture):
    await docket.strike(sent.task)
    caplog.clear()

    await sent.task.schedule(5, key="K")

    [record] = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("docket.docket", "WARNING", "'send' is stricken, skipping schedule of 'K'")
    assert (vars(record)["docket.name"], vars(record)["docket.task"], vars(record)["docket.key"]) == (docket.name, "send", "K")


async def test_struck_work_is_counted_where_it_was_struck(docket: Docket, sent: Sent, monkeypatch: pytest.MonkeyPatch):
    with metered(monkeypatch) as metrics:
        await sent.task.schedule(5)
        await docket.strike(sent.task)
        await sent.task.schedule(6)
        await docket.add_many(docket.call(sent.task)(number) for number in range(2))
        async with Worker(docket) as worker:
            await worker.run_until_finished()

        await eventually(lambda: metrics.total("docket_tasks_stricken", docket_where="docket", docket_task="send") == 3)
        await eventually(lambda: metrics.total("docket_tasks_stricken", docket_where="worker", docket_task="send") == 1)
        assert metrics.total("docket_tasks_started") == 0


async def test_the_spans_of_struck_work_say_so(docket: Docket, sent: Sent, monkeypatch: pytest.MonkeyPatch):
    with traced(monkeypatch) as spans:
        await sent.task.schedule(5)
        await docket.strike(sent.task)
        await sent.task.schedule(6, key="struck")
        await docket.add_many([docket.call(sent.task)(7)])
        async with Worker(docket) as worker:
            await worker.run_until_finished()

        [added] = [span for span in spans.named("docket.add") if (span.attributes or {})["docket.key"] == "struck"]
        assert (added.attributes or {})["docket.disposition"] == "struck"
        assert (spans.one("docket.add_many").attributes or {})["docket.batch.stricken"] == 1
        assert spans.one("send").status.is_ok
