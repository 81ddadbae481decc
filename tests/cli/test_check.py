"""`docket check`: 0 when everything that waits has a live worker that knows it, else 1 and why."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from docket import Docket, Worker
from tests._waiting import eventually
from tests.cli._command import Command

pytestmark = pytest.mark.only_server("a command is a process of its own")

HOUR = timedelta(hours=1)


async def known() -> None: ...


@pytest.fixture
async def attended(docket: Docket) -> AsyncIterator[Docket]:
    """A live worker knows the task `known`."""
    docket.register(known)
    async with Worker(docket, name="w") as worker:
        running = asyncio.ensure_future(worker.run_forever())

        async def it_is_heard() -> bool:
            return bool(await docket.task_workers("known"))

        await eventually(it_is_heard)
        yield docket
        worker.stop()
        await running


async def test_all_is_well_where_a_worker_knows_everything_that_waits(attended: Docket, pointed: Command):
    await attended.add(known, when=HOUR)()
    await attended.strike("something")

    checked = await pointed.aside("check")
    as_json = await pointed.aside("check", "--json")

    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == "All is well: 1 call waiting for 1 live worker that knows its task; 1 strike in effect.\n"
    assert as_json.returncode == 0
    assert json.loads(as_json.stdout) == {"ok": True, "problems": [], "waiting": 1, "workers": 1, "strikes": 1, "unannounced": {}}
    await attended.restore("something")


async def test_a_task_that_nobody_knows_is_named_with_how_many_wait(attended: Docket, pointed: Command):
    await attended.add(known, when=HOUR)()
    for task, number in (("greet", 2), ("charge\x1b", 1)):
        for _ in range(number):
            await attended.add(task, when=HOUR)()

    checked = await pointed.aside("check")
    as_json = await pointed.aside("check", "--json")

    problems = ["No live worker knows the task greet: 2 calls of it wait.", r"No live worker knows the task charge\x1b: 1 call of it waits."]
    assert (checked.returncode, checked.stdout) == (1, "")
    assert checked.stderr.splitlines() == [f"Error: {problem}" for problem in problems]
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout) == {
        "ok": False, "problems": problems, "waiting": 4, "workers": 1, "strikes": 0, "unannounced": {"greet": 2, "charge\x1b": 1},
    }  # fmt: skip


async def test_queued_work_counts_as_well(docket: Docket, pointed: Command):
    await docket.add("greet")()

    checked = pointed("check")

    assert (checked.returncode, checked.stderr) == (1, "Error: No live worker knows the task greet: 1 call of it waits.\n")


def test_where_nothing_waits_nobody_is_missed(pointed: Command):
    checked = pointed("check")

    assert (checked.returncode, checked.stdout) == (0, "All is well: nothing is waiting, and there are 0 live workers; 0 strikes in effect.\n")


def test_a_redis_that_is_away_is_the_reason(docket_command: Command):
    checked = docket_command("check", "--url", "redis://127.0.0.1:1")
    as_json = docket_command("check", "--url", "redis://127.0.0.1:1", "--json")

    assert (checked.returncode, checked.stdout) == (1, "")
    assert checked.stderr.startswith("Error: Redis at redis://127.0.0.1:1 cannot be reached")
    assert checked.stderr.count("\n") == 1
    found = json.loads(as_json.stdout)
    assert (as_json.returncode, as_json.stderr, found["ok"]) == (1, "", False)
    assert found["problems"][0].startswith("Redis at redis://127.0.0.1:1 cannot be reached")


def test_a_wrong_use_is_no_finding(docket_command: Command):
    assert docket_command("check", "--docket", "a{b}", "--json").returncode == 2


def test_memory_is_refused_because_no_worker_can_be_in_it(docket_command: Command):
    refused = docket_command("check", "--url", "memory://here")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: memory://here lives inside one process")
