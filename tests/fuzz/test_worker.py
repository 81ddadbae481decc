"""Whatever somebody writes where work and strikes stand, the worker goes on: what stands behind it runs, and the thing itself has an end."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import Docket, ExecutionState, Worker
from docket._instructions import Operator, Strike
from docket._store.shard import Shard
from docket.states import TERMINAL
from tests._examples import examples
from tests._waiting import eventually
from tests.fuzz._damage import LONG_NUMBERS, anything, damaged, joined, nested, packed, pickles

LATER = timedelta(hours=1)
WITHIN = 5.0

small = st.sampled_from([b"", b"0", b"1", b"-1", b"x", b"1.5", b" 1", b"1_0", b"inf", b"nan", b"1e3", b"9" * 30, b"\xff\xfe", b"1 2", b"1 2 3", b"a b c", b"queued", b"running"]) | LONG_NUMBERS | st.binary(max_size=6)  # fmt: skip
NUMBERS = ("when", "attempt", "crashes", "blamed", "delivery", "origin", "unknown_since", "started_at", "current", "total", "updated_at", "completed_at")
OTHERS = (
    "function",
    "trace",
    "token",
    "large",
    "worker",
    "message",
    "earlier",
    "history",
    "error",
    "note",
    "settled",
    "alone",
    "aside",
    "beside",
    "outcome",
    "asked",
    "report",
)
SUCCESSOR = ("next_generation", "next_function", "next_when", "next_payload", "next_large", "next_token", "next_trace")
contents = st.dictionaries(st.sampled_from(NUMBERS + OTHERS), small | anything, min_size=1, max_size=3) | st.dictionaries(st.sampled_from(NUMBERS + SUCCESSOR), small, min_size=1, max_size=4)  # fmt: skip
calls = pickles | damaged(pickles) | anything | st.builds(joined, st.sampled_from([b"\x80", b"\x01", b"\x01[[", b"\x02\x04json", b"\x03"]), anything)


class Scene:
    """This is a docket with a running worker, in an event loop that turns while something is awaited here."""

    def __init__(self, name: str, url: str, shards: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.docket = Docket(name, url, shards=shards)
        self.numbers = itertools.count()
        self.ran: list[str] = []
        self.stack = AsyncExitStack()
        self.loop.run_until_complete(self.begin())

    async def begin(self) -> None:
        docket = self.docket

        @docket.task
        async def task(*args: Any, **kwargs: Any) -> None: ...

        @docket.task
        async def healthy(key: str) -> str:
            self.ran.append(key)
            return key

        self.task, self.healthy = task, healthy
        await self.stack.enter_async_context(docket)
        self.worker = await self.stack.enter_async_context(Worker(docket, schedule_automatic_tasks=False))
        self.working = asyncio.create_task(self.worker.run_forever())

    def do(self, example: Awaitable[Any]) -> None:
        """This plays an example. Whatever it leaves is gone before the next one, and a worker that it stopped works again."""
        try:
            self.loop.run_until_complete(example)
        finally:
            self.loop.run_until_complete(self.forget())

    async def forget(self) -> None:
        if self.working.done():
            self.working = asyncio.create_task(self.worker.run_forever())
        await self.call("DEL", self.docket.store.keys.strikes, *(shard.keys.queue for shard in self.docket.store.shards))
        await self.docket.store.strikes.read()

    def close(self) -> None:
        async def leave() -> None:
            await self.stack.aclose()
            await asyncio.gather(self.working, return_exceptions=True)

        self.loop.run_until_complete(leave())
        self.loop.close()

    # What somebody does who may write to Redis

    async def call(self, *command: Any) -> Any:
        return await self.docket.store.backend.call(*command)

    async def publish(self, channel: str, message: bytes) -> None:
        if self.docket.store.is_memory:
            backend = cast("Any", self.docket.store.backend)
            backend._engine.publish([channel.encode(), message])
        else:
            await self.call("PUBLISH", channel, message)

    async def planted(self, changes: dict[str, bytes], *, payload: bytes | None = None, is_large: bool = False) -> str:
        """This puts a run on the road whose record was changed while it was scheduled, and gives its key."""
        key = f"bad-{next(self.numbers)}"
        keys = self.docket.store.shard_of(key).keys
        execution = await self.docket.add(self.task, when=LATER, key=key)("argument")
        if payload is not None and is_large:
            await self.call("SET", keys.payload(key), payload)
        elif payload is not None:
            await self.call("HSET", keys.run(key), "payload", payload)
        marks = {"large": b"1"} if is_large else {}
        await self.call("HSET", keys.run(key), *itertools.chain(*{**changes, **marks, "state": b"queued"}.items()))
        await self.call("ZREM", keys.queue, key)
        await self.call("XADD", keys.stream, "*", "key", key, "generation", execution.generation)
        return key

    def any_shard(self) -> Shard:
        """This is one shard after another, whatever is then put there."""
        shards = self.docket.store.shards
        return shards[next(self.numbers) % len(shards)]

    # What has to hold all the same

    async def goes_on(self, after: float | None = None) -> None:
        """This fails unless a task that comes behind it all runs."""
        key = f"good-{next(self.numbers)}"
        execution = await self.docket.add(self.healthy, when=None if after is None else timedelta(seconds=after), key=key)(key)
        result = asyncio.ensure_future(execution.get_result())
        await asyncio.wait([self.working, result], timeout=WITHIN, return_when=asyncio.FIRST_COMPLETED)
        if self.working.done():
            self.working.result()  # says what stopped it
        assert result.done(), "the worker lives, and does not run what stands behind"
        assert result.result() == key

    async def is_off_the_road(self) -> bool:
        """This says whether the stream is empty: whatever was on it has been run, refused, or handed back until later."""
        return not sum([await self.call("XLEN", shard.keys.stream) for shard in self.docket.store.shards])

    async def has_ended(self, key: str) -> bool:
        record = await self.docket.store.inspection.load(key)
        return record is not None and record.state in TERMINAL


@pytest.fixture(params=[1, 4], ids=["undivided", "divided"])
def scene(docket_name: str, url: str, request: pytest.FixtureRequest) -> Iterator[Scene]:
    scene = Scene(docket_name, url, request.param)
    yield scene
    scene.close()


@examples(40)
@given(payload=calls, is_large=st.booleans())
def test_arguments_of_any_bytes_are_run_with_or_their_run_fails_and_they_are_kept(scene: Scene, payload: bytes, is_large: bool):
    async def example() -> None:
        key = await scene.planted({}, payload=payload, is_large=is_large)

        await scene.goes_on()

        await eventually(lambda: scene.has_ended(key), within=5.0)
        record = await scene.docket.store.inspection.load(key)
        assert record is not None
        if record.state is ExecutionState.FAILED:
            [letter] = [letter async for letter in scene.docket.dead_letters() if letter.key == key]
            assert letter.payload_bytes == len(payload)
            await letter.discard()
        else:
            assert record.state is ExecutionState.COMPLETED

    scene.do(example())


@examples(60)
@given(contents)
def test_a_record_of_any_fields_keeps_nobody_from_working(scene: Scene, changes: dict[str, bytes]):
    async def example() -> None:
        await scene.planted(changes)

        await scene.goes_on()

        await eventually(scene.is_off_the_road, within=5.0)

    scene.do(example())


entries = st.dictionaries(
    st.sampled_from([b"key", b"generation", b"limit", b"x"]) | st.binary(max_size=3), small | st.just(b"elsewhere"), min_size=1, max_size=4
)


@examples(40)
@given(st.lists(entries, min_size=1, max_size=3))
def test_an_entry_of_any_fields_is_passed_over(scene: Scene, written: list[dict[bytes, bytes]]):
    async def example() -> None:
        for entry in written:
            await scene.call("XADD", scene.any_shard().keys.stream, "*", *itertools.chain(*entry.items()))

        await scene.goes_on()

        await eventually(scene.is_off_the_road, within=5.0)

    scene.do(example())


@examples(25)
@given(st.dictionaries(small | anything, st.floats(allow_nan=False) | st.sampled_from([-math.inf, math.inf, 0.0, 1e300]), min_size=1, max_size=3))
def test_whatever_stands_in_the_schedule_what_is_due_is_run(scene: Scene, members: dict[bytes, float]):
    async def example() -> None:
        for member, score in members.items():
            await scene.call("ZADD", scene.any_shard().keys.queue, repr(score), member)

        for shard in scene.docket.store.shards:
            await scene.publish(shard.keys.wake, b"0")

        await scene.goes_on(after=0.01)

    scene.do(example())


instructions = st.sampled_from([Strike("struck").field, Strike(None, "no_such_parameter", Operator.EQUAL, 5).field]) | nested | anything
written_strikes = instructions | damaged(instructions)


@examples(30)
@given(st.lists(written_strikes, max_size=4), small)
def test_whatever_stands_on_the_list_of_strikes_the_others_run(scene: Scene, struck: list[bytes], version: bytes):
    async def example() -> None:
        keys = scene.docket.store.keys
        for field in struck:
            await scene.call("HSET", keys.strikes, field, "1")
        await scene.call("HSET", keys.meta, "strikes", version)
        await scene.call("HSET", scene.any_shard().keys.meta, "strikes", version)

        await scene.goes_on()
        await scene.docket.strike("struck")
        await scene.goes_on()
        await scene.docket.restore("struck")

    scene.do(example())


netstrings = st.lists(small | written_strikes, max_size=6).map(packed)


@examples(40)
@given(st.lists(st.tuples(st.sampled_from(["wake", "cancel", "struck", "state:bad"]), netstrings | small | anything), min_size=1, max_size=4))
def test_whatever_is_published_workers_go_on(scene: Scene, messages: list[tuple[str, bytes]]):
    async def example() -> None:
        for channel, message in messages:
            await scene.publish(scene.docket.prefix + channel, message)

        await scene.goes_on()

    scene.do(example())
