"""`--serializer`, `--accept` and `--signing-keys`, on every command that connects: what one process signs, the next one runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests._servers import RedisServer
from tests.cli._command import Command

TASKS = """
async def greet(name: str) -> str:
    print(f"hello {name}")
    return name

tasks = [greet]
keys = ["a signing key of this test"]
"""
JSON = {"DOCKET_SERIALIZER": "json", "DOCKET_ACCEPT": "json"}
SIGNED = {"DOCKET_SIGNING_KEYS": "env:APP_KEYS", "APP_KEYS": "a signing key of this test"}


@pytest.fixture
def command(redis_server: RedisServer, docket_name: str, tmp_path: Path) -> Command:
    """This is pointed at the test's docket, in a folder with tasks."""
    (tmp_path / "app.py").write_text(TASKS)
    return Command(tmp_path).with_variables({"DOCKET_URL": redis_server.url, "DOCKET_NAME": docket_name})


def worked(command: Command, *arguments: str) -> str:
    done = command("worker", "--tasks", "app:tasks", "--until-finished", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_what_a_command_signs_a_worker_runs_and_what_is_not_signed_it_does_not(command: Command):
    trusting = command.with_variables({**JSON, **SIGNED})
    assert trusting("add", "greet", "--arg", "name=str:Ada").returncode == 0
    assert command("add", "greet", "--arg", "name=str:Eve", "--serializer", "json").returncode == 0

    output = worked(trusting)

    assert "hello Ada" in output
    assert "hello Eve" not in output
    assert "PayloadRefused" in output


def test_keys_of_a_module_and_a_time_of_introduction(command: Command):
    assert command("add", "greet", "--arg", "name=str:Ada").returncode == 0

    output = worked(command, "--signing-keys", "app:keys", "--no-require-signatures")

    assert "hello Ada" in output


def test_a_worker_refuses_pickles_where_it_is_told_to(command: Command):
    assert command("add", "greet", "--arg", "name=str:Ada").returncode == 0

    output = worked(command, "--serializer", "json", "--accept", "json")

    assert "hello Ada" not in output
    assert "written by 'cloudpickle'" in output


@pytest.mark.parametrize("arguments", [("ls",), ("worker", "--tasks", "app:tasks")])
def test_a_serializer_that_is_none_is_a_wrong_option(command: Command, arguments: tuple[str, ...]):
    done = command(*arguments, "--serializer", "yaml")

    assert done.returncode == 2
    assert "serializer is 'yaml'" in done.stderr
