"""`docket show KEY`: everything that is known of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from docket.cli._options import Connection, as_json, connected, run_briefly

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from docket._snapshot import WorkerInfo
    from docket._store.records import RunRecord
    from docket.cli._output import Cell
    from docket.execution import Execution

__all__ = ["show"]


@click.command()
@click.argument("key")
@click.option("--tasks", multiple=True, metavar="MODULE:MEMBER", help="Show the call, with the arguments annotated Logged: where the task is. Repeatable.")
@as_json("one JSON object (that of `docket ls`, and `crashes`, `call`, `arguments_bytes`)")
@connected("has only just begun: it holds no tasks")
def show(key: str, tasks: tuple[str, ...], as_json: bool, connection: Connection) -> None:
    """Show everything that is known of the task with KEY: the run that stands under it, or the last one that did.

    Of its arguments only the size is shown. Where --tasks names its collection or docket (as for a worker), the call is shown, with
    the values of parameters annotated Logged.

    Exits with status 1 when nothing is known of the key.
    """
    run_briefly(_show(connection, key, tasks, as_json=as_json))


async def _show(connection: Connection, key: str, tasks: tuple[str, ...], *, as_json: bool) -> None:
    from docket._listing import execution_of  # late, like what follows: heavy, and not needed for help
    from docket.cli._describe import now_of
    from docket.cli._output import Page, write_json
    from docket.cli._words import printable
    from docket.states import LIVE, ExecutionState

    async with connection.open(tasks=tasks) as docket:
        record = await docket.store.inspection.load(key)
        if record is None:
            raise click.ClickException(f"Nothing is known of {printable(key)} on the docket {docket.name!r}: it was never added, or its end is forgotten.")
        execution = execution_of(docket, record)
        is_waiting = execution.state in LIVE and execution.state is not ExecutionState.RUNNING
        workers = await docket.task_workers(execution.function_name) if is_waiting else None
        now = await now_of(docket)
    call = execution.call_repr() if execution.function_name in docket.tasks else None
    if as_json:
        write_json([_object(execution, record, call)])
        return
    page = Page()
    page.table((), [*_fields(execution, record, call, workers, now)])
    page.show()


def _object(execution: Execution[Any], record: RunRecord, call: str | None) -> dict[str, Any]:
    from docket.cli._describe import as_object  # late, as above

    return {**as_object(execution), "crashes": record.crashes, "call": call, "arguments_bytes": len(record.payload or b"")}


def _fields(execution: Execution[Any], record: RunRecord, call: str | None, workers: Sequence[WorkerInfo] | None, now: datetime) -> list[tuple[Cell, Cell]]:
    from docket.cli._describe import moment_words, progress_words, state_cell, trace_id  # late, as above
    from docket.cli._output import Styled, count_of

    known = {
        "Key": execution.key,
        "Task": execution.function_name,
        "State": state_cell(execution.state),
        "Due": moment_words(execution.when, now),
        "Started": execution.started_at and moment_words(execution.started_at, now),
        "Ended": execution.completed_at and moment_words(execution.completed_at, now),
        "Attempt": str(execution.attempt),
        "Worker": execution.worker,
        "Known to": None if workers is None else _known_to(workers),
        "Lost": f"{count_of(record.crashes, 'worker')} while running it" if record.crashes else None,
        "Progress": progress_words(execution),
        "Error": execution.error,
        "Call": call,
        "Arguments": None if call else f"{count_of(len(record.payload or b''), 'byte')} (--tasks shows those annotated Logged)",
        "Trace": trace_id(execution),
        "Generation": str(execution.generation),
    }
    return [(Styled(name, "bold"), value) for name, value in known.items() if value]


def _known_to(workers: Sequence[WorkerInfo]) -> Cell:
    from docket.cli._output import Styled, count_of  # late, as above

    return count_of(len(workers), "live worker") if workers else Styled("no live worker; it waits for one that knows the task", "bold red")
