"""`docket cancel KEY` and `docket clear`: what they end, and what they say of it."""

import asyncio
import json
from datetime import timedelta

import pytest

from docket import Docket, ExecutionCancelled, ExecutionState, Worker
from tests.cli._command import Command
from tests.cli._terminal import open_terminal

pytestmark = pytest.mark.only_server("a command is a process of its own")

HOUR = timedelta(hours=1)
SOON = timedelta(seconds=15)


async def state_of(docket: Docket, key: str) -> ExecutionState | None:
    execution = await docket.get_execution(key)
    return None if execution is None else execution.state


async def test_what_waits_is_cancelled_and_named(docket: Docket, pointed: Command):
    await docket.add("one", key="scheduled", when=HOUR)()
    await docket.add("one", key="queued")()

    cancelled = pointed("cancel", "scheduled", "queued")

    assert (cancelled.returncode, cancelled.stderr) == (0, "")
    assert cancelled.stdout == "Cancelled scheduled, which was scheduled.\nCancelled queued, which was queued.\n"
    assert await state_of(docket, "scheduled") is await state_of(docket, "queued") is ExecutionState.CANCELLED


async def test_what_runs_is_told_to_stop(docket: Docket, pointed: Command):
    begun = asyncio.Event()

    async def long() -> None:
        begun.set()
        await asyncio.sleep(3600)

    docket.register(long)
    execution = await docket.add(long, key="k")()
    async with Worker(docket) as worker:
        running = asyncio.ensure_future(worker.run_forever())
        await begun.wait()

        cancelled = await pointed.aside("cancel", "k")

        with pytest.raises(ExecutionCancelled):
            await execution.get_result(timeout=SOON)
        worker.stop()
        await running

    assert cancelled.stdout == "Told k to stop, which was running.\n"


async def test_where_nothing_stood_it_exits_1_and_says_why(docket: Docket, pointed: Command):
    async def short() -> None: ...

    docket.register(short)
    await docket.add(short, key="ended")()
    await docket.add("one", key="waiting", when=HOUR)()
    async with Worker(docket) as worker:
        await worker.run_until_finished()

    cancelled = pointed("cancel", "nothing", "ended", "waiting")

    assert cancelled.returncode == 1
    assert cancelled.stdout == "Cancelled waiting, which was scheduled.\n"
    unknown, ended = cancelled.stderr.splitlines()
    assert unknown == f"Nothing to cancel: there is no task nothing on the docket {docket.name!r}, or its end is forgotten."
    assert ended.startswith("Nothing to cancel: ended completed ")
    assert ended.endswith(" ago.")


async def test_a_script_gets_what_it_was(docket: Docket, pointed: Command):
    await docket.add("one", key="k", when=HOUR)()

    first = pointed("cancel", "k", "--json")
    again = pointed("cancel", "k", "--json")

    assert (first.returncode, json.loads(first.stdout)) == (0, {"key": "k", "was": "scheduled"})
    assert (again.returncode, json.loads(again.stdout)) == (1, {"key": "k", "was": None})


@pytest.mark.parametrize("arguments", [("cancel",), ("cancel", "")])
def test_a_key_has_to_be_given(arguments: tuple[str, ...], pointed: Command):
    refused = pointed(*arguments)

    assert refused.returncode in (1, 2)
    assert "key" in refused.stderr.lower()
    assert "Traceback" not in refused.stderr


async def test_clear_cancels_all_that_has_not_started_and_counts_it(docket: Docket, pointed: Command):
    await docket.add_many([docket.call("one", when=HOUR)(), docket.call("one")(), docket.call("two")()])

    cleared = pointed("clear")
    again = pointed("clear")

    assert (cleared.returncode, cleared.stdout) == (0, f"Cancelled 3 tasks of the docket {docket.name!r}.\n")
    assert again.stdout == f"Cancelled 0 tasks of the docket {docket.name!r}.\n"


async def test_clear_tells_a_script_the_number(docket: Docket, pointed: Command):
    await docket.add("one", when=HOUR)()

    assert json.loads(pointed("clear", "--json").stdout) == {"cleared": 1}


async def test_on_a_terminal_clear_asks_first(docket: Docket, pointed: Command):
    await docket.add("one", key="k", when=HOUR)()

    with open_terminal(pointed, "clear", env=pointed.variables) as terminal:
        await terminal.wait_for("Cancel 1 task of the docket", "[y/N]")
        terminal.type("n\n")
        assert await terminal.end() == 1
    assert "Aborted!" in terminal.text
    assert await state_of(docket, "k") is ExecutionState.SCHEDULED

    with open_terminal(pointed, "clear", env=pointed.variables) as terminal:
        await terminal.wait_for("[y/N]")
        terminal.type("y\n")
        assert await terminal.end() == 0
    assert "Cancelled 1 task of" in terminal.text
    assert await state_of(docket, "k") is ExecutionState.CANCELLED


async def test_on_a_terminal_clear_does_not_ask_with_yes(docket: Docket, pointed: Command):
    await docket.add("one", key="k", when=HOUR)()

    with open_terminal(pointed, "clear", "--yes", env=pointed.variables) as terminal:
        assert await terminal.end() == 0

    assert await state_of(docket, "k") is ExecutionState.CANCELLED


@pytest.mark.parametrize(
    ("command", "reason"),
    [(("cancel", "k"), "nothing stands in it that could be cancelled"), (("clear",), "there is nothing in it to clear")],
)
def test_memory_is_refused_because_nothing_is_in_it(command: tuple[str, ...], reason: str, docket_command: Command):
    refused = docket_command(*command, "--url", "memory://here")

    assert refused.returncode == 1
    assert refused.stderr == f"Error: memory://here lives inside one process, and this one has only just begun: {reason}; give --url redis://...\n"
