"""Looking at a docket: its executions, its numbers, its workers, and all of it at once."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

import pytest

from docket import ConcurrencyLimit, Docket, Execution, ExecutionState, Logged, RateLimit, Retry, Worker
from docket._listing import dumps_cursor
from docket._options import default_worker_name
from docket._store import listing
from docket.docket import CLEAR_BATCH, Counts, DocketSnapshot, RunningExecution, WorkerInfo
from docket.errors import InvalidOption, PayloadError
from tests._waiting import eventually

LATER = timedelta(hours=1)
LARGE = "x" * 500

pytestmark = pytest.mark.leaves_keys("work is scheduled here, and no worker runs all of it")


async def keys(docket: Docket, **wanted: Any) -> list[str]:
    return [execution.key async for execution in docket.executions(**wanted)]


async def by_pages(docket: Docket, size: int, **wanted: Any) -> list[str]:
    """This lists keys page by page, each page by an iterator of its own, as a web page would."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await docket.executions(**wanted).page(cursor, size)
        found += [execution.key for execution in page.executions]
        cursor = page.cursor
        if cursor is None:
            return found


class Crowd:
    """This is a docket with work in every state, and a worker that runs some of it until it is let go."""

    def __init__(self, docket: Docket) -> None:
        self.docket = docket
        self.let_go = asyncio.Event()
        self.began = asyncio.Event()

    async def fill(self) -> None:
        docket = self.docket

        @docket.task
        async def hold(customer: Annotated[int, Logged], secret: str = "") -> None:
            self.began.set()
            await self.let_go.wait()

        @docket.task
        async def one_at_a_time(limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> None:
            await self.let_go.wait()

        @docket.task
        async def once_an_hour(limit: RateLimit = RateLimit(1, per=LATER)) -> None: ...

        @docket.task
        async def fails(retry: Retry = Retry(attempts=2)) -> None:
            raise ValueError("it broke")

        await hold.schedule(1, secret="s", key="running")
        await self.began.wait()
        await one_at_a_time.schedule(key="holds")
        await once_an_hour.schedule(key="completed")
        for key in ("holds", "completed"):
            await eventually(lambda key=key: self.is_not(key, ExecutionState.QUEUED))
        await one_at_a_time.schedule(key="parked")
        await once_an_hour.schedule(key="aside")
        failed = await fails.schedule(key="failed")
        with pytest.raises(ValueError, match="it broke"):
            await failed.get_result()
        await eventually(self.is_limited)
        await hold.schedule(2, key="later", when=2 * LATER)
        await hold.schedule(3, key="soon", when=LATER / 2)
        await hold.schedule(4, key="cancelled", when=LATER)
        await docket.cancel("cancelled")
        await docket.add("elsewhere", key="unknown", when=3 * LATER)(1)

    async def is_not(self, key: str, state: ExecutionState) -> bool:
        found = await self.docket.get_execution(key)
        return found is not None and found.state is not state

    async def is_limited(self) -> bool:
        counts = await self.docket.counts()
        return (counts.waiting, counts.scheduled, counts.running) == (1, 1, 2)


@pytest.fixture
async def crowd(docket: Docket, running_worker: Worker) -> Any:
    crowd = Crowd(docket)
    await crowd.fill()
    yield crowd
    crowd.let_go.set()
    await docket.clear()


class TestListing:
    async def test_everything_is_listed_whatever_its_state(self, crowd: Crowd):
        expected = {"running", "holds", "completed", "parked", "aside", "failed", "later", "soon", "cancelled", "unknown"}

        assert set(await keys(crowd.docket)) == expected
        assert set(await by_pages(crowd.docket, 1)) == expected

    @pytest.mark.parametrize("size", [1, 2, 100])
    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            ("scheduled", ["soon", "later", "unknown"]),
            ("queued", ["parked", "aside"]),
            ("running", ["running", "holds"]),
            ("completed", ["completed"]),
            ("failed", ["failed"]),
            (ExecutionState.CANCELLED, ["cancelled"]),
        ],
    )
    async def test_one_state_is_listed_and_live_ones_in_order(self, crowd: Crowd, state: ExecutionState | str, expected: list[str], size: int):
        assert await keys(crowd.docket, state=state) == expected
        assert await by_pages(crowd.docket, size, state=state) == expected
        assert {execution.state async for execution in crowd.docket.executions(state=state)} == {ExecutionState(state)}

    async def test_one_task_is_listed_also_one_that_is_known_by_name_only(self, crowd: Crowd):
        assert set(await keys(crowd.docket, task="hold")) == {"running", "later", "soon", "cancelled"}
        assert await keys(crowd.docket, task="hold", state="scheduled") == ["soon", "later"]
        assert await keys(crowd.docket, task="elsewhere") == ["unknown"]
        assert await keys(crowd.docket, task="nothing") == []

    async def test_keys_that_begin_so_are_listed(self, crowd: Crowd):
        assert set(await keys(crowd.docket, key_prefix="c")) == {"completed", "cancelled"}
        assert await keys(crowd.docket, key_prefix="s", state="scheduled") == ["soon"]
        assert await keys(crowd.docket, key_prefix="*") == []

    async def test_what_is_listed_says_everything_that_is_known(self, crowd: Crowd):
        [running] = [execution async for execution in crowd.docket.executions(key_prefix="running")]
        [failed] = [execution async for execution in crowd.docket.executions(state="failed")]
        [unknown] = [execution async for execution in crowd.docket.executions(key_prefix="unknown")]

        assert (running.state, running.args, running.kwargs, running.worker) == (ExecutionState.RUNNING, (1,), {"secret": "s"}, default_worker_name())
        assert running.call_repr() == "hold(1, secret=...){running}"
        assert running.started_at is not None
        assert (failed.error, failed.attempt, failed.call_repr()) == ("ValueError: it broke", 2, "fails(){failed}")
        assert failed.completed_at is not None
        assert (unknown.function_name, unknown.args, unknown.call_repr()) == ("elsewhere", (1,), "elsewhere(...){unknown}")

    async def test_a_limit_is_kept_to(self, crowd: Crowd):
        assert await keys(crowd.docket, state="scheduled", limit=2) == ["soon", "later"]
        assert len(await keys(crowd.docket, limit=3)) == 3
        assert len(await keys(crowd.docket, limit=100)) == 10


