"""`docket cancel` ends single tasks, `docket clear` all that have not started. What cancelling does to a run is the store's business."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from docket.cli._options import Connection, as_json, connected, run_briefly

if TYPE_CHECKING:
    from docket.docket import Docket

__all__ = ["cancel", "clear"]


@click.command()
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@as_json("one JSON object a key (`key`, and in `was` the state it was in or null)")
@connected("has only just begun: nothing stands in it that could be cancelled")
@click.pass_context
def cancel(context: click.Context, keys: tuple[str, ...], as_json: bool, connection: Connection) -> None:
    """Cancel what stands under KEY, and say what that was.

    A scheduled or queued task never runs. A running one is told to stop: it gets a CancelledError where it awaits next. The chain
    of a perpetual or cron task ends.

    Exits with status 1 when nothing stood under a key: there was no such task, or it had ended.
    """
    context.exit(run_briefly(_cancel(connection, keys, as_json=as_json)))


async def _cancel(connection: Connection, keys: tuple[str, ...], *, as_json: bool) -> int:
    from docket._when import check_key  # late, like what follows: heavy, and not needed for help
    from docket.cli._output import note, write_json
    from docket.cli._words import printable
    from docket.states import ExecutionState

    for key in keys:
        check_key(key)
    status = 0
    async with connection.open() as docket:
        for key in keys:
            was, _ = await docket.store.lifecycle.cancel(key)
            if was is None:
                status = 1
            if as_json:
                write_json([{"key": key, "was": was and was.value}])
            elif was is None:
                note(f"Nothing to cancel: {await _why_not(docket, key)}.")
            elif was is ExecutionState.RUNNING:
                click.echo(f"Told {printable(key)} to stop, which was running.")
            else:
                click.echo(f"Cancelled {printable(key)}, which was {was.value}.")
    return status


async def _why_not(docket: Docket, key: str) -> str:
    from docket.cli._describe import now_of, when_words  # late, as above
    from docket.cli._words import printable

    execution = await docket.get_execution(key)
    if execution is None:
        return f"there is no task {printable(key)} on the docket {docket.name!r}, or its end is forgotten"
    return f"{printable(key)} {execution.state.value} {when_words(execution, await now_of(docket))}"


@click.command()
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@as_json("one JSON object (`cleared`: how many)")
@connected("has only just begun: there is nothing in it to clear")
def clear(yes: bool, as_json: bool, connection: Connection) -> None:
    """Cancel everything that has not started: scheduled, queued and waiting tasks. What is running goes on.

    Asks first when somebody sits in front of it, unless --yes is given.
    """
    from docket.cli._output import is_terminal  # late: heavy, and not needed for help

    if not yes and is_terminal(sys.stdin):
        name, there = run_briefly(_count(connection))  # with no connection open while somebody thinks about it
        click.confirm(f"Cancel {there} of the docket {name!r}?", abort=True, err=True)
    run_briefly(_clear(connection, as_json=as_json))


async def _count(connection: Connection) -> tuple[str, str]:
    from docket.cli._output import count_of  # late, as above

    async with connection.open() as docket:
        counts = await docket.counts()
    return docket.name, count_of(counts.scheduled + counts.queued + counts.waiting, "task")


async def _clear(connection: Connection, *, as_json: bool) -> None:
    from docket.cli._output import count_of, write_json  # late, as above

    async with connection.open() as docket:
        cleared = await docket.clear()
    if as_json:
        write_json([{"cleared": cleared}])
    else:
        click.echo(f"Cancelled {count_of(cleared, 'task')} of the docket {docket.name!r}.")
