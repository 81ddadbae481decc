"""The FastAPI integration, by requests to a real application."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.testclient import TestClient

from docket import Docket, ExecutionState, Worker
from docket.errors import InvalidArguments, NotEntered, RedisUnavailable
from docket.integrations.fastapi import AfterResponse, DocketDep, lifespan

SOON = timedelta(seconds=20)
HOUR = timedelta(hours=1)


@pytest.fixture
def home(docket_name: str, url: str) -> Docket:
    """This is a docket that an application is to open."""
    return Docket(docket_name, url=url)


async def greet(name: str) -> str:
    return f"hello, {name}"


def client_of(app: FastAPI) -> Any:
    """This sends requests to an application; entered, it runs the application's lifespan."""
    return TestClient(app)


def scheduled(docket: Docket) -> set[str]:
    with docket.sync() as client:
        return {execution.key for execution in client.executions(state="scheduled")}


def test_a_route_schedules_and_a_worker_of_the_application_runs(home: Docket):
    app = FastAPI(lifespan=lifespan(home, worker=True))
    home.register(greet)

    @app.post("/greet/{name}")
    async def post(name: str, docket: DocketDep) -> str:
        execution = await docket.add(greet)(name)
        return await execution.get_result(timeout=SOON)

    with client_of(app) as client:
        assert client.post("/greet/Ada").json() == "hello, Ada"
    with client_of(app) as client:  # an application may be started again
        assert client.post("/greet/Grace").json() == "hello, Grace"
    assert not home.is_connected


def test_the_worker_may_be_one_of_your_own_and_finishes_what_it_runs(home: Docket):
    finished: list[str] = []
    begun = asyncio.Event()

    @home.task
    async def slow() -> None:
        begun.set()
        await asyncio.sleep(0.2)
        finished.append("slow")

    app = FastAPI(lifespan=lifespan(home, worker=Worker(home, name="ours", concurrency=2)))

    @app.post("/slow")
    async def post(docket: DocketDep) -> list[str]:
        await docket.add(slow)()
        await begun.wait()
        return [worker.name for worker in await docket.workers()]

    with client_of(app) as client:
        assert client.post("/slow").json() == ["ours"]

    assert finished == ["slow"]


