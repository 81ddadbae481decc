"""`docket workers ...`: who is alive, and what they can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from docket.cli._options import Connection, as_json, connected, run_briefly

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from docket._snapshot import WorkerInfo

__all__ = ["workers"]

_OBJECTS = "one JSON object a worker (`name`, `last_seen`, `tasks`)"
_IN_MEMORY = "has only just begun: no worker can be in it"


@click.group()
def workers() -> None:
    """List live workers."""


@workers.command()
@as_json(_OBJECTS)
@connected(_IN_MEMORY)
def ls(as_json: bool, connection: Connection) -> None:
    """List live workers, when each was last heard of, and the tasks it announces.

    A worker is live when it was heard of within --heartbeat-interval times --missed-heartbeats. Where the workers have others than
    the defaults, give them here as well, or set DOCKET_HEARTBEAT_INTERVAL and DOCKET_MISSED_HEARTBEATS for all commands.
    """
    run_briefly(_list(connection, None, as_json=as_json))


@workers.command("for-task")
@click.argument("task")
@as_json(_OBJECTS)
@connected(_IN_MEMORY)
def for_task(task: str, as_json: bool, connection: Connection) -> None:
    """List the live workers that can run TASK."""
    run_briefly(_list(connection, task, as_json=as_json))


async def _list(connection: Connection, task: str | None, *, as_json: bool) -> None:
    from docket.cli._describe import iso, now_of  # late: heavy, and not needed for help
    from docket.cli._output import note, write_json
    from docket.cli._words import printable

    async with connection.open() as docket:
        now = await now_of(docket)
        found = await (docket.workers() if task is None else docket.task_workers(task))
    found.sort(key=lambda worker: (worker.name, worker.last_seen))
    if as_json:
        write_json({"name": worker.name, "last_seen": iso(worker.last_seen), "tasks": sorted(worker.tasks)} for worker in found)
    elif found:
        _show(found, now)
    elif task is None:
        note("No live workers.")
    else:
        note(f"No live worker knows the task {printable(task)}.")


def _show(found: Sequence[WorkerInfo], now: datetime) -> None:
    from docket.cli._describe import ago  # late, as above
    from docket.cli._output import Page

    page = Page()
    page.table(("WORKER", "LAST SEEN", "TASKS"), [(worker.name, ago(worker.last_seen, now), ", ".join(sorted(worker.tasks))) for worker in found])
    page.show()
