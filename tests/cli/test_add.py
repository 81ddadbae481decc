"""`docket add TASK`: what it schedules, where, and what it tells."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from docket import Cancel, Docket, Execution, ExecutionState, Worker
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.cli._command import Command

pytestmark = pytest.mark.only_server("a command is a process of its own")

HOUR = timedelta(hours=1)
UNREGISTERED = "is not registered with docket"

MY_TASKS = """
import datetime, enum
from docket import Docket

class Color(enum.Enum):
    RED = "red"

async def plain(order: int, note: str = "") -> None: ...

elsewhere = Docket(name={name!r}, url={url!r})

@elsewhere.task(name="named.so")
async def owned(order: int) -> None: ...

added = elsewhere.add(plain)

something = [plain]
"""


@pytest.fixture
def here(pointed: Command, docket_name: str, redis_server: RedisServer) -> Command:
    """`my_tasks` lies in the command's folder; its docket is this test's."""
    (pointed.folder / "my_tasks.py").write_text(MY_TASKS.format(name=docket_name, url=redis_server.url))
    return pointed


async def the_one(docket: Docket) -> Execution[Any]:
    [execution] = [execution async for execution in docket.executions()]
    return execution


async def test_a_name_is_enough_and_only_the_key_is_printed(docket: Docket, pointed: Command):
    added = pointed("add", "greet", "Jane", "int:5")

    execution = await the_one(docket)
    assert added.returncode == 0
    assert added.stdout == f"{execution.key}\n"
    assert UNREGISTERED in added.stderr  # no worker is here
    assert (execution.function_name, execution.state) == ("greet", ExecutionState.QUEUED)
    assert (execution.args, execution.kwargs) == (("Jane", 5), {})


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("five", "five"),
        ("", ""),
        ("int:5", 5),
        ("int:-5", -5),
        ("str:int:5", "int:5"),
        ("bool:true", True),
        ("none:", None),
        ("a=b=c", "a=b=c"),
        ("timedelta:90s", timedelta(seconds=90)),
    ],
)
async def test_an_argument_is_a_literal(typed: str, value: object, docket: Docket, pointed: Command):
    assert pointed("add", "greet", typed, "--arg", f"name={typed}").returncode == 0

    execution = await the_one(docket)
    assert execution.args == (value,)
    assert execution.kwargs == {"name": value}


async def test_a_path_is_imported_and_its_arguments_are_checked(docket: Docket, here: Command):
    refused = here("add", "my_tasks:plain", "--arg", "oder=int:17")
    added = here("add", "my_tasks:plain", "--arg", "order=int:17", "--arg", "note=my_tasks.Color:RED", "--key", "order-17")

    assert refused.returncode == 1
    assert refused.stderr == "Error: plain(order: int, note: str = '') cannot be called like that: missing a required argument: 'order'\n"
    assert (added.returncode, added.stdout) == (0, "order-17\n")
    execution = await docket.get_execution("order-17")
    assert execution is not None
    assert execution.function_name == "plain"


@pytest.mark.parametrize(("path", "name"), [("my_tasks:owned", "named.so"), ("my_tasks:added", "plain")])
async def test_a_task_of_a_docket_knows_where_it_belongs(path: str, name: str, docket: Docket, here: Command):
    added = Command(here.folder)("add", path, "int:17", "-k", "k")

    assert (added.returncode, added.stdout) == (0, "k\n")
    assert (await the_one(docket)).function_name == name


async def test_a_flag_wins_over_what_the_code_says(here: Command, new_server: Any):
    server: RedisServer = new_server()

    added = Command(here.folder)("add", "my_tasks:owned", "int:17", "-k", "k", "--url", server.url, "--docket", "other")

    assert added.returncode == 0
    async with Docket(name="other", url=server.url) as other:
        assert (await the_one(other)).key == "k"


async def test_it_can_be_due_later(docket: Docket, pointed: Command):
    moment = datetime.now(timezone.utc).replace(microsecond=0) + HOUR
    local = moment.astimezone().replace(tzinfo=None)
    pointed("add", "greet", "--key", "after", "--in", "5m")
    pointed("add", "greet", "--key", "utc", "--at", moment.isoformat().replace("+00:00", "Z"))
    pointed("add", "greet", "--key", "local", "--at", local.isoformat())

    due = {execution.key: execution.when async for execution in docket.executions(state="scheduled")}

    assert timedelta(minutes=4) < due["after"] - datetime.now(timezone.utc) < timedelta(minutes=5)
    assert due["utc"] == due["local"] == moment


async def test_a_key_that_stands_stays_as_it_is(docket: Docket, pointed: Command):
    first = pointed("add", "greet", "Jane", "--key", "k", "--in", "1h")
    second = pointed("add", "greet", "Jim", "--key", "k")

    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == second.stdout == "k\n"
    assert second.stderr.splitlines()[-1] == "There is a task under this key already, which is scheduled; nothing was changed."
    assert (await the_one(docket)).args == ("Jane",)


async def test_replace_takes_its_place(docket: Docket, pointed: Command):
    pointed("add", "greet", "Jane", "--key", "k", "--in", "1h")
    replaced = pointed("add", "greet", "Jim", "--key", "k", "--replace")

    assert replaced.returncode == 0
    execution = await the_one(docket)
    assert (execution.args, execution.state) == (("Jim",), ExecutionState.QUEUED)


async def test_a_script_gets_an_object(docket: Docket, pointed: Command):
    added = json.loads(pointed("add", "greet", "--key", "k", "--in", "1h", "--json").stdout)
    again = json.loads(pointed("add", "greet", "--key", "k", "--json").stdout)

    assert (added["key"], added["task"], added["state"], added["disposition"]) == ("k", "greet", "scheduled", "scheduled")
    assert (again["disposition"], again["when"]) == ("already_scheduled", added["when"])


async def test_a_struck_call_is_not_scheduled(docket: Docket, pointed: Command):
    await docket.strike("greet", "name", "==", "Jane")

    refused = pointed("add", "greet", "--arg", "name=Jane", "--key", "k")
    as_json = pointed("add", "greet", "--arg", "name=Jane", "--key", "k", "--json")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Error: greet is struck, so this was not scheduled" in refused.stderr
    assert (as_json.returncode, json.loads(as_json.stdout)["disposition"]) == (1, "struck")
    assert [execution async for execution in docket.executions()] == []
    await docket.restore("greet", "name", "==", "Jane")


@pytest.fixture
async def serving(docket: Docket) -> AsyncIterator[Docket]:
    """A worker runs the docket's tasks, which end in different ways."""

    async def well() -> None: ...

    async def badly() -> None:
        raise ValueError("no luck")

    async def cancelled() -> None:
        raise Cancel("not today")

    async def long() -> None:
        await asyncio.sleep(3600)

    for function in (well, badly, cancelled, long):
        docket.register(function)
    async with Worker(docket, name="w") as worker:
        running = asyncio.ensure_future(worker.run_forever())
        yield docket
        worker.stop()
        await running


