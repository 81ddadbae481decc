"""What scripts publish, heard."""

from __future__ import annotations

import asyncio
import logging

import pytest

from docket._store import Store
from docket._store.events import Feed
from docket._store.records import ProgressChange, StateChange
from docket.states import ExecutionState
from tests._waiting import eventually
from tests.store._work import end, order, soon, start


async def next_event(feed: Feed) -> StateChange | ProgressChange:
    while (event := await feed.get(10)) is None:
        pass
    return event


async def test_a_feed_tells_the_whole_life_of_a_run(store: Store):
    async with store.events.feed("k") as feed:
        claimed = await start(store)
        progress = await store.progress.update("k", claimed.run, add=1, message="a note: 1,")
        await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, error="it broke,\n: ü"))

        queued, running, reported, failed = [await next_event(feed) for _ in range(4)]

    record = await store.inspection.load("k")
    assert record is not None
    begun = claimed.started_us
    assert queued == StateChange("k", 1, ExecutionState.QUEUED, claimed.when_us, None, None, None, None)
    assert running == StateChange("k", 1, ExecutionState.RUNNING, claimed.when_us, "w", begun, None, None)
    assert reported == progress
    assert failed == StateChange("k", 1, ExecutionState.FAILED, claimed.when_us, "w", begun, record.completed_us, "it broke,\n: ü")


async def test_a_replaced_run_ends_superseded(store: Store):
    await store.lifecycle.schedule(order(when_us=await soon(store)))

    async with store.events.feed("k") as feed:
        await store.lifecycle.schedule(order(replace=True))
        old, new = await next_event(feed), await next_event(feed)

    assert isinstance(old, StateChange)
    assert (old.generation, old.state, old.superseded) == (1, ExecutionState.CANCELLED, True)
    assert isinstance(new, StateChange)
    assert (new.generation, new.state, new.superseded) == (2, ExecutionState.QUEUED, False)


async def test_every_feed_of_a_key_hears_and_others_do_not(store: Store):
    async with store.events.feed("k") as first, store.events.feed("k") as second, store.events.feed("other") as other:
        await store.lifecycle.schedule(order())

        assert await next_event(first) == await next_event(second)
        assert await other.get(0) is None

        async with store.events.feed("k"):
            pass
        await store.lifecycle.cancel("k")
        assert await next_event(first) == await next_event(second)


async def test_a_feed_waits_as_long_as_it_is_told(store: Store):
    async with store.events.feed("k") as feed:
        while await feed.get(0.01) is not None:
            pass
        waiting = asyncio.create_task(feed.get(None))
        await asyncio.sleep(0)
        await store.lifecycle.schedule(order())

        assert isinstance(await waiting, StateChange)


async def test_what_cannot_be_decoded_counts_as_missed(store: Store, caplog: pytest.LogCaptureFixture):
    async with store.events.feed("k") as feed:
        for message in (b"garbage", b"s 1 nonsense 1 1 1  1 1\nkw", b"s 1 2\n", b"1:p,1:k,1:x,"):
            feed.on_message(message)

            with caplog.at_level(logging.WARNING, "docket.redis"):
                assert await feed.get(10) is None

    assert "cannot be decoded" in caplog.text


async def test_an_interruption_is_told(store: Store):
    async with store.events.feed("k") as feed:
        feed.on_interruption()

        assert await feed.get(10) is None


async def test_workers_hear_of_wakes_and_cancellations(store: Store):
    wakes: list[int | None] = []
    cancels: list[tuple[str, int, str]] = []
    when = await soon(store)
    async with store.events.signals(on_wake=wakes.append, on_cancel=lambda key, generation, reason: cancels.append((key, generation, reason))):
        await store.lifecycle.schedule(order("later", when_us=when))
        await start(store, order("a"))
        await start(store, order("b"))
        await store.lifecycle.cancel("a")
        await store.lifecycle.schedule(order("b", replace=True))

        await eventually(lambda: len(cancels) == 2 and when in wakes)

    assert cancels == [("a", 2, "cancelled"), ("b", 3, "replaced")]


async def test_signals_that_cannot_be_decoded_stop_nobody(store: Store, caplog: pytest.LogCaptureFixture):
    wakes: list[int | None] = []
    cancels: list[tuple[str, int, str]] = []
    signals = store.events.signals(on_wake=wakes.append, on_cancel=lambda key, generation, reason: cancels.append((key, generation, reason)))
    (_, wake), (_, cancel) = signals._listeners  # pyright: ignore[reportPrivateUsage] - as the subscriber calls them

    wake.on_message(b"whenever")
    wake.on_interruption()
    cancel.on_message(b"garbage")
    cancel.on_message(b"1:k,1:x,1:y,")
    cancel.on_interruption()

    assert wakes == [None, None]
    assert cancels == []
    assert caplog.text.count("A cancellation cannot be decoded") == 2


@pytest.mark.only_server("in memory a subscription stands at once")
async def test_who_is_cancelled_while_subscribing_leaves_nothing_behind(docket_name: str, store: Store):
    subscriber = store.backend.subscriber
    listening = getattr(subscriber, "_listeners")  # noqa: B009 - the server's own

    entering = [
        asyncio.create_task(store.events.feed("k").__aenter__()),
        asyncio.create_task(store.events.signals(on_wake=print, on_cancel=print).__aenter__()),
    ]
    await asyncio.sleep(0)
    assert len(listening) == 2
    for task in entering:
        task.cancel()
    await asyncio.wait(entering)

    assert listening == {}
