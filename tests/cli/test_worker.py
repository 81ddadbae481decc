"""`docket worker` in a process of its own, with the producer here."""

import asyncio
import inspect
import json
import signal
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from docket import Docket, ExecutionState, Worker
from docket.cli import _worker
from docket.cli._worker import worker
from tests._servers import RedisServer
from tests.cli._command import MODULE, SCRIPT, Command

SOON = timedelta(seconds=15)

MY_TASKS = """
import asyncio, logging
from datetime import timedelta

async def stubborn():
    while True:
        try:
            logging.getLogger(__name__).info("stubborn goes on")
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def greet(name):
    return f"Hello, {name}"

async def slow():
    logging.getLogger(__name__).info("slow has begun")
    await asyncio.sleep(0.5)
    logging.getLogger(__name__).info("slow has ended")
    return "ended"

collection = [greet, slow, stubborn]
"""

MY_DOCKET = """
from datetime import timedelta
from docket import CurrentDocket, Docket, Perpetual

docket = Docket(name={name!r}, url={url!r}, execution_ttl=timedelta(minutes=3))

@docket.task(name="hello.greet")
async def greet(name: str, here: Docket = CurrentDocket()) -> str:
    return f"Hello, {{name}} from {{here.name}}"

@docket.task
async def twice(name: str) -> str:
    execution = await greet.schedule(name)      # through the docket that the handle knows
    return await execution.get_result()

@docket.task
@Perpetual(every=timedelta(hours=1), automatic=True)
async def beat() -> None:
    print("beat")
"""


@pytest.fixture
def settings(redis_server: RedisServer, docket_name: str, tmp_path: Path) -> dict[str, str]:
    """The variables that lead the command to this test's docket; `my_tasks` lies in its folder."""
    (tmp_path / "my_tasks.py").write_text(MY_TASKS)
    return {"DOCKET_URL": redis_server.url, "DOCKET_NAME": docket_name}


@pytest.mark.parametrize("entry", [pytest.param(MODULE, id="python -m docket"), pytest.param(SCRIPT, id="docket")])
async def test_a_worker_finds_tasks_in_its_folder_and_runs_what_is_scheduled_here(
    entry: tuple[str, ...], settings: dict[str, str], redis_server: RedisServer, docket_name: str, tmp_path: Path
):
    async with Docket(name=docket_name, url=redis_server.url) as docket:
        with Command(tmp_path, entry).start("worker", "--tasks", "my_tasks:collection", env=settings) as running:
            running.wait_for("Starting worker")

            execution = await docket.add("greet")("Jane")

            assert await execution.get_result(timeout=SOON) == "Hello, Jane"
            assert running.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_worker_told_to_stop_finishes_what_it_runs_and_exits_0(
    with_signal: signal.Signals, settings: dict[str, str], docket_command: Command, redis_server: RedisServer, docket_name: str
):
    async with Docket(name=docket_name, url=redis_server.url) as docket:
        with docket_command.start("worker", "--tasks", "my_tasks:collection", env=settings) as running:
            execution = await docket.add("slow")()
            running.wait_for("slow has begun")

            assert running.stop(with_signal) == 0

        assert "slow has ended" in running.text()
        assert await execution.get_result(timeout=SOON) == "ended"


async def test_a_worker_hands_back_what_takes_too_long_and_exits_0(
    settings: dict[str, str], docket_command: Command, redis_server: RedisServer, docket_name: str
):
    async with Docket(name=docket_name, url=redis_server.url) as docket:
        with docket_command.start("worker", "--tasks", "my_tasks:collection", "--grace-period", "0", env=settings) as running:
            execution = await docket.add("slow")()
            running.wait_for("slow has begun")

            assert running.stop(signal.SIGTERM) == 0

        await execution.sync()
        assert execution.state is ExecutionState.QUEUED
        assert "slow(){" in running.text() and "(handed back)" in running.text()
        await docket.cancel(execution.key)


async def test_a_worker_is_not_kept_by_a_task_that_does_not_stop(
    settings: dict[str, str], docket_command: Command, redis_server: RedisServer, docket_name: str
):
    async with Docket(name=docket_name, url=redis_server.url) as docket:
        options = ("--grace-period", "1h", "--cleanup-timeout", "100ms")
        with docket_command.start("worker", "--tasks", "my_tasks:collection", *options, env=settings) as running:
            execution = await docket.add("stubborn")()
            running.wait_for("stubborn goes on")

            running.process.send_signal(signal.SIGTERM)
            running.wait_for("Shutdown requested")
            assert running.stop(signal.SIGTERM) == 0

        await execution.sync()
        assert execution.state is ExecutionState.QUEUED
        assert "so it is abandoned and its run handed back" in running.text()
        await docket.cancel(execution.key)


def test_what_is_left_is_written_before_a_process_is_ended(monkeypatch: pytest.MonkeyPatch):
    """In this process, as far as that goes."""
    done: list[object] = []
    monkeypatch.setattr("atexit._run_exitfuncs", lambda: done.append("at exit"))
    monkeypatch.setattr("os._exit", done.append)
    monkeypatch.setattr(_worker, "run", asyncio.run)
    monkeypatch.setattr(_worker, "set_up_logging", _nothing_at_once)  # the root logger, and structlog, are pytest's
    monkeypatch.setattr(Worker, "run", _nothing)
    monkeypatch.setattr("docket._worker._drain.abandoned", lambda: 1)

    assert CliRunner().invoke(worker, []).exit_code == 0

    assert done == ["at exit", 0]


