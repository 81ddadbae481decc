"""`docket top`: a live screen of what a docket is doing; one frame of it for a pipe; the same as JSON for a script."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from docket.cli._durations import duration
from docket.cli._interrupts import run_until_interrupted
from docket.cli._options import as_json as json_option
from docket.cli._options import connected

if TYPE_CHECKING:
    from docket.cli._options import Connection
    from docket.docket import Docket

__all__ = ["top"]

_SHORTEST = timedelta(milliseconds=100)
_FRAME_LINES = 60
"""Lines of a frame where there is no terminal to fit."""


@click.command()
@click.option("--interval", "-i", type=duration, default="2s", show_default=True, help="How often to look. A look takes a server some twenty commands.")
@click.option("--once", is_flag=True, help="Print one frame and exit. It takes an interval, in which rates are measured.")
@json_option("one JSON object a look")
@connected("is another, in which nothing runs")
@click.pass_context
def top(context: click.Context, interval: timedelta, once: bool, as_json: bool, connection: Connection) -> None:
    """Show live what the docket is doing.

    How much waits and for how long, how much is done a second, what runs and how far it is, the workers, the last failures and
    the strikes in effect. Where the output is no terminal, one frame is printed, as with --once. While Redis is away, that is
    shown, and the screen goes on when it is back.

    \b
    Keys:
      q      quit (so does Ctrl-C)
      p      pause: nothing is asked of Redis; again to go on
      + -    look less often, more often
      space  look now
    """  # noqa: D301 - the backspace tells click to leave the lines below as they are
    if interval < _SHORTEST:
        raise click.BadParameter("look every 100ms at most: a look takes a server some twenty commands", param_hint="'--interval'")
    context.exit(run_until_interrupted(_top(connection, interval, once=once, as_json=as_json)))


async def _top(connection: Connection, interval: timedelta, *, once: bool, as_json: bool) -> int:
    from docket.cli._server_time import server_clock  # late, like what follows: heavy, and not needed for help
    from docket.cli._words import tolerate_any_text

    tolerate_any_text()
    async with connection.open() as docket:
        if as_json:
            await _write(docket, interval, once=once)
            return 0

        from rich.console import Console

        from docket.cli._top_screen import Screen, print_frame

        now_us = await server_clock(docket)
        console = Console(highlight=False, markup=False, emoji=False)
        if once or not console.is_terminal or console.is_dumb_terminal:
            if not sys.stdout.isatty():
                console.size = (console.width, _FRAME_LINES)
            await print_frame(docket, now_us, interval, console)
        else:
            await Screen(docket, now_us, interval, console).show()
        return 0


async def _write(docket: Docket, interval: timedelta, *, once: bool) -> None:
    from docket.cli._output import write_json  # late, as above
    from docket.cli._top_reading import Collector, History, as_object

    collector, history = Collector(docket), History()
    while True:
        reading = await collector.look(_FRAME_LINES)
        history.add(reading)
        if not once or len(history.looks) > 1:
            write_json([as_object(docket, reading, history)])
        if once and len(history.looks) > 1:
            return
        await docket.clock.sleep(interval.total_seconds())
