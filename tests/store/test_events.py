"""What scripts publish, heard."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from docket._clock import SYSTEM
from docket._redis import subscriber as redis_subscriber
from docket._store import Store, inbox, inspection
from docket._store import events as module
from docket._store.events import Feed, Gap, Reading
from docket._store.inbox import Inbox
from docket._store.inspection import Inspection
from docket._store.records import Order, ProgressChange, RunRecord, StateChange
from docket.errors import NotEntered, RedisUnavailable, ServerError
from docket.states import ExecutionState
from tests._proxy import Proxy
from tests._shards import nth, together
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
    assert queued == StateChange("k", nth(store, 1), ExecutionState.QUEUED, claimed.when_us, None, None, None, None)
    assert running == StateChange("k", nth(store, 1), ExecutionState.RUNNING, claimed.when_us, "w", begun, None, None)
    assert reported == progress
    assert failed == StateChange("k", nth(store, 1), ExecutionState.FAILED, claimed.when_us, "w", begun, record.completed_us, "it broke,\n: ü")


async def test_a_replaced_run_ends_superseded(store: Store):
    await store.lifecycle.schedule(order(when_us=await soon(store)))

    async with store.events.feed("k") as feed:
        await store.lifecycle.schedule(order(replace=True))
        old, new = await next_event(feed), await next_event(feed)

    assert isinstance(old, StateChange)
    assert (old.generation, old.state, old.superseded) == (nth(store, 1), ExecutionState.CANCELLED, True)
    assert isinstance(new, StateChange)
    assert (new.generation, new.state, new.superseded) == (nth(store, 2), ExecutionState.QUEUED, False)


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
    later, a, b = together(store, "later", "a", "b")
    async with store.events.signals(on_wake=wakes.append, on_cancel=lambda key, generation, reason: cancels.append((key, generation, reason))):
        await store.lifecycle.schedule(order(later, when_us=when))
        await start(store, order(a))
        await start(store, order(b))
        await store.lifecycle.cancel(a)
        await store.lifecycle.schedule(order(b, replace=True))

        await eventually(lambda: len(cancels) == 2 and when in wakes)

    assert cancels == [(a, nth(store, 2), "cancelled"), (b, nth(store, 3), "replaced")]


async def test_signals_that_cannot_be_decoded_stop_nobody(store: Store, caplog: pytest.LogCaptureFixture):
    wakes: list[int | None] = []
    cancels: list[tuple[str, int, str]] = []
    signals = store.events.signals(on_wake=wakes.append, on_cancel=lambda key, generation, reason: cancels.append((key, generation, reason)))
    (_, wake), *_, (_, cancel) = signals._listeners  # pyright: ignore[reportPrivateUsage] - as the subscriber calls them

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
    await eventually(lambda: subscriber.listening == 1)  # to what is struck

    entering = [
        asyncio.create_task(store.events.feed("k").__aenter__()),
        asyncio.create_task(store.events.signals(on_wake=print, on_cancel=print).__aenter__()),
    ]
    await asyncio.sleep(0)
    assert subscriber.listening == 3
    for task in entering:
        task.cancel()
    await asyncio.wait(entering)

    assert subscriber.listening == 1


async def test_what_no_date_can_say_cannot_be_decoded(store: Store):
    async with store.events.feed("k") as feed:
        for when in (10**30, -(10**30)):
            feed.on_message(b"s 1 queued %d    1 0\nk" % when)
            assert await feed.get(0) is None
            feed.on_message(b"s 1 completed 1 1 %d  1 1\nkw" % when)
            assert await feed.get(0) is None
        feed.on_message(b"s 1 queued 1    1 0\nk")
        assert isinstance(await feed.get(0), StateChange)


async def test_a_successor_that_never_began_is_told_as_such(store: Store):
    claimed = await start(store)
    await store.lifecycle.schedule(Order("k", "send", b"args", within=claimed.run))
    async with store.events.feed("k") as feed:
        await store.lifecycle.settle(end(claimed, again="end", wide=True))
        dropped, completed = await next_event(feed), await next_event(feed)

    assert isinstance(dropped, StateChange)
    assert (dropped.generation, dropped.state, dropped.superseded, dropped.never_began) == (nth(store, 2), ExecutionState.CANCELLED, True, True)
    assert isinstance(completed, StateChange)
    assert (completed.generation, completed.superseded, completed.never_began) == (nth(store, 1), False, False)


async def test_whoever_waits_as_the_store_is_closed_learns_of_it(docket_name: str, url: str):
    store = await Store.open(docket_name, url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
    async with store.events.feed("k") as feed, store.events.stream() as stream:
        waiting = [asyncio.create_task(feed.get(None)), asyncio.create_task(stream.get())]
        await asyncio.sleep(0)
        await store.aclose()

        for waiter in waiting:
            with pytest.raises(NotEntered):
                await waiter


class TestTrack:
    """A track reads the record in its place among the events."""

    async def test_the_record_is_read_at_the_start(self, store: Store):
        async with store.events.track("k") as track:
            assert await track.get() == Reading(None, in_place=True)

        await store.lifecycle.schedule(order())
        async with store.events.track("k") as track:
            reading = await track.get()

        assert isinstance(reading, Reading)
        assert reading.in_place
        assert reading.record is not None
        assert reading.record.state is ExecutionState.QUEUED

    async def test_what_is_read_is_what_would_be_loaded(self, store: Store):
        claimed = await start(store, order(payload=b"args" * 100))
        await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, error="it broke" * 100, wide=True))
        async with store.events.track("k") as track:
            reading = await track.get()

        loaded = await store.inspection.load("k")
        assert isinstance(reading, Reading)
        assert loaded is not None
        assert reading.record == replace(loaded, payload=None)

    async def test_events_come_before_the_reading_that_they_are_older_than(self, store: Store):
        async with store.events.track("k") as track:
            await store.lifecycle.schedule(order(when_us=await soon(store)))
            first, second = await track.get(), await track.get()
            await store.lifecycle.cancel("k")
            third = await track.get()

        assert isinstance(first, StateChange)
        assert isinstance(second, Reading)
        assert second.record is not None
        assert first.state is second.record.state is ExecutionState.SCHEDULED
        assert isinstance(third, StateChange)

    async def test_after_a_while_of_quiet_the_record_is_read_again_in_its_place(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "REREAD_EVERY", 0.02)
        async with store.events.track("k") as track:
            readings = [await track.get() for _ in range(3)]

        assert readings == [Reading(None, in_place=True)] * 3

    @pytest.mark.parametrize("what", ["interruption", "garbage", "too much"])
    async def test_where_something_was_missed_the_record_is_read(self, store: Store, what: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(inbox, "ROOM", 1000)
        async with store.events.track("k") as track:
            assert await track.get() == Reading(None, in_place=True)
            if what == "interruption":
                track.on_interruption()
            elif what == "garbage":
                track.on_message(b"garbage")
            else:
                track.on_message(b"x" * 1000)

            assert await track.get() == Reading(None, in_place=True)

    async def test_a_mark_that_was_asked_for_before_something_was_missed_says_nothing(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        async with store.events.track("k") as track:
            look = Inspection.look

            async def look_and_miss(self: Inspection, key: str, channel: str, mark: int) -> RunRecord | None:
                if mark > 1:
                    return await look(self, key, channel, mark)
                track.on_interruption()  # behind it comes the mark
                found = await look(self, key, channel, mark)
                await store.lifecycle.schedule(order())
                return found

            monkeypatch.setattr(Inspection, "look", look_and_miss)
            change, reading = await track.get(), await track.get()

        assert isinstance(change, StateChange)
        assert isinstance(reading, Reading)
        assert reading.record is not None

    @pytest.mark.only_server("in memory messages always come through")
    async def test_while_messages_do_not_come_through_the_record_is_read_on_and_on(
        self, far_store: Store, proxy: Proxy, url_of_the_server: str, docket_name: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(module, "MARK_PATIENCE", 0.05)
        near = await Store.open(docket_name, url_of_the_server, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
        monkeypatch.setattr(far_store.events, "_inspection", near.inspection)  # commands come through
        async with far_store.events.track("k") as track:
            assert await track.get() == Reading(None, in_place=True)
            proxy.silent = True
            track.on_interruption()
            await near.lifecycle.schedule(order(when_us=await soon(near)))
            blind = await track.get()
            await near.lifecycle.cancel("k")
            blinder = await track.get()
            assert isinstance(blinder, Reading) and blinder.record is not None
            ended = StateChange("k", 1, ExecutionState.CANCELLED, 0, None, None, blinder.record.completed_us, None)
            proxy.silent = False
            seeing = await track.get()
            while not (isinstance(seeing, Reading) and seeing.in_place):  # of what comes late only an end is given: it may be news
                assert isinstance(seeing, Reading) or seeing == replace(ended, when_us=getattr(seeing, "when_us", 0))
                seeing = await track.get()

        for reading, state, in_place in ((blind, "scheduled", False), (blinder, "cancelled", False), (seeing, "cancelled", True)):
            assert isinstance(reading, Reading)
            assert reading.record is not None
            assert (reading.record.state.value, reading.in_place) == (state, in_place)
        await near.aclose()

    async def test_a_mark_that_stays_away_while_events_come_makes_no_old_record_news(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "MARK_PATIENCE", 0.5)
        marks = 0
        take = Inbox.mark

        def lose_the_first(self: Inbox, number: int) -> None:
            nonlocal marks
            marks += 1
            if marks > 1:
                take(self, number)

        monkeypatch.setattr(Inbox, "mark", lose_the_first)
        async with store.events.track("k") as track:
            getting = asyncio.create_task(track.get())
            await eventually(lambda: marks == 1)
            await store.lifecycle.schedule(order())
            change, reading = await getting, await track.get()

        assert isinstance(change, StateChange)
        assert isinstance(reading, Reading)
        assert reading.in_place
        assert reading.record is not None

    @pytest.mark.only_server("in memory no message is on its way")
    async def test_whoever_joins_others_is_given_nothing_that_was_on_its_way_before_but_an_end(
        self, far_store: Store, proxy: Proxy, url_of_the_server: str, docket_name: str, monkeypatch: pytest.MonkeyPatch
    ):
        near = await Store.open(docket_name, url_of_the_server, execution_ttl=timedelta(minutes=1), clock=SYSTEM)
        monkeypatch.setattr(far_store.events, "_inspection", near.inspection)  # commands come through
        subscriber = far_store.backend.subscriber
        await eventually(lambda: subscriber.listening == 1)  # to what is struck
        async with far_store.events.feed("k") as other:
            proxy.silent = True
            claimed = await start(near)
            track = far_store.events.track("k")
            entering = asyncio.create_task(track.__aenter__())
            await eventually(lambda: subscriber.listening == 3)
            proxy.silent = False
            await entering
            on_its_way = [await next_event(other) for _ in range(2)]
            reading = await track.get()
            await near.lifecycle.settle(end(claimed))
            ended = await track.get()
            await track.__aexit__()

            proxy.silent = True
            await near.lifecycle.schedule(order())
            await near.lifecycle.cancel("k")
            late = far_store.events.track("k")
            entering = asyncio.create_task(late.__aenter__())
            await eventually(lambda: subscriber.listening == 3)
            proxy.silent = False
            await entering
            cancelled, last = await late.get(), await late.get()
            await late.__aexit__()

        assert [each.state.value for each in on_its_way if isinstance(each, StateChange)] == ["queued", "running"]
        assert isinstance(reading, Reading)
        assert (reading.in_place, reading.record and reading.record.state) == (True, ExecutionState.RUNNING)
        assert isinstance(ended, StateChange)
        assert ended.state is ExecutionState.COMPLETED
        assert isinstance(cancelled, StateChange)
        assert cancelled.state is ExecutionState.CANCELLED
        assert isinstance(last, Reading)
        await near.aclose()

    @pytest.mark.only_server("in memory there are no outages")
    async def test_an_outage_is_waited_out(self, far_store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.DEBUG, "docket.redis")
        monkeypatch.setattr(inspection, "READ_PATIENCE", 0.05)
        await far_store.lifecycle.schedule(order())
        async with far_store.events.track("k") as track:
            await track.get()
            await proxy.stop()
            track.on_interruption()
            getting = asyncio.create_task(track.get())
            await eventually(lambda: caplog.text.count("A record cannot be read now") > 1)
            assert not getting.done()
            await proxy.start()
            reading = await getting

        assert isinstance(reading, Reading)
        assert reading.record is not None

    async def test_whoever_leaves_listens_to_nothing_any_more(self, store: Store):
        subscriber = store.backend.subscriber
        await eventually(lambda: subscriber.listening == 1)  # to what is struck
        async with store.events.feed("other"):
            before = subscriber.listening
            async with store.events.track("k") as track:
                await track.get()
                assert subscriber.listening == before + 2

            assert subscriber.listening == before


class TestStream:
    """A stream gives the events of all tasks."""

    async def test_the_events_of_all_tasks_come_in_order(self, store: Store):
        async with store.events.stream() as stream:
            claimed = await start(store, order("a"))
            await store.lifecycle.schedule(order("b", when_us=await soon(store)))
            await store.progress.update("a", claimed.run, add=1)
            await store.lifecycle.settle(end(claimed))
            found = [await stream.get() for _ in range(5)]

        told = [(each.key, each.state.value if isinstance(each, StateChange) else "progress") for each in found if not isinstance(each, Gap)]
        assert told == [("a", "queued"), ("a", "running"), ("b", "scheduled"), ("a", "progress"), ("a", "completed")]

    async def test_another_dockets_events_are_not_heard_whatever_its_name(self, url: str, docket_name: str):
        stores = [await Store.open(f"{docket_name}{end}", url, execution_ttl=timedelta(minutes=1), clock=SYSTEM) for end in ("*", "?", "[a]", "a", "", "\\*")]
        for own in stores:
            async with own.events.stream() as stream:
                for store in stores:
                    await store.lifecycle.schedule(order("k", replace=True))
                await own.lifecycle.schedule(order("last"))
                heard = [await stream.get()]
                while not (isinstance(heard[-1], StateChange) and heard[-1].key == "last"):
                    heard.append(await stream.get())
            assert 2 <= len(heard) <= 3  # the run that was replaced, the one in its place, and the last
        for store in stores:
            await store.lifecycle.cancel("k")
            await store.lifecycle.cancel("last")
            await store.aclose()

    async def test_garbage_leaves_a_gap_of_one(self, store: Store, caplog: pytest.LogCaptureFixture):
        async with store.events.stream() as stream:
            await store.backend.script("progress", [store.keys.run("k")], (store.keys.state(""), "k", "", "", 1, "", "", "", ""))
            stream.on_message(b"garbage")

            assert await stream.get() == Gap("undecodable", 1)

        assert "cannot be decoded" in caplog.text

    @pytest.mark.only_server("in memory no connection is lost")
    async def test_a_lost_connection_leaves_a_gap_and_then_events_come_again(self, far_store: Store, proxy: Proxy):
        async with far_store.events.stream() as stream:
            proxy.cut()
            assert await stream.get() == Gap("disconnected")

            await far_store.lifecycle.schedule(order())
            assert isinstance(await stream.get(), StateChange)

    @pytest.mark.only_server("in memory a subscription stands at once")
    async def test_a_subscription_that_does_not_come_to_stand_is_refused(self, far_store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(redis_subscriber, "RESPONSE_TIMEOUT", 0.05)
        proxy.silent = True

        with pytest.raises(RedisUnavailable, match="cannot be listened to"):
            async with far_store.events.stream():
                pytest.fail("never")
        proxy.silent = False

    async def test_one_that_may_stand_later_is_not_waited_for(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        subscriber = store.backend.subscriber
        await eventually(lambda: subscriber.listening == 1)  # to what is struck
        before = subscriber.listening
        add = type(subscriber).add

        async def stand_later(self: Any, channel: str, listener: Any, **how: bool) -> bool:
            await add(self, channel, listener, **how)
            return False

        monkeypatch.setattr(type(subscriber), "add", stand_later)

        with pytest.raises(RedisUnavailable):
            await store.events.stream().__aenter__()
        assert subscriber.listening == before

    async def test_one_that_is_refused_leaves_nothing_behind(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        subscriber = store.backend.subscriber
        await eventually(lambda: subscriber.listening == 1)  # to what is struck

        async def refuse(*_: Any, **__: Any) -> bool:
            raise ServerError("no permissions to access a channel")

        monkeypatch.setattr(type(subscriber), "add", refuse)

        with pytest.raises(ServerError, match="no permissions"):
            await store.events.stream().__aenter__()
        assert subscriber.listening == 1

    @pytest.mark.only_server("in memory one stands at once")
    async def test_one_that_is_given_up_before_it_stands_leaves_nothing_behind(self, far_store: Store, proxy: Proxy):
        subscriber = far_store.backend.subscriber
        await eventually(lambda: subscriber.listening == 1)  # to what is struck
        proxy.silent = True
        entering = asyncio.create_task(far_store.events.stream().__aenter__())
        await eventually(lambda: subscriber.listening > 1)

        entering.cancel()
        await asyncio.wait([entering])

        assert entering.cancelled()
        assert subscriber.listening == 1
        proxy.silent = False

    @pytest.mark.only_server("in memory no connection is lost")
    async def test_what_was_lost_before_is_no_gap(self, far_store: Store, proxy: Proxy):
        async with far_store.events.stream():
            await proxy.stop()
            await eventually(lambda: not far_store.backend.subscriber.connected)
            later = far_store.events.stream()
            entering = asyncio.create_task(later.__aenter__())
            await asyncio.sleep(0)
            await proxy.start()
            await entering
            await far_store.lifecycle.schedule(order())

            assert isinstance(await later.get(), StateChange)
            await later.__aexit__()
