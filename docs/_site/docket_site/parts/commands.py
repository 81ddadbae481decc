"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from docket.cli import app
from docket.cli._lazy import LazyGroup
from docket_site.source import Source

__all__ = ["commands"]

DEFAULT = re.compile(r"\s*\[default: (.*?)\]")
NEVER = "--help"


def commands(_: Source) -> str:
    """This is every command with its arguments, options, variables and defaults, in the order of `docket --help`."""
    assert isinstance(app, LazyGroup)
    lines = ["| | |", "|---|---|"]
    for section in app.sections.values():
        lines += [f"| [`docket {name}`](#docket-{name}) | {line} |" for name, (line, _) in section.items()]
    top = click.Context(app, info_name="docket")
    for section, members in app.sections.items():
        lines += ["", f"## {section}"]
        for name in members:
            command = app.get_command(top, name)
            assert command is not None
            lines += _command(command, click.Context(command, info_name=name, parent=top))
    return "\n".join(lines)


def _command(command: click.Command, context: click.Context, level: int = 3) -> Iterator[str]:
    yield from ("", f"{'#' * level} {context.command_path}", "")
    yield from ("```text", f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}", "```", "")
    yield from _help(command.help or "")
    rows = [_row(option, context) for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if rows:
        yield from ("", "| option | | default | variable |", "|---|---|---|---|", *rows)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, info_name=name, parent=context), level + 1)


def _help(text: str) -> Iterator[str]:
    r"""This gives paragraphs as paragraphs, and what click is told to leave as it is (`\b`) as a block."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if not paragraph.startswith("\b\n"):
            yield from (_escaped(paragraph), "")
            continue
        title, _, rest = paragraph.removeprefix("\b\n").partition("\n")
        if title.startswith("Example") and title.endswith(":"):
            yield from (title, "", "```sh", inspect.cleandoc(rest), "```", "")
        else:
            yield from ("```text", paragraph.removeprefix("\b\n"), "```", "")


def _row(option: click.Option, context: click.Context) -> str:
    text = option.help or ""
    found = DEFAULT.search(text)
    default = found[1] if found else "" if option.default in (None, False, ()) or not isinstance(option.default, (str, int, float)) else str(option.default)
    names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len))
    if option.secondary_opts:
        names += ", " + ", ".join(f"`{name}`" for name in option.secondary_opts)
    if not option.is_flag:
        kind = f"`{option.make_metavar(context)}`".replace("|", "\\|") if isinstance(option.type, click.Choice) else f"`{option.make_metavar(context)}`"
        names += f" {kind}"
    variable = f"`{option.envvar}`" if isinstance(option.envvar, str) else ""
    return f"| {names} | {_escaped(DEFAULT.sub('', text)).replace('|', chr(92) + '|')} | {_escaped(default)} | {variable} |"


def _escaped(text: str) -> str:
    """This leaves what Markdown would read otherwise: `*`, `<`, `_`."""
    return re.sub(r"([*<_\[\]])", r"\\\1", text)
