"""`Progress`: counted at once, written now and then, and whole in the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Generator
from itertools import pairwise
from typing import Annotated, Any

import pytest

from docket import CurrentExecution, Depends, Docket, Execution, ExecutionProgress, ExecutionState, Progress, Retry, Worker
from docket._store.progress import ProgressStore
from docket.dependencies import Shared
from docket.dependencies._progress import Reported
from docket.errors import DependencyFailed, RedisUnavailable, ServerError
from tests._waiting import eventually


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each write of progress began."""
    begun: list[float] = []
    update = ProgressStore.update

    async def counted(self: ProgressStore, *args: Any, **kwargs: Any) -> Any:
        begun.append(time.monotonic())
        return await update(self, *args, **kwargs)

    monkeypatch.setattr(ProgressStore, "update", counted)
    return begun


async def told(docket: Docket, key: str) -> tuple[int | None, int, str | None]:
    progress = await ExecutionProgress.create(docket, key)
    return progress.current, progress.total, progress.message


async def test_many_reports_make_few_writes_and_the_last_one_lands(docket: Docket, worker: Worker, writes: list[float]):
    @docket.task
    async def count(progress: ExecutionProgress = Progress()) -> float:
        await progress.set_total(20_000)
        began = time.monotonic()
        for _ in range(20_000):
            await progress.increment()
        await progress.set_message("counted")
        return time.monotonic() - began

    execution = await count.schedule(key="k")
    await worker.run_until_finished()

    took = await execution.get_result()
    assert await told(docket, "k") == (20_000, 20_000, "counted")
    assert 1 <= len(writes) <= took / 0.05 + 3
    apart = [later - earlier for earlier, later in pairwise(writes[:-1])]
    assert all(seconds >= 0.045 for seconds in apart)  # the one at the end comes at once


async def test_a_body_knows_at_once_what_it_reported(docket: Docket, worker: Worker, writes: list[float]):
    @docket.task
    async def work(progress: Progress = Progress(), execution: Execution = CurrentExecution()) -> list[Any]:
        begun = (progress.current, progress.total, progress.message, progress.updated_at)
        await progress.set_total(7)
        await progress.increment(2)
        await progress.set_message("on it")
        await execution.progress.increment()
        await eventually(lambda: progress.updated_at)
        return [begun, (progress.current, progress.total, progress.message), execution.progress is progress, repr(progress), progress.key]

    execution = await work.schedule(key="k")
    await worker.run_until_finished()

    assert await execution.get_result() == [(0, 100, None, None), (3, 7, "on it"), True, "Progress()", "k"]
    assert await told(docket, "k") == (3, 7, "on it")


async def test_subscribers_see_it_while_the_body_goes_on(docket: Docket):
    seen = asyncio.Event()

    @docket.task
    async def work(progress: Progress = Progress()) -> None:
        await progress.set_total(3)
        await progress.increment()
        await progress.set_message("one of three")
        await seen.wait()
        await progress.increment(2)

    async with Worker(docket) as worker:
        execution = await work.schedule(key="k")
        running = asyncio.create_task(worker.run_until_finished())
        async for event in execution.progress.subscribe():
            if (event["current"], event["total"], event["message"]) == (1, 3, "one of three"):
                seen.set()
            if event["current"] == 3:
                break
        await running


async def test_a_body_that_only_reports_lets_others_run(docket: Docket):
    @docket.task
    async def count(progress: Progress = Progress()) -> int:
        passed = 0
        while others < 3:
            await progress.increment()
            passed += 1
        return passed

    others = 0

    @docket.task
    async def other() -> None:
        nonlocal others
        others += 1

    async with Worker(docket) as worker:
        await count.schedule()
        await docket.add_many(other.call() for _ in range(3))
        await asyncio.wait_for(worker.run_until_finished(), 20)

    assert others == 3


async def test_any_thread_may_report(docket: Docket, worker: Worker):
    @docket.task
    def work(progress: Progress = Progress()) -> int | None:
        def count() -> None:
            for _ in range(1000):
                progress.increment()

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return progress.current

    execution = await work.schedule(key="k")
    await worker.run_until_finished()

    assert await execution.get_result() == 4000
    assert (await told(docket, "k"))[0] == 4000


async def test_reports_need_not_be_awaited_and_may_be_run_as_tasks(docket: Docket, worker: Worker):
    @docket.task
    async def work(progress: Progress = Progress()) -> None:
        progress.increment()
        await asyncio.gather(*(progress.increment() for _ in range(3)))
        await asyncio.create_task(progress.increment())

    await work.schedule(key="k")
    await worker.run_until_finished()

    assert (await told(docket, "k"))[0] == 5


async def test_a_report_is_a_coroutine_that_has_ended_already():
    reported = Reported()

    with pytest.raises(StopIteration):
        reported.send(None)
    with pytest.raises(KeyError):
        reported.throw(KeyError())
    reported.close()
    await reported
    await reported


