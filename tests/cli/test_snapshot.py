"""`docket snapshot`: a docket as a whole, for people and for scripts."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from docket import Docket, Progress, Worker
from tests.cli._command import Command
from tests.cli._terminal import open_terminal

pytestmark = pytest.mark.only_server("a command is a process of its own")

HOUR = timedelta(hours=1)


@pytest.fixture
async def busy(docket: Docket) -> AsyncIterator[Docket]:
    """One task runs, one is queued for a worker that never comes, and two are scheduled."""
    begun = asyncio.Event()

    async def long(progress: Progress = Progress()) -> None:
        await progress.increment(5)
        begun.set()
        await asyncio.sleep(3600)

    docket.register(long)
    async with Worker(docket, name="w", concurrency=1) as worker:
        running = asyncio.ensure_future(worker.run_forever())
        await docket.add(long, key="running")()
        await begun.wait()
        await docket.add("charge", key="queued")(5, card="secret")
        await docket.add("charge", key="later", when=2 * HOUR)(6, card="secret")
        await docket.add("charge", key="soon", when=HOUR)(7, card="secret")
        yield docket
        await docket.clear()
        await docket.cancel("running")
        worker.stop()
        await running


async def test_it_counts_and_lists_what_runs_and_what_comes_next(busy: Docket, pointed: Command):
    shown = await pointed.aside("snapshot")

    assert (shown.returncode, shown.stderr) == (0, "")
    heading, counts, totals, workers, *listed = shown.stdout.splitlines()
    assert re.fullmatch(rf"Docket '{busy.name}' at \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", heading)
    assert counts == "1 running, 1 queued, 0 waiting for a limit, 2 scheduled"
    assert totals == "So far: 0 completed, 0 failed, 0 cancelled, 0 retried"
    assert workers == "1 live worker"
    assert [re.split(r"  +", line)[0] for line in listed] == ["", "RUNNING", "running", "", "NEXT", "queued", "soon", "later"]
    assert re.search(r"^running +\d.*s +long +w +5/100 \(5%\)$", shown.stdout, re.MULTILINE)
    assert re.search(r"^soon +scheduled +in (59m \d\ds|1h 00m) +charge$", shown.stdout, re.MULTILINE)
    assert "secret" not in shown.stdout


async def test_a_script_gets_one_object(busy: Docket, pointed: Command):
    shown = json.loads((await pointed.aside("snapshot", "--json")).stdout)

    assert [*shown] == ["docket", "taken", "counts", "total_tasks", "running", "future", "workers", "is_all"]
    assert (shown["docket"], shown["total_tasks"], shown["is_all"]) == (busy.name, 4, True)
    assert shown["counts"] == {"scheduled": 2, "queued": 1, "running": 1, "waiting": 0, "completed": 0, "failed": 0, "cancelled": 0, "retried": 0}
    assert [each["key"] for each in shown["running"]] == ["running"]
    assert [each["key"] for each in shown["future"]] == ["queued", "soon", "later"]
    assert [worker["name"] for worker in shown["workers"]] == ["w"]
    assert shown["taken"].endswith("+00:00")


async def test_with_stats_it_sums_up_by_task(busy: Docket, pointed: Command):
    shown = await pointed.aside("snapshot", "--stats")
    as_json = json.loads((await pointed.aside("snapshot", "--stats", "--json")).stdout)

    table = [re.split(r"  +", line) for line in shown.stdout.splitlines()[-3:]]
    assert table[0] == ["TASK", "RUNNING", "NEXT", "FIRST DUE", "LAST DUE"]
    assert table[1][:3] == ["charge", "0", "3"]
    assert table[1][3].endswith(" ago")
    assert table[1][4].startswith("in ")
    assert table[2] == ["long", "1", "0"]
    charge, long = as_json["stats"]
    assert (charge["task"], charge["running"], charge["future"]) == ("charge", 0, 3)
    assert charge["first_due"] < charge["last_due"]
    assert long == {"task": "long", "running": 1, "future": 0, "first_due": None, "last_due": None}


async def test_a_limit_is_said_to_be_one(busy: Docket, pointed: Command):
    shown = await pointed.aside("snapshot", "--limit", "1", "--stats")
    as_json = json.loads((await pointed.aside("snapshot", "--limit", "1", "--json")).stdout)

    assert "There is more; --limit lists more of it, and docket ls all." in shown.stdout
    assert "Of what is listed:" in shown.stdout
    assert "soon" not in shown.stdout
    assert (len(as_json["future"]), as_json["is_all"], as_json["total_tasks"]) == (1, False, 4)


async def test_calls_are_shown_where_the_code_is(busy: Docket, pointed: Command, tmp_path: Path):
    (tmp_path / "my_tasks.py").write_text(
        "from typing import Annotated\nfrom docket import Logged\n"
        "async def charge(customer: Annotated[int, Logged], card: str) -> None: ...\ncollection = [charge]\n"
    )

    shown = await pointed.aside("snapshot", "--tasks", "my_tasks:collection")

    assert "charge(7, card=...)\n" in shown.stdout
    assert "secret" not in shown.stdout


def test_an_empty_docket_has_little_to_say(pointed: Command):
    shown = pointed("snapshot", "--stats")

    assert len(shown.stdout.splitlines()) == 4
    assert "0 live workers" in shown.stdout


async def test_on_a_terminal_it_has_tables(busy: Docket, pointed: Command):
    with open_terminal(pointed, "snapshot", env=pointed.variables) as terminal:
        assert await terminal.end() == 0

    assert "\x1b[1mRUNNING" in terminal.written
    assert re.search(r"^later +scheduled +in (1h 59m|2h 00m) +charge$", terminal.text, re.MULTILINE)


def test_memory_is_refused_because_there_is_nothing_to_look_at(docket_command: Command):
    refused = docket_command("snapshot", "--url", "memory://here")

    assert refused.returncode == 1
    assert "there is nothing in it to look at" in refused.stderr
