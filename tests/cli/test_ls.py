"""`docket ls`: which runs it lists, in which order, and how they look in a pipe, for a script and on a terminal."""

import asyncio
import json
import re
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from docket import Docket, Worker
from docket.cli import _ls
from tests._servers import RedisServer
from tests.cli._command import DEADLINE, Command, environment
from tests.cli._terminal import open_terminal

pytestmark = pytest.mark.only_server("a command is a process of its own")

HOUR = timedelta(hours=1)

FIELDS = {
    "key", "task", "state", "when", "attempt", "worker", "started_at", "completed_at", "error", "progress", "redelivered", "generation", "trace_id",
}  # fmt: skip


def rows(listed: str) -> list[list[str]]:
    """The cells of a listing in a pipe; two spaces or more part them."""
    return [re.split(r"  +", line) for line in listed.splitlines()]


def keys(listed: str) -> list[str]:
    return [row[0] for row in rows(listed)][1:]


def objects(listed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in listed.splitlines()]


async def test_what_lives_comes_first_and_then_what_has_ended(docket: Docket, pointed: Command):
    begun = asyncio.Event()

    async def long() -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def short() -> None: ...

    async def broken() -> None:
        raise ValueError("no\nluck")

    docket.register(long)
    docket.register(short)
    docket.register(broken)
    await docket.add(short, key="completed")()
    await docket.add(broken, key="failed")()
    async with Worker(docket, name="w") as worker:
        await worker.run_until_finished()
        await docket.add(long, key="running")()
        running = asyncio.ensure_future(worker.run_forever())
        await begun.wait()
        await docket.add("elsewhere", key="scheduled", when=HOUR)()

        listed = await pointed.aside("ls")
        as_json = await pointed.aside("ls", "--json")

        await docket.cancel("scheduled")
        await docket.cancel("running")
        worker.stop()
        await running

    assert (listed.returncode, listed.stderr) == (0, "")
    assert rows(listed.stdout)[0] == ["KEY", "STATE", "WHEN", "TASK", "WORKER"]
    assert keys(listed.stdout)[:2] == ["running", "scheduled"]
    assert sorted(keys(listed.stdout)[2:]) == ["completed", "failed"]
    assert re.search(r"^running +running +for \d.*s +long +w$", listed.stdout, re.MULTILINE)
    assert re.search(r"^scheduled +scheduled +in (59m \d\ds|1h 00m) +elsewhere$", listed.stdout, re.MULTILINE)
    assert re.search(r"^failed +failed +\d.*s ago +broken +w$", listed.stdout, re.MULTILINE)

    found = {each["key"]: each for each in objects(as_json.stdout)}
    assert set(found) == {"running", "scheduled", "completed", "failed"}
    assert all(set(each) == FIELDS for each in found.values())
    assert (found["failed"]["state"], found["failed"]["error"]) == ("failed", "ValueError: no\nluck")
    assert found["running"]["worker"] == "w"
    assert datetime.fromisoformat(found["running"]["started_at"]).utcoffset() == timedelta()
    assert datetime.fromisoformat(found["scheduled"]["when"]) > datetime.now(timezone.utc)
    assert found["scheduled"]["started_at"] is found["scheduled"]["worker"] is found["scheduled"]["progress"] is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--state", "scheduled"), {"a-2", "b-2"}),
        (("--state", "QUEUED"), {"a-1", "b-1"}),
        (("--state", "running"), set[str]()),
        (("--task", "one"), {"a-1", "a-2"}),
        (("--task", "two", "--state", "queued"), {"b-1"}),
        (("--key-prefix", "b-"), {"b-1", "b-2"}),
        (("-k", "b-", "-s", "scheduled", "-t", "two"), {"b-2"}),
        (("--state", "completed"), set[str]()),
    ],
)
async def test_a_filter_leaves_the_others_out(arguments: tuple[str, ...], expected: set[str], docket: Docket, pointed: Command):
    for task, prefix in (("one", "a"), ("two", "b")):
        await docket.add(task, key=f"{prefix}-1")()
        await docket.add(task, key=f"{prefix}-2", when=HOUR)()

    assert {each["key"] for each in objects(pointed("ls", "--json", *arguments).stdout)} == expected
    assert set(keys(pointed("ls", *arguments).stdout)) == expected


async def test_a_limit_holds_over_all_states(docket: Docket, pointed: Command):
    await docket.add("one", key="queued")()
    await docket.add("one", key="scheduled", when=HOUR)()
    await docket.add("one", key="later", when=2 * HOUR)()

    assert keys(pointed("ls", "--limit", "1").stdout) == ["queued"]
    assert keys(pointed("ls", "-n", "2").stdout) == ["queued", "scheduled"]
    assert keys(pointed("ls", "-n", "9").stdout) == ["queued", "scheduled", "later"]


async def test_a_pipe_gets_everything_and_whole_keys(docket: Docket, pointed: Command):
    long = "k" * 300
    wide = "鍵"
    calls = [docket.call("one", when=HOUR, key=f"{number:04}")() for number in range(_ls.PAGE + 5)]
    await docket.add_many([*calls, docket.call("one", when=2 * HOUR, key=long)(), docket.call("one", when=2 * HOUR, key=wide)()])

    listed = pointed("ls", env={"COLUMNS": "80"})

    assert keys(listed.stdout) == [*(f"{number:04}" for number in range(_ls.PAGE + 5)), long, wide]
    assert "\x1b" not in listed.stdout
    await docket.clear()


