"""`docket add TASK`: schedules a call of any task, of which the code may be here or only on the workers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import click

from docket.cli._calls import literal, moment_of, named_arguments
from docket.cli._durations import duration
from docket.cli._interrupts import run_until_interrupted
from docket.cli._options import Connection, as_json, connected, current_directory_first
from docket.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from docket.docket import Docket
    from docket.execution import Execution

__all__ = ["add"]


@click.command()
@click.argument("task")
@click.argument("values", nargs=-1, metavar="[VALUE]...")
@click.option("--arg", "-a", "named", multiple=True, metavar="NAME=VALUE", help="An argument by name. Repeatable.")
@click.option("--in", "delay", type=duration, help="Run it after so long: 250ms, 5s, 10m, 1h, 1d.")
@click.option("--at", "moment", type=moment_of, metavar="TIME", help="Run it at this moment: 2030-01-31T12:00 (local time), 2030-01-31T12:00Z.")
@click.option("--key", "-k", help="Its key, under which at most one task stands at a time.  [default: a new one]")
@click.option("--replace", is_flag=True, help="Take the place of whatever stands under --key.")
@click.option("--wait", "-w", is_flag=True, help="Wait for its end, and exit as `docket watch` does: 0 completed, 1 failed, 3 cancelled.")
@as_json("one JSON object in place of the key (that of `docket ls`, and `disposition`)")
@connected("ends now: no worker would ever see the task")
@click.pass_context
def add(
    context: click.Context,
    task: str,
    values: tuple[str, ...],
    named: tuple[str, ...],
    delay: timedelta | None,
    moment: datetime | None,
    key: str | None,
    replace: bool,
    wait: bool,
    as_json: bool,
    connection: Connection,
) -> None:
    """Schedule a call of TASK with these arguments, and print its key.

    TASK is module:function, which is imported from here: its arguments are checked, and of a task declared on a docket, name and URL
    are that docket's. Or it is just the name under which workers know the task; then nothing is checked.

    A VALUE is a string, or type:literal, such as int:5, float:0.5, bool:true, none:, date:2030-01-31, timedelta:90s, uuid:..., or
    module.Enum:MEMBER; str:int:5 is the string "int:5".

    When a task is scheduled, queued or running under the key already, nothing changes, and a line on standard error says so.

    \b
    Examples:
      docket add greet Jane
      docket add my_tasks:charge --arg order=int:17 --in 5m --key order-17
      docket add report --at 2030-01-31T06:00 --wait
    """  # noqa: D301 - the backspace tells click to leave the lines below as they are
    if delay is not None and moment is not None:
        raise click.UsageError("--in and --at each say when; give one of them")
    if replace and key is None:
        raise click.UsageError("--replace takes the place of what stands under a key; give --key")
    current_directory_first()
    call = _Call(task, tuple(map(literal, values)), named_arguments(named), moment if delay is None else delay, key, replace)
    context.exit(run_until_interrupted(_add(connection, call, wait=wait, as_json=as_json)))


class _Call:
    """This is what was asked for."""

    def __init__(self, task: str, args: tuple[Any, ...], kwargs: dict[str, Any], when: datetime | timedelta | None, key: str | None, replace: bool) -> None:
        self._task = task
        self._args = args
        self._kwargs = kwargs
        self._when = when
        self._key = key
        self._replace = replace

    def target(self) -> tuple[Callable[..., Any] | str, Docket | None]:
        """This gives the task, and the docket that it was declared on. Raises `LoadError`."""
        if ":" not in self._task:
            return self._task, None
        from docket._loading import load  # late: heavy, and not needed for help
        from docket._task import Scheduler, is_task

        found = load(self._task)
        if isinstance(found, Scheduler):
            scheduler = cast("Scheduler[..., Any]", found)
            return scheduler, scheduler.docket
        if is_task(found):
            return found, found.known_docket
        if not callable(found) or isinstance(found, type):
            raise LoadError(f"{self._task!r} is a {type(found).__name__}; name a task, or a function")
        return found, None

    async def schedule(self, docket: Docket, function: Callable[..., Any] | str) -> Execution[Any]:
        """This schedules it."""
        if self._replace:
            assert self._key is not None
            return await docket.replace(function, self._when, self._key)(*self._args, **self._kwargs)
        return await docket.add(function, when=self._when, key=self._key)(*self._args, **self._kwargs)


async def _add(connection: Connection, call: _Call, *, wait: bool, as_json: bool) -> int:
    from docket.cli._describe import as_object  # late, like what follows: heavy, and not needed for help
    from docket.cli._output import note, write_json
    from docket.states import Disposition

    function, declared = call.target()
    async with connection.open(declared) as docket:
        execution = await call.schedule(docket, function)
        if as_json:
            write_json([{**as_object(execution), "disposition": execution.disposition.value}])
        elif execution.disposition is not Disposition.STRUCK:
            click.echo(execution.key)
        if execution.disposition is Disposition.STRUCK:
            note(f"Error: {execution.function_name} is struck, so this was not scheduled; docket strikes lists what is in effect, docket restore ends it.")
            return 1
        if execution.disposition is Disposition.ALREADY_SCHEDULED:
            note(f"There is a task under this key already, which is {execution.state.value}; nothing was changed.")
        return await _end_of(docket, execution.key) if wait else 0


async def _end_of(docket: Docket, key: str) -> int:
    from docket.cli._following import Following  # late, as above
    from docket.cli._server_time import server_clock
    from docket.cli._watch import EXIT_STATUSES
    from docket.cli._watch_lines import Lines

    lines = Lines(lambda line: click.echo(str(line), err=True), await server_clock(docket))
    ended = await Following(docket, key, lines).to_the_end()
    return EXIT_STATUSES[ended.state.value]
