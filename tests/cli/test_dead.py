"""`docket dead ls|show|retry|rm`: what failed for good, from the command line."""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from docket import Discard, Docket, ExecutionState, Retry, Worker
from docket._reasons import REASONS
from docket._worker import _failures
from docket.cli import _dead
from docket.docket import DeadLetter
from tests.cli._command import Command
from tests.cli._terminal import open_terminal

pytestmark = pytest.mark.only_server("a command is a process of its own")

HOUR = timedelta(hours=1)
FIELDS = ["id", "key", "task", "reason", "error", "attempt", "when", "died_at", "arguments_bytes", "trace_id"]
MY_TASKS = """
from typing import Annotated
from docket import Logged

async def charge(customer: Annotated[int, Logged], card: str = "none") -> None: ...

collection = [charge]
"""


async def charge(customer: int, card: str = "none", retry: Retry = Retry(attempts=2)) -> None:
    raise ValueError("card\ndeclined")


async def drop() -> None:
    raise Discard("no use")


async def die(docket: Docket, *keys: str, by_name: bool = False) -> dict[str, DeadLetter]:
    """These runs die; their letters."""
    async with Worker(docket, name="w") as worker:
        for key in keys:
            await (docket.add(charge, key=key)(customer=5, card="secret") if by_name else docket.add(charge, key=key)(5, card="secret"))
        await worker.run_until_finished()
    return {letter.key: letter async for letter in docket.dead_letters()}


async def dead(docket: Docket) -> set[str]:
    return {letter.key async for letter in docket.dead_letters()}


def rows(listed: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in listed.splitlines()]


def objects(listed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in listed.splitlines()]


@pytest.fixture
def with_tasks(pointed: Command) -> Command:
    """The command, in a folder with the code of the task."""
    (pointed.folder / "my_tasks.py").write_text(MY_TASKS)
    return pointed


def test_the_reasons_are_those_that_a_worker_gives():
    given = {word for _, word in _failures._REASONS} | {"failed"}  # pyright: ignore[reportPrivateUsage] - what a worker writes

    assert given == set(REASONS)


# ls


async def test_they_are_listed_the_latest_first(docket: Docket, pointed: Command):
    await docket.add(drop, key="dropped")()
    letters = await die(docket, "k")
    letters |= await die(docket, "later")

    listed = await pointed.aside("dead", "ls")
    as_json = await pointed.aside("dead", "ls", "--json")

    assert (listed.returncode, listed.stderr) == (0, "")
    titles, first, *others = rows(listed.stdout)
    assert titles == ["ID", "KEY", "TASK", "REASON", "DIED", "ERROR"]
    assert first[:4] == [letters["later"].id, "later", "charge", "failed"]
    assert re.fullmatch(r"\d.*s ago", first[4])
    assert first[5] == r"ValueError: card\ndeclined"
    assert {row[1] for row in others} == {"k", "dropped"}
    found = objects(as_json.stdout)
    assert [list(each) for each in found] == [FIELDS] * 3
    assert (found[0]["id"], found[0]["key"], found[0]["attempt"]) == (letters["later"].id, "later", 2)
    assert datetime.fromisoformat(found[0]["died_at"]) == letters["later"].died_at
    assert found[0]["arguments_bytes"] > 0
    assert "secret" not in listed.stdout + as_json.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--task", "drop"), {"a-2"}),
        (("--reason", "Discarded"), {"a-2"}),
        (("--reason", "poison"), set[str]()),
        (("--key-prefix", "a-"), {"a-1", "a-2"}),
        (("-k", "a-", "-t", "charge", "-r", "failed", "-n", "1"), {"a-1"}),
    ],
)
async def test_a_filter_leaves_the_others_out(arguments: tuple[str, ...], expected: set[str], docket: Docket, pointed: Command):
    await docket.add(drop, key="a-2")()
    await die(docket, "a-1", "b-1")

    listed = await pointed.aside("dead", "ls", *arguments)

    assert {row[1] for row in rows(listed.stdout)[1:]} == expected
    assert {each["key"] for each in objects((await pointed.aside("dead", "ls", "--json", *arguments)).stdout)} == expected


