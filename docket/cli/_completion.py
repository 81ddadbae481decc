"""`docket completion SHELL`: the script that has a shell ask this command what may come next. The answers are click's."""

from __future__ import annotations

import click

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that lets SHELL complete this command.

    \b
    bash, in ~/.bashrc:
      eval "$(docket completion bash)"
    zsh, in ~/.zshrc:
      eval "$(docket completion zsh)"
    fish, once:
      docket completion fish > ~/.config/fish/completions/docket.fish
    """  # noqa: D301 - the backspace tells click to leave the lines below as they are
    from click.shell_completion import get_completion_class  # late: click imports it when a shell asks

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "docket", "_DOCKET_COMPLETE").source())
