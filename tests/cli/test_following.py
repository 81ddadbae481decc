"""What `docket watch` learns of a task, on both backends; how it is shown is `test_watch.py`'s business."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import Self

from docket import Docket, Perpetual, Progress, Retry, Worker
from docket._store.records import ProgressChange, RunRecord, StateChange
from docket.cli._following import Following, Run
from docket.errors import RedisUnavailable, ResultUnavailable
from docket.execution import ExecutionState
from tests._proxy import Proxy
from tests._waiting import eventually
from tests.cli._stage import HOUR, working


@dataclass
class Notes:
    """This audience writes down what it hears."""

    heard: list[str] = field(default_factory=list[str])
    runs: list[Run] = field(default_factory=list[Run])
    ticks: int = 0

    def waiting(self) -> None:
        if self.heard[-1:] != ["waiting"]:
            self.heard.append("waiting")

    def stands(self, run: Run, before: Run | None) -> None:
        self.heard.append(run.state.value)
        self.runs.append(run)

    def progressed(self, run: Run) -> None:
        assert run.progress is not None
        self.heard.append(f"{run.progress.current}/{run.progress.total}")

    def replaced(self, run: Run) -> None:
        self.heard.append("replaced")

    def goes_on(self, following: Run) -> None:
        self.heard.append(f"goes on: {following.state.value}")

    def away(self) -> None:
        self.heard.append("away")

    def back(self) -> None:
        self.heard.append("back")

    def tick(self) -> None:
        self.ticks += 1

    async def hear(self, *words: str) -> None:
        await eventually(lambda: all(word in self.heard for word in words))


Follow = Callable[..., "asyncio.Task[Run]"]


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
async def follow(notes: Notes) -> AsyncIterator[Follow]:
    """Follows a key in the background."""
    tasks: list[asyncio.Task[Run]] = []

    def start(docket: Docket, key: str, **options: Any) -> asyncio.Task[Run]:
        tasks.append(asyncio.create_task(Following(docket, key, notes, **options).to_the_end()))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_task_is_followed_from_where_it_stands_to_its_end(docket: Docket, notes: Notes, follow: Follow):
    async def work() -> None: ...

    await docket.add(work, key="k")()
    following = follow(docket, "k")
    await notes.hear("queued")

    async with working(docket):
        run = await following

    assert notes.heard == ["queued", "running", "completed"]
    assert run.function == "work"
    assert run.state is ExecutionState.COMPLETED
    assert run.worker == notes.runs[1].worker
    assert run.started_us is not None and run.completed_us is not None and run.completed_us >= run.started_us
    assert notes.ticks >= 3


async def test_an_end_that_happened_before_is_learnt_of(docket: Docket, worker: Worker, notes: Notes, follow: Follow):
    async def fails() -> None:
        raise ValueError("Ouch!")

    await docket.add(fails, key="k")()
    await worker.run_until_finished()

    run = await follow(docket, "k")

    assert notes.heard == ["failed"]
    assert run.error is not None and "Ouch!" in run.error


async def test_a_retry_is_told_with_its_attempt_and_the_error_before_it(docket: Docket, notes: Notes, follow: Follow):
    async def fails(retry: Retry = Retry(attempts=2)) -> None:
        raise ValueError("Ouch!")

    await docket.add(fails, key="k")()
    following = follow(docket, "k")
    await notes.hear("queued")

    async with working(docket):
        await following

    assert notes.heard == ["queued", "running", "queued", "running", "failed"]
    assert [run.attempt for run in notes.runs] == [1, 1, 2, 2, 2]
    assert notes.runs[2].error is not None and "Ouch!" in notes.runs[2].error


async def test_progress_is_told_and_begins_anew_with_each_attempt(docket: Docket, notes: Notes, follow: Follow):
    async def reports(progress: Progress = Progress(), retry: Retry = Retry(attempts=2)) -> None:
        await progress.set_total(2)
        await progress.increment()
        raise ValueError

    await docket.add(reports, key="k")()
    following = follow(docket, "k")
    await notes.hear("queued")

    async with working(docket):
        run = await following

    again = notes.heard.index("queued", 1)
    assert "1/2" in notes.heard[:again]
    assert "1/2" in notes.heard[again:]
    assert notes.runs[[run.attempt for run in notes.runs].index(2)].progress is None
    assert run.progress is not None and run.progress.current == 1


async def test_what_was_reported_before_is_there_from_the_start(docket: Docket, notes: Notes, follow: Follow):
    reported, go_on = asyncio.Event(), asyncio.Event()

    async def reports(progress: Progress = Progress()) -> None:
        await progress.set_total(7)
        reported.set()
        await go_on.wait()

    await docket.add(reports, key="k")()
    async with working(docket):
        await reported.wait()
        following = follow(docket, "k")
        await notes.hear("running")
        go_on.set()
        await following

    assert notes.runs[0].progress is not None and notes.runs[0].progress.total == 7


async def test_a_cancelled_task_ends(docket: Docket, notes: Notes, follow: Follow):
    await docket.add("trace", key="k", when=HOUR)("never")
    following = follow(docket, "k")
    await notes.hear("scheduled")

    await docket.cancel("k")

    assert (await following).state is ExecutionState.CANCELLED
    assert notes.heard == ["scheduled", "cancelled"]


async def test_a_replaced_task_is_followed_through_its_replacement(docket: Docket, notes: Notes, follow: Follow):
    await docket.add("trace", key="k", when=HOUR)("first")
    following = follow(docket, "k")
    await notes.hear("scheduled")

    await docket.replace("trace", timedelta(hours=2), "k")("second")
    await notes.hear("replaced")
    await docket.cancel("k")

    run = await following
    assert notes.heard == ["scheduled", "replaced", "scheduled", "cancelled"]
    assert run.generation > notes.runs[0].generation


async def perpetual(go_on: asyncio.Semaphore, docket: Docket) -> None:
    async def beat(perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=1))) -> None:
        await go_on.acquire()

    docket.register(beat)
    await docket.add(beat, key="k")()


async def test_of_a_chain_one_run_is_followed(docket: Docket, notes: Notes, follow: Follow):
    go_on = asyncio.Semaphore(0)
    await perpetual(go_on, docket)
    following = follow(docket, "k")
    await notes.hear("queued")

    async with working(docket):
        go_on.release()
        run = await following
        await docket.cancel("k")

    assert notes.heard[:3] == ["queued", "running", "completed"]
    assert notes.heard[3].startswith("goes on: ")
    assert run.generation == notes.runs[0].generation


async def test_onwards_the_whole_chain_is_followed(docket: Docket, notes: Notes, follow: Follow):
    go_on = asyncio.Semaphore(0)
    await perpetual(go_on, docket)
    following = follow(docket, "k", onwards=True)
    await notes.hear("queued")

    async with working(docket):
        go_on.release()
        go_on.release()
        await eventually(lambda: notes.heard.count("running") == 3)
        await docket.cancel("k")
        run = await following

    assert notes.heard.count("completed") == 2
    assert notes.heard[-1] == "cancelled"
    assert run.generation > notes.runs[0].generation
    assert not any(word.startswith("goes on") for word in notes.heard)


async def test_a_successor_that_is_dropped_is_not_the_end(docket: Docket, notes: Notes, follow: Follow):
    asked, dropped, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def asks() -> None:
        await docket.add(asks, key="k", when=HOUR)()
        asked.set()
        with suppress(asyncio.CancelledError):
            await dropped.wait()
        await go_on.wait()

    await docket.add(asks, key="k")()
    async with working(docket):
        await asked.wait()
        following = follow(docket, "k")
        await notes.hear("running")
        ticks = notes.ticks
        await docket.cancel("k")  # the successor ends, which is an event of a later run of the key
        await eventually(lambda: notes.ticks > ticks)
        assert notes.heard == ["running"]
        go_on.set()
        run = await following

    assert run.generation == notes.runs[0].generation
    assert notes.heard[-1] == run.state.value


async def test_without_a_task_there_is_nothing_to_follow(docket: Docket, follow: Follow):
    with pytest.raises(ResultUnavailable, match="There is no task 'k' on the docket"):
        await follow(docket, "k")


async def test_a_task_that_is_yet_to_come_is_waited_for(docket: Docket, notes: Notes, follow: Follow):
    following = follow(docket, "k", wait=True)
    await notes.hear("waiting")

    await docket.add("trace", key="k", when=HOUR)("later")
    await notes.hear("scheduled")
    await docket.cancel("k")

    assert (await following).function == "trace"
    assert notes.heard == ["waiting", "scheduled", "cancelled"]


class TestNothingIsKept:
    """With an `execution_ttl` of zero the events alone tell."""

    @pytest.fixture
    async def docket(self, docket_name: str, url: str) -> AsyncIterator[Docket]:
        async with Docket(name=docket_name, url=url, execution_ttl=timedelta(0)) as docket:
            yield docket

    async def test_the_end_is_learnt_of_from_its_event(self, docket: Docket, notes: Notes, follow: Follow):
        async def fails() -> None:
            raise ValueError("Ouch!")

        await docket.add(fails, key="k")()
        following = follow(docket, "k")
        await notes.hear("queued")

        async with working(docket):
            run = await following

        assert run.state is ExecutionState.FAILED
        assert run.error is not None and "Ouch!" in run.error

    async def test_a_task_that_comes_and_goes_is_seen(self, docket: Docket, notes: Notes, follow: Follow):
        async def work() -> None: ...

        async with working(docket):
            following = follow(docket, "k", wait=True)
            await notes.hear("waiting")
            await docket.add(work, key="k")()
            run = await following

        assert run.state is ExecutionState.COMPLETED
        assert notes.heard[-1] == "completed"

    async def test_a_chain_is_followed_onwards(self, docket: Docket, notes: Notes, follow: Follow):
        go_on = asyncio.Semaphore(0)
        await perpetual(go_on, docket)
        following = follow(docket, "k", onwards=True)
        await notes.hear("queued")

        async with working(docket):
            go_on.release()
            await eventually(lambda: notes.heard.count("running") == 2)
            await docket.cancel("k")
            await following

        assert notes.heard.count("completed") == 1
        assert notes.heard[-1] == "cancelled"


@pytest.mark.only_server("an engine in the process has no connection to lose")
class TestTheConnectionIsLost:
    @pytest.fixture
    async def far(self, docket: Docket, proxy: Proxy) -> AsyncIterator[Docket]:
        """The same docket, through the proxy."""
        async with Docket(name=docket.name, url=proxy.url) as far:
            yield far

    @staticmethod
    @asynccontextmanager
    async def outage(proxy: Proxy, notes: Notes) -> AsyncGenerator[None]:
        proxy.refuse = True
        proxy.cut()
        await notes.hear("away")
        yield
        proxy.refuse = False

    async def test_an_end_meanwhile_is_learnt_of(self, docket: Docket, far: Docket, proxy: Proxy, notes: Notes, follow: Follow):
        await docket.add("trace", key="k", when=HOUR)("never")
        following = follow(far, "k")
        await notes.hear("scheduled")

        async with self.outage(proxy, notes):
            await docket.cancel("k")

        assert (await following).state is ExecutionState.CANCELLED
        assert notes.heard == ["scheduled", "away", "back", "cancelled"]

    async def test_a_replacement_meanwhile_is_learnt_of(self, docket: Docket, far: Docket, proxy: Proxy, notes: Notes, follow: Follow):
        await docket.add("trace", key="k", when=HOUR)("first")
        following = follow(far, "k")
        await notes.hear("scheduled")

        async with self.outage(proxy, notes):
            await docket.replace("trace", HOUR, "k")("second")
        await notes.hear("replaced")
        await docket.cancel("k")

        await following
        assert notes.heard == ["scheduled", "away", "back", "replaced", "scheduled", "cancelled"]

    @pytest.mark.parametrize(("links", "ttl"), [(1, HOUR), (2, HOUR), (1, timedelta(0))], ids=["kept", "two links", "nothing kept"])
    async def test_the_end_of_a_link_meanwhile_is_learnt_of(
        self, links: int, ttl: timedelta, docket_name: str, url: str, far: Docket, proxy: Proxy, notes: Notes, follow: Follow
    ):
        go_on = asyncio.Semaphore(0)
        async with Docket(name=docket_name, url=url, execution_ttl=ttl) as docket:
            await perpetual(go_on, docket)
            following = follow(far, "k")
            await notes.hear("queued")

            async with working(docket):
                async with self.outage(proxy, notes):
                    for _ in range(links):
                        go_on.release()
                    load = docket.store.inspection.load
                    await eventually(lambda: is_later(load, notes.runs[0].generation + links - 1))
                run = await following
                await docket.cancel("k")

        assert run.state is ExecutionState.COMPLETED
        assert run.generation == notes.runs[0].generation
        assert notes.heard[:4] == ["queued", "away", "back", "completed"]

    async def test_a_record_that_went_meanwhile_is_told(self, docket: Docket, far: Docket, proxy: Proxy, notes: Notes, follow: Follow):
        await docket.add("trace", key="k", when=HOUR)("never")
        following = follow(far, "k")
        await notes.hear("scheduled")

        async with self.outage(proxy, notes), Docket(name=docket.name, url=docket.url, execution_ttl=timedelta(0)) as forgetful:
            await forgetful.cancel("k")

        with pytest.raises(ResultUnavailable, match=r"The record of 'k' is gone .*; it was last seen scheduled"):
            await following


async def test_a_connection_that_is_not_there_yet_is_waited_for(docket: Docket, notes: Notes, follow: Follow, monkeypatch: pytest.MonkeyPatch):
    await docket.add("trace", key="k", when=HOUR)("never")
    await docket.cancel("k")
    answers = iter([False, False, True, True])

    async def available(timeout: float) -> bool:
        return next(answers)

    monkeypatch.setattr(docket.store.backend, "available", available)

    await follow(docket, "k")

    assert notes.heard == ["away", "back", "cancelled"]


async def test_a_run_that_follows_and_goes_unseen_is_told(docket: Docket, notes: Notes, follow: Follow, monkeypatch: pytest.MonkeyPatch):
    await docket.add("trace", key="k", when=HOUR)("never")
    await docket.cancel("k")
    record = await docket.store.inspection.load("k")
    assert record is not None
    records = [record, replace(record, generation=record.generation + 1)]

    async def load(key: str) -> RunRecord | None:
        return records.pop(0) if records else None

    monkeypatch.setattr(docket.store.inspection, "load", load)

    with pytest.raises(ResultUnavailable, match="Another run has followed under 'k', and nothing is known of it"):
        await follow(docket, "k", onwards=True)


async def test_a_server_that_takes_no_calls_for_now_is_waited_for(docket: Docket, notes: Notes, follow: Follow, monkeypatch: pytest.MonkeyPatch):
    await docket.add("trace", key="k", when=HOUR)("never")
    await docket.cancel("k")
    load = docket.store.inspection.load
    refusals = iter(range(2))

    async def refuses_at_first(key: str) -> RunRecord | None:
        if next(refusals, None) is None:
            return await load(key)
        raise RedisUnavailable("loading")

    monkeypatch.setattr(docket.store.inspection, "load", refuses_at_first)

    await follow(docket, "k")

    assert notes.heard == ["away", "back", "cancelled"]


class Script:
    """This feed hands out what it was given, then waits for ever."""

    def __init__(self, *changes: StateChange | ProgressChange | None) -> None:
        self.changes = list(changes)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def get(self, timeout: float | None) -> StateChange | ProgressChange | None:
        if not self.changes:
            await asyncio.sleep(3600)
        return self.changes.pop(0)


def playing(script: Script) -> Callable[[str], Script]:
    def feed(key: str) -> Script:
        return script

    return feed


class TestNewsThatComeLate:
    """Events and the record come on two connections, so an event may be older than what was read."""

    @pytest.fixture
    async def record(self, docket: Docket) -> AsyncIterator[RunRecord]:
        await docket.add("trace", key="k", when=HOUR)("never")
        record = await docket.store.inspection.load("k")
        assert record is not None
        yield record
        await docket.cancel("k")

    def change(self, record: RunRecord, state: ExecutionState, generation: int = 0, *, superseded: bool = False) -> StateChange:
        return StateChange("k", record.generation + generation, state, record.when_us, None, None, None, None, superseded)

    async def test_of_another_run_they_change_nothing(self, docket: Docket, record: RunRecord, notes: Notes, follow: Follow, monkeypatch: pytest.MonkeyPatch):
        feed = Script(
            ProgressChange("k", record.generation - 1, 1, 2, None, None),
            self.change(record, ExecutionState.COMPLETED, -1),
            self.change(record, ExecutionState.SCHEDULED),
            self.change(record, ExecutionState.SCHEDULED, 1),  # which the record does not bear out
            self.change(record, ExecutionState.CANCELLED),
        )
        monkeypatch.setattr(docket.store.events, "feed", playing(feed))

        await follow(docket, "k")

        assert notes.heard == ["scheduled", "cancelled"]

    async def test_once_replaced_a_run_is_heard_of_no_more(
        self, docket: Docket, record: RunRecord, notes: Notes, follow: Follow, monkeypatch: pytest.MonkeyPatch
    ):
        feed = Script(
            self.change(record, ExecutionState.CANCELLED, superseded=True),
            self.change(record, ExecutionState.COMPLETED),
            self.change(record, ExecutionState.QUEUED, 1),
            self.change(record, ExecutionState.COMPLETED, 1),
        )
        monkeypatch.setattr(docket.store.events, "feed", playing(feed))

        run = await follow(docket, "k")

        assert notes.heard == ["scheduled", "replaced", "queued", "completed"]
        assert run.function is None  # the record is not this run's

    async def test_while_a_task_is_waited_for_the_end_of_a_replaced_one_is_none(
        self, docket: Docket, record: RunRecord, notes: Notes, follow: Follow, monkeypatch: pytest.MonkeyPatch
    ):
        async def load(key: str) -> None: ...

        monkeypatch.setattr(docket.store.inspection, "load", load)
        feed = Script(self.change(record, ExecutionState.CANCELLED, superseded=True), self.change(record, ExecutionState.CANCELLED, 1))
        monkeypatch.setattr(docket.store.events, "feed", playing(feed))

        await follow(docket, "k", wait=True)

        assert notes.heard == ["waiting", "cancelled"]

    async def test_progress_that_was_missed_is_told_before_the_end(
        self, docket: Docket, record: RunRecord, notes: Notes, follow: Follow, monkeypatch: pytest.MonkeyPatch
    ):
        running = replace(record, state=ExecutionState.RUNNING, started_us=1)
        records = [running, replace(running, state=ExecutionState.COMPLETED, completed_us=2, progress_current=2, progress_total=2, progress_us=2)]

        async def load(key: str) -> RunRecord:
            return records.pop(0) if len(records) > 1 else records[0]

        monkeypatch.setattr(docket.store.inspection, "load", load)
        monkeypatch.setattr(docket.store.events, "feed", playing(Script(None)))

        await follow(docket, "k")

        assert notes.heard == ["running", "2/2", "completed"]


async def is_later(load: Callable[[str], Any], generation: int) -> bool:
    record = await load("k")
    return record is not None and record.generation > generation
