"""`docket show KEY`: everything that is known of one run, and of its arguments only what may be shown."""

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from docket import Docket, Progress, Retry, Worker
from docket._clock import to_us
from docket._store.records import Order
from tests._servers import RedisServer
from tests.cli._command import Command
from tests.cli._terminal import open_terminal

pytestmark = pytest.mark.only_server("a command is a process of its own")

HOUR = timedelta(hours=1)

MY_TASKS = """
from typing import Annotated
from docket import Logged

async def charge(customer: Annotated[int, Logged], card: str) -> None: ...

collection = [charge]
"""

MY_DOCKET = """
from docket import Docket
from my_tasks import charge

docket = Docket(name={name!r}, url={url!r})
docket.register(charge)
"""


def fields(shown: str) -> dict[str, str]:
    """The names and values of a listing in a pipe."""
    return dict(re.split(r"  +", line, maxsplit=1) for line in shown.splitlines())


async def test_a_scheduled_run_says_when_it_is_due_and_that_nobody_knows_it(docket: Docket, pointed: Command):
    asked = await docket.add("charge", key="k", when=HOUR)(5, card="secret")

    shown = pointed("show", "k")

    known = fields(shown.stdout)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [*known] == ["Key", "Task", "State", "Due", "Attempt", "Known to", "Arguments", "Generation"]
    assert (known["Key"], known["Task"], known["State"], known["Attempt"], known["Generation"]) == ("k", "charge", "scheduled", "1", str(asked.generation))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(in (59m \d\ds|1h 00m)\)", known["Due"])
    assert known["Known to"] == "no live worker; it waits for one that knows the task"
    assert re.fullmatch(r"\d+ bytes \(--tasks shows those annotated Logged\)", known["Arguments"])
    assert "secret" not in shown.stdout


async def test_its_arguments_are_shown_only_where_its_code_says_so(docket: Docket, pointed: Command, redis_server: RedisServer, tmp_path: Path):
    (tmp_path / "my_tasks.py").write_text(MY_TASKS)
    (tmp_path / "my_docket.py").write_text(MY_DOCKET.format(name=docket.name, url=redis_server.url))
    await docket.add("charge", key="k", when=HOUR)(5, card="secret")

    by_collection = pointed("show", "k", "--tasks", "my_tasks:collection")
    by_docket = Command(tmp_path)("show", "k", "--tasks", "my_docket:docket")

    assert fields(by_collection.stdout)["Call"] == fields(by_docket.stdout)["Call"] == "charge(5, card=...){k}"
    assert "Arguments" not in fields(by_docket.stdout)


async def test_a_script_gets_an_object(docket: Docket, pointed: Command, tmp_path: Path):
    (tmp_path / "my_tasks.py").write_text(MY_TASKS)
    await docket.add("charge", key="k", when=HOUR)(5, card="secret")

    plain = json.loads(pointed("show", "k", "--json").stdout)
    with_code = json.loads(pointed("show", "k", "--json", "--tasks", "my_tasks:collection").stdout)

    assert (plain["key"], plain["task"], plain["state"], plain["crashes"], plain["call"]) == ("k", "charge", "scheduled", 0, None)
    assert plain["arguments_bytes"] > 10
    assert with_code == {**plain, "call": "charge(5, card=...){k}"}


async def test_a_running_run_says_where_and_how_far(docket: Docket, pointed: Command):
    async def long(progress: Progress = Progress()) -> None:
        await progress.set_total(10)
        await progress.increment(4)
        await progress.set_message("charging")
        reported.set()
        await asyncio.sleep(3600)

    reported = asyncio.Event()
    docket.register(long)
    async with Worker(docket, name="w") as worker:
        running = asyncio.ensure_future(worker.run_forever())
        await docket.add(long, key="k")()
        await reported.wait()

        known = fields((await pointed.aside("show", "k")).stdout)
        found = json.loads((await pointed.aside("show", "k", "--json")).stdout)

        await docket.cancel("k")
        worker.stop()
        await running

    assert (known["State"], known["Worker"], known["Progress"]) == ("running", "w", "4/10 (40%) charging")
    assert known["Started"].endswith("ago)")
    assert "Known to" not in known
    assert {name: found["progress"][name] for name in ("current", "total", "message")} == {"current": 4, "total": 10, "message": "charging"}
    assert found["progress"]["updated_at"].endswith("+00:00")


