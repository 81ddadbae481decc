"""`docket tasks ...`: built-in tasks, scheduled from the shell and run by `docket worker`."""

import pytest

from docket import Docket, ExecutionState
from tests._servers import RedisServer
from tests.cli._command import Command


@pytest.fixture
def settings(redis_server: RedisServer, docket_name: str) -> dict[str, str]:
    return {"DOCKET_URL": redis_server.url, "DOCKET_NAME": docket_name}


async def the_state_of(shown: str, settings: dict[str, str]) -> ExecutionState:
    """The state of the task whose key a `docket tasks` command told."""
    key = shown.split("'")[1]
    async with Docket(name=settings["DOCKET_NAME"], url=settings["DOCKET_URL"]) as docket:
        execution = await docket.get_execution(key)
        assert execution is not None
        return execution.state


@pytest.mark.parametrize(("arguments", "message"), [((), "Howdy!"), (("Moin!",), "Moin!")])
async def test_trace_logs_its_message_in_a_worker(arguments: tuple[str, ...], message: str, docket_command: Command, settings: dict[str, str]):
    added = docket_command("tasks", "trace", *arguments, env=settings)
    worked = docket_command("worker", "--until-finished", env=settings)

    assert added.returncode == worked.returncode == 0
    assert added.stdout.startswith("Added trace task '")
    assert message in worked.stdout
    assert await the_state_of(added.stdout, settings) is ExecutionState.COMPLETED


async def test_fail_fails_in_a_worker(docket_command: Command, settings: dict[str, str]):
    added = docket_command("tasks", "fail", "Ouch!", env=settings)
    worked = docket_command("worker", "--until-finished", env=settings)

    assert added.returncode == worked.returncode == 0
    assert "Ouch!" in worked.stdout
    assert await the_state_of(added.stdout, settings) is ExecutionState.FAILED


async def test_sleep_sleeps_in_a_worker(docket_command: Command, settings: dict[str, str]):
    added = docket_command("tasks", "sleep", "0.01", env=settings)
    worked = docket_command("worker", "--until-finished", env=settings)

    assert added.returncode == worked.returncode == 0
    assert await the_state_of(added.stdout, settings) is ExecutionState.COMPLETED


async def test_a_delay_schedules_for_later(docket_command: Command, settings: dict[str, str]):
    added = docket_command("tasks", "trace", "--delay", "1h", env=settings)

    assert added.returncode == 0
    assert await the_state_of(added.stdout, settings) is ExecutionState.SCHEDULED

    async with Docket(name=settings["DOCKET_NAME"], url=settings["DOCKET_URL"]) as docket:
        await docket.cancel(added.stdout.split("'")[1])


async def test_flags_win_over_variables(docket_command: Command, redis_server: RedisServer, docket_name: str):
    added = docket_command("tasks", "trace", "--url", redis_server.url, "-d", docket_name, env={"DOCKET_URL": "redis://127.0.0.1:1", "DOCKET_NAME": "other"})

    assert added.returncode == 0
    assert f"to the docket {docket_name!r}" in added.stdout
    assert docket_command("worker", "--until-finished", "-u", redis_server.url, "-d", docket_name).returncode == 0


def test_a_docket_in_memory_is_refused_because_nobody_would_see_the_task(docket_command: Command):
    refused = docket_command("tasks", "trace", "--url", "memory://here")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: memory://here lives inside one process, and this one ends now")