def test_it_goes_with_a_lifespan_of_your_own(home: Docket):
    order: list[str] = []

    @asynccontextmanager
    async def mine(app: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
        order.append(f"opened, and the docket {'too' if home.is_entered else 'not'}")
        yield {"greeting": "hello"}
        order.append(f"closed, and the docket {'not' if home.is_entered else 'too'}")

    @asynccontextmanager
    async def around(app: FastAPI) -> AsyncGenerator[Any, None]:
        async with lifespan(home)(app):
            yield

    for chosen in (lifespan(home, inside=mine), around):
        app = FastAPI(lifespan=chosen)

        @app.get("/")
        async def get(request: Request, docket: DocketDep) -> list[str]:
            return [docket.name, getattr(request.state, "greeting", "")]

        with client_of(app) as client:
            assert client.get("/").json() == [home.name, "hello" if chosen is not around else ""]

    assert order == ["opened, and the docket too", "closed, and the docket not"]


def test_a_mounted_application_and_a_websocket_get_the_docket(home: Docket):
    app, mounted = FastAPI(lifespan=lifespan(home)), FastAPI()
    app.mount("/v1", mounted)

    @mounted.get("/")
    async def get(docket: DocketDep) -> str:
        return docket.name

    @app.websocket("/ws")
    async def talk(websocket: WebSocket, docket: DocketDep) -> None:
        await websocket.accept()
        await websocket.send_text(docket.name)
        await websocket.close()

    with client_of(app) as client:
        assert client.get("/v1/").json() == home.name
        with client.websocket_connect("/ws") as websocket:
            assert websocket.receive_text() == home.name


@pytest.mark.parametrize("url", ["memory://none"])
def test_an_application_without_a_docket_says_what_to_do(url: str):
    app = FastAPI()

    @app.get("/")
    async def get(docket: DocketDep) -> None: ...

    with pytest.raises(NotEntered, match=r"lifespan\(docket\)"):
        client_of(app).get("/")


def test_an_application_does_not_start_without_its_redis(docket_name: str):
    app = FastAPI(lifespan=lifespan(Docket(docket_name, url="redis://127.0.0.1:1"), worker=True))

    with pytest.raises(RedisUnavailable), client_of(app):
        raise AssertionError("it started")


def test_a_worker_that_fails_is_logged_at_once_and_raised_in_the_end(home: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    failed = asyncio.Event()

    async def fails(self: Worker) -> None:
        failed.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(Worker, "run_forever", fails)
    app = FastAPI(lifespan=lifespan(home, worker=True))

    @app.get("/")
    async def get() -> int:
        await failed.wait()
        return len(caplog.records)

    with pytest.raises(RuntimeError, match="a bug"), client_of(app) as client:
        assert client.get("/").json() == 1

    assert "runs no tasks any more" in caplog.text


# After the response


def signing_up(home: Docket) -> FastAPI:
    app = FastAPI(lifespan=lifespan(home))
    home.register(greet)

    @app.post("/{name}")
    async def sign_up(name: str, docket: DocketDep, background: AfterResponse) -> list[str]:
        at_once = background.add_task(greet, name)
        later = background.add(greet, when=HOUR, key=f"later-{name}")(name)
        assert await docket.get_execution(at_once.key) is None
        if name == "nobody":
            raise HTTPException(404)
        return [at_once.key, later.key]

    return app


def test_what_is_added_to_the_background_is_scheduled_after_the_response(home: Docket):
    with client_of(signing_up(home)) as client:
        at_once, later = client.post("/Ada").json()

        assert later == "later-Ada"
        assert scheduled(home) == {"later-Ada"}
        with home.sync() as blocking:
            execution = blocking.get_execution(at_once)
            assert execution is not None and execution.state is ExecutionState.QUEUED
            blocking.clear()


def test_nothing_is_scheduled_for_a_request_that_failed(home: Docket):
    with client_of(signing_up(home)) as client:
        assert client.post("/nobody").status_code == 404

        with home.sync() as blocking:
            assert (blocking.counts().scheduled, blocking.counts().queued) == (0, 0)


def test_arguments_in_the_background_are_checked_before_the_response(home: Docket):
    app = FastAPI(lifespan=lifespan(home))

    @app.post("/")
    async def post(background: AfterResponse) -> None:
        add: Any = background.add_task
        add(greet, "Ada", "Grace")

    with client_of(app) as client, pytest.raises(InvalidArguments):
        client.post("/")


def test_what_cannot_be_scheduled_after_the_response_is_logged(home: Docket, caplog: pytest.LogCaptureFixture):
    app = FastAPI(lifespan=lifespan(home))

    @app.post("/")
    async def post(background: AfterResponse) -> str:
        background.add_task(greet, name=(number for number in range(3)))  # pyright: ignore[reportArgumentType]
        return background.add("greet", HOUR)("Ada").key

    with client_of(app) as client, caplog.at_level(logging.ERROR):
        key = client.post("/").json()
        assert scheduled(home) == {key}
        with home.sync() as blocking:
            blocking.clear()

    assert "was not scheduled after its request: " in caplog.text


def test_a_handle_goes_into_the_frameworks_own_background_tasks_too(home: Docket):
    """Its `schedule` is a coroutine function like any other."""
    handle = home.task(greet)
    app = FastAPI(lifespan=lifespan(home))

    @app.post("/")
    async def post(background: BackgroundTasks) -> None:
        background.add_task(handle.schedule, "Ada", key="k", when=HOUR)

    with client_of(app) as client:
        assert client.post("/").status_code == 200
        assert scheduled(home) == {"k"}
        with home.sync() as blocking:
            blocking.clear()


def test_the_example_streams_progress_to_a_page_and_gives_the_result(url: str, tmp_path: Path):
    example = Path(__file__).parent.parent.parent / "examples" / "fastapi_app.py"
    environment = {**os.environ, "DOCKET_URL": url, "REPORTS": str(tmp_path)}

    done = subprocess.run([sys.executable, "-W", "error", str(example)], env=environment, capture_output=True, text=True, check=False, timeout=50)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert '  told: {"done": 8, "of": 8}\n  told: "completed"\nthe result: 8 pages' in done.stdout
    assert "after the response: Ada asked" in done.stdout
    assert len(list((tmp_path / "docket-reports").iterdir())) == 1
