"""Subscribers of one key: each transition once, in order, and an end for every run, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from docket import Docket, Execution, ExecutionState, Perpetual, Worker
from docket._events import ProgressEvent, StateEvent, state_event
from docket._redis import subscriber, wire
from docket._store import events as store_events
from docket._store import inspection
from docket._store.events import Reading
from docket._store.inbox import Inbox
from docket._store.records import Earlier, Outcome, ProgressChange, RunRecord, StateChange
from docket._watching import Watch
from docket.errors import RedisUnavailable, ResultUnavailable
from docket.states import TERMINAL, TRANSITIONS
from tests._followers import Follower, following
from tests._proxy import Proxy
from tests._servers import RedisServer
from tests._waiting import eventually

LATER = timedelta(hours=1)
SCHEDULED, QUEUED, RUNNING = ExecutionState.SCHEDULED, ExecutionState.QUEUED, ExecutionState.RUNNING
COMPLETED, FAILED, CANCELLED = ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED


class Away:
    """This is a docket whose subscriber has lost its connection, while others go on working."""

    def __init__(self, near: Docket, far: Docket, proxy: Proxy) -> None:
        self.near = near
        self.far = far
        self.proxy = proxy

    def can_hear(self) -> bool:
        """This says whether the connection is back, and the server has confirmed every subscription."""
        ear: Any = self.far.store.backend.subscriber
        return ear.connected and all(each.answered.is_set() for each in ear._channels.values())

    async def learns(self, work: Callable[[], Awaitable[object]], *, prepare: Callable[[Follower], Awaitable[object]] | None = None) -> Follower:
        """This has the work done while the subscriber of `k` is away, and gives what it was told, before and after."""
        execution = await self.far.get_execution("k")
        assert execution is not None
        async with following(execution.subscribe) as follower:
            if prepare is not None:
                await prepare(follower)
            before = len(follower.events)
            await self.proxy.stop()
            await eventually(lambda: not self.far.store.backend.subscriber.connected)
            await work()
            await self.proxy.start()
            await eventually(lambda: len(follower.events) > before or follower.error)
            await asyncio.sleep(0.05)  # for what should not come
        return follower


@pytest.fixture(params=[timedelta(minutes=15), timedelta(0)], ids=["kept", "nothing kept"])
async def away(request: pytest.FixtureRequest, docket_name: str, redis_server: RedisServer, proxy: Proxy) -> AsyncIterator[Away]:
    async with Docket(docket_name, redis_server.url, execution_ttl=request.param) as near, Docket(docket_name, proxy.url, execution_ttl=request.param) as far:
        yield Away(near, far, proxy)
        await near.cancel("k")


@pytest.mark.usefixtures("redis_server")
class TestWhatIsMissedWhileAway:
    """Whoever loses the connection learns of the end of the run it was told of, and then of what stands."""

    @pytest.mark.parametrize("error", [None, "bad luck", "bad luck " * 50], ids=["well", "in failure", "in a long failure"])
    async def test_an_end(self, away: Away, error: str | None):
        async def job() -> None:
            if error:
                raise RuntimeError(error)

        await away.near.add(job, when=LATER, key="k")()

        async def work() -> None:
            await away.near.replace(job, None, "k")()
            async with Worker(away.near) as worker:
                await worker.run_until_finished()

        follower = await away.learns(work)

        if away.near.execution_ttl:
            assert follower.states() == [SCHEDULED, CANCELLED, FAILED if error else COMPLETED]
            assert follower.last["error"] == (f"RuntimeError: {error}" if error else None)
            assert follower.last["completed_at"] is not None
            assert follower.events[0]["when"] != follower.last["when"]
        else:
            assert follower.states() == [SCHEDULED]
            assert isinstance(follower.error, ResultUnavailable)

    async def test_a_cancellation(self, away: Away):
        await away.near.add("job", when=LATER, key="k")()

        follower = await away.learns(lambda: away.near.cancel("k"))

        if away.near.execution_ttl:
            assert follower.states() == [SCHEDULED, CANCELLED]
            assert follower.last["completed_at"] is not None
        else:
            assert isinstance(follower.error, ResultUnavailable)

    async def test_a_replacement(self, away: Away):
        await away.near.add("job", when=LATER, key="k")()

        follower = await away.learns(away.near.replace("job", 2 * LATER, "k"))

        assert follower.states() == [SCHEDULED, CANCELLED, SCHEDULED]
        replaced, replacement = follower.events[-2:]
        assert (replaced["when"], replaced["error"]) == (follower.events[0]["when"], None)
        assert replaced["completed_at"] is not None
        assert replacement["when"] > replaced["when"]
        assert replacement["completed_at"] is None

    @pytest.mark.parametrize("links", [1, 3])
    async def test_the_end_of_a_link_of_a_chain(self, away: Away, links: int):
        async def job(perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=10))) -> None:
            if worked.append(None) or len(worked) == links:
                perpetual.after(LATER)

        worked: list[None] = []
        await away.near.add(job, when=LATER, key="k")()

        async def work() -> None:
            await (await found(away.near, "k")).promote()
            async with Worker(away.near) as worker:
                running = asyncio.create_task(worker.run_forever())
                await eventually(lambda: len(worked) == links)
                worker.stop()
                await running

        follower = await away.learns(work)

        # with nothing kept, the record remembers one run only; of those in between nothing is told in any case
        knows = away.near.execution_ttl or links == 1
        assert follower.states() == ([SCHEDULED, COMPLETED, SCHEDULED] if knows else [SCHEDULED, SCHEDULED])
        assert follower.error is None
        if links == 1:
            assert follower.events[-2]["completed_at"] is not None

    async def test_an_end_after_which_the_key_was_scheduled_again(self, away: Away):
        await away.near.add("job", when=LATER, key="k")()

        async def work() -> None:
            await away.near.cancel("k")
            await away.near.add("job", when=2 * LATER, key="k")()

        follower = await away.learns(work)

        kept = bool(away.near.execution_ttl)
        assert follower.states() == ([SCHEDULED, CANCELLED, SCHEDULED] if kept else [SCHEDULED, SCHEDULED])

    async def test_nothing_at_all(self, away: Away):
        await away.near.add("job", when=LATER, key="k")()

        async with following((await found(away.far, "k")).subscribe) as follower:
            for _ in range(3):
                away.proxy.cut()
                await eventually(lambda: not away.far.store.backend.subscriber.connected)
                await eventually(away.can_hear)
            await away.near.cancel("k")
            await follower.until(CANCELLED)

        assert follower.states() == [SCHEDULED, CANCELLED]

    async def test_progress(self, away: Away):
        stay = asyncio.Event()
        more = asyncio.Event()

        async def job() -> None:
            progress = (await found(away.near, "k")).progress
            await progress.set_total(10)
            await progress.increment(2)
            await more.wait()
            await progress.increment(5)
            await progress.set_message("most of it")
            stay.set()
            await asyncio.sleep(3600)

        await away.near.add(job, when=LATER, key="k")()
        async with Worker(away.near) as worker:
            running = asyncio.create_task(worker.run_forever())

            async def prepare(follower: Follower) -> None:
                await (await found(away.near, "k")).promote()
                await eventually(lambda: (2, 10, None) in follower.progress)

            async def work() -> None:
                more.set()
                await stay.wait()

            follower = await away.learns(work, prepare=prepare)
            worker.stop()
            await away.near.cancel("k")
            await running

        assert follower.progress[-1] == (7, 10, "most of it")


async def found(docket: Docket, key: str) -> Execution[Any]:
    execution = await docket.get_execution(key)
    assert execution is not None
    return execution


@pytest.mark.usefixtures("redis_server")
class TestAConnectionThatSaysNothing:
    @pytest.mark.parametrize("away", [timedelta(minutes=15)], indirect=True)
    async def test_one_over_which_messages_do_not_come(self, away: Away, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(store_events, "REREAD_EVERY", 0.05)
        monkeypatch.setattr(store_events, "MARK_PATIENCE", 0.05)
        await away.near.add("job", when=LATER, key="k")()
        async with following((await found(away.far, "k")).subscribe) as follower:
            monkeypatch.setattr(Inbox, "put", lost)
            monkeypatch.setattr(Inbox, "mark", lost)
            await away.near.cancel("k")
            await follower.until(CANCELLED)
            monkeypatch.undo()
            await away.near.add("job", when=LATER, key="k")()
            await follower.until(SCHEDULED)

        assert follower.states() == [SCHEDULED, CANCELLED, SCHEDULED]

    async def test_one_whose_other_side_has_vanished(self, away: Away, monkeypatch: pytest.MonkeyPatch):
        for module in (wire, subscriber):
            monkeypatch.setattr(module, "RESPONSE_TIMEOUT", 0.2)
        monkeypatch.setattr(subscriber, "PING_INTERVAL", 0.1)
        monkeypatch.setattr(inspection, "READ_PATIENCE", 0.2)
        monkeypatch.setattr(store_events, "REREAD_EVERY", 0.1)
        await away.near.add("job", when=LATER, key="k")()
        async with following((await found(away.far, "k")).subscribe) as follower:
            away.proxy.silent = True
            await away.near.cancel("k")
            await eventually(lambda: not away.far.store.backend.subscriber.connected)
            away.proxy.silent = False
            await eventually(lambda: follower.error or follower.states()[-1] is CANCELLED)

        if away.near.execution_ttl:
            assert follower.states() == [SCHEDULED, CANCELLED]
        else:  # the message may have come when the other side was there again
            assert isinstance(follower.error, ResultUnavailable) or follower.states() == [SCHEDULED, CANCELLED]

    async def test_a_message_that_gets_lost_is_learnt_of_from_the_record(self, docket: Docket, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(store_events, "REREAD_EVERY", 0.05)
        execution = await docket.add("job", when=LATER, key="k")()
        async with following(execution.subscribe) as follower, following(execution.progress.subscribe):
            monkeypatch.setattr(Inbox, "put", lost)
            await docket.cancel("k")
            await follower.until(CANCELLED)

        assert follower.states() == [SCHEDULED, CANCELLED]


async def test_however_many_follow_they_need_no_more_connections(redis_server: RedisServer, proxy: Proxy, docket_name: str):
    async with Docket(docket_name, proxy.url) as docket:
        execution = await docket.add("job", when=LATER, key="k")()
        async with following(docket.events), following(execution.subscribe):
            before = proxy.connections
            async with AsyncExitStack() as stack:
                followers = [await stack.enter_async_context(following(execution.subscribe)) for _ in range(20)]
                followers += [await stack.enter_async_context(following(docket.events)) for _ in range(20)]
                assert proxy.connections == before <= 2
                await docket.cancel("k")
                for follower in followers:
                    await follower.until(CANCELLED)

    assert proxy.accepted == before


def lost(inbox: Inbox, message: object) -> None:
    """This is what becomes of a message that does not arrive."""


def is_legal(before: ExecutionState, after: ExecutionState) -> bool:
    return after in TRANSITIONS[before] or (before in TERMINAL and after in (SCHEDULED, QUEUED))


async def test_whoever_joins_a_busy_key_is_told_of_nothing_twice_and_of_nothing_late(docket: Docket, worker: Worker):
    """Records and events come on different connections: without care an old event would seem new after a newer record."""

    @docket.task
    async def busy(perpetual: Perpetual = Perpetual()) -> None:
        await asyncio.sleep(0)

    execution = await busy.schedule(key="k")
    running = asyncio.create_task(worker.run_forever())
    followers: list[Follower] = []
    for _ in range(40):
        await asyncio.sleep(0.003)
        joining = await found(docket, "k")
        async with following(joining.subscribe) as follower:
            await eventually(lambda follower=follower: len(follower.states()) > 12)
        followers.append(follower)
    worker.stop()
    await docket.cancel("k")
    await running
    assert execution.key == "k"

    for follower in followers:
        states = follower.states()
        late = [(before, after) for before, after in pairwise(states[2:]) if not is_legal(before, after)]
        assert not late, states


async def test_what_happens_between_subscribing_and_reading_is_told_in_order(docket: Docket, worker: Worker, monkeypatch: pytest.MonkeyPatch):
    @docket.task
    async def job() -> None: ...

    look = inspection.Inspection.look
    looks = 0

    async def look_after_the_end(self: Any, key: str, channel: str, mark: int) -> RunRecord | None:
        nonlocal looks
        looks += 1
        if looks == 1:
            await worker.run_until_finished()
        return await look(self, key, channel, mark)

    execution = await job.schedule(key="k")
    monkeypatch.setattr(inspection.Inspection, "look", look_after_the_end)
    async with following(execution.subscribe) as follower:
        await follower.until(COMPLETED)
        await job.schedule(key="k", when=LATER)
        await follower.until(SCHEDULED)

    assert follower.states() == [QUEUED, RUNNING, COMPLETED, SCHEDULED]
    await docket.cancel("k")


# What is told, of what is heard and read


def change(generation: int, state: ExecutionState, *, never_began: bool = False, error: str | None = None) -> StateChange:
    began = 2_000_000 if state not in (SCHEDULED, QUEUED) else None
    ended = 3_000_000 if state in TERMINAL else None
    return StateChange("k", generation, state, 1_000_000, "w" if began else None, began, ended, error, superseded=never_began, never_began=never_began)


def record(generation: int, state: ExecutionState, *, earlier: Earlier | None = None, successor: int | None = None, error: str | None = None) -> RunRecord:
    heard = change(generation, state)
    return RunRecord(
        key="k",
        state=state,
        generation=generation,
        delivery=1,
        function="job",
        payload=None,
        when_us=heard.when_us,
        attempt=1,
        worker=heard.worker,
        started_us=heard.started_us,
        completed_us=heard.completed_us,
        error=error,
        outcome=None,
        trace=b"",
        crashes=0,
        progress_current=None if state in (SCHEDULED, QUEUED) else 0,
        progress_total=100,
        progress_message=None,
        progress_us=None,
        successor=successor,
        earlier=earlier,
    )


class Scene:
    """This is a watch that has told of one run."""

    def __init__(self, docket: Docket, generation: int, state: ExecutionState) -> None:
        self.docket = docket
        self.watch = Watch(docket, "k", generation, state_event(change(generation, state)), ProgressChange("k", generation, None, 100, None, None))

    async def told(self, item: StateChange | ProgressChange | Reading) -> list[StateEvent | ProgressEvent]:
        return await self.watch.take(item)

    async def states(self, item: StateChange | ProgressChange | Reading) -> list[ExecutionState]:
        return [event["state"] for event in await self.told(item) if event["type"] == "state"]


class TestWatch:
    async def test_what_was_told_is_not_told_again(self, docket: Docket):
        scene = Scene(docket, 1, QUEUED)

        assert await scene.told(change(1, QUEUED)) == []
        assert await scene.told(Reading(record(1, QUEUED), in_place=True)) == []
        assert await scene.told(change(1, QUEUED, error="of the last attempt")) == []
        assert await scene.states(change(1, RUNNING)) == [RUNNING]
        assert await scene.told(Reading(record(1, RUNNING, error="of the last attempt"), in_place=True)) == []
        assert await scene.states(change(1, QUEUED)) == [QUEUED]

    async def test_runs_before_the_one_that_is_followed_are_no_concern(self, docket: Docket):
        scene = Scene(docket, 2, SCHEDULED)

        assert await scene.told(change(1, RUNNING)) == []
        assert await scene.told(change(1, COMPLETED)) == []
        assert await scene.told(ProgressChange("k", 1, 5, 10, None, 1)) == []
        assert await scene.told(Reading(record(1, RUNNING, successor=2), in_place=True)) == []
        assert await scene.states(change(2, QUEUED)) == [QUEUED]

    async def test_one_that_never_began_is_told_of_to_its_own_subscribers_alone(self, docket: Docket):
        assert await Scene(docket, 1, RUNNING).told(change(2, CANCELLED, never_began=True)) == []
        assert await Scene(docket, 2, SCHEDULED).states(change(2, CANCELLED, never_began=True)) == [CANCELLED]

    async def test_one_that_is_not_asked_for_any_more_never_began(self, docket: Docket):
        scene = Scene(docket, 2, SCHEDULED)

        assert await scene.states(Reading(record(1, QUEUED), in_place=True)) == [CANCELLED]
        assert await scene.told(Reading(record(1, QUEUED), in_place=True)) == []

    async def test_an_end_that_was_missed_is_told_before_what_is_heard_of_the_next(self, docket: Docket, monkeypatch: pytest.MonkeyPatch):
        async def load(self: Any, key: str) -> RunRecord | None:
            return record(2, RUNNING, earlier=Earlier(1, COMPLETED, was_replaced=False, completed_us=4_000_000))

        monkeypatch.setattr(inspection.Inspection, "load", load)
        scene = Scene(docket, 1, RUNNING)

        missed, heard = [event for event in await scene.told(change(2, QUEUED)) if event["type"] == "state"]

        assert (missed["state"], missed["worker"], missed["completed_at"]) == (COMPLETED, "w", "1970-01-01T00:00:04+00:00")
        assert heard["state"] is QUEUED

    async def test_an_end_that_nothing_remembers_is_not_made_up(self, docket: Docket):
        scene = Scene(docket, 1, RUNNING)
        remembered = Earlier(5, FAILED, was_replaced=False, completed_us=4_000_000)

        assert await scene.states(Reading(record(6, QUEUED, earlier=remembered), in_place=True)) == [QUEUED]
        assert await Scene(docket, 1, RUNNING).states(change(6, QUEUED)) == [QUEUED]

    async def test_of_a_link_some_runs_ago_the_outcome_is_kept(self, docket: Docket, monkeypatch: pytest.MonkeyPatch):
        async def outcome(self: Any, key: str, generation: int) -> Outcome | None:
            return Outcome(FAILED, "RuntimeError: bad luck")

        monkeypatch.setattr(inspection.Inspection, "outcome", outcome)

        missed, _ = [event for event in await Scene(docket, 1, RUNNING).told(Reading(record(6, QUEUED), in_place=True)) if event["type"] == "state"]

        assert (missed["state"], missed["error"], missed["completed_at"]) == (FAILED, "RuntimeError: bad luck", None)

    async def test_a_run_that_is_gone_has_ended_and_only_what_is_in_place_says_so(self, docket: Docket):
        scene = Scene(docket, 1, RUNNING)

        assert await scene.told(Reading(None, in_place=False)) == []
        with pytest.raises(ResultUnavailable, match="0:15:00"):
            await scene.told(Reading(None, in_place=True))
        assert await Scene(docket, 1, COMPLETED).told(Reading(None, in_place=True)) == []
        assert await Scene(docket, 0, SCHEDULED).told(Reading(None, in_place=True)) == []

    async def test_an_outage_as_it_reads_up_is_waited_out(self, docket: Docket, monkeypatch: pytest.MonkeyPatch):
        tried = 0

        async def outcome(self: Any, key: str, generation: int) -> Outcome | None:
            nonlocal tried
            tried += 1
            if tried == 1:
                raise RedisUnavailable("away")
            return None

        monkeypatch.setattr(inspection.Inspection, "outcome", outcome)

        assert await Scene(docket, 1, RUNNING).states(Reading(record(2, QUEUED), in_place=True)) == [QUEUED]
        assert tried == 2

    async def test_progress_is_told_as_it_changes(self, docket: Docket):
        scene = Scene(docket, 1, RUNNING)
        report = ProgressChange("k", 1, 5, 10, "half", 7_000_000)

        assert await scene.told(ProgressChange("k", 1, None, 100, None, None)) == []
        assert [event["type"] for event in await scene.told(report)] == ["progress"]
        assert await scene.told(report) == []
        assert [event["type"] for event in await scene.told(change(1, COMPLETED))] == ["state"]
        assert [event["type"] for event in await scene.told(change(2, QUEUED))] == ["state", "progress"]
        assert [event["type"] for event in await scene.told(change(2, RUNNING))] == ["state"]
