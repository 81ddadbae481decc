"""`docket watch KEY`: shows a task's way to its end, and exits as it ended. Learning of it is `_following`'s business.

A terminal gets a line for every stage and a live line with a bar below them (`_watch_screen`), a pipe the lines only, a script JSON.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from docket.cli._durations import duration, format_short
from docket.cli._interrupts import run_until_interrupted
from docket.cli._options import as_json as json_option
from docket.cli._options import connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from docket.cli._following import Audience
    from docket.cli._options import Connection

__all__ = ["watch"]

EXIT_STATUSES = {"completed": 0, "failed": 1, "cancelled": 3}
TIMED_OUT = 4


@click.command()
@click.argument("key")
@click.option("--follow", "-f", "onwards", is_flag=True, help="When the run ends and another follows it (perpetual and cron tasks), go on with that one.")
@click.option("--wait", "-w", is_flag=True, help="If there is no such task yet, wait for it to be added.")
@click.option("--timeout", "-t", type=duration, help="Stop watching after so long, with exit status 4. The task goes on.  [default: never]")
@json_option("every event as one line of JSON")
@connected("is another, with nothing in it to watch")
@click.pass_context
def watch(context: click.Context, key: str, onwards: bool, wait: bool, timeout: timedelta | None, as_json: bool, connection: Connection) -> None:
    """Follow the task with KEY to its end.

    Watches the run that stands under the key now: through its retries, and, when it is replaced, through its replacement. Of a
    perpetual or cron task that is one run, unless --follow is given. While Redis is away, it is waited for. Ctrl-C ends the
    watching and leaves the task alone.

    \b
    Exit status:
      0  the task completed
      1  it failed; or there is no such task; or its record was gone before its end was known
      3  it was cancelled
      4  --timeout passed
    """  # noqa: D301 - the backspace tells click to leave the lines below as they are
    if not key:
        raise click.BadParameter("a key is not empty", param_hint="'KEY'")
    context.exit(run_until_interrupted(_watch(key, connection, onwards=onwards, wait=wait, timeout=timeout, as_json=as_json)))


async def _watch(key: str, connection: Connection, *, onwards: bool, wait: bool, timeout: timedelta | None, as_json: bool) -> int:
    import logging

    import anyio  # late, like what follows: heavy, and not needed for help

    from docket.cli._following import Following
    from docket.cli._output import note
    from docket.cli._server_time import server_clock
    from docket.cli._words import printable, tolerate_any_text

    logging.getLogger("docket").addHandler(logging.NullHandler())  # what it would warn of (outages) is told here in other words
    tolerate_any_text()
    async with connection.open() as docket:
        now_us = await server_clock(docket)
        with anyio.move_on_after(None if timeout is None else timeout.total_seconds()), _audience(key, now_us, as_json=as_json) as audience:
            ended = await Following(docket, key, audience, wait=wait, onwards=onwards).to_the_end()
            return EXIT_STATUSES[ended.state.value]
    assert timeout is not None
    note(f"Watched {printable(key)} for {format_short(timeout)} without seeing its end (--timeout); the task is left alone.")
    return TIMED_OUT


def _audience(key: str, now_us: Callable[[], int], *, as_json: bool) -> AbstractContextManager[Audience]:
    from docket.cli._output import write_json  # late, as above
    from docket.cli._watch_lines import Journal, Lines

    if as_json:
        return nullcontext(Journal(key, lambda event: write_json([event]), now_us))
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return nullcontext(Lines(lambda line: click.echo(str(line)), now_us))
    from docket.cli._watch_screen import Screen

    return Screen(now_us)
