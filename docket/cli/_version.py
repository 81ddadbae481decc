"""`docket version` and `docket --version`."""

import click

from docket._version import __version__

__all__ = ["show_version", "version"]


def show_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """This prints the version and ends the command, when `--version` is given."""
    if wanted:
        _print_version()
        context.exit()


@click.command()
def version() -> None:
    """Show the version."""
    _print_version()


def _print_version() -> None:
    click.echo(__version__)
