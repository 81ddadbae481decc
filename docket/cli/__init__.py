"""The `docket` command: one file per group of commands, all sharing the options of `_options`.

A command's module imports what the command needs when it runs, so that `docket --help` does not wait for Redis clients.
"""

from typing import Any

import click

from docket.cli._tasks import tasks
from docket.cli._version import show_version, version
from docket.cli._worker import worker
from docket.errors import DocketError, InvalidOption

__all__ = ["app"]


class _App(click.Group):
    """This prints docket's own errors as one line: exit 2 for a wrong option, 1 for everything else."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidOption as exc:
            raise click.UsageError(str(exc)) from exc
        except DocketError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(cls=_App, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Show the version and exit.")
@click.pass_context
def app(context: click.Context) -> None:
    """Docket: background tasks for Python, now, later and for ever."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


app.add_command(tasks)
app.add_command(version)
app.add_command(worker)
