"""The pytest plugin: the fixtures `docket`, `worker`, `drain`, `docket_clock` and `docket_tasks`. pytest finds it by its entry point.

It works with anyio's plugin and with pytest-asyncio, in each of their modes: a fixture of ours is a plain function, which asks for the part that
has to run in the test's event loop by the name that the test's own runner knows it by. Every test run of everybody who has docket installed imports
this module, so it imports nothing of docket until a fixture is used.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Generator
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from docket import Docket, Worker
    from docket.testing import Drain, MovableClock
    from docket.testing._homes import Tasks

__all__ = ["docket", "docket_clock", "docket_tasks", "drain", "worker"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """This tells pytest of our setting."""
    parser.addini(
        "docket_tasks",
        type="args",
        default=[],
        help="what the `docket` fixture runs: module:member for the application's docket, or for collections of tasks, separated by spaces",
    )


def pytest_configure(config: pytest.Config) -> None:
    """This adds what pytest-asyncio runs, where there is one."""
    if config.pluginmanager.has_plugin("asyncio"):
        config.pluginmanager.register(import_module("docket.testing._for_pytest_asyncio"), "docket.testing: fixtures for pytest-asyncio")


@pytest.fixture
def docket_clock() -> MovableClock:
    """This is the clock of the test's docket: `docket_clock.advance(days=3)`."""
    from docket.testing import MovableClock  # late: see the top

    return MovableClock()


@pytest.fixture
def docket_tasks(request: pytest.FixtureRequest) -> Tasks:
    """This is what the test's docket can run: by default what the setting `docket_tasks` names. Override it to give a docket, or tasks."""
    return request.config.getini("docket_tasks")


@pytest.fixture
def _docket_in_memory(docket_tasks: Tasks, docket_clock: MovableClock) -> Generator[Docket, None, None]:
    from docket.testing._homes import docket_in_memory  # late: see the top

    with docket_in_memory(docket_tasks, docket_clock) as docket:
        yield docket


@pytest.fixture
def docket(request: pytest.FixtureRequest) -> Docket:
    """This is a docket in memory, of this test's own, entered. In a test that is not async it is not entered: whoever runs an event loop there enters it."""
    runner = _runner_of(request)
    return request.getfixturevalue("_docket_in_memory" if runner is None else f"_docket_entered_{runner}")


@pytest.fixture
def worker(request: pytest.FixtureRequest, docket: Docket) -> Worker:
    """This is a worker of `docket`, entered, not running; in a test that is not async not entered either."""
    from docket.testing._homes import worker_of  # late: see the top

    runner = _runner_of(request)
    return worker_of(docket) if runner is None else request.getfixturevalue(f"_docket_worker_entered_{runner}")


@pytest.fixture
def drain(worker: Worker) -> Drain:
    """This runs what is due, with `worker`: `await drain()`, `await drain(days=3)`; gives the runs."""
    from docket.testing import Drain  # late: see the top

    return Drain(worker)


@pytest.fixture
async def _docket_entered_by_anyio(_docket_in_memory: Docket) -> AsyncGenerator[Docket, None]:
    from docket.testing._homes import entered_docket  # late: see the top

    async with entered_docket(_docket_in_memory) as docket:
        yield docket


@pytest.fixture
async def _docket_worker_entered_by_anyio(docket: Docket) -> AsyncGenerator[Worker, None]:
    from docket.testing._homes import entered_worker  # late: see the top

    async with entered_worker(docket) as worker:
        yield worker


def _runner_of(request: pytest.FixtureRequest) -> str | None:
    """Which plugin runs the test, as the names of the fixtures say it; None for a test that is not async."""
    test = cast("pytest.Item", request.node)
    marker: Any = test.get_closest_marker("asyncio")
    if marker is not None and request.config.pluginmanager.has_plugin("asyncio"):
        scope = marker.kwargs.get("loop_scope") or request.config.getini("asyncio_default_test_loop_scope")
        return f"by_asyncio_in_{scope}"
    if "anyio_backend" in request.fixturenames:
        backend: Any = request.getfixturevalue("anyio_backend")
        if (backend if isinstance(backend, str) else backend[0]) != "asyncio":
            pytest.fail("docket runs on asyncio: have a fixture named anyio_backend that returns 'asyncio'", pytrace=False)
        return "by_anyio"
    if inspect.iscoroutinefunction(getattr(test, "obj", None)):
        pytest.fail(
            f"{test.nodeid} is async, and no plugin runs it: mark it with @pytest.mark.anyio or @pytest.mark.asyncio, or set anyio_mode = 'auto'", pytrace=False
        )
    return None
