"""A clock that tests move: what moves with it, and what lapses all the same when its own time is up."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta, timezone
from typing import Annotated
from zoneinfo import ZoneInfo

import pytest

from docket import (
    ConcurrencyLimit,
    Cooldown,
    Cron,
    CurrentDocket,
    Debounce,
    Docket,
    ExecutionCancelled,
    ExecutionState,
    Perpetual,
    RateLimit,
    Retry,
    Timeout,
)
from docket._clock import from_us, to_us
from docket._worker import _mover
from docket._worker._reclaimer import Reclaimer
from docket.errors import InvalidOption, InvalidSchedule
from docket.testing import MovableClock
from tests._waiting import eventually
from tests.conftest import SHARDS
from tests.worker._hands import SOON, at_work, claim, crew_of, dead_worker, lasts, read_all, record, take_over

UTC = timezone.utc
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NEW_YEAR = datetime(2031, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """This has no mover look up of its own accord, so that only a jump can wake it."""
    monkeypatch.setattr(_mover, "FALLBACK", 3600.0)


# The clock by itself


def test_it_begins_at_the_systems_time_and_runs():
    before = datetime.now(UTC)
    clock = MovableClock()
    first, second = clock.now(), clock.now()

    assert before - lasts(1) <= first <= second <= datetime.now(UTC)
    assert clock.is_ticking and "standing" not in repr(clock)


def test_it_may_begin_anywhere_and_stand_still():
    clock = MovableClock(datetime(2031, 1, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), ticking=False)

    assert clock.now() == clock.now() == NEW_YEAR
    assert clock.now_us() == to_us(NEW_YEAR)
    assert repr(clock) == "<MovableClock at 2031-01-01T00:00:00+00:00, standing>"
    assert NEW_YEAR <= MovableClock(NEW_YEAR).now() < NEW_YEAR + HOUR


def test_advancing_adds_up_and_tells_the_new_time():
    clock = MovableClock(NEW_YEAR, ticking=False)

    assert clock.advance(days=3) == NEW_YEAR + 3 * DAY == clock.now()
    assert clock.advance(HOUR, weeks=1, hours=1, minutes=1, seconds=1.5, milliseconds=1) == NEW_YEAR + timedelta(days=10, hours=2, minutes=1, seconds=1.501)
    assert clock.move_to(NEW_YEAR + 30 * DAY) == NEW_YEAR + 30 * DAY == clock.now()
    assert clock.advance() == clock.now()


def test_time_does_not_go_backwards():
    clock = MovableClock(NEW_YEAR, ticking=False)

    with pytest.raises(InvalidOption, match="forward only, and -1 day, 23:00:00 is backwards"):
        clock.advance(hours=-1)
    with pytest.raises(InvalidOption, match="2030-12-31T23:00:00.00:00 has passed: it is 2031-01-01"):
        clock.move_to(NEW_YEAR - HOUR)
    with pytest.raises(InvalidSchedule, match="without a time zone"):
        clock.move_to(datetime(2032, 1, 1))
    with pytest.raises(InvalidSchedule, match="without a time zone"):
        MovableClock(datetime(2032, 1, 1))
    clock.reach_us(to_us(NEW_YEAR) - 1)
    assert clock.now() == NEW_YEAR


async def test_it_may_be_held_and_goes_on_when_everybody_has_let_it_go():
    clock, standing = MovableClock(), MovableClock(NEW_YEAR, ticking=False)

    clock.hold()
    clock.hold()
    held = clock.now()
    clock.go_on()
    await asyncio.sleep(0.001)
    assert clock.now() == held
    assert clock.advance(days=1) == held + DAY
    sleeping = asyncio.create_task(clock.sleep(0.001))
    await asyncio.sleep(0.005)
    assert not sleeping.done()
    clock.go_on()
    await asyncio.wait_for(sleeping, 5)
    assert held + DAY < clock.now() < held + DAY + HOUR

    standing.hold()
    standing.go_on()
    await asyncio.sleep(0.001)
    assert standing.now() == NEW_YEAR


async def test_sleep_ends_when_its_time_has_come_by_this_clock():
    standing = MovableClock(ticking=False)

    await standing.sleep(0)
    await MovableClock().sleep(0.001)
    sleeping = asyncio.create_task(standing.sleep(3600))
    await asyncio.sleep(0)
    standing.advance(minutes=59)
    await asyncio.sleep(0.01)
    assert not sleeping.done()
    standing.advance(minutes=1)
    await asyncio.wait_for(sleeping, 5)


async def test_a_jump_is_told_in_every_loop_that_listens_and_to_nobody_who_left():
    clock = MovableClock()
    told: list[str] = []

    async def listen_elsewhere() -> None:
        jumped = asyncio.Event()
        with clock.on_jump(jumped.set):
            ready.set()
            await asyncio.wait_for(jumped.wait(), 10)
            told.append(threading.current_thread().name)

    left_open = clock.on_jump(lambda: told.append("a closed loop"))

    async def leave_a_loop_without_a_word() -> None:
        left_open.__enter__()

    ready = threading.Event()
    other = threading.Thread(target=lambda: asyncio.run(listen_elsewhere()), name="other")
    other.start()
    await asyncio.to_thread(asyncio.run, leave_a_loop_without_a_word())
    assert await asyncio.to_thread(ready.wait, 10)
    with clock.on_jump(lambda: told.append("left")):
        pass
    with clock.on_jump(lambda: told.append("here")):
        clock.advance(days=1)
    await asyncio.to_thread(other.join, 10)

    assert sorted(told) == ["here", "other"]
    left_open.__exit__(None, None, None)


# On a docket


@pytest.mark.parametrize("url", ["redis://localhost:6379/0", "redis://jane:secret@localhost"])
def test_a_server_goes_by_a_clock_of_its_own(url: str):
    with pytest.raises(InvalidOption, match=r"has a clock that can be moved, and url=.*a server goes by a clock of its own") as refused:
        Docket(url=url, clock=MovableClock())
    assert "secret" not in str(refused.value)

    clock = MovableClock()
    docket = Docket(url="memory://timed", clock=clock)
    with pytest.raises(InvalidOption, match="a clock of its own"):
        docket.reconfigure(url=url)
    assert (docket.url, docket.clock) == ("memory://timed", clock)


def test_a_docket_may_be_given_another_clock():
    clock = MovableClock()
    docket = Docket(url="memory://timed")

    docket.reconfigure(clock=clock)

    assert docket.clock is clock


async def test_what_is_scheduled_runs_when_the_clock_gets_there(timed: Docket, clock: MovableClock):
    @timed.task
    async def remind() -> datetime:
        return clock.now()

    async with at_work(timed):
        execution = await remind.schedule(when=3 * DAY)
        due = execution.when
        clock.advance(days=2)
        await execution.sync()
        assert execution.state is ExecutionState.SCHEDULED
        clock.advance(days=1)

        assert due <= await execution.get_result(timeout=SOON) <= due + HOUR


async def test_it_is_moved_from_another_thread_too(timed: Docket, clock: MovableClock):
    @timed.task
    async def remind() -> str:
        return "reminded"

    async with at_work(timed):
        execution = await remind.schedule(when=3 * DAY)
        await asyncio.to_thread(clock.advance, days=4)

        assert await execution.get_result(timeout=SOON) == "reminded"


async def test_on_a_clock_that_stands_still_nothing_becomes_due_by_itself(docket_name: str):
    clock = MovableClock(NEW_YEAR, ticking=False)
    async with Docket(docket_name, f"memory://{docket_name}", clock=clock) as docket, at_work(docket):

        @docket.task
        async def remind() -> datetime:
            return clock.now()

        later = await remind.schedule(when=lasts(2))
        sooner = await remind.schedule(when=lasts(1))
        assert (sooner.when, later.when) == (NEW_YEAR + lasts(1), NEW_YEAR + lasts(2))
        await asyncio.sleep(0.02)
        await sooner.sync()
        assert sooner.state is ExecutionState.SCHEDULED

        clock.advance(milliseconds=1)
        assert await sooner.get_result(timeout=SOON) == NEW_YEAR + lasts(1)
        await later.sync()
        assert later.state is ExecutionState.SCHEDULED
        await docket.cancel(later.key)


async def test_a_retry_comes_when_its_delay_has_passed_on_the_clock(timed: Docket, clock: MovableClock):
    @timed.task
    async def flaky(retry: Retry = Retry(attempts=2, delay=HOUR)) -> int:
        if retry.attempt == 1:
            raise RuntimeError
        return retry.attempt

    async with at_work(timed):
        execution = await flaky.schedule()
        await eventually(lambda: waits(timed, execution.key))
        clock.advance(HOUR)

        assert await execution.get_result(timeout=SOON) == 2


async def waits(docket: Docket, key: str) -> bool:
    found = await docket.get_execution(key)
    return found is not None and found.state is ExecutionState.SCHEDULED


async def test_a_retry_gives_up_when_too_much_time_has_passed_on_the_clock(timed: Docket, clock: MovableClock):
    @timed.task
    async def flaky(retry: Retry = Retry(attempts=None, delay=HOUR, max_elapsed=DAY)) -> None:
        clock.advance(hours=6)
        raise RuntimeError(str(retry.attempt))

    async with at_work(timed):
        execution = await flaky.schedule()
        for attempt in (2, 3, 4):
            await eventually(lambda attempt=attempt: waits_for_attempt(timed, execution.key, attempt))
            clock.advance(HOUR)

        with pytest.raises(RuntimeError, match="4"):
            await execution.get_result(timeout=SOON)


async def waits_for_attempt(docket: Docket, key: str, attempt: int) -> bool:
    return await waits(docket, key) and (await record(docket, key)).attempt == attempt


async def test_a_perpetual_and_a_cron_move_on_with_the_clock(timed: Docket, clock: MovableClock):
    runs: list[tuple[str, datetime]] = []

    @timed.task
    @Perpetual(every=HOUR)
    async def hourly() -> None:
        runs.append(("hourly", clock.now()))

    @timed.task
    async def nightly(cron: Cron = Cron("30 2 * * *", tz=ZoneInfo("Europe/Berlin"))) -> None:
        runs.append(("nightly", clock.now()))
        assert cron.next_time() > clock.now() > datetime.now(UTC) + 3 * DAY - HOUR

    clock.advance(days=3)
    async with at_work(timed):
        await hourly.schedule(key="hourly")
        await eventually(lambda: len(runs) == 1)
        await eventually(lambda: waits(timed, "hourly"))
        first = await timed.get_execution("nightly")
        assert first is not None and first.when == Cron("30 2 * * *", tz=ZoneInfo("Europe/Berlin")).next_time(clock.now())
        clock.move_to(first.when)
        await eventually(lambda: {name for name, _ in runs} == {"hourly", "nightly"})

    for key in ("hourly", "nightly"):
        await timed.cancel(key)


async def test_a_cooldown_is_over_when_the_clock_says_so(timed: Docket, clock: MovableClock):
    @timed.task
    @Cooldown(HOUR)
    async def warm() -> str:
        return "warm"

    async with at_work(timed):
        assert await (await warm.schedule()).get_result(timeout=SOON) == "warm"
        with pytest.raises(ExecutionCancelled):
            await (await warm.schedule()).get_result(timeout=SOON)
        clock.advance(HOUR)
        assert await (await warm.schedule()).get_result(timeout=SOON) == "warm"


async def test_a_rate_window_slides_with_the_clock(timed: Docket, clock: MovableClock):
    @timed.task
    @RateLimit(1, per=HOUR)
    async def call_partner() -> str:
        return "called"

    async with at_work(timed):
        assert await (await call_partner.schedule()).get_result(timeout=SOON) == "called"
        held_back = await call_partner.schedule()
        await eventually(lambda: is_set_aside(timed, held_back.key))
        clock.advance(HOUR)
        assert await held_back.get_result(timeout=SOON) == "called"


async def is_set_aside(docket: Docket, key: str) -> bool:
    return any(found == key for _, found in await docket.store.listing.scheduled(None, 10))


async def test_it_is_quiet_when_the_clock_says_so(timed: Docket, clock: MovableClock):
    @timed.task
    @Debounce(HOUR)
    async def reindex() -> str:
        return "indexed"

    async with at_work(timed):
        first = await reindex.schedule()
        await eventually(lambda: is_set_aside(timed, first.key))
        clock.advance(HOUR)
        assert await first.get_result(timeout=SOON) == "indexed"


# What a jump does not take away


async def test_a_jump_takes_no_place_away_from_who_holds_it(timed: Docket, clock: MovableClock):
    at_once: list[int] = []
    go = asyncio.Event()

    @timed.task
    async def print_letter(number: Annotated[int, ConcurrencyLimit(1, scope="printer")]) -> int:
        at_once.append(number)
        if number == 1:
            await go.wait()
        return len(at_once)

    async with at_work(timed, redelivery_timeout=timedelta(minutes=1)):
        holder = await print_letter.schedule(1)
        await eventually(lambda: at_once == [1])
        waiting = await print_letter.schedule(1)
        await eventually(lambda: is_parked(timed))
        clock.advance(days=3)
        third = await print_letter.schedule(1)

        await eventually(lambda: is_parked(timed, 2))
        assert at_once == [1]
        go.set()
        assert [await each.get_result(timeout=SOON) for each in (holder, waiting, third)] == [1, 2, 3]


async def is_parked(docket: Docket, count: int = 1) -> bool:
    return len(await docket.store.listing.parked(None, 10)) == count


async def test_a_jump_makes_no_worker_seem_dead(timed: Docket, clock: MovableClock):
    """Both the list that a reclaimer reads and the script that takes work back go by the time of leases."""

    @timed.task
    async def task() -> None: ...

    await dead_worker(timed, "alive~1", lease=300)
    await task.schedule(key="k")
    await claim(timed, "alive~1")
    crew = crew_of(timed)
    reclaimer = Reclaimer(crew)
    timed.store.backend.connected_for = lambda: 3600.0  # type: ignore[method-assign]

    clock.advance(days=3)

    assert [await shard.delivery.lapsed(crew.server_now_us()) for shard in timed.store.shards] == [[]] * SHARDS
    assert await take_over(timed, "alive~1") is None
    await reclaimer.tick()
    assert (await record(timed, "k")).state is ExecutionState.RUNNING
    assert list(await read_all(timed)) == ["alive~1"]
    assert await timed.store.delivery.renew("alive~1", 1, []) is not None


async def test_one_that_is_dead_is_found_whatever_the_clock_says(timed: Docket, clock: MovableClock):
    await dead_worker(timed, "dead~1")
    clock.advance(days=3)

    assert [await shard.delivery.lapsed(crew_of(timed).server_now_us()) for shard in timed.store.shards] == [["dead~1"]] * SHARDS
    assert await take_over(timed, "dead~1") == 0


async def test_a_jump_silences_no_worker(timed: Docket, clock: MovableClock):
    await timed.store.workers.heartbeat("alive~1", "alive", ["task"], 60_000)

    clock.advance(days=3)
    now_us = clock.now_us()

    alive = await timed.store.workers.live(since_us=now_us - 1_000_000)
    assert [worker.name for worker in alive] == ["alive"]
    assert abs(from_us(alive[0].last_seen_us) - clock.now()) < lasts(1000)
    assert [worker.name for worker in await timed.workers()] == ["alive"]
    await timed.store.workers.heartbeat("other~1", "other", ["task"], 60_000)  # which forgets whoever was silent for a day
    assert len(await timed.store.workers.live(since_us=now_us - 1_000_000)) == 2


async def test_a_jump_cuts_no_body_short_and_no_waiting_for_it(timed: Docket, clock: MovableClock):
    started, go = asyncio.Event(), asyncio.Event()

    @timed.task
    async def render(timeout: Timeout = Timeout(HOUR)) -> str:
        started.set()
        await go.wait()
        return "rendered"

    async with at_work(timed):
        execution = await render.schedule()
        waiting = asyncio.create_task(execution.get_result(timeout=HOUR))
        await started.wait()
        clock.advance(days=3)
        await asyncio.sleep(0.01)
        go.set()

        assert await waiting == "rendered"


async def test_bodies_see_the_clock_of_their_docket(timed: Docket, clock: MovableClock):
    @timed.task
    async def tell(docket: Docket = CurrentDocket()) -> datetime:
        await docket.clock.sleep(3600)
        return docket.clock.now()

    async with at_work(timed):
        execution = await tell.schedule()
        before = clock.now()
        while execution.state is not ExecutionState.COMPLETED:
            clock.advance(minutes=10)
            await asyncio.sleep(0.001)
            await execution.sync()

        assert await execution.get_result() >= before + HOUR