async def test_what_a_key_holds_cannot_break_the_lines_or_order_the_terminal_about(docket: Docket, pointed: Command):
    await docket.add("one", key="a\nb\x1b[31mc", when=HOUR)()

    listed = pointed("ls")

    assert keys(listed.stdout) == [r"a\nb\x1b[31mc"]
    assert objects(pointed("ls", "--json").stdout)[0]["key"] == "a\nb\x1b[31mc"


def test_where_nothing_is_nothing_is_written_and_a_person_is_told(pointed: Command):
    listed = pointed("ls")

    assert (listed.returncode, listed.stdout, listed.stderr) == (0, "", "No tasks.\n")
    assert pointed("ls", "--json").stdout == ""


async def test_a_reader_that_has_seen_enough_ends_it_silently(docket: Docket, pointed: Command):
    await docket.add_many([docket.call("one", when=HOUR, key=f"{number:05}" + "-" * 200)() for number in range(3000)])

    script = f"{' '.join(pointed.entry)} ls | head -n 2; echo ${{PIPESTATUS[0]}}"
    read = subprocess.run(
        ["bash", "-c", script], cwd=pointed.folder, env=environment(pointed.variables), capture_output=True, text=True, timeout=DEADLINE, check=False
    )

    assert read.stdout.splitlines()[1].startswith("00000-")
    assert read.stdout.splitlines()[2] != "0"  # it was cut off, and not told that all went well
    assert read.stderr == ""
    await docket.clear()


def test_closed_streams_are_no_terminals(pointed: Command):
    for script in ("ls >&-", "clear <&-"):
        done = subprocess.run(
            ["bash", "-c", f"{' '.join(pointed.entry)} {script}"],
            cwd=pointed.folder, env=environment(pointed.variables), capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip

        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


async def test_a_terminal_gets_a_table_in_colour(docket: Docket, pointed: Command):
    await docket.add("one", key="the-key", when=HOUR)()

    with open_terminal(pointed, "ls", env=pointed.variables) as terminal:
        assert await terminal.end() == 0

    assert "\x1b[35mscheduled" in terminal.written
    assert re.search(r"the-key +scheduled +in (59m \d\ds|1h 00m) +one", terminal.text)


async def test_no_color_and_dumb_terminals_get_none(docket: Docket, pointed: Command):
    await docket.add("one", key="the-key", when=HOUR)()

    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with open_terminal(pointed, "ls", env={**pointed.variables, **variables}) as terminal:
            assert await terminal.end() == 0
        assert "\x1b" not in terminal.written
        assert "the-key" in terminal.text


async def test_a_key_that_is_wider_than_the_terminal_is_folded_and_not_cut(docket: Docket, pointed: Command):
    key = "".join(f"{number:03}-" for number in range(40))
    await docket.add("one", key=key, when=HOUR)()

    with open_terminal(pointed, "ls", env=pointed.variables, lines=40) as terminal:
        assert await terminal.end() == 0

    assert "".join(re.findall(r"^[\d-]+", terminal.text, re.MULTILINE)) == key


async def test_what_is_longer_than_the_screen_is_paged(docket: Docket, pointed: Command, tmp_path: Path):
    await docket.add_many([docket.call("one", when=HOUR, key=f"key-{number:04}")() for number in range(_ls.ON_A_TERMINAL + 1)])
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path}/paged\n")
    pager.chmod(0o755)

    with open_terminal(pointed, "ls", env={**pointed.variables, "PAGER": str(pager)}) as terminal:
        assert await terminal.end() == 0

    assert len(re.findall(r"^key-\d{4} ", (tmp_path / "paged").read_text(), re.MULTILINE)) == _ls.ON_A_TERMINAL
    assert "\x1b[" not in (tmp_path / "paged").read_text()  # who knows whether such a pager can show colours
    assert "The first 1,000 tasks; --limit shows more, and a pipe gets all." in terminal.text.replace("\n", " ")
    await docket.clear()


async def test_what_fits_the_screen_is_not_paged(docket: Docket, pointed: Command):
    await docket.add_many([docket.call("one", when=HOUR, key=f"key-{number:04}")() for number in range(20)])

    with open_terminal(pointed, "ls", env={**pointed.variables, "PAGER": "false"}) as terminal:
        assert await terminal.end() == 0

    assert "key-0000" in terminal.text
    await docket.clear()


async def test_an_empty_terminal_says_so(pointed: Command):
    with open_terminal(pointed, "ls", env=pointed.variables) as terminal:
        assert await terminal.end() == 0

    assert terminal.text == "No tasks."


@pytest.mark.parametrize("arguments", [("--state", "lost"), ("--limit", "0"), ("--docket", "a{b}")])
def test_a_filter_that_makes_no_sense_is_a_wrong_use(arguments: tuple[str, ...], pointed: Command):
    refused = pointed("ls", *arguments)

    assert refused.returncode == 2
    assert "Error: " in refused.stderr


def test_the_server_is_not_needed_to_refuse_memory(docket_command: Command):
    refused = docket_command("ls", "--url", "memory://here")

    assert refused.returncode == 1
    assert refused.stderr == "Error: memory://here lives inside one process, and this one has only just begun: it holds no tasks; give --url redis://...\n"


def test_credentials_come_from_a_provider_of_the_users_own(new_server: Any, docket_command: Command, tmp_path: Path):
    server: RedisServer = new_server()
    client: Any = server.client()
    client.config_set("requirepass", "secret")
    (tmp_path / "mine.py").write_text(
        "from redis.credentials import UsernamePasswordCredentialProvider\nprovider = UsernamePasswordCredentialProvider(password='secret')\n"
    )

    assert docket_command("ls", "--url", server.url).returncode == 1
    assert docket_command("ls", "--url", server.url, "--credential-provider", "mine:provider").returncode == 0
