"""Whoever may write to Redis can make nonsense of a record, an entry, the schedule or a message. A worker goes on, and what can still be run is run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from docket import Docket, ExecutionState, Worker
from docket._instructions import Strike
from docket.errors import ServerError
from tests._shards import together
from tests._waiting import eventually

LATER = timedelta(hours=1)
DEEP = b"[" * 100_000
LONG = b"9" * 5000
"""More digits than Python reads."""


@asynccontextmanager
async def running(worker: Worker) -> AsyncGenerator[None, None]:
    """This has a worker run, and fails when it stops by itself."""
    working = asyncio.create_task(worker.run_forever())
    yield
    assert not working.done()
    worker.stop()
    await working


async def call(docket: Docket, *command: Any) -> Any:
    return await docket.store.backend.call(*command)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("when", b"soon"), ("when", LONG), ("when", b"9" * 30), ("attempt", b"first"), ("attempt", b"-1"), ("crashes", b"many"), ("blamed", b"nobody"),
        ("delivery", b"x"), ("delivery", b"1e30"), ("delivery", b"inf"), ("origin", b"a b c"), ("origin", b"9" * 30), ("unknown_since", b"ever"),
        ("trace", DEEP), ("trace", b"\xff"), ("next_generation", b"7"), ("earlier", b"?"), ("large", b""),
    ],
)  # fmt: skip
async def test_a_record_that_was_written_over_stops_no_worker(docket: Docket, worker: Worker, name: str, value: bytes):
    ran: list[str] = []

    @docket.task
    async def job(name: str) -> str:
        ran.append(name)
        return "done"

    await job.schedule("k", key="k")
    behind = await job.schedule("behind", key=behind_it(docket))
    await call(docket, "HSET", docket.store.keys.run("k"), name, value)

    async with running(worker):
        assert await behind.get_result() == "done"
        await eventually(lambda: is_off_the_road(docket))

    if name not in {"next_generation", "earlier", "large"}:  # what it is called with is whole, so it ran
        assert ran == ["k", "behind"]


async def is_off_the_road(docket: Docket) -> bool:
    return await docket.store.delivery.depth() == (0, 0)


def behind_it(docket: Docket) -> str:
    """This is the key of a run that stands behind the one of `k`."""
    [key] = together(docket.store, "behind")
    return key


async def test_a_record_without_a_due_time_is_run_all_the_same(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> str:
        return "done"

    execution = await job.schedule(key="k")
    await call(docket, "HDEL", docket.store.keys.run("k"), "when")
    await worker.run_until_finished()

    assert await execution.get_result() == "done"


async def test_arguments_that_are_no_text_end_their_run_as_undecodable(docket: Docket, worker: Worker):
    @docket.task
    async def job(text: str) -> None: ...

    await job.schedule("x" * 100, key="k")
    payload = docket.store.keys.payload("k")
    await call(docket, "DEL", payload)
    await call(docket, "HSET", payload, "no", "text")
    await worker.run_until_finished()

    assert [(letter.key, letter.reason) async for letter in docket.dead_letters()] == [("k", "undecodable")]


@pytest.mark.parametrize(
    "fields", [("generation", b"x"), ("generation", LONG), ("key", b"\xff"), ("key", b"k", "generation", b"1", "limit", b"\xff"), ("nothing", b"")]
)
async def test_an_entry_of_the_stream_that_is_none_is_passed_over(docket: Docket, worker: Worker, fields: tuple[Any, ...]):
    @docket.task
    async def job() -> str:
        return "done"

    await call(docket, "XADD", docket.store.keys.of("k").stream, "*", *fields)
    behind = await job.schedule(key=behind_it(docket))

    async with running(worker):
        assert await behind.get_result() == "done"
        await eventually(lambda: is_off_the_road(docket))


@pytest.mark.parametrize(("score", "member"), [("0", b"\xff"), ("-inf", b"k"), ("inf", b"k"), ("1e300", b"k"), ("0", b"")])
async def test_an_entry_of_the_schedule_that_is_none_keeps_nothing_from_becoming_due(docket: Docket, worker: Worker, score: str, member: bytes):
    @docket.task
    async def job() -> str:
        return "done"

    queue = docket.store.keys.of("k").queue
    await call(docket, "ZADD", queue, score, member)

    async with running(worker):
        behind = await job.schedule(when=timedelta(milliseconds=20), key=behind_it(docket))
        assert await behind.get_result() == "done"
        left = await call(docket, "ZRANGE", queue, 0, -1)
        assert left == ([member] if score in {"inf", "1e300"} else [])


@pytest.mark.only_server("in process only scripts publish")
@pytest.mark.parametrize("moment", [b"9" * 400, LONG, b"-1", b"soon"])
async def test_a_wake_up_for_no_moment_stops_no_mover(docket: Docket, worker: Worker, moment: bytes):
    @docket.task
    async def job() -> str:
        return "done"

    async with running(worker):
        await (await job.schedule()).get_result()  # now it listens
        assert await call(docket, "PUBLISH", docket.store.keys.of("k").wake, moment) == 1
        assert await (await job.schedule(when=timedelta(milliseconds=20), key=behind_it(docket))).get_result() == "done"


@pytest.mark.parametrize("version", [b"", b"x", LONG, b"inf"])
async def test_a_version_of_the_strikes_that_is_none_counts_as_the_first(docket: Docket, worker: Worker, version: bytes):
    @docket.task
    async def job() -> str:
        return "done"

    for keys in {docket.store.keys, docket.store.keys.of("k")}:
        await call(docket, "HSET", keys.meta, "strikes", version)

    async with running(worker):
        assert await (await job.schedule()).get_result() == "done"
        assert await docket.strike(job) is True
        assert (await job.schedule()).state is ExecutionState.CANCELLED
        assert await docket.restore(job) is True
        assert await (await job.schedule()).get_result() == "done"


async def test_a_strike_in_two_spellings_can_be_taken_off_the_list(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> str:
        return "done"

    spelled = Strike("other").field.replace(b":", b": ")
    for field in (Strike("other").field, spelled):
        await call(docket, "HSET", docket.store.keys.strikes, field, 1)
    await docket.store.strikes.read()

    async with running(worker):
        for field in (Strike("other").field, spelled):
            await call(docket, "HDEL", docket.store.keys.strikes, field)
            await call(docket, "HSET", docket.store.keys.meta, "strikes", 1)
            assert await (await job.schedule()).get_result() == "done"


async def test_a_record_that_cannot_be_read_fails_nobody_elses_order(docket: Docket):
    @docket.task
    async def job() -> None: ...

    await job.schedule(key="k", when=LATER)
    await call(docket, "HDEL", docket.store.keys.run("k"), "when")

    broken, *others = await asyncio.gather(job.schedule(key="k"), job.schedule(key="a"), job.schedule(key="b"), return_exceptions=True)

    assert isinstance(broken, ServerError)
    assert "cannot be read" in str(broken)
    assert not any(isinstance(other, BaseException) for other in others)
    await docket.replace(job, LATER, "k")()
    await docket.clear()
