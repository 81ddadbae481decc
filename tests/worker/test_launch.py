"""`Worker.run`: from names and settings to a worker that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
import types
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from docket import Docket, ExecutionState, Perpetual, StrikeList, Worker
from docket.errors import LoadError
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.worker import _launched
from tests.worker._hands import SOON, lasts, record

TASKS = ["tests.worker._launched:collection"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the user's that this test fills."""
    module = types.ModuleType("users_module")
    monkeypatch.setitem(sys.modules, "users_module", module)
    return module


async def test_it_runs_the_tasks_of_a_collection_until_nothing_is_left(docket: Docket, url: str):
    asked = await docket.add("greet", when=lasts(50))("Jane")

    await Worker.run(docket.name, url, name="worker-1", tasks=TASKS, until_finished=True)

    assert await asked.get_result(timeout=SOON) == f"Hello, Jane, from {docket.name} by worker-1"


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_signal_drains_it(docket: Docket, url: str, with_signal: signal.Signals, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.worker")
    before = signal.getsignal(with_signal)
    _launched.begun.clear()
    asked = await docket.add("slow")("Jane")
    running = asyncio.create_task(Worker.run(docket.name, url, tasks=TASKS))
    await eventually(lambda: _launched.begun)

    os.kill(os.getpid(), with_signal)
    await asyncio.wait_for(running, 10)

    assert await asked.get_result(timeout=lasts(1000)) == "whole"
    assert f"Received {with_signal.name}, initiating graceful shutdown..." in caplog.messages
    assert signal.getsignal(with_signal) == before


async def test_a_second_signal_leaves_what_runs_no_more_time(docket: Docket, url: str, module: types.ModuleType, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "docket.worker")
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    module.__dict__["tasks"] = [endless]
    await docket.add("endless", key="k")()
    running = asyncio.create_task(Worker.run(docket.name, url, tasks=["users_module:tasks"], grace_period=timedelta(hours=1)))
    await begun.wait()

    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: "Shutdown requested, finishing 1 active tasks..." in caplog.messages)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(running, 10)

    assert "Received SIGTERM, initiating graceful shutdown..." in caplog.messages
    assert "Received SIGINT again, handing back what is running now..." in caplog.messages
    assert "Cancelling running task 'k'" in caplog.messages
    assert (await record(docket, "k")).state is ExecutionState.QUEUED
    await docket.cancel("k")


async def test_cancelled_it_drains_as_well(docket: Docket, url: str):
    _launched.begun.clear()
    asked = await docket.add("slow")("Jane")
    running = asyncio.create_task(Worker.run(docket.name, url, tasks=TASKS))
    await eventually(lambda: _launched.begun)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert await asked.get_result(timeout=lasts(1000)) == "whole"


async def test_everything_that_is_named_is_loaded(docket: Docket, url: str):
    await docket.add("nobody knows", key="k")(1, a=2)

    await Worker.run(
        docket.name,
        url,
        tasks=TASKS,
        until_finished=True,
        fallback_task="tests.worker._launched:anything",
        dependencies="tests.worker._launched:dependencies",
        result_storage="tests.worker._launched:storage",
    )

    assert [key.partition(":")[0] for key in _launched.storage.kept] == ["k"]
    _launched.storage.kept.clear()


async def test_or_given_as_it_is(docket: Docket, url: str):
    storage = _launched.Storage()
    asked = await docket.add("greet", key="k")("Jane")

    await Worker.run(docket.name, url, tasks=TASKS, until_finished=True, dependencies={"limit": _launched.dependencies[0]}, result_storage=storage)

    assert list(storage.kept) == [f"k:{asked.generation}"]


async def test_a_docket_that_is_named_brings_its_tasks_and_its_options(url: str, docket_name: str, module: types.ModuleType):
    mine = Docket(docket_name, url, execution_ttl=timedelta(minutes=3))
    module.__dict__["docket"] = mine

    @mine.task
    async def hello(docket: Docket = _launched.CurrentDocket()) -> tuple[bool, timedelta]:
        return docket is mine, docket.execution_ttl

    async with mine:
        asked = await hello.schedule()
        await Worker.run(tasks=["users_module:docket"], until_finished=True)

        assert await asked.get_result(timeout=SOON) == (True, timedelta(minutes=3))


async def test_a_setting_wins_over_what_a_docket_says(url: str, docket_name: str, module: types.ModuleType):
    elsewhere = module.__dict__["docket"] = Docket("elsewhere", "memory://elsewhere")

    @elsewhere.task
    async def hello(docket: Docket = _launched.CurrentDocket()) -> str:
        return docket.name

    async with Docket(docket_name, url) as docket:
        asked = await docket.add("hello")()
        await Worker.run(docket_name, url, tasks=["users_module:docket"], until_finished=True)

        assert await asked.get_result(timeout=SOON) == docket_name


