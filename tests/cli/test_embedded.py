"""Commands and programs that share the server of a directory, with nothing else running."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docket import Docket
from tests.cli._command import Command, environment
from tests.redis._places import Place, new_place

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="an embedded server needs a POSIX system")

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def place() -> Iterator[Place]:
    with new_place() as place:
        yield place


@pytest.fixture
def command(place: Place) -> Command:
    """This runs where `.docket` is."""
    return Command(place.path.parent).with_variables({"DOCKET_URL": "embedded://./.docket", "DOCKET_NAME": "web"})


def test_commands_start_a_server_look_and_shut_it_down(command: Command, place: Place):
    added = command("add", "greet", "Jane", "--key", "jane", "--in", "1h")
    place.end()
    listed = command("ls")
    place.end()

    assert (added.returncode, added.stdout) == (0, "jane\n"), added.stderr
    assert listed.returncode == 0, listed.stderr
    assert "jane" in listed.stdout
    assert place.log.count("bye bye") == 2


async def test_a_worker_next_to_a_program_is_a_whole_task_system(command: Command, place: Place):
    (command.folder / "my_tasks.py").write_text("async def greet(name):\n    return f'Hello, {name}'\n\ncollection = [greet]\n")

    with command.start("worker", "--tasks", "my_tasks:collection") as worker:
        async with Docket("web", place.url) as docket:
            execution = await docket.add("greet")("Jane")
            assert await execution.get_result() == "Hello, Jane"
        worker.process.terminate()
        assert worker.process.wait(20) == 0, worker.text()

    place.end()
    assert place.log.count("Ready to accept") == 1


def test_a_directory_that_will_not_do_is_said_in_one_line(command: Command, place: Place):
    place.path.mkdir()
    place.path.chmod(0o777)

    refused = command("ls")

    assert refused.returncode != 0
    assert "that others can write to" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_example_runs(place: Place):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "embedded.py")],
        cwd=place.path.parent, env=environment({"PYTHONPATH": str(ROOT)}), capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "hello, Ada" in done.stdout
    assert "hello, Grace" in done.stdout
