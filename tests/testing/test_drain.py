"""Running what is due, and going through days from due time to due time."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from docket import ConcurrencyLimit, Cooldown, Cron, Debounce, Depends, Docket, Execution, ExecutionState, Perpetual, RateLimit, Retry, TaskLogger, Worker
from docket._clock import SYSTEM
from docket._worker._decision import Decision
from docket.errors import EndlessWork, InvalidOption, InvalidSchedule, NotEntered
from docket.testing import Drain, LogLine, MovableClock, TaskRun, assert_no_tasks, assert_task_count, drain, run_task
from docket.testing._drain import Drainage, Standing
from docket.testing._runs import Watch
from tests._waiting import eventually
from tests.worker._hands import at_work

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2031, 1, 1, tzinfo=timezone.utc)


def told(runs: list[TaskRun[Any]]) -> list[tuple[str, ExecutionState]]:
    return [(run.task, run.state) for run in runs]


# What is due now


async def test_what_is_due_is_run_with_what_that_schedules_for_now(docket: Docket):
    @docket.task
    async def place(order: int) -> int:
        await charge.schedule(order)
        await remind.schedule(order, when=HOUR, key="remind")
        return order

    @docket.task
    async def charge(order: int, logger: TaskLogger = TaskLogger()) -> str:
        logger.info("charged", order=order)
        return f"charged {order}"

    @docket.task
    async def remind(order: int) -> None: ...

    execution = await place.schedule(12)
    runs = await drain(docket)

    assert [(run.task, run.result) for run in runs] == [("place", 12), ("charge", "charged 12")]
    assert runs[1].logs == [LogLine("INFO", "charged", {"order": 12})]
    assert [each.function_name for each in runs[0].scheduled] == ["charge", "remind"]
    assert await execution.get_result() == 12
    await assert_task_count(docket, count=1)
    assert await drain(docket) == []
    await docket.cancel("remind")


async def test_nothing_to_do_is_done_at_once(docket: Docket):
    assert await drain(docket) == []


async def test_what_is_held_back_for_now_is_run_too(docket: Docket):
    @docket.task
    @ConcurrencyLimit(1)
    async def print_letter(number: int) -> int:
        await asyncio.sleep(0)
        return number

    for number in range(5):
        await print_letter.schedule(number)

    assert sorted(run.result for run in await drain(docket)) == [0, 1, 2, 3, 4]


async def test_retries_without_a_delay_are_made_and_the_last_counts(docket: Docket):
    @docket.task
    async def flaky(retry: Retry = Retry(attempts=3)) -> str:
        if retry.attempt < 3:
            raise ConnectionError
        return "third time lucky"

    await flaky.schedule()
    runs = await drain(docket)

    assert [run.attempt for run in runs] == [1, 2, 3]
    assert [run.state for run in runs] == [ExecutionState.QUEUED, ExecutionState.QUEUED, ExecutionState.COMPLETED]
    assert runs[2].result == "third time lucky"


async def test_what_another_worker_runs_is_waited_for(docket: Docket):
    started, go = asyncio.Event(), asyncio.Event()

    @docket.task
    async def slow() -> None:
        started.set()
        await go.wait()

    async with at_work(docket, concurrency=1):
        await slow.schedule()
        await started.wait()
        draining = asyncio.create_task(drain(docket))
        await asyncio.sleep(0.05)
        assert not draining.done()
        go.set()

        assert await draining == []


async def test_tasks_that_nobody_here_knows_are_left(docket: Docket, caplog: pytest.LogCaptureFixture):
    @docket.task
    async def known() -> None: ...

    await docket.add("stranger", key="stranger")()
    await known.schedule()

    assert [run.task for run in await drain(docket)] == ["known"]
    await assert_task_count(docket, "stranger", count=1)
    await docket.cancel("stranger")


async def test_what_is_struck_is_seen_to_end_and_may_still_be_tested_by_itself(docket: Docket):
    @docket.task
    async def charge() -> str:
        return "charged"

    await charge.schedule()
    await docket.strike(charge)

    assert told(await drain(docket)) == [("charge", ExecutionState.CANCELLED)]
    assert (await run_task(charge)).result == "charged"


async def test_a_worker_of_ones_own_drains_with_what_it_has(docket: Docket):
    async def get_db() -> str:
        raise AssertionError("the real one")

    @docket.task
    async def load(db: str = Depends(get_db)) -> str:
        return db

    async with Worker(docket, name="own") as worker:
        with worker.override(get_db, lambda: "a fake"):
            await load.schedule()
            assert [run.result for run in await drain(worker)] == ["a fake"]
        own = Drain(worker)
        await load.schedule()
        with pytest.raises(ExceptionGroup):
            await own()
    assert repr(own) == f"<drain of docket {docket.name!r}>"


async def test_a_fallback_task_is_run_for_what_is_not_known(timed: Docket):
    async def fallback(*args: Any) -> str:
        return "fallback"

    async with Worker(timed, fallback_task=fallback) as worker:
        await timed.add("stranger", when=HOUR)()

        assert [(run.task, run.result) for run in await drain(worker, hours=2)] == [("stranger", "fallback")]


async def test_a_docket_that_is_not_entered_cannot_be_drained():
    docket = Docket(url="memory://")

    with pytest.raises(NotEntered):
        await drain(docket)
    with pytest.raises(NotEntered, match="is not entered"):
        async with docket:
            await drain(Worker(docket))


class Places:
    """Stands for a store: what is found where, look by look."""

    def __init__(self, depths: list[tuple[int, int]], waits: list[int | None], *, is_memory: bool = True, looked: Callable[[], object] = lambda: None) -> None:
        self.delivery: Any = self
        self.is_memory = is_memory
        self._depths, self._waits, self._looked = iter(depths), iter(waits), looked

    async def depth(self) -> tuple[int, int]:
        return next(self._depths)

    async def move_due(self, candidates: tuple[()]) -> tuple[int, int | None, int]:
        self._looked()
        return 0, next(self._waits), 0


@pytest.mark.parametrize(
    ("depths", "waits", "has_work"),
    [
        ([(0, 0), (0, 0)], [None], False),
        ([(0, 1), (0, 1)], [5_000_000], False),
        ([(1, 0)], [], True),
        ([(0, 1)], [0], True),
        ([(0, 1)], [-5], True),
        ([(0, 1), (1, 0)], [None], True),  # it was moved between the looks
        ([(0, 0), (0, 1)], [0], True),  # it was scheduled between them
        ([(0, 1), (0, 1), (0, 1)], [None, 5_000_000], False),
        ([(0, 1), (1, 1)], [5_000_000], True),
    ],
)
async def test_work_is_found_while_it_moves(depths: list[tuple[int, int]], waits: list[int | None], has_work: bool):
    assert await drainage(Places(depths, waits)).has_work() is has_work


async def test_a_run_that_ended_meanwhile_may_have_brought_work(clock: MovableClock):
    watch = Watch(clock)

    def end_a_run() -> None:
        execution = Execution[Any](Docket(url="memory://"), end_a_run, (), {}, "k", None, 1)
        watch.settled(execution, Decision(ExecutionState.COMPLETED), None, ExecutionState.COMPLETED)

    assert await drainage(Places([(0, 0), (0, 0)], [None], looked=end_a_run), watch).has_work()


async def test_where_a_server_has_a_clock_of_its_own_soon_is_now():
    assert await drainage(Places([(0, 1)], [50_000], is_memory=False)).has_work()
    assert not await drainage(Places([(0, 1), (0, 1)], [50_000])).has_work()


def drainage(places: Any, watch: Watch | None = None) -> Drainage:
    return Drainage(places, Standing(SYSTEM), (), Watch(SYSTEM) if watch is None else watch, asyncio.get_running_loop().create_future(), 10)  # pyright: ignore[reportArgumentType] - the task of a worker


# Failures


async def test_failures_are_raised_together_when_everything_is_done(docket: Docket):
    done: list[int] = []

    @docket.task
    async def place(order: int) -> None:
        done.append(order)
        if order < 3:
            raise ValueError(f"order {order}")

    for order in range(5):
        await place.schedule(order, key=f"order-{order}")

    with pytest.raises(ExceptionGroup) as raised:
        await drain(docket)
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert str(raised.value).startswith("3 of 5 runs failed: place{order-")
    assert sorted(str(failure) for failure in raised.value.exceptions) == ["order 0", "order 1", "order 2"]


async def test_or_given_with_the_runs(docket: Docket):
    failure = ValueError("order 1")

    @docket.task
    async def place() -> None:
        raise failure

    await place.schedule()
    runs = await drain(docket, raises=False)

    assert told(runs) == [("place", ExecutionState.FAILED)]
    assert runs[0].exception is failure


async def test_a_long_list_of_failures_is_cut_and_keeps_what_is_no_exception(docket: Docket):
    @docket.task
    async def leave() -> None:
        raise SystemExit

    for _ in range(7):
        await leave.schedule()

    with pytest.raises(BaseExceptionGroup, match="7 of 7 runs failed: .*; and 2 more"):
        await drain(docket)


async def test_a_failure_that_is_tried_again_is_none_yet(timed: Docket):
    @timed.task
    async def flaky(retry: Retry = Retry(attempts=2, delay=HOUR)) -> None:
        raise ConnectionError(retry.attempt)

    await flaky.schedule()

    runs = await drain(timed)
    assert told(runs) == [("flaky", ExecutionState.SCHEDULED)]
    assert runs[0].retry_at is not None
    with pytest.raises(ExceptionGroup, match="1 of 1 runs failed: .*ConnectionError"):
        await drain(timed, hours=1)


# Work without end


async def test_work_that_goes_on_for_ever_is_stopped(docket: Docket):
    @docket.task
    @Perpetual()
    async def spin() -> None: ...

    await spin.schedule(key="spin")

    with pytest.raises(EndlessWork, match=r"drain has run 20 tasks and is not done: spin \(2\d\)\. A perpetual without an interval"):
        await drain(docket, at_most=20)
    await docket.cancel("spin")


async def test_as_many_as_may_be_is_not_too_many(docket: Docket):
    @docket.task
    async def once() -> None: ...

    for _ in range(20):
        await once.schedule()

    assert len(await drain(docket, at_most=20)) == 20
    with pytest.raises(InvalidOption, match="at_most is 0"):
        await drain(docket, at_most=0)


async def test_a_worker_that_breaks_is_no_riddle(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    async def broken(self: Worker) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Worker, "run_forever", broken)

    with pytest.raises(LookupError, match="a bug"):
        await drain(docket)


# Through time


async def test_a_daily_cron_runs_three_times_in_three_days(timed: Docket, clock: MovableClock):
    nights: list[datetime] = []

    @timed.task
    @Cron("30 2 * * *")
    async def nightly() -> None:
        nights.append(clock.now())

    target = clock.now() + 3 * DAY
    runs = await drain(timed, days=3)

    assert [run.task for run in runs] == ["nightly"] * 3
    assert [(night.hour, night.minute) for night in nights] == [(2, 30)] * 3
    assert [run.started_at for run in runs] == nights  # whatever it took: the time stands still from one due time to the next
    assert target <= clock.now() < target + HOUR
    assert runs[2].next_at is not None and runs[2].next_at > target


async def test_everything_runs_in_its_order_at_its_time(docket_name: str):
    clock = MovableClock(MIDNIGHT, ticking=False)
    async with Docket(docket_name, f"memory://{docket_name}", clock=clock) as docket:

        @docket.task
        async def remind(who: str) -> str:
            if who == "ada":
                await remind.schedule("eve", when=HOUR)
            return who

        @docket.task
        @Perpetual(every=12 * HOUR)
        async def beat() -> None: ...

        await remind.schedule("bob", when=3 * HOUR)
        await remind.schedule("ada", when=HOUR)
        await remind.schedule("late", when=3 * DAY)
        await beat.schedule(key="beat")
        runs = await drain(docket, days=1)

        assert [(run.task, (run.started_at - MIDNIGHT) / HOUR) for run in runs] == [
            ("beat", 0.0), ("remind", 1.0), ("remind", 2.0), ("remind", 3.0), ("beat", 12.0), ("beat", 24.0),
        ]  # fmt: skip
        assert [run.args for run in runs[1:4]] == [("ada",), ("eve",), ("bob",)]
        assert clock.now() == MIDNIGHT + DAY

        assert [run.args for run in await drain(docket, until=MIDNIGHT + 3 * DAY) if run.task == "remind"] == [("late",)]
        assert clock.now() == MIDNIGHT + 3 * DAY
        await drain(docket, minutes=1, seconds=1.5, milliseconds=1)
        assert clock.now() == MIDNIGHT + timedelta(days=3, minutes=1, seconds=1.501)
        await drain(docket, weeks=1, hours=1)


async def test_limits_let_in_when_their_time_has_come(timed: Docket):
    @timed.task
    @RateLimit(1, per=HOUR)
    async def call_partner(number: int) -> int:
        return number

    @timed.task
    @Cooldown(HOUR)
    async def warm() -> None: ...

    @timed.task
    @Debounce(HOUR)
    async def reindex() -> None: ...

    for number in range(3):
        await call_partner.schedule(number)
        await warm.schedule()
        await reindex.schedule()

    now = told(await drain(timed))
    later = told(await drain(timed, hours=3))

    assert Counter(now) == {
        ("call_partner", ExecutionState.COMPLETED): 1,
        ("warm", ExecutionState.COMPLETED): 1,
        ("warm", ExecutionState.CANCELLED): 2,
        ("reindex", ExecutionState.CANCELLED): 2,
    }
    assert Counter(later) == {("call_partner", ExecutionState.COMPLETED): 2, ("reindex", ExecutionState.COMPLETED): 1}
    await assert_no_tasks(timed)


async def test_automatic_tasks_start_where_time_passes(timed: Docket):
    @timed.task
    @Perpetual(every=DAY, automatic=True)
    async def beat() -> None: ...

    assert await drain(timed) == []
    await assert_no_tasks(timed)
    assert [run.task for run in await drain(timed, automatic=True)] == ["beat"]
    assert [run.task for run in await drain(timed, days=2)] == ["beat", "beat"]
    await timed.cancel("beat")
    assert await drain(timed, days=2, automatic=False) == []


async def test_a_chain_is_followed_to_the_moment(timed: Docket, clock: MovableClock):
    @timed.task
    @Perpetual(every=HOUR)
    async def beat() -> None:
        await asyncio.sleep(0.002)

    await beat.schedule(key="beat")
    runs = await drain(timed, hours=3)

    began = runs[0].started_at
    assert [run.started_at for run in runs] == [began, began + HOUR, began + 2 * HOUR, began + 3 * HOUR]
    await timed.cancel("beat")


async def test_a_body_that_waits_for_time_to_pass_gets_it(timed: Docket):
    @timed.task
    async def outer() -> str:
        inner_run = await inner.schedule(when=timedelta(milliseconds=30))
        return await inner_run.get_result()

    @timed.task
    async def inner() -> str:
        return "in the end"

    await outer.schedule()
    runs = await drain(timed)

    assert [(run.task, run.result) for run in runs] == [("outer", "in the end"), ("inner", "in the end")]


async def test_time_is_the_only_thing_a_day_without_work_costs(timed: Docket, clock: MovableClock):
    before = clock.now()

    assert await drain(timed, days=365) == []
    assert clock.now() - before >= 365 * DAY


async def test_strangers_do_not_hold_time_up(timed: Docket, clock: MovableClock):
    @timed.task
    async def known() -> None: ...

    for number in range(25):
        await timed.add("stranger", when=HOUR, key=f"stranger-{number}")()
    await known.schedule(when=2 * HOUR)

    assert [run.task for run in await drain(timed, days=1)] == ["known"]
    await assert_task_count(timed, "stranger", count=25)


async def test_a_body_that_runs_while_time_passes_is_waited_for(timed: Docket, clock: MovableClock):
    async def move() -> None:
        await eventually(lambda: begun)
        clock.advance(hours=2)

    begun: list[datetime] = []

    @timed.task
    async def sleepy() -> None:
        begun.append(clock.now())
        await clock.sleep(3600)

    await sleepy.schedule()
    moving = asyncio.create_task(move())

    assert told(await drain(timed)) == [("sleepy", ExecutionState.COMPLETED)]
    await moving


@pytest.mark.parametrize(
    ("when", "error", "message"),
    [
        ({"until": MIDNIGHT, "days": 3}, InvalidOption, "give one of them"),
        ({"until": datetime(2000, 1, 1, tzinfo=timezone.utc)}, InvalidOption, "time goes forward only, and until=2000-01-01T00:00:00.00:00 has passed"),
        ({"until": datetime(2031, 1, 1)}, InvalidSchedule, "without a time zone"),
        ({"days": -1}, InvalidOption, "backwards"),
    ],
)
async def test_what_is_no_way_to_go(timed: Docket, when: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        await drain(timed, **when)


async def test_time_is_moved_where_it_can_be(docket: Docket):
    with pytest.raises(
        InvalidOption, match=r"cannot be moved; make it with one that can, in memory: Docket\(url='memory://...', clock=testing.MovableClock\(\)\)"
    ):
        await drain(docket, days=3)


async def test_runs_of_others_are_not_taken_for_ours(timed: Docket):
    """Two at once: each gives what its own worker ran, and together they gave everything."""

    @timed.task
    async def task(number: int) -> int:
        await asyncio.sleep(0)
        return number

    executions: list[Execution[int]] = [await task.schedule(number) for number in range(20)]
    one, two = await asyncio.gather(drain(timed), drain(timed))

    assert sorted(run.result for run in [*one, *two]) == list(range(20))
    assert {run.key for run in [*one, *two]} == {execution.key for execution in executions}