class TestPages:
    async def test_thousands_are_listed_in_pages_of_at_most_the_size_that_was_asked_for(self, docket: Docket):
        await docket.add_many([docket.call("task", key=f"{number:04}", when=LATER + timedelta(seconds=number))() for number in range(2500)])

        listing = docket.executions(state="scheduled")
        first = await listing.page(size=1000)
        second = await listing.page(first.cursor, size=1000)

        assert [execution.key for execution in [*first.executions, *second.executions]] == [f"{number:04}" for number in range(2000)]
        assert await keys(docket, state="scheduled") == [f"{number:04}" for number in range(2500)]
        assert sorted(set(await keys(docket))) == [f"{number:04}" for number in range(2500)]
        assert await keys(docket, state="scheduled", limit=1500) == [f"{number:04}" for number in range(1500)]

    @pytest.mark.parametrize("state", [None, "scheduled"])
    async def test_a_filter_that_matches_nothing_gives_empty_pages_that_are_not_the_last(self, docket: Docket, state: str | None):
        await docket.add_many([docket.call("task", key=f"{number:04}", when=LATER)() for number in range(1000)])

        page = await docket.executions(task="nothing", state=state).page(size=10)

        assert page.executions == []
        # How much a server looks at for one SCAN is its own affair: while it enlarges its table, that may be everything
        assert page.cursor is not None or (state is None and not docket.store.is_memory)
        assert await keys(docket, task="nothing", state=state) == []

    async def test_a_listing_of_nothing_is_one_empty_page(self, docket: Docket):
        for state in (None, *ExecutionState):
            page = await docket.executions(state=state).page()
            assert page.executions == []
            assert await keys(docket, state=state) == []

    @pytest.mark.parametrize(
        "place", [["schedule", [1, "\ud800"]], ["schedule", [1.0, "k"]], ["schedule", ["1", "k"]], ["schedule", [1]], ["stream", ["k"]], [1, None]]
    )
    async def test_what_a_listing_cannot_have_given_is_refused_whatever_it_is(self, docket: Docket, place: Any):
        for state in ("scheduled", "queued"):
            with pytest.raises(InvalidOption, match="is no cursor"):
                await docket.executions(state=state).page(dumps_cursor([place]))

    async def test_what_is_nested_without_end_is_refused(self, docket: Docket):
        with pytest.raises(InvalidOption, match="is no cursor"):
            await docket.executions().page(base64.urlsafe_b64encode(b"[" * 100_000).decode())

    @pytest.mark.parametrize("entry", ["9999999999999999999-9999999999999999999", "0-0"])
    async def test_a_cursor_behind_everything_or_before_it_is_one(self, docket: Docket, entry: str):
        await docket.add("elsewhere", key="k")()

        page = await docket.executions(state="queued").page(dumps_cursor([("stream", [entry])]))

        assert [execution.key for execution in page.executions] == (["k"] if entry == "0-0" else [])
        assert page.cursor is None

    @pytest.mark.parametrize("cursor", ["", "?", "nonsense", "e30", "W10", "W1sicXVldWUiLG51bGxdXQ", "W1sic2NoZWR1bGUiLFsxXV1d", "W251bGwsbnVsbF0", "MQ"])
    async def test_what_is_no_cursor_is_refused(self, docket: Docket, cursor: str):
        with pytest.raises(InvalidOption, match="is no cursor of this listing; pass what the page before gave"):
            await docket.executions(state="scheduled").page(cursor)
        with pytest.raises(InvalidOption, match="is no cursor"):
            await docket.snapshot(after=cursor)

    async def test_a_cursor_of_another_listing_is_refused(self, docket: Docket):
        await docket.add_many([docket.call("task", key=f"k{number}", when=LATER)() for number in range(5)])
        await docket.add_many([docket.call("task", key=f"q{number}")() for number in range(5)])
        scheduled = (await docket.executions(state="scheduled").page(size=1)).cursor
        queued = (await docket.executions(state="queued").page(size=1)).cursor

        for cursor, state in ((scheduled, None), (scheduled, "running"), (queued, "scheduled"), (queued, "failed")):
            with pytest.raises(InvalidOption):
                await docket.executions(state=state).page(cursor)

    @pytest.mark.only_server("on memory a cursor of a scan names a key")
    async def test_a_cursor_of_a_scan_that_a_server_cannot_have_given_is_refused(self, docket: Docket):
        for place in (">k", "-1", "1" * 20, "9" * 30):
            with pytest.raises(InvalidOption, match="no cursor of this server") if place != "1" * 20 else nullcontext():
                await docket.executions().page(dumps_cursor([("scan", [place])]))

    @pytest.mark.parametrize("size", [0, -1, 1001, True, "10"])
    async def test_a_size_that_is_none_is_refused(self, docket: Docket, size: Any):
        with pytest.raises(InvalidOption, match=r"size is .*; give a whole number of at least 1 and at most 1000"):
            await docket.executions().page(size=size)

    async def test_other_options_that_are_none_are_refused(self, docket: Docket):
        with pytest.raises(InvalidOption, match="limit is 0; give a whole number of at least 1"):
            docket.executions(limit=0)
        with pytest.raises(InvalidOption, match="limit is 0"):
            await docket.snapshot(limit=0)
        with pytest.raises(InvalidOption, match="state is 'asleep'; give one of scheduled, queued, running, completed, failed, cancelled"):
            docket.executions(state="asleep")