@pytest.mark.parametrize(("task", "status", "said"), [("well", 0, "completed"), ("badly", 1, "ValueError: no luck"), ("cancelled", 3, "cancelled")])
async def test_waiting_for_the_end_exits_as_it_ended(task: str, status: int, said: str, serving: Docket, pointed: Command):
    added = await pointed.aside("add", task, "--key", "k", "--wait")

    assert (added.returncode, added.stdout) == (status, "k\n")
    assert said in added.stderr


async def test_waiting_can_be_interrupted_and_the_task_goes_on(serving: Docket, pointed: Command):
    with pointed.start("add", "long", "--key", "k", "--wait") as running:

        async def it_runs() -> bool:
            execution = await serving.get_execution("k")
            return execution is not None and execution.state is ExecutionState.RUNNING and "running on w" in running.text()

        await eventually(it_runs)
        assert running.stop(signal.SIGINT) == 130
        assert "Traceback" not in running.text()

    execution = await serving.get_execution("k")
    assert execution is not None
    assert execution.state is ExecutionState.RUNNING
    await serving.cancel("k")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'TASK'"),
        (("greet", "int:five"), "'int:five' asks for an int"),
        (("greet", "--arg", "name"), "'name' is no argument; write NAME=VALUE"),
        (("greet", "--arg", "=5"), "'=5' is no argument"),
        (("greet", "--arg", "n=int:x"), "'int:x'"),
        (("greet", "--arg", "n=int:1", "--arg", "n=int:2"), "'n' is given twice"),
        (("greet", "--in", "soon"), "'soon' is not a duration"),
        (("greet", "--at", "soon"), "'soon' is no moment"),
        (("greet", "--in", "1h", "--at", "2030-01-31T12:00Z"), "--in and --at each say when"),
        (("greet", "--replace"), "--replace takes the place of what stands under a key"),
    ],
)
def test_a_wrong_use_exits_2_and_says_why(arguments: tuple[str, ...], said: str, docket_command: Command):
    refused = docket_command("add", *arguments)

    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("my_tasks:plian", "did you mean 'plain'?"),
        ("nowhere:plain", "there is no module 'nowhere'"),
        ("my_tasks:something", "'my_tasks:something' is a list; name a task, or a function"),
        ("my_tasks:Color", "'my_tasks:Color' is a EnumType; name a task, or a function"),
    ],
)
def test_a_path_that_leads_to_no_task_is_one_line(path: str, said: str, here: Command):
    refused = here("add", path)

    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert said.replace("EnumType", "Enum") in refused.stderr.replace("EnumType", "Enum").replace("EnumMeta", "Enum")


def test_memory_is_refused_because_nobody_would_see_the_task(docket_command: Command, tmp_path: Path):
    (tmp_path / "mine.py").write_text("from docket import Docket\ndocket = Docket(url='memory://mine')\n@docket.task\nasync def greet() -> None: ...\n")

    by_flag = docket_command("add", "greet", "--url", "memory://mine")
    by_code = docket_command("add", "mine:greet")

    assert by_flag.returncode == by_code.returncode == 1
    words = "Error: memory://mine lives inside one process, and this one ends now: no worker would ever see the task; give --url redis://...\n"
    assert by_flag.stderr == by_code.stderr == words