async def test_a_limit_holds_over_pages_and_a_pipe_gets_all(docket: Docket, pointed: Command):
    await die(docket, *(f"k{number}" for number in range(_dead.PAGE + 5)))

    everything = await pointed.aside("dead", "ls", "--json")
    assert (everything.stderr, len(objects(everything.stdout))) == ("", _dead.PAGE + 5)
    assert len(rows((await pointed.aside("dead", "ls", "-n", str(_dead.PAGE + 2))).stdout)) == _dead.PAGE + 3
    assert len(objects((await pointed.aside("dead", "ls", "--json", "-n", str(_dead.PAGE))).stdout)) == _dead.PAGE


async def test_where_there_are_none_a_person_is_told(pointed: Command):
    listed = await pointed.aside("dead", "ls")

    assert (listed.returncode, listed.stdout, listed.stderr) == (0, "", "No dead letters.\n")
    assert (await pointed.aside("dead", "ls", "--json")).stdout == ""
    with open_terminal(pointed, "dead", "ls", env=pointed.variables) as terminal:
        assert await terminal.end() == 0
    assert terminal.text == "No dead letters."


async def test_a_terminal_gets_a_table(docket: Docket, pointed: Command):
    await die(docket, "the-key", "the-other")

    with open_terminal(pointed, "dead", "ls", "-n", "1", env=pointed.variables) as terminal:
        assert await terminal.end() == 0

    assert re.search(r"the-\w+ +charge +failed", terminal.text)
    assert "The first 1 dead letter; --limit shows more, and a pipe gets all." in terminal.text.replace("\n", " ")

    with open_terminal(pointed, "dead", "ls", env=pointed.variables) as terminal:
        assert await terminal.end() == 0
    assert "the-key" in terminal.text and "the-other" in terminal.text
    assert "--limit" not in terminal.text


# show


async def test_one_is_shown_with_all_its_attempts(docket: Docket, with_tasks: Command):
    letter = (await die(docket, "k"))["k"]

    shown = await with_tasks.aside("dead", "show", letter.id)
    as_json = await with_tasks.aside("dead", "show", letter.id, "--json", "--tasks", "my_tasks:collection")

    assert (shown.returncode, shown.stderr) == (0, "")
    for words in (
        r"Key +k$",
        r"Task +charge$",
        r"Reason +failed$",
        r"Attempt +2$",
        r"Arguments +\d+ bytes \(--tasks shows",
        r"^Attempt 1$",
        r"on w: ValueError: card\\n",
    ):
        assert re.search(words, shown.stdout, re.MULTILINE), words
    assert shown.stdout.count('raise ValueError("card\\ndeclined")') == 2
    [found] = objects(as_json.stdout)
    assert list(found) == [*FIELDS, "call", "attempts"]
    assert found["call"] == "charge(5, card=...){k}"
    assert [(each["attempt"], each["reason"], each["worker"]) for each in found["attempts"]] == [(1, "failed", "w"), (2, "failed", "w")]
    assert "Traceback" in found["attempts"][0]["traceback"]
    assert "secret" not in shown.stdout + as_json.stdout


async def test_with_its_code_the_call_is_shown(docket: Docket, with_tasks: Command):
    letter = (await die(docket, "k"))["k"]

    shown = await with_tasks.aside("dead", "show", letter.id, "--tasks", "my_tasks:collection")

    assert re.search(r"Call +charge\(5, card=\.\.\.\)\{k\}$", shown.stdout, re.MULTILINE)
    assert "Arguments" not in shown.stdout


@pytest.mark.parametrize("command", [("show", "17"), ("retry", "17"), ("rm", "17")], ids=" ".join)
async def test_one_that_is_not_there_is_an_error(command: tuple[str, ...], pointed: Command, docket_name: str):
    failed = await pointed.aside("dead", *command)

    assert failed.returncode == 1
    assert f"Error: There is no dead letter 17 on the docket '{docket_name}'" in failed.stderr


# retry


async def test_one_runs_again(docket: Docket, pointed: Command, docket_name: str):
    letter = (await die(docket, "k"))["k"]

    done = await pointed.aside("dead", "retry", letter.id)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"Scheduled 1 dead letter of the docket '{docket_name}' again.\n", "")
    execution = await docket.get_execution("k")
    assert execution is not None
    assert (execution.state, execution.args, execution.kwargs) == (ExecutionState.QUEUED, (5,), {"card": "secret"})
    assert await dead(docket) == set()
    await docket.cancel("k")


