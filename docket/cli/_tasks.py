"""`docket tasks ...`: schedules one of the built-in tasks, to see whether workers are there and what they do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from docket._options import DocketOptions
from docket.cli._durations import duration
from docket.cli._options import connecting, given, is_memory, run
from docket.errors import InvalidURL

__all__ = ["tasks"]

_delay = click.option("--delay", type=duration, default="0s", show_default=True, help="How long from now the task is due.")


@click.group()
def tasks() -> None:
    """Schedule a built-in task, to try out a docket."""


@tasks.command()
@click.argument("message", default="Howdy!")
@_delay
@connecting
def trace(message: str, delay: timedelta, docket_name: str | None, url: str | None) -> None:
    """Log MESSAGE in a worker and in its current span."""
    run(_add("trace", message, delay, DocketOptions(**given(name=docket_name, url=url))))


@tasks.command()
@click.argument("message", default="Howdy!")
@_delay
@connecting
def fail(message: str, delay: timedelta, docket_name: str | None, url: str | None) -> None:
    """Fail in a worker, with MESSAGE; one retry is made."""
    run(_add("fail", message, delay, DocketOptions(**given(name=docket_name, url=url))))


@tasks.command()
@click.argument("seconds", type=click.FloatRange(min=0), default=1)
@_delay
@connecting
def sleep(seconds: float, delay: timedelta, docket_name: str | None, url: str | None) -> None:
    """Sleep in a worker for SECONDS."""
    run(_add("sleep", seconds, delay, DocketOptions(**given(name=docket_name, url=url))))


async def _add(task: str, argument: Any, delay: timedelta, options: DocketOptions) -> None:
    from docket.docket import Docket  # late: heavy, and not needed for help

    if is_memory(options.url):
        raise InvalidURL(f"{options.url} lives inside one process, and this one ends now: no worker would ever see the task; give --url redis://...")

    async with Docket(name=options.name, url=options.url) as docket:
        execution = await docket.add(task, when=delay or None)(argument)
    click.echo(f"Added {task} task {execution.key!r} to the docket {options.name!r}")
