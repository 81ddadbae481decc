"""The `docket` command: one file per group of commands, all sharing the options of `_options`.

A command's file is imported when the command is called, and imports what the command needs when it runs, so that a command starts
about as soon as a Redis client can be imported.
"""

from __future__ import annotations

from typing import Any

import click

from docket.cli._lazy import LazyGroup
from docket.cli._version import show_version
from docket.errors import DocketError, InvalidOption

__all__ = ["app"]

_COMMANDS = {
    "Work": {
        "worker": ("Run tasks, until SIGTERM or SIGINT.", "docket.cli._worker:worker"),
        "add": ("Schedule a task.", "docket.cli._add:add"),
        "cancel": ("Cancel what stands under a key.", "docket.cli._cancel:cancel"),
        "clear": ("Cancel everything that has not started.", "docket.cli._cancel:clear"),
        "tasks": ("Schedule a built-in task, to try out a docket.", "docket.cli._tasks:tasks"),
        "reshard": ("Move a docket that nobody uses to another number of shards.", "docket.cli._reshard:reshard"),
    },
    "Look": {
        "ls": ("List tasks.", "docket.cli._ls:ls"),
        "watch": ("Follow one task to its end.", "docket.cli._watch:watch"),
        "top": ("Show live what the docket is doing.", "docket.cli._top:top"),
        "show": ("Show everything that is known of one task.", "docket.cli._show:show"),
        "snapshot": ("Show what is running, what is due, and how much of it.", "docket.cli._snapshot:snapshot"),
        "workers": ("List live workers.", "docket.cli._workers:workers"),
        "check": ("Say whether everything that waits has a worker that will run it.", "docket.cli._check:check"),
    },
    "Dead letters": {
        "dead": ("Look at what failed for good, run it again, or throw it away.", "docket.cli._dead:dead"),
    },
    "Strikes": {
        "strike": ("Keep tasks from running.", "docket.cli._strikes:strike"),
        "restore": ("Let struck tasks run again.", "docket.cli._strikes:restore"),
        "strikes": ("List the strikes in effect.", "docket.cli._strikes:strikes"),
    },
    "This command": {
        "completion": ("Print a script that lets a shell complete this command.", "docket.cli._completion:completion"),
        "version": ("Show the version.", "docket.cli._version:version"),
    },
}


class _App(LazyGroup):
    """This prints docket's own errors as one line: exit 2 for a wrong option, 1 for everything else."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidOption as exc:
            raise click.UsageError(str(exc)) from exc
        except DocketError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(cls=_App, sections=_COMMANDS, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Show the version and exit.")
@click.pass_context
def app(context: click.Context) -> None:
    """Docket: background tasks for Python, now, later and for ever."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
