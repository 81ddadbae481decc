"""What every test can ask for.

* `docket`, `worker`: an entered docket under a name of its own, and a worker of it, on both backends. The parts:
  `backend` ("memory" or "server": every test that asks for it, or for anything below, runs on both), `url`, `docket_name`.
* `timed`: an entered docket in memory whose time the test moves, with `clock`.
* `redis_server`: the real server of this test process, empty at the start of each test that uses it.
* `new_server`: makes servers of this test's own, which it may stop, kill and start again.
* `proxy`: stands between the test and `redis_server`, and loses connections, replies and time when told to.
* `cluster`, `trio`: a cluster, and a master with sentinels; in order at the start of each test that uses them. A module with `BACKENDS = ("cluster", "sentinel")`
  runs its tests there. `DOCKET_TESTS_TOPOLOGY=cluster` (or `sentinel`) has the server of the whole run be part of one, for `nox -s matrix`.
* `@pytest.mark.only_memory("why")`, `@pytest.mark.only_server("why")`: bound to one backend; the summary tells how many.
* `@pytest.mark.leaves_keys("why")`: lets keys without an expiry stay; else the test fails for them (`key_leak_checker`).

Async tests and async fixtures need no mark: anyio's plugin runs them (`anyio_mode = "auto"`), a test and its fixtures in
one task of one event loop, new for each test, so a fixture may hold `async with docket` and its context variables are seen
by the test. An async fixture works for async tests only. `DOCKET_TESTS_LOOP=uvloop` runs them on uvloop.

`DOCKET_TESTS_SHARDS=4` divides the dockets of the fixtures into that many shards, and leaves out `@pytest.mark.only_undivided("why")`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

from tests._proxy import Proxy, running_proxy
from tests._servers import RedisServer, lasting_keys, running_server
from tests._topologies import SLOTS, Cluster, Trio, running_cluster, running_trio, slot_of

if TYPE_CHECKING:
    from docket import Docket, Worker
    from docket.testing import MovableClock

Backend = Literal["memory", "server", "cluster", "sentinel"]

TOPOLOGY = os.environ.get("DOCKET_TESTS_TOPOLOGY", "")
BACKENDS: tuple[Backend, ...] = ("memory", "server")
_BOUND_TO = "docket: bound to"
_HAS_FAILED = pytest.StashKey[bool]()

SHARDS = int(os.environ.get("DOCKET_TESTS_SHARDS", "1"))
"""Shards of the dockets that tests are given."""


def pytest_configure(config: pytest.Config) -> None:
    """This keeps the developer's own settings away from the tests, and from the processes they start."""
    for name in [name for name in os.environ if name.startswith("DOCKET_") and not name.startswith("DOCKET_TESTS_")]:
        del os.environ[name]