async def test_a_run_without_words_for_its_progress_shows_numbers(docket: Docket, pointed: Command):
    async def counting(progress: Progress = Progress()) -> None:
        await progress.set_total(3)

    docket.register(counting)
    await docket.add(counting, key="k")()
    async with Worker(docket) as worker:
        await worker.run_until_finished()

    assert fields(pointed("show", "k").stdout)["Progress"] == "0/3 (0%)"


async def test_an_ended_run_says_how(docket: Docket, pointed: Command):
    async def broken(retry: Retry = Retry(attempts=2)) -> None:
        raise ValueError("no luck")

    docket.register(broken)
    await docket.add(broken, key="k")()
    async with Worker(docket, name="w") as worker:
        await worker.run_until_finished()

    known = fields(pointed("show", "k").stdout)

    assert (known["State"], known["Attempt"], known["Error"]) == ("failed", "2", "ValueError: no luck")
    assert known["Ended"].endswith("ago)")


async def test_a_waiting_run_says_how_many_workers_know_it(docket: Docket, pointed: Command):
    async def known_here() -> None: ...

    docket.register(known_here)
    await docket.add(known_here, key="k", when=HOUR)()
    async with Worker(docket) as worker:
        running = asyncio.ensure_future(worker.run_forever())
        while not await docket.task_workers("known_here"):
            await asyncio.sleep(0.01)

        known = fields((await pointed.aside("show", "k")).stdout)

        worker.stop()
        await running

    assert known["Known to"] == "1 live worker"


async def test_the_trace_and_the_workers_that_were_lost_are_shown(docket: Docket, pointed: Command, redis_server: RedisServer):
    trace = b'{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}'
    await docket.store.lifecycle.schedule(Order("k", "one", b"", to_us(docket.clock.now() + HOUR), trace=trace))
    client: Any = redis_server.client()
    client.hset(docket.store.keys.run("k"), "crashes", "2")

    shown = pointed("show", "k")
    found = json.loads(pointed("show", "k", "--json").stdout)

    assert fields(shown.stdout)["Trace"] == found["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert fields(shown.stdout)["Lost"] == "2 workers while running it"
    assert (found["crashes"], found["redelivered"]) == (2, True)


async def test_on_a_terminal_what_is_wrong_is_red(docket: Docket, pointed: Command):
    await docket.add("charge", key="k", when=HOUR)()

    with open_terminal(pointed, "show", "k", env=pointed.variables) as terminal:
        assert await terminal.end() == 0

    assert "\x1b[1;31mno live worker" in terminal.written
    assert "\x1b[1mKey" in terminal.written


def test_what_is_not_known_exits_1_and_says_so(pointed: Command):
    shown = pointed("show", "k\x1b[1m")

    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith(r"Error: Nothing is known of k\x1b[1m on the docket '")


def test_tasks_that_lead_nowhere_are_one_line(pointed: Command):
    refused = pointed("show", "k", "--tasks", "nowhere:tasks")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: Cannot load 'nowhere:tasks'")


def test_a_docket_in_memory_is_refused_also_when_it_stands_in_the_code(docket_command: Command, tmp_path: Path):
    (tmp_path / "mine.py").write_text("from docket import Docket\ndocket = Docket(url='memory://mine')\n")

    refused = docket_command("show", "k", "--tasks", "mine:docket")

    assert refused.returncode == 1
    assert refused.stderr == "Error: memory://mine lives inside one process, and this one has only just begun: it holds no tasks; give --url redis://...\n"
