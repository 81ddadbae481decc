"""`docket tasks ...`: schedules one of the built-in tasks, to see whether workers are there and what they do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from docket.cli._durations import duration
from docket.cli._options import Connection, connected, run_briefly

__all__ = ["tasks"]

_delay = click.option("--delay", type=duration, default="0s", show_default=True, help="How long from now the task is due.")
_NOT_IN_MEMORY = "ends now: no worker would ever see the task"


@click.group()
def tasks() -> None:
    """Schedule a built-in task, to try out a docket."""


@tasks.command()
@click.argument("message", default="Howdy!")
@_delay
@connected(_NOT_IN_MEMORY)
def trace(message: str, delay: timedelta, connection: Connection) -> None:
    """Log MESSAGE in a worker and in its current span."""
    run_briefly(_add("trace", message, delay, connection))


@tasks.command()
@click.argument("message", default="Howdy!")
@_delay
@connected(_NOT_IN_MEMORY)
def fail(message: str, delay: timedelta, connection: Connection) -> None:
    """Fail in a worker, with MESSAGE; one retry is made."""
    run_briefly(_add("fail", message, delay, connection))


@tasks.command()
@click.argument("seconds", type=click.FloatRange(min=0), default=1)
@_delay
@connected(_NOT_IN_MEMORY)
def sleep(seconds: float, delay: timedelta, connection: Connection) -> None:
    """Sleep in a worker for SECONDS."""
    run_briefly(_add("sleep", seconds, delay, connection))


async def _add(task: str, argument: Any, delay: timedelta, connection: Connection) -> None:
    async with connection.open() as docket:
        execution = await docket.add(task, when=delay or None)(argument)
    click.echo(f"Added {task} task {execution.key!r} to the docket {docket.name!r}")