async def test_what_is_no_progress_is_refused(docket: Docket, worker: Worker):
    @docket.task
    async def work(progress: Progress = Progress()) -> None:
        with pytest.raises(ValueError, match="Total must be at least 1"):
            await progress.set_total(0)
        with pytest.raises(ValueError, match="Amount must be at least 1"):
            await progress.increment(0)

    execution = await work.schedule(key="k")
    await worker.run_until_finished()

    assert await execution.get_result() is None
    assert await told(docket, "k") == (0, 100, None)


async def test_every_form_of_asking_gives_the_one_progress_of_the_run(docket: Docket, worker: Worker):
    async def nested(progress: ExecutionProgress = Depends(Progress)) -> AsyncGenerator[ExecutionProgress, None]:
        yield progress
        await progress.increment(10)

    execution = await docket.task(ask).schedule(key="k")
    with docket.override(nothing, nested):
        await worker.run_until_finished()

    assert await execution.get_result() is True
    assert (await told(docket, "k"))[0] == 11


async def nothing() -> ExecutionProgress | None:
    return None


async def ask(
    annotated: Annotated[ExecutionProgress, Progress()],
    nested: Annotated[ExecutionProgress, Depends(nothing)],
    direct: Progress = Progress(),
    depends: Progress = Depends(Progress),
) -> bool:
    await annotated.increment()
    return annotated is nested is direct is depends


async def test_it_may_come_with_what_an_override_brought(docket: Docket, worker: Worker):
    def reporting(progress: Progress = Progress()) -> Generator[str, None, None]:
        progress.increment(2)
        yield "reporting"
        progress.increment(3)

    @docket.task
    async def work(how: ExecutionProgress | str | None = Depends(nothing)) -> None: ...

    execution = await work.schedule(key="k")
    with docket.override(nothing, reporting):
        await worker.run_until_finished()

    assert await execution.get_result() is None
    assert (await told(docket, "k"))[0] == 5


async def test_each_attempt_begins_anew(docket: Docket, worker: Worker):
    @docket.task
    async def work(progress: Progress = Progress(), retry: Retry = Retry(attempts=2)) -> int | None:
        await progress.increment(5 if retry.attempt == 1 else 2)
        if retry.attempt == 1:
            raise ConnectionError
        return progress.current

    execution = await work.schedule(key="k")
    await worker.run_until_finished()

    assert await execution.get_result() == 2
    assert (await told(docket, "k"))[0] == 2


async def test_what_is_reported_after_the_end_counts_no_more(docket: Docket, worker: Worker):
    kept: list[Progress] = []

    @docket.task
    async def work(progress: Progress = Progress()) -> None:
        await progress.increment()
        kept.append(progress)

    await work.schedule(key="k")
    await worker.run_until_finished()
    await kept[0].increment(10)

    assert (await told(docket, "k"))[0] == 1


async def test_a_report_of_a_run_that_was_replaced_leaves_its_replacement_alone(docket: Docket, worker: Worker):
    begun = asyncio.Event()

    @docket.task
    async def work(amount: int, progress: Progress = Progress()) -> None:
        if amount == 1:
            begun.set()
            try:
                await asyncio.sleep(20)
            finally:
                await progress.increment(1000)
        await progress.increment(amount)

    await work.schedule(1, key="k")
    running = asyncio.create_task(worker.run_until_finished())
    await begun.wait()
    await work.replace(2, key="k")
    await running

    assert (await told(docket, "k"))[0] == 2


async def test_a_lost_reply_is_asked_for_again_and_counts_once(docket: Docket, worker: Worker, monkeypatch: pytest.MonkeyPatch):
    update = ProgressStore.update
    lost: list[bool] = []

    async def losing(self: ProgressStore, *args: Any, **kwargs: Any) -> Any:
        answer = await update(self, *args, **kwargs)
        if not lost:
            lost.append(True)
            raise RedisUnavailable("the reply was lost")
        return answer

    @docket.task
    async def work(progress: Progress = Progress()) -> None:
        await progress.increment(3)
        await progress.set_message("three")

    monkeypatch.setattr(ProgressStore, "update", losing)
    execution = await work.schedule(key="k")
    await worker.run_until_finished()

    await execution.sync()
    assert (execution.state, lost) == (ExecutionState.COMPLETED, [True])
    assert await told(docket, "k") == (3, 100, "three")


async def test_a_report_that_the_server_refuses_does_not_fail_the_run(
    docket: Docket, worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def refused(self: ProgressStore, *args: Any, **kwargs: Any) -> Any:
        raise ServerError("out of memory")

    @docket.task
    async def work(progress: Progress = Progress()) -> str:
        await progress.increment()
        return "done"

    monkeypatch.setattr(ProgressStore, "update", refused)
    execution = await work.schedule(key="k")
    await worker.run_until_finished()

    assert await execution.get_result() == "done"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["The progress of k could not be written"]


async def test_it_belongs_to_a_run_and_cannot_be_shared(docket: Docket, worker: Worker):
    async def counter(progress: Progress = Progress()) -> int | None:
        return progress.current

    @docket.task
    async def work(shared: int | None = Shared(counter)) -> None: ...

    execution = await work.schedule()
    await worker.run_until_finished()

    with pytest.raises(DependencyFailed):
        await execution.get_result()
