"""`docket workers ls` and `docket workers for-task TASK`."""

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest

from docket import Docket, Worker
from tests._waiting import eventually
from tests.cli._command import Command

pytestmark = pytest.mark.only_server("a command is a process of its own")


async def one() -> None: ...


async def two() -> None: ...


@pytest.fixture
async def crew(docket: Docket) -> AsyncIterator[None]:
    """Two live workers: `a` knows the task `one`, and `b` the task `two` as well."""
    other = Docket(name=docket.name, url=docket.url)
    docket.register(one)
    other.register(one)
    other.register(two)
    async with other, Worker(docket, name="a") as a, Worker(other, name="b") as b:
        running = [asyncio.ensure_future(worker.run_forever()) for worker in (b, a)]

        async def both_are_heard() -> bool:
            return len(await docket.workers()) == 2

        await eventually(both_are_heard)
        yield
        a.stop()
        b.stop()
        await asyncio.gather(*running)


@pytest.mark.usefixtures("crew")
async def test_live_workers_are_listed_with_their_tasks(pointed: Command):
    listed = await pointed.aside("workers", "ls")

    heading, a, b = listed.stdout.splitlines()
    assert (listed.returncode, listed.stderr) == (0, "")
    assert re.split(r"  +", heading) == ["WORKER", "LAST SEEN", "TASKS"]
    assert re.fullmatch(r"a +\d.*s ago +fail, one, sleep, trace|a +0s ago +fail, one, sleep, trace", a)
    assert re.fullmatch(r"b +.* ago +fail, one, sleep, trace, two", b)


@pytest.mark.usefixtures("crew")
async def test_those_that_know_a_task_are_listed(pointed: Command):
    listed = await pointed.aside("workers", "for-task", "two", "--json")

    [worker] = [json.loads(line) for line in listed.stdout.splitlines()]
    assert worker["name"] == "b"
    assert worker["tasks"] == ["fail", "one", "sleep", "trace", "two"]
    assert worker["last_seen"].endswith("+00:00")


@pytest.mark.usefixtures("crew")
async def test_a_script_gets_one_object_a_worker(pointed: Command):
    listed = await pointed.aside("workers", "ls", "--json")

    assert [json.loads(line)["name"] for line in listed.stdout.splitlines()] == ["a", "b"]


async def test_workers_that_are_heard_of_rarely_are_live_for_those_who_know_that(docket: Docket, pointed: Command):
    await docket.store.workers.heartbeat("w~1", "w", ["one"], 3_600_000)
    await docket.store.backend.call("ZINCRBY", docket.key("workers"), str(-60_000_000), "w~1")

    assert pointed("workers", "ls").stdout == ""
    assert pointed("workers", "ls", "--heartbeat-interval", "1m").stdout.splitlines()[1].startswith("w ")
    assert pointed("workers", "ls", env={"DOCKET_MISSED_HEARTBEATS": "100"}).stdout.splitlines()[1].startswith("w ")


def test_where_there_are_none_a_person_is_told(pointed: Command):
    nobody, for_task = pointed("workers", "ls"), pointed("workers", "for-task", "two")

    assert (nobody.returncode, nobody.stdout, nobody.stderr) == (0, "", "No live workers.\n")
    assert (for_task.returncode, for_task.stdout, for_task.stderr) == (0, "", "No live worker knows the task two.\n")


def test_without_a_command_its_commands_are_shown(docket_command: Command):
    shown = docket_command("workers", "--help")

    assert shown.returncode == 0
    assert "for-task" in shown.stdout


def test_memory_is_refused_because_no_worker_can_be_in_it(docket_command: Command):
    refused = docket_command("workers", "ls", "--url", "memory://here")

    assert refused.returncode == 1
    assert "no worker can be in it" in refused.stderr
