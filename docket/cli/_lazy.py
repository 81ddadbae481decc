"""A group of commands whose help is known before their modules are: `docket --help` imports none of them, `docket ls` only its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """This is given its commands in sections: what each is called, the line that help shows for it, and `module:member`, where it is."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, tuple[str, str]]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self._known = {name: known for section in sections.values() for name, known in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._known)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = self._known.get(cmd_name)
        if known is None:
            if not ctx.resilient_parsing:
                from docket._loading import did_you_mean  # late: only a slip needs it

                ctx.fail(f"No such command {cmd_name!r}{did_you_mean(cmd_name, self._known) or '.'}")
            return None
        module, _, member = known[1].partition(":")
        return getattr(import_module(module), member)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (line, _) in section.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # late: click imports it when a shell asks

        found = [CompletionItem(name, help=line) for name, (line, _) in self._known.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)