async def test_later_and_at_a_moment(docket: Docket, pointed: Command):
    letters = await die(docket, "a", "b")

    [told] = objects((await pointed.aside("dead", "retry", letters["a"].id, "--in", "1h", "--json")).stdout)
    await pointed.aside("dead", "retry", letters["b"].id, "--at", "2060-01-31T12:00Z")

    a, b = await docket.get_execution("a"), await docket.get_execution("b")
    assert a is not None and b is not None
    assert told == {"id": letters["a"].id, "key": "a", "task": "charge", "when": a.when.isoformat(), "error": None}
    assert b.when.isoformat() == "2060-01-31T12:00:00+00:00"
    await docket.cancel("a")
    await docket.cancel("b")


async def test_all_of_a_kind_run_again_at_a_rate(docket: Docket, pointed: Command, docket_name: str):
    await docket.add(drop, key="a-0")()
    await die(docket, "a-1", "a-2", "a-3", "b-1")

    done = await pointed.aside("dead", "retry", "--all", "--task", "charge", "--key-prefix", "a-", "--rate", "2", "--in", "1h")

    assert (done.returncode, done.stdout) == (0, f"Scheduled 3 dead letters of the docket '{docket_name}' again.\n")
    assert await dead(docket) == {"a-0", "b-1"}
    moments = sorted([execution.when async for execution in docket.executions(state="scheduled")])
    assert [moment - moments[0] for moment in moments] == [timedelta(0), timedelta(seconds=0.5), timedelta(seconds=1)]
    await docket.clear()


async def test_what_stays_is_named_and_the_others_run(docket: Docket, pointed: Command):
    letters = await die(docket, "busy", "free")
    await docket.add("other", when=HOUR, key="busy")()

    done = await pointed.aside("dead", "retry", "--all")
    again = await pointed.aside("dead", "retry", "--all", "--json")

    assert done.returncode == again.returncode == 1
    assert "Error: charge{busy} cannot be run again: a run of that key is scheduled; wait for its end, or cancel it first\n" in done.stderr
    assert "Scheduled 1 dead letter" in done.stdout
    [told] = objects(again.stdout)
    assert (told["id"], told["when"]) == (letters["busy"].id, None)
    assert "cannot be run again" in told["error"]
    await docket.clear()


async def test_of_none_nothing_is_run_again(docket: Docket, pointed: Command):
    done = await pointed.aside("dead", "retry", "--all")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Nothing was run again.\n")


async def edited(docket: Docket, command: Command, letter: DeadLetter, *arguments: str) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    done = await command.aside("dead", "retry", letter.id, *arguments)
    assert done.returncode == 0, done.stderr
    execution = await docket.get_execution(letter.key)
    assert execution is not None
    await docket.cancel(letter.key)
    return execution.args, execution.kwargs


async def test_with_another_argument(docket: Docket, with_tasks: Command):
    letter = (await die(docket, "named", by_name=True))["named"]
    assert await edited(docket, with_tasks, letter, "--arg", "customer=int:7") == ((), {"customer": 7, "card": "secret"})

    letter = (await die(docket, "first"))["first"]
    tasks = ("--tasks", "my_tasks:collection")
    assert await edited(docket, with_tasks, letter, "--arg", "customer=int:7", *tasks) == ((7,), {"card": "secret"})

    letter = (await die(docket, "second"))["second"]
    assert await edited(docket, with_tasks, letter, "-a", "card=other", *tasks) == ((5,), {"card": "other"})

    letter = (await die(docket, "only"))["only"]
    assert await edited(docket, with_tasks, letter, "-a", "customer=int:9", "--only-args") == ((), {"customer": 9})


async def test_an_argument_that_does_not_fit_leaves_the_letter(docket: Docket, with_tasks: Command):
    letter = (await die(docket, "k"))["k"]

    unknown = await with_tasks.aside("dead", "retry", letter.id, "--arg", "customer=int:7")
    wrong = await with_tasks.aside("dead", "retry", letter.id, "--arg", "colour=red", "--tasks", "my_tasks:collection")

    assert unknown.returncode == wrong.returncode == 1
    assert "passes arguments by position, so which of them is customer cannot be known here; give --tasks" in unknown.stderr
    assert "colour" in wrong.stderr
    assert await dead(docket) == {"k"}


