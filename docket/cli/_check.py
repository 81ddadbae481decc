"""`docket check`: whether what waits will be run, for probes and for people who wonder why nothing happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from docket.cli._options import Connection, as_json, connected, run_briefly
from docket.errors import DocketError, InvalidOption
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket.docket import Docket

__all__ = ["check"]


@click.command()
@as_json("one JSON object (`ok`, `problems`, `waiting`, `workers`, `strikes`, and in `unannounced` how many wait for a task that nobody knows)")
@connected("has only just begun: there is nothing in it to check, and no worker")
@click.pass_context
def check(context: click.Context, as_json: bool, connection: Connection) -> None:
    """Say whether everything that waits will be run.

    It will be when Redis answers, the strikes load, and of every task that is queued or scheduled some live worker says that it knows
    it. Then this exits with status 0; else with 1, saying which task nobody knows, and how many wait for it.

    It looks at everything that waits, some 30,000 tasks a second.
    """
    context.exit(run_briefly(_check(connection, as_json=as_json)))


@dataclass
class _Findings:
    """This is what was found."""

    problems: list[str] = field(default_factory=list[str])
    waiting: int = 0
    workers: int = 0
    strikes: int = 0
    unannounced: Counter[str] = field(default_factory=Counter[str])

    def as_object(self) -> dict[str, Any]:
        """This gives it for JSON."""
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "waiting": self.waiting,
            "workers": self.workers,
            "strikes": self.strikes,
            "unannounced": dict(self.unannounced),
        }


async def _check(connection: Connection, *, as_json: bool) -> int:
    from docket.cli._output import count_of, note, write_json  # late: heavy, and not needed for help
    from docket.cli._words import printable

    found = _Findings()
    try:
        async with connection.open() as docket:
            await _look(docket, found)
    except InvalidOption:  # a wrong use is no finding
        raise
    except DocketError as exc:
        found.problems.append(str(exc))
    for task, number in found.unannounced.most_common():
        verb = "waits" if number == 1 else "wait"
        found.problems.append(f"No live worker knows the task {printable(task)}: {count_of(number, 'call')} of it {verb}.")
    if as_json:
        write_json([found.as_object()])
    elif found.problems:
        for problem in found.problems:
            note(f"Error: {problem}")
    else:
        click.echo(f"All is well: {_comfort(found)}; {count_of(found.strikes, 'strike')} in effect.")
    return 1 if found.problems else 0


def _comfort(found: _Findings) -> str:
    from docket.cli._output import count_of  # late, as above

    workers = count_of(found.workers, "live worker")
    if not found.waiting:
        return f"nothing is waiting, and there {'is' if found.workers == 1 else 'are'} {workers}"
    waiting, knowing = count_of(found.waiting, "call"), "knows" if found.workers == 1 else "know"
    return f"{waiting} waiting for {workers} that {knowing} {'its task' if found.waiting == 1 else 'their tasks'}"


async def _look(docket: Docket, found: _Findings) -> None:
    await docket.wait_for_strikes_loaded()
    found.strikes = len(docket.strike_list.instructions)
    workers = await docket.workers()
    found.workers = len(workers)
    known = set[str]().union(*(worker.tasks for worker in workers))
    for state in (ExecutionState.QUEUED, ExecutionState.SCHEDULED):
        async for execution in docket.executions(state=state):
            found.waiting += 1
            if execution.function_name not in known:
                found.unannounced[execution.function_name] += 1