async def test_what_cannot_be_loaded_is_said_before_anything_connects():
    with pytest.raises(LoadError, match="colection"):
        await Worker.run(url="redis://127.0.0.1:1", tasks=["tests.worker._launched:colection"])


async def test_the_defaults_are_those_of_the_options(monkeypatch: pytest.MonkeyPatch):
    given: dict[str, Any] = {}

    async def note(kind: type[Worker], **options: Any) -> None:
        given.update(options)

    monkeypatch.setattr("docket.worker.launch", note)
    await Worker.run()

    assert set(given["docket_options"].values()) == set(given["worker_options"].values()) == {None}
    assert given["tasks"] == ("docket.tasks:standard_tasks",)


@pytest.mark.only_server("which is not there yet")
class TestAServerThatIsAway:
    async def test_it_is_waited_for(self, docket_name: str, new_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture):
        server = new_server()
        server.stop()

        running = asyncio.create_task(Worker.run(docket_name, server.url, tasks=TASKS, until_finished=True, reconnection_delay=lasts(100)))
        await eventually(lambda: "Redis is unavailable, retrying until it is there" in caplog.text)
        server.start()

        await asyncio.wait_for(running, 20)

    async def test_told_to_stop_it_waits_no_more(self, docket_name: str, new_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture):
        server = new_server()
        server.stop()

        running = asyncio.create_task(Worker.run(docket_name, server.url, tasks=TASKS))
        await eventually(lambda: "Redis is unavailable, retrying until it is there" in caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)

        await asyncio.wait_for(running, 10)


def test_where_handlers_cannot_be_had_there_are_none(docket_name: str):
    url, done = f"memory://{docket_name}", threading.Event()

    async def main() -> None:
        await Worker.run(docket_name, url, tasks=TASKS, until_finished=True)
        done.set()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(20)

    assert done.is_set()


async def test_readiness_goes_with_the_first_signal_and_liveness_stays(docket: Docket, url: str, module: types.ModuleType):
    port = _free_port()
    finish = asyncio.Event()
    started = asyncio.Event()

    def asked(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    async def waits() -> None:
        started.set()
        await finish.wait()

    module.__dict__["tasks"] = [waits]
    await docket.add("waits", key="k")()
    running = asyncio.create_task(Worker.run(docket.name, url, tasks=["users_module:tasks"], healthcheck_port=port))
    await started.wait()
    assert await asyncio.to_thread(asked, "/readyz") == (200, "OK")

    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: not_ready(asked))

    assert await asyncio.to_thread(asked, "/readyz") == (503, "draining: told to stop, finishing what is running")
    assert await asyncio.to_thread(asked, "/livez") == (200, "OK")
    finish.set()
    await running


async def test_a_worker_says_why_it_is_not_ready(docket: Docket, worker: Worker, monkeypatch: pytest.MonkeyPatch):
    assert worker.not_ready() == "starting"
    assert Worker(Docket("never-entered", "memory://never-entered")).not_ready() == "Redis is unavailable"

    monkeypatch.setattr(StrikeList, "is_loaded", False)
    assert worker.not_ready() == "the strikes are not loaded"


async def not_ready(asked: Callable[[str], tuple[int, str]]) -> bool:
    status, _ = await asyncio.to_thread(asked, "/readyz")
    return status == 503


async def test_a_loop_that_stands_still_is_not_alive(docket: Docket, url: str, module: types.ModuleType):
    port = _free_port()
    found: list[int] = []

    async def blocks() -> None:
        def ask() -> None:
            deadline = time.monotonic() + 20
            while not found and time.monotonic() < deadline:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5).close()
                except urllib.error.HTTPError as error:
                    with error:
                        found.append(error.code)

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()  # the loop stands still for as long as this takes

    module.__dict__["tasks"] = [blocks]
    await docket.add("blocks", key="k")()
    await Worker.run(docket.name, url, tasks=["users_module:tasks"], healthcheck_port=port, liveness_timeout=timedelta(milliseconds=50), until_finished=True)

    assert found == [503]


async def test_a_health_check_says_whether_it_takes_on_work(docket: Docket, url: str, module: types.ModuleType):
    port: list[int] = []
    found: list[int] = []

    async def probe(perpetual: Perpetual = Perpetual(every=timedelta(hours=1), automatic=True)) -> None:
        found.append(await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port[0]}/", timeout=5).status))

    module.__dict__["tasks"] = [probe]
    port.append(_free_port())

    running = asyncio.create_task(Worker.run(docket.name, url, tasks=["users_module:tasks"], healthcheck_port=port[0]))
    await eventually(lambda: found)
    os.kill(os.getpid(), signal.SIGTERM)
    await running

    assert found == [200]
    await docket.cancel("probe")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