async def test_stored_arguments_that_do_not_fit_any_more_are_told_of(docket: Docket, with_tasks: Command):
    letter = (await die(docket, "k"))["k"]
    (with_tasks.folder / "my_tasks.py").write_text("async def charge(*, card: str) -> None: ...\ncollection = [charge]\n")

    failed = await with_tasks.aside("dead", "retry", letter.id, "--arg", "card=other", "--tasks", "my_tasks:collection")

    assert failed.returncode == 1
    assert "charge cannot be called like that: too many positional arguments" in failed.stderr


async def test_a_docket_that_signs_needs_its_keys(docket_name: str, url: str, pointed: Command):
    async with Docket(docket_name, url, signing_keys=["a signing key of this test"]) as docket:
        letter = (await die(docket, "k"))["k"]

        refused = await pointed.aside("dead", "retry", letter.id)
        assert refused.returncode == 1
        assert "give the keys" in refused.stderr

        env = {"APP_KEYS": "a signing key of this test"}
        assert (await pointed.aside("dead", "retry", letter.id, "--signing-keys", "env:APP_KEYS", env=env)).returncode == 0
        execution = await docket.get_execution("k")
        assert execution is not None and execution.args == (5,)
        await docket.cancel("k")


# rm


async def test_they_are_thrown_away(docket: Docket, pointed: Command, docket_name: str):
    letters = await die(docket, "a", "b", "c", "d")

    done = await pointed.aside("dead", "rm", letters["a"].id, letters["b"].id, letters["a"].id)
    assert (done.returncode, done.stdout) == (0, f"Threw away 2 dead letters of the docket '{docket_name}'.\n")
    assert await dead(docket) == {"c", "d"}

    again = await pointed.aside("dead", "rm", letters["a"].id, letters["c"].id, "--json")
    assert (again.returncode, objects(again.stdout)) == (1, [{"removed": 1}])
    assert f"There is no dead letter {letters['a'].id}" in again.stderr

    rest = await pointed.aside("dead", "rm", "--all", "--task", "charge", "--json")
    assert (rest.returncode, objects(rest.stdout)) == (0, [{"removed": 1}])
    assert await dead(docket) == set()


# Asking


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [(("retry", "--all"), r"Run 2 dead letters of the docket '.*' again\?"), (("rm", "--all", "-n", "1"), r"Throw away 1 dead letter of the docket '.*'\?")],
)
async def test_on_a_terminal_all_is_asked_about(arguments: tuple[str, ...], asked: str, docket: Docket, pointed: Command):
    await die(docket, "a", "b")

    with open_terminal(pointed, "dead", *arguments, env=pointed.variables) as terminal:
        await terminal.wait_for("[y/N]")
        assert re.search(asked, terminal.text.replace("\n", " "))
        terminal.type("n\n")
        assert await terminal.end() == 1
    assert await dead(docket) == {"a", "b"}

    with open_terminal(pointed, "dead", *arguments, "--yes", env=pointed.variables) as terminal:
        assert await terminal.end() == 0
    assert len(await dead(docket)) < 2
    await docket.clear()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("retry",), "give the IDs of dead letters (docket dead ls), or --all"),
        (("rm", "17", "--all"), "give the IDs of dead letters"),
        (("rm", "17", "--task", "charge"), "filters go with --all"),
        (("retry", "17", "-n", "3"), "filters go with --all"),
        (("retry", "17", "--in", "5s", "--at", "2030-01-31T12:00"), "--in and --at each say when"),
        (("retry", "17", "--arg", "nonsense"), "write NAME=VALUE"),
        (("retry", "--all", "--rate", "0"), "0 is not in the range"),
        (("ls", "--reason", "old age"), "'old age' is not one of 'failed'"),
    ],
)
def test_a_wrong_use_says_why(arguments: tuple[str, ...], why: str, pointed: Command):
    refused = pointed("dead", *arguments)

    assert refused.returncode == 2
    assert why in refused.stderr


@pytest.mark.parametrize("arguments", [("ls",), ("show", "1"), ("retry", "1"), ("rm", "1")])
def test_memory_is_refused_because_nothing_is_in_it(arguments: tuple[str, ...], tmp_path: Path):
    refused = Command(tmp_path)("dead", *arguments, "--url", "memory://here")

    assert refused.returncode == 1
    assert "has only just begun: nothing has failed in it" in refused.stderr