decoded: list[str] = []


def decode(text: str) -> str:
    decoded.append(text)
    return text


class Loud:
    """This says when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return decode, ("loud",)


class Broken:
    """This cannot be unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return int, ("no number",)


class TestArguments:
    async def test_they_are_decoded_when_somebody_asks_for_them_and_no_earlier(self, docket: Docket):
        await docket.add("elsewhere", key="k", when=LATER)(Loud(), LARGE)
        decoded.clear()

        listed = [execution async for execution in docket.executions()] + list((await docket.snapshot()).future)
        found = await docket.get_execution("k")
        assert found is not None
        for execution in [*listed, found]:
            assert execution.call_repr() == "elsewhere(...){k}"
            await execution.sync()
        assert decoded == []

        assert [execution.args for execution in [*listed, found]] == [("loud", LARGE)] * 3
        assert [execution.kwargs for execution in [*listed, found]] == [{}] * 3
        assert decoded == ["loud"] * 3

    async def test_those_that_cannot_be_decoded_stop_nothing(self, docket: Docket):
        @docket.task
        async def task(value: Annotated[Any, Logged]) -> None: ...

        await task.schedule(Broken(), key="k", when=LATER)

        [listed] = (await docket.snapshot()).future
        found = await docket.get_execution("k")

        assert found is not None
        for execution in (listed, found):
            assert execution.call_repr() == "task(...){k}"
            for _ in range(2):
                with pytest.raises(PayloadError, match="cannot be decoded"):
                    execution.args  # noqa: B018 - asking is what is tested
            with pytest.raises(PayloadError):
                execution.kwargs  # noqa: B018 - as above
            with pytest.raises(PayloadError):
                execution.get_argument("value")

    async def test_those_that_are_too_large_for_a_listing_are_read_one_by_one(self, docket: Docket, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(listing, "PAYLOAD_BYTES", 1000)
        await docket.add("elsewhere", key="k", when=LATER)("x" * 1001)

        [listed] = (await docket.snapshot()).future
        found = await docket.get_execution("k")

        with pytest.raises(PayloadError, match=r"too large for a listing; read them with docket.get_execution\('k'\)"):
            listed.args  # noqa: B018 - asking is what is tested
        assert found is not None
        assert len(found.args[0]) == 1001


class TestSnapshot:
    async def test_it_tells_what_is_to_come_what_runs_and_who_works(self, crowd: Crowd):
        before = datetime.now(timezone.utc)
        snapshot = await crowd.docket.snapshot()

        assert isinstance(snapshot, DocketSnapshot)
        assert [execution.key for execution in snapshot.future] == ["parked", "soon", "aside", "later", "unknown"]
        assert [execution.key for execution in snapshot.running] == ["running", "holds"]
        assert all(isinstance(execution, RunningExecution) for execution in snapshot.running)
        [first, _] = snapshot.running
        assert (first.worker, first.started, first.args) == (default_worker_name(), first.started_at, (1,))
        assert snapshot.total_tasks == 7
        assert [worker.name for worker in snapshot.workers] == [default_worker_name()]
        assert snapshot.next is None
        assert abs(snapshot.taken - before) < LATER

    async def test_a_large_one_comes_in_pages_and_counts_everything_on_each(self, crowd: Crowd):
        future: list[str] = []
        running: list[str] = []
        after: str | None = None
        while True:
            snapshot = await crowd.docket.snapshot(limit=1, after=after)
            assert (len(snapshot.future) <= 1, len(snapshot.running) <= 1, snapshot.total_tasks) == (True, True, 7)
            future += [execution.key for execution in snapshot.future]
            running += [execution.key for execution in snapshot.running]
            if snapshot.next is None:
                break
            after = snapshot.next

        assert future == ["parked", "soon", "aside", "later", "unknown"]
        assert running == ["running", "holds"]

    async def test_of_an_empty_docket_it_is_empty(self, docket: Docket):
        snapshot = await docket.snapshot()

        assert (snapshot.total_tasks, snapshot.future, snapshot.running, list(snapshot.workers), snapshot.next) == (0, [], [], [], None)

    async def test_more_than_a_thousand_come_on_one_page_where_that_is_asked_for(self, docket: Docket):
        await docket.add_many([docket.call("task", key=f"{number:04}", when=LATER)() for number in range(1200)])

        small, large = await docket.snapshot(), await docket.snapshot(limit=5000)

        assert (len(small.future), small.total_tasks, small.next is None) == (1000, 1200, False)
        assert (len(large.future), large.total_tasks, large.next) == (1200, 1200, None)

    async def test_what_begins_while_it_is_taken_has_begun(self, docket: Docket, worker: Worker, monkeypatch: pytest.MonkeyPatch):
        let_go = asyncio.Event()

        @docket.task
        async def task() -> None:
            await let_go.wait()

        await task.schedule(key="k")
        listing = docket.store.listing
        entries, running = listing.entries, asyncio.Event()

        async def entries_then_a_claim(*args: Any) -> Any:
            found = await entries(*args)
            if not running.is_set():
                running.set()
                job.append(asyncio.create_task(worker.run_until_finished()))
            return found

        async def claimed(*args: Any, **options: Any) -> Any:
            await eventually(is_running)
            return await workers(*args, **options)

        async def is_running() -> bool:
            found = await docket.get_execution("k")
            return found is not None and found.state is ExecutionState.RUNNING

        job: list[asyncio.Task[None]] = []
        workers = docket.store.workers.live
        monkeypatch.setattr(listing, "entries", entries_then_a_claim)
        monkeypatch.setattr(docket.store.workers, "live", claimed)

        snapshot = await docket.snapshot()

        assert ([execution.key for execution in snapshot.future], [execution.key for execution in snapshot.running]) == ([], ["k"])
        let_go.set()
        await job[0]


class TestCounting:
    async def test_where_work_stands_and_how_it_ended(self, crowd: Crowd):
        await crowd.docket.add("elsewhere", key="stranger")()
        await eventually(self.is_handed_back(crowd.docket))

        assert await crowd.docket.counts() == Counts(scheduled=5, queued=0, running=2, waiting=1, completed=1, failed=1, cancelled=1, retried=1, dead_letters=1)

    def is_handed_back(self, docket: Docket) -> Callable[[], Any]:
        async def holds() -> bool:
            return (await docket.counts()).scheduled == 5

        return holds

    async def test_totals_outlive_the_records(self, docket_name: str, url: str):
        async with Docket(docket_name, url, execution_ttl=timedelta(0)) as docket, Worker(docket) as worker:

            @docket.task
            async def task() -> None: ...

            for _ in range(5):
                await task.schedule()
            await worker.run_until_finished()

            assert await keys(docket) == []
            assert (await docket.counts()).completed == 5


class TestWorkers:
    async def test_who_is_alive_is_listed_with_what_it_can_run(self, docket: Docket):
        @docket.task
        async def task() -> None: ...

        async with Worker(docket, name="one") as one, Worker(docket, name="two") as two:
            running = [asyncio.create_task(worker.run_forever()) for worker in (one, two)]
            await eventually(self.there_are(docket, 2))

            workers = await docket.workers()

            assert sorted(worker.name for worker in workers) == ["one", "two"]
            for worker in workers:
                assert isinstance(worker, WorkerInfo)
                assert worker.tasks == {"task", "trace", "fail", "sleep"}
                assert abs(worker.last_seen - datetime.now(timezone.utc)) < LATER
            assert len(await docket.task_workers("task")) == 2
            assert await docket.task_workers("elsewhere") == []

            one.stop()
            await running[0]
            assert [worker.name for worker in await docket.workers()] == ["two"]
            two.stop()
            await running[1]

    def there_are(self, docket: Docket, count: int) -> Callable[[], Any]:
        async def holds() -> bool:
            return len(await docket.workers()) == count

        return holds

    async def test_one_that_was_silent_for_too_long_is_not_listed(self, docket: Docket, running_worker: Worker):
        await eventually(self.there_are(docket, 1))
        [found] = await docket.workers()
        silence = docket.heartbeat_interval * docket.missed_heartbeats

        docket.heartbeat_interval = timedelta(microseconds=1)

        assert silence > timedelta(seconds=1)
        assert await docket.workers() == []
        assert found.name == running_worker.name


def test_a_batch_of_clearing_is_as_large_as_any():
    assert CLEAR_BATCH == 200


async def test_an_execution_that_was_made_here_knows_its_arguments_also_as_one_that_runs(docket: Docket):
    started = datetime.now(timezone.utc)
    execution: Execution = Execution(docket, print, (1,), {"end": ""}, "k", None, 1)
    running = RunningExecution(execution, "worker", started)

    for each in (execution, running):
        assert (each.args, each.kwargs, each.key) == ((1,), {"end": ""}, "k")
    assert (running.worker, running.started) == ("worker", started)