def _bound_to(node: pytest.Item | pytest.Function | Any) -> Backend | None:
    """This is the only backend that a test is for, if it is marked so."""
    bound: Backend | None = None
    for backend in BACKENDS:
        for mark in node.iter_markers(f"only_{backend}"):
            if not (mark.args and isinstance(mark.args[0], str) and mark.args[0].strip()):
                raise pytest.UsageError(f"{node.nodeid}: only_{backend} needs its reason: @pytest.mark.only_{backend}('why')")
            if bound not in (None, backend):
                raise pytest.UsageError(f"{node.nodeid}: bound to both backends")
            bound = backend
    return bound


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """This runs a test that uses a backend on each of them."""
    if "backend" in metafunc.fixturenames:
        bound = _bound_to(metafunc.definition)
        everywhere = getattr(cast("Any", metafunc).module, "BACKENDS", BACKENDS)
        metafunc.parametrize("backend", everywhere if bound is None else (bound,), indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """This notes on each bound test what it is bound to, where the summary finds it, whichever process ran it."""
    for item in items:
        if SHARDS > 1 and (mark := item.get_closest_marker("only_undivided")):
            item.add_marker(pytest.mark.skip(reason=f"only for a docket of one shard: {mark.args[0]}"))
        bound = _bound_to(item)
        if bound is not None:
            item.user_properties.append((_BOUND_TO, bound))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """This prints how many of the tests that ran are bound to one backend."""
    numbers: dict[str, set[str]] = {backend: set() for backend in BACKENDS}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _BOUND_TO:
                    numbers[str(value)].add(report.nodeid.partition("[")[0])
    terminalreporter.write_line("Tests bound to one backend: " + ", ".join(f"{len(tests)} to {backend}" for backend, tests in numbers.items()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """This remembers a failure, so that the check for left keys does not add to it."""
    report = yield
    if report.failed:
        item.stash[_HAS_FAILED] = True
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """This is the event loop of the async tests: asyncio's, or uvloop where asked."""
    return "asyncio", {"use_uvloop": os.environ.get("DOCKET_TESTS_LOOP") == "uvloop"}


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """This is the real server of this test process; in a topology the one that has what begins with the test's `docket_name`."""
    if TOPOLOGY == "cluster":
        yield request.getfixturevalue("cluster_of_this_process").nodes[0]
        return
    if TOPOLOGY == "sentinel":
        yield request.getfixturevalue("trio_of_this_process").master()
        return
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def cluster_of_this_process() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def trio_of_this_process() -> Iterator[Trio]:
    with running_trio() as trio:
        yield trio


@pytest.fixture
def cluster(cluster_of_this_process: Cluster) -> Cluster:
    """This is a cluster of three primaries with a replica each, in order and empty, whatever tests before this one have done to it."""
    cluster_of_this_process.heal()
    cluster_of_this_process.flush()
    return cluster_of_this_process


@pytest.fixture
def trio(trio_of_this_process: Trio) -> Trio:
    """This is a master and a replica with three sentinels, in order and empty, whatever tests before this one have done to them."""
    trio_of_this_process.heal()
    trio_of_this_process.flush()
    return trio_of_this_process


@pytest.fixture
def new_server() -> Iterator[Callable[..., RedisServer]]:
    """This makes started servers of the test's own: `new_server("--appendonly", "yes")`."""
    with ExitStack() as servers:

        def start(*arguments: str) -> RedisServer:
            return servers.enter_context(running_server(*arguments))

        yield start


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    """This stands between whoever connects to it and the real server."""
    async with running_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """This is where the test's docket lives: "memory" or "server", or a topology."""
    return request.param


@pytest.fixture
def docket_name() -> str:
    """This is a docket name that no other test has."""
    while True:
        name = f"test-{uuid.uuid4().hex[:12]}"
        if TOPOLOGY != "cluster" or slot_of(name) < SLOTS // 3:  # on the node that is `redis_server`
            return name


@pytest.fixture
def url(backend: Backend, docket_name: str, request: pytest.FixtureRequest) -> str:
    """This is the URL of the test's backend: an engine of the test's own, or the server of the test process."""
    if backend == "memory":
        return f"memory://{docket_name}"
    if backend == "cluster" or TOPOLOGY == "cluster":
        return request.getfixturevalue("cluster").url
    if backend == "sentinel" or TOPOLOGY == "sentinel":
        return request.getfixturevalue("trio").url
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
async def docket(docket_name: str, url: str) -> AsyncIterator[Docket]:
    """This is an entered docket."""
    from docket import Docket  # late: tests of a single module start without the rest

    async with Docket(name=docket_name, url=url, shards=SHARDS) as docket:
        yield docket


@pytest.fixture
async def worker(docket: Docket) -> AsyncIterator[Worker]:
    """This is an entered worker of `docket`; running it is the test's business."""
    from docket import Worker  # late: see `docket`

    async with Worker(docket) as worker:
        yield worker


@pytest.fixture
def clock() -> MovableClock:
    """This is the clock of `timed`. It stands still, so that every time is exact."""
    from docket.testing import MovableClock  # late: see `docket`

    return MovableClock(ticking=False)


@pytest.fixture
async def timed(docket_name: str, clock: MovableClock) -> AsyncIterator[Docket]:
    """This is an entered docket in memory that goes by `clock`."""
    from docket import Docket  # late: see above

    async with Docket(docket_name, f"memory://{docket_name}", clock=clock, shards=SHARDS) as docket:
        yield docket


def _test(request: pytest.FixtureRequest) -> pytest.Item:
    return cast("pytest.Item", request.node)


def _used(request: pytest.FixtureRequest) -> Callable[[], Sequence[RedisServer]]:
    """This finds the servers that a test uses, those of a topology as they are then."""
    callspec: Any = getattr(_test(request), "callspec", None)
    backend = None if callspec is None else callspec.params.get("backend")
    uses_the_server = "redis_server" in request.fixturenames or backend == "server"
    if backend == "cluster" or (uses_the_server and TOPOLOGY == "cluster"):
        cluster: Cluster = request.getfixturevalue("cluster_of_this_process")
        return cluster.primaries
    if backend == "sentinel" or (uses_the_server and TOPOLOGY == "sentinel"):
        trio: Trio = request.getfixturevalue("trio_of_this_process")
        return lambda: [trio.master()]
    return lambda: [request.getfixturevalue("redis_server")] if uses_the_server else []


@pytest.fixture(autouse=True)
def key_leak_checker(request: pytest.FixtureRequest) -> Iterator[None]:
    """This empties the server before a test that uses it, and fails the test if a key would stay there for ever."""
    used = _used(request)
    for server in used():
        server.flush()

    yield

    test = _test(request)
    if test.stash.get(_HAS_FAILED, False) or test.get_closest_marker("leaves_keys"):
        return
    left = [key for server in used() for key in lasting_keys(server.client())]
    assert not left, f"{len(left)} keys stay on the server without an expiry: {', '.join(left[:20])}"
