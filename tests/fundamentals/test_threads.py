"""Threads: a `def` task may take its time without holding up the rest."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextvars import ContextVar
from datetime import timedelta

import anyio.from_thread
import pytest

from docket import Depends, Docket, ExecutionProgress, Progress, TaskLogger, Timeout, Worker
from tests._waiting import eventually

customer: ContextVar[str] = ContextVar("customer")


async def test_a_def_task_does_not_hold_up_the_others(docket: Docket, running_worker: Worker):
    finish = threading.Event()

    @docket.task
    def slow() -> str:
        assert finish.wait(20)
        return "slow, and done"

    @docket.task
    async def quick() -> str:
        return "quick"

    slow_one = await slow.schedule()
    quick_one = await quick.schedule()
    assert await quick_one.get_result() == "quick"
    finish.set()

    assert await slow_one.get_result() == "slow, and done"


async def test_a_def_dependency_runs_in_a_thread_and_a_class_does_not(docket: Docket, worker: Worker):
    class Settings:
        def __init__(self) -> None:
            self.thread = threading.current_thread()

    def connect(settings: Settings = Depends(Settings)) -> tuple[threading.Thread, threading.Thread]:
        return threading.current_thread(), settings.thread

    @docket.task
    async def load(threads: tuple[threading.Thread, threading.Thread] = Depends(connect)) -> tuple[bool, bool]:
        here = threading.current_thread()
        return threads[0] is here, threads[1] is here

    execution = await load.schedule()
    await worker.run_until_finished()

    assert await execution.get_result() == (False, True)


async def test_a_thread_knows_its_run(docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)

    def as_customer() -> Generator[str, None, None]:
        token = customer.set("Jane")
        yield "as Jane"
        customer.reset(token)

    @docket.task
    def export(orders: int, acting: str = Depends(as_customer), logger: TaskLogger = Depends(TaskLogger), progress: Progress = Progress()) -> str:
        progress.set_total(orders)
        for _ in range(orders):
            progress.increment()  # in a thread there is nothing to await
        logger.info("Exported", orders=orders)
        return f"{orders} orders of {customer.get()}"

    execution = await export.schedule(500, key="k")
    await worker.run_until_finished()

    assert await execution.get_result() == "500 orders of Jane"
    told = await ExecutionProgress.create(docket, "k")
    assert (told.current, told.total) == (500, 500)
    (record,) = [record for record in caplog.records if record.name == "docket.task.export"]
    assert (record.getMessage(), vars(record)["docket.key"]) == ("Exported orders=500", "k")


async def test_a_thread_can_call_back_into_the_event_loop(docket: Docket, worker: Worker):
    @docket.task
    async def send(mail: str) -> None:
        sent.append(mail)

    @docket.task
    def write(mail: str) -> None:
        anyio.from_thread.run(send.schedule, mail)

    sent: list[str] = []
    await write.schedule("hello")
    await worker.run_until_finished()

    assert sent == ["hello"]


async def test_no_more_threads_run_than_a_worker_may_have(docket: Docket):
    running: list[int] = [0]
    most: list[int] = []
    lock = threading.Lock()

    @docket.task
    def job() -> None:
        with lock:
            running[0] += 1
            most.append(running[0])
        threading.Event().wait(0.01)
        with lock:
            running[0] -= 1

    await docket.add_many(job.call() for _ in range(12))
    async with Worker(docket, concurrency=6, threads=2) as worker:
        await worker.run_until_finished()

    assert (len(most), max(most)) == (12, 2)


async def test_a_thread_cannot_be_stopped_but_may_ask_whether_it_should(docket: Docket, worker: Worker, caplog: pytest.LogCaptureFixture):
    @docket.task
    def patient(timeout: Timeout = Timeout(timedelta(milliseconds=50))) -> None:
        for _ in range(2000):
            anyio.from_thread.check_cancelled()
            threading.Event().wait(0.005)

    execution = await patient.schedule(key="k")
    await worker.run_until_finished()

    with pytest.raises(Exception, match="'patient' took longer than its timeout"):
        await execution.get_result()
    (told,) = [record.getMessage() for record in caplog.records if "cannot be stopped" in record.getMessage()]
    assert told == "patient(){k} was told to stop, and a thread cannot be stopped: its slot is held until it ends"


async def test_what_a_thread_works_at_is_handed_to_nobody_while_it_lives(docket: Docket):
    started: list[str] = []
    finish = threading.Event()

    @docket.task
    def stubborn(timeout: Timeout = Timeout(timedelta(milliseconds=50))) -> None:
        started.append("started")
        assert finish.wait(20)

    lease = timedelta(milliseconds=200)
    execution = await stubborn.schedule()
    async with Worker(docket, redelivery_timeout=lease) as one, Worker(docket, redelivery_timeout=lease) as other, anyio.create_task_group() as working:
        working.start_soon(one.run_until_finished)
        working.start_soon(other.run_until_finished)
        await eventually(lambda: started)
        await anyio.sleep(5 * lease.total_seconds())  # a lease that nobody kept would have lapsed
        await execution.sync()
        assert execution.state.value == "running"
        finish.set()

    assert started == ["started"]
