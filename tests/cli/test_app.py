"""The command as a whole: help, version, errors, and how soon it starts."""

from pathlib import Path

import pytest

from docket._version import __version__
from tests.cli._command import MODULE, SCRIPT, Command


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
    assert "Usage: docket [OPTIONS] [COMMAND] [ARGS]..." in shown.stdout
    for command in ("tasks", "version", "worker"):
        assert f"\n  {command} " in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["wroker"], id="an unknown command"),
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


def test_an_unreachable_server_is_one_clear_line(docket_command: Command):
    failed = docket_command("tasks", "trace", "--url", "redis://user:secret@127.0.0.1:1/0")

    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: ")
    assert failed.stderr.count("\n") == 1
    assert "secret" not in failed.stderr
