"""Tasks that a worker does not know."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from docket import Docket, Execution, ExecutionState, Worker
from docket._clock import to_us
from docket._store.records import Claimed, RunId
from docket._worker import _strangers
from docket._worker._strangers import Strangers
from docket.dependencies import CurrentExecution
from tests.worker._hands import SOON, MovedClock, at_work, crew_of, record

UNKNOWN = "Unknown task"


def claimed(key: str, function: str = "stranger") -> Claimed:
    return Claimed(
        run=RunId(key, 1, 1), message_id=b"1-0", function=function, payload=b"", when_us=0, started_us=0, attempt=1, crashes=0, large_payload=False, trace=b""
    )


async def test_delays_grow_from_a_quarter_second_to_a_minute(docket: Docket):
    strangers = Strangers(crew_of(docket))

    delays = [strangers.delay(claimed("k")) for _ in range(30)]

    assert delays[:4] == [0.25, 0.5, 1.0, 2.0]
    assert delays[8:] == [60.0] * 22
    assert strangers.delay(claimed("another")) == 0.25


async def test_only_so_many_keys_are_remembered(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_strangers, "_REMEMBERED", 2)
    strangers = Strangers(crew_of(docket))

    delays = [strangers.delay(claimed(key)) for key in ("a", "b", "a", "c", "a")]

    assert delays == [0.25, 0.25, 0.25, 0.25, 0.25]


async def test_each_is_warned_of_once_a_minute(docket_name: str, caplog: pytest.LogCaptureFixture):
    clock = MovedClock()
    async with Docket(docket_name, f"memory://{docket_name}", clock=clock) as docket:
        strangers = Strangers(crew_of(docket))

        def warnings() -> int:
            return sum(UNKNOWN in entry.message for entry in caplog.records)

        for _ in range(3):
            strangers.delay(claimed("k"))
        assert warnings() == 1

        strangers.delay(claimed("k", "another"))
        assert warnings() == 2

        clock.ahead += 61
        strangers.delay(claimed("k"))
        assert warnings() == 3
    assert caplog.messages[0] == (
        "Unknown task 'stranger' received - handed back for a worker that knows it. "
        "Register via CLI (--tasks your.module:tasks) or API (docket.register(func))."
    )


async def test_they_are_handed_back_and_run_by_a_worker_that_knows_them(docket: Docket, url: str, caplog: pytest.LogCaptureFixture):
    async def known_elsewhere(x: int, execution: Execution[None] = CurrentExecution()) -> tuple[int, int]:
        return x, execution.attempt

    asked = await docket.add("known_elsewhere", key="k")(5)

    async with Worker(docket) as ignorant:
        await ignorant.run_until_finished()
    waiting = await record(docket, "k")
    assert waiting.state is ExecutionState.SCHEDULED
    assert waiting.attempt == 1
    assert sum(UNKNOWN in entry.message for entry in caplog.records) == 1

    async with Docket(docket.name, url) as elsewhere:
        elsewhere.register(known_elsewhere)
        async with at_work(elsewhere):
            assert await asked.get_result(timeout=SOON) == (5, 1)


async def test_they_keep_their_due_time_and_wait_before_they_are_claimed_again(docket: Docket):
    asked = await docket.add("stranger", key="k")()

    async with Worker(docket) as worker:
        await worker.run_until_finished()

    waiting = await record(docket, "k")
    async with docket.redis() as redis:
        again = int(float(await redis.execute_command("ZSCORE", docket.store.keys.of("k").queue, "k")))
    assert waiting.when_us == to_us(asked.when)
    assert 200_000 < again - waiting.when_us < 10_000_000
    await docket.cancel("k")


async def test_a_fallback_task_takes_them(docket: Docket):
    async def fallback(*args: int, execution: Execution[None] = CurrentExecution(), **kwargs: int) -> tuple[object, ...]:
        return execution.function_name, args, kwargs

    asked = await docket.add("stranger")(1, b=2)

    async with Worker(docket, fallback_task=fallback) as worker:
        await worker.run_until_finished()

    assert await asked.get_result(timeout=SOON) == ("stranger", (1,), {"b": 2})


async def test_the_wait_for_them_keeps_no_slot(docket: Docket, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR)

    async def known() -> int:
        return 1

    for number in range(5):
        await docket.add("stranger", key=f"stranger {number}")()
    asked = await docket.add(known)()

    async with at_work(docket, concurrency=1):
        assert await asked.get_result(timeout=timedelta(seconds=5)) == 1

    for number in range(5):
        await docket.cancel(f"stranger {number}")
