"""`docket ls`: lists runs. In which order they come, and what a filter costs, is `Docket.executions`' business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from docket.cli._options import Connection, as_json, connected, run_briefly
from docket.states import TERMINAL, ExecutionState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from datetime import datetime

    from docket.cli._output import Cell
    from docket.docket import Docket
    from docket.execution import Execution

__all__ = ["ls"]

ON_A_TERMINAL = 1000
"""Runs that a terminal is shown unless --limit asks for another number: who reads more of them?"""

PAGE = 1000
"""Runs that are read at a time."""

TITLES = ("KEY", "STATE", "WHEN", "TASK", "WORKER")


@click.command()
@click.option("--state", "-s", type=click.Choice([state.value for state in ExecutionState], case_sensitive=False), help="Only runs in this state.")
@click.option("--task", "-t", metavar="NAME", help="Only runs of this task.")
@click.option("--key-prefix", "-k", metavar="TEXT", help="Only runs whose key starts so.")
@click.option("--limit", "-n", type=click.IntRange(min=1), help=f"How many at most.  [default: {ON_A_TERMINAL:,} on a terminal, else all]")
@as_json("one JSON object a line, with times in UTC")
@connected("has only just begun: it holds no tasks")
def ls(state: str | None, task: str | None, key_prefix: str | None, limit: int | None, as_json: bool, connection: Connection) -> None:
    """List tasks: running, queued and scheduled ones, then those that have ended and are still remembered (for execution_ttl).

    WHEN tells when a scheduled task is due ("in 4m 05s"), for how long a queued one has been due and a running one has been
    running ("for 12s"), and when one ended ("3m 10s ago"). What changes its state while this lists may come twice or not at all.

    With --json, an object has key, task, state, when, attempt, worker, started_at, completed_at, error, progress, redelivered,
    generation and trace_id.

    \b
    Examples:
      docket ls --state failed
      docket ls --task send_email --key-prefix order-
      docket ls --json | jq -r 'select(.attempt > 2) | .key'
    """  # noqa: D301 - the backspace tells click to leave the lines below as they are
    run_briefly(_ls(connection, state, {"task": task, "key_prefix": key_prefix}, limit, as_json=as_json))


async def _ls(connection: Connection, state: str | None, filters: dict[str, Any], limit: int | None, *, as_json: bool) -> None:
    from docket.cli._describe import now_of  # late, like what follows: heavy, and not needed for help
    from docket.cli._output import is_for_people

    async with connection.open() as docket:
        if as_json:
            await _write_objects(_parts(docket, state, filters, limit))
            return
        now = await now_of(docket)
        if not is_for_people():
            await _write_lines(_parts(docket, state, filters, limit), now)
            return
        shown = limit or ON_A_TERMINAL
        # By run: one that moves on while this lists may come twice
        runs = {(execution.key, execution.generation): execution async for part in _parts(docket, state, filters, shown + 1) for execution in part}
    _show_page([*runs.values()], shown, now)  # with no connection open: who reads a page takes their time


async def _write_objects(parts: AsyncIterator[list[Execution[Any]]]) -> None:
    from docket.cli._describe import as_object  # late, as above
    from docket.cli._output import write_json

    async for part in parts:
        write_json(map(as_object, part))


async def _write_lines(parts: AsyncIterator[list[Execution[Any]]], now: datetime) -> None:
    from docket.cli._output import Columns, note, write_lines  # late, as above

    columns = Columns(TITLES)
    is_empty = True
    async for part in parts:
        if part:
            is_empty = False
            write_lines(columns.lines(_rows(part, now)))
    if is_empty:
        note("No tasks.")


def _show_page(found: list[Execution[Any]], shown: int, now: datetime) -> None:
    from docket.cli._output import Page, count_of, note  # late, as above

    if not found:
        note("No tasks.")
        return
    page = Page()
    page.table(TITLES, _rows(found[:shown], now))
    page.show()
    if len(found) > shown:
        note(f"The first {count_of(shown, 'task')}; --limit shows more, and a pipe gets all.")


async def _parts(docket: Docket, state: str | None, filters: dict[str, Any], limit: int | None) -> AsyncGenerator[list[Execution[Any]]]:
    """This reads a page at a time. Without a state, what lives comes first: of a large docket, that is what somebody looks for."""
    states = [ExecutionState(state)] if state else [ExecutionState.RUNNING, ExecutionState.QUEUED, ExecutionState.SCHEDULED, None]
    left = limit
    for each in states:
        executions = docket.executions(state=each, **filters)
        cursor: str | None = None
        while True:
            page = await executions.page(cursor, size=PAGE)
            part = [execution for execution in page.executions if each is not None or execution.state in TERMINAL][:left]
            yield part
            left = None if left is None else left - len(part)
            cursor = page.cursor
            if left == 0:
                return
            if cursor is None:
                break


def _rows(executions: Sequence[Execution[Any]], now: datetime) -> list[Sequence[Cell]]:
    from docket.cli._describe import state_cell, when_words

    return [
        (execution.key, state_cell(execution.state), when_words(execution, now), execution.function_name, execution.worker or "") for execution in executions
    ]