async def _nothing(**settings: object) -> None: ...


def _nothing_at_once(*settings: object) -> None: ...


async def test_a_worker_until_finished_leaves_when_its_work_is_done(
    settings: dict[str, str], docket_command: Command, redis_server: RedisServer, docket_name: str
):
    async with Docket(name=docket_name, url=redis_server.url) as docket:
        execution = await docket.add("greet", when=timedelta(milliseconds=300))("Jane")

        worked = docket_command("worker", "--until-finished", env={**settings, "DOCKET_TASKS": "docket.tasks:standard_tasks my_tasks:collection"})

        assert worked.returncode == 0, worked.stdout + worked.stderr
        assert await execution.get_result(timeout=SOON) == "Hello, Jane"


async def test_a_docket_brings_its_tasks_its_name_and_its_url(
    settings: dict[str, str], docket_command: Command, redis_server: RedisServer, docket_name: str, tmp_path: Path
):
    (tmp_path / "my_module.py").write_text(MY_DOCKET.format(name=docket_name, url=redis_server.url))

    async with Docket(name=docket_name, url=redis_server.url) as docket:
        with docket_command.start("worker", "--tasks", "my_module:docket") as running:
            greeted = await docket.add("hello.greet")("Jane")
            twice = await docket.add("twice")("Jim")
            assert await greeted.get_result(timeout=SOON) == f"Hello, Jane from {docket_name}"
            assert await twice.get_result(timeout=SOON) == f"Hello, Jim from {docket_name}"

            running.wait_for("beat")
            assert running.stop(signal.SIGTERM) == 0

        await docket.cancel("beat")


async def test_a_flag_or_a_variable_wins_over_what_the_docket_says(
    settings: dict[str, str], docket_command: Command, redis_server: RedisServer, docket_name: str, tmp_path: Path
):
    (tmp_path / "my_module.py").write_text(MY_DOCKET.format(name="elsewhere", url="redis://127.0.0.1:1"))

    async with Docket(name=docket_name, url=redis_server.url) as docket:
        with docket_command.start("worker", "--tasks", "my_module:docket", "--docket", docket_name, env={"DOCKET_URL": redis_server.url}) as running:
            twice = await docket.add("twice")("Jim")
            assert await twice.get_result(timeout=SOON) == f"Hello, Jim from {docket_name}"
            assert running.stop(signal.SIGTERM) == 0

        await docket.cancel("beat")


async def test_log_lines_are_json_when_asked_at_a_level_in_any_case(
    settings: dict[str, str], docket_command: Command, redis_server: RedisServer, docket_name: str
):
    async with Docket(name=docket_name, url=redis_server.url) as docket:
        await docket.add("slow")()

        worked = docket_command(
            "worker", "--until-finished", "--tasks", "my_tasks:collection", "--logging-level", "info", env={**settings, "DOCKET_LOGGING_FORMAT": "json"}
        )

    lines = [json.loads(line) for line in worked.stdout.splitlines()]
    assert {"slow has begun", "slow has ended"} <= {line["message"] for line in lines}
    assert all({"name", "asctime", "levelname", "message"} <= line.keys() for line in lines)


def test_automatic_work_makes_sense_in_memory(docket_command: Command, tmp_path: Path):
    (tmp_path / "my_module.py").write_text(MY_DOCKET.format(name="mine", url="memory://mine"))

    with docket_command.start("worker", "--tasks", "my_module:docket") as running:
        running.wait_for("beat")

        assert running.stop(signal.SIGINT) == 0


def test_memory_is_refused_where_nobody_could_give_the_worker_work(docket_command: Command):
    refused = docket_command("worker", "--url", "memory://here")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: memory://here lives inside this process, so nobody else can give this worker work")


def test_tasks_that_are_no_collection_are_refused(docket_command: Command, settings: dict[str, str]):
    refused = docket_command("worker", "--tasks", "my_tasks:greet", env=settings)

    assert refused.returncode == 1
    assert refused.stderr == "Error: 'my_tasks:greet' is a single callable; put it into a list and name that, or name a Docket\n"


def test_a_task_collection_that_is_not_there_is_told_its_likely_name(docket_command: Command, settings: dict[str, str]):
    refused = docket_command("worker", "--tasks", "my_tasks:colection", env=settings)

    assert refused.returncode == 1
    assert refused.stderr == "Error: Cannot load 'my_tasks:colection': no 'colection' in module 'my_tasks'; did you mean 'collection'?\n"


def test_a_port_that_cannot_be_had_is_a_wrong_use(docket_command: Command, settings: dict[str, str], redis_server: RedisServer):
    port = redis_server.url.rpartition(":")[2].partition("/")[0]

    refused = docket_command("worker", "--healthcheck-port", port, env=settings)

    assert refused.returncode == 2
    assert f"Cannot serve health checks on port {port}" in refused.stderr


def test_every_flag_is_a_parameter_of_worker_run_and_the_other_way_round():
    flags = {parameter.name for parameter in worker.params if isinstance(parameter, click.Option)} - {"logging_level", "logging_format"}

    assert flags == set(inspect.signature(Worker.run).parameters)


def test_every_option_but_the_runs_own_has_a_variable():
    without = {parameter.name for parameter in worker.params if isinstance(parameter, click.Option) and not parameter.envvar}

    assert without == {"until_finished"}
