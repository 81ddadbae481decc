"""The command as a whole: help, version, errors, and how soon it starts."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click
import pytest

from docket._version import __version__
from docket.cli import _options, app
from docket.errors import RedisUnavailable
from tests.cli._command import DEADLINE, MODULE, SCRIPT, Command, environment

COMMANDS = app.list_commands(click.Context(app))


@pytest.mark.parametrize("entry", [pytest.param(MODULE, id="python -m docket"), pytest.param(SCRIPT, id="docket")])
def test_both_entries_are_the_same_command(entry: tuple[str, ...], tmp_path: Path):
    shown = Command(tmp_path, entry)("version")

    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"{__version__}\n", "")


def test_the_version_is_a_flag_too(docket_command: Command):
    shown = docket_command("--version")

    assert (shown.returncode, shown.stdout) == (0, f"{__version__}\n")


def test_without_arguments_the_help_is_shown(docket_command: Command):
    shown = docket_command()

    assert shown.returncode == 0
    assert shown.stdout == docket_command("--help").stdout == docket_command("-h").stdout
    assert shown.stdout.startswith("Usage: docket [OPTIONS] ")
    for command in COMMANDS:
        assert f"\n  {command} " in shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_says_what_it_is(name: str):
    def commands(command: click.Command) -> Iterator[click.Command]:
        yield command
        if isinstance(command, click.Group):
            for each in command.commands.values():
                yield from commands(each)

    whole = app.get_command(click.Context(app), name)
    assert whole is not None
    assert whole.name == name
    for command in commands(whole):
        assert command.help, command
        assert "\\b" not in command.help, command  # in a raw docstring click does not see it
        assert all(option.help for option in command.params if isinstance(option, click.Option) and not option.hidden), command


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["wroker"], id="an unknown command"),
        pytest.param(["xyz"], id="an unknown command like no other"),
        pytest.param(["worker", "--concurrency", "none"], id="a value of another kind"),
        pytest.param(["worker", "--concurrency", "0"], id="a value out of range"),
        pytest.param(["worker", "--docket", "a{b}"], id="a value that the options refuse"),
        pytest.param(["worker", "--redelivery-timeout", "0s"], id="a duration that the options refuse"),
        pytest.param(["tasks", "trace", "--docket", "a{b}"], id="a value that the options refuse, elsewhere"),
    ],
)
def test_a_wrong_use_exits_2_and_says_why(arguments: list[str], docket_command: Command):
    refused = docket_command(*arguments)

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "Error: " in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_error_is_one_clear_line_and_exits_1(docket_command: Command):
    failed = docket_command("worker", "--tasks", "my_tasks:tasks")

    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.startswith("Error: Cannot load 'my_tasks:tasks': there is no module 'my_tasks'")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ("add", "greet"), ("cancel", "k"), ("clear", "--yes"), ("tasks", "trace"), ("ls",), ("ls", "--json"), ("show", "k"), ("snapshot",),
        ("workers", "ls"), ("workers", "for-task", "greet"), ("check",), ("strike",), ("restore",), ("strikes",), ("watch", "k"),
        ("dead", "ls"), ("dead", "show", "1"), ("dead", "retry", "--all"), ("dead", "rm", "1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_unreachable_server_is_one_clear_line(command: tuple[str, ...], docket_command: Command):
    failed = docket_command(*command, "--url", "redis://user:secret@127.0.0.1:1/0")

    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.startswith("Error: Redis at redis://***@127.0.0.1:1/0 cannot be reached: ")
    assert failed.stderr.count("\n") == 1
    assert "secret" not in failed.stderr


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def url_of(server: socket.socket) -> str:
    return f"redis://user:secret@127.0.0.1:{server.getsockname()[1]}/0"


async def test_a_server_that_never_answers_is_given_up_on(silent_server: socket.socket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_options, "OPENING_TIMEOUT", timedelta(milliseconds=50))
    connection = _options.Connection("is not asked", options={"url": url_of(silent_server)})

    with pytest.raises(RedisUnavailable, match=r"Redis at redis://\*\*\*@127.0.0.1:\d+/0 did not answer within 0.05 seconds"):
        async with connection.open():
            raise AssertionError("it is not open")


def test_a_command_that_is_interrupted_ends_without_a_traceback(silent_server: socket.socket, docket_command: Command):
    with docket_command.start("ls", "--url", url_of(silent_server)) as running:
        taken, _ = silent_server.accept()
        with taken:
            assert running.stop(signal.SIGINT) == 1

        assert running.text().strip() == "Aborted!"


def modules_of(command: Command, *arguments: str) -> set[str]:
    """What a command imports; from `-X importtime`, which tells of every import once."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "docket", *arguments],
        cwd=command.folder,
        env=environment(command.variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return set(re.findall(r"^import time:.*\| +(\S+)$", told.stderr, re.MULTILINE))


# Python 3.10 needs asyncio for the class of `ResultTimeout`
HEAVY = ({"asyncio"} if sys.version_info >= (3, 11) else set[str]()) | {"anyio", "hiredis", "opentelemetry", "pygments", "redis", "rich", "structlog", "uvloop"}


@pytest.mark.parametrize(
    "arguments",
    [(), ("--help",), ("version",), ("--version",), ("ls", "--help"), ("show", "--help"), ("strike", "--help"), ("dead", "ls", "--help")],
    ids=" ".join,
)
def test_help_waits_for_nothing_heavy(arguments: tuple[str, ...], docket_command: Command):
    modules = modules_of(docket_command, *arguments)

    assert "click" in modules
    assert not HEAVY & modules
    assert "docket.docket" not in modules


@pytest.mark.parametrize("arguments", [("ls",), ("ls", "--json"), ("add", "greet"), ("check",), ("strikes",), ("dead", "ls")], ids=" ".join)
async def test_a_command_starts_as_soon_as_a_redis_client_can_be_imported(arguments: tuple[str, ...], pointed: Command):
    """That is: within 1.6 times what `import redis.asyncio, structlog` takes. These would each take a tenth of that, or more."""
    modules = modules_of(pointed, *arguments)

    assert "docket.docket" in modules
    assert not {"rich", "structlog", "uvloop", "docket.worker", "docket._redis.memory", "burner_redis"} & modules
