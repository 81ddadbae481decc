"""How commands print what they found: pages for people, JSON for scripts.

A terminal gets colours, tables that fit it, and a pager for what is longer than the screen. A pipe gets plain columns that are never cut,
so that `grep`, `cut` and `wc` see whole keys, one line each.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, TypeAlias

import click

from docket.cli._words import printable, tolerate_any_text

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["STATE_STYLES", "Cell", "Columns", "Page", "Styled", "count_of", "is_for_people", "is_terminal", "note", "write_json", "write_lines"]

STATE_STYLES: Mapping[str, str] = {
    "scheduled": "magenta",
    "queued": "blue",
    "running": "cyan",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
}


class Styled(NamedTuple):
    """This is a text with a style, which only a terminal shows."""

    text: str
    style: str


Cell: TypeAlias = "str | Styled"


def write_json(objects: Iterable[Mapping[str, Any]]) -> None:
    """This writes objects, one a line."""
    if lines := [json.dumps(each) for each in objects]:
        write_lines(lines)


def write_lines(lines: Iterable[str]) -> None:
    """This writes lines, all at once."""
    tolerate_any_text()
    click.echo("\n".join(lines))


def note(text: str) -> None:
    """This tells a person something that is not the answer: on standard error, so that a script does not read it."""
    click.echo(text, err=True)


def count_of(number: int, thing: str) -> str:
    """This counts things in words: `1 task`, `12,000 tasks`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def is_terminal(stream: TextIO | None) -> bool:
    """This says whether a stream is a terminal. None: the process was started with it closed."""
    return stream is not None and stream.isatty()


def is_for_people() -> bool:
    """This says whether the output goes to a terminal."""
    return is_terminal(sys.stdout)


class Columns:
    """This writes rows as plain columns, some at a time: a column stays as wide as its widest cell so far, and no cell is ever cut."""

    def __init__(self, titles: Sequence[str]) -> None:
        self._titles: Sequence[str] | None = titles
        self._widths = [0] * len(titles)

    def lines(self, rows: Sequence[Sequence[Cell]]) -> list[str]:
        """This gives the lines for these rows, below the titles if they are the first."""
        texts = [[_plain(cell) for cell in row] for row in rows]
        if self._titles is not None:
            texts.insert(0, [*self._titles])
            self._titles = None
        self._widths = [max(widths) for widths in zip(self._widths, *([_width(text) for text in row] for row in texts), strict=True)]
        return [self._line(row) for row in texts]

    def _line(self, row: Sequence[str]) -> str:
        *others, last = row
        padded = [text + " " * (width - _width(text)) for text, width in zip(others, self._widths)]  # noqa: B905 - the last has no need of padding
        return "  ".join([*padded, last]).rstrip()


class Page:
    """This gathers what a command has to say, and then shows it at once."""

    def __init__(self) -> None:
        self._parts: list[tuple[Sequence[str], Sequence[Sequence[Cell]]] | Cell] = []

    def line(self, text: Cell = "") -> None:
        """This adds a line."""
        self._parts.append(text)

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """This adds a table; without titles it is a list of names and values."""
        self._parts.append((titles, rows))

    def show(self) -> None:
        """This shows everything."""
        if not is_for_people():
            write_lines(line for part in self._parts for line in _plain_lines(part))
            return
        tolerate_any_text()
        from rich.console import Console  # late: heavy, and only for terminals

        console = Console(highlight=False, markup=False, emoji=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
        with console.capture() as captured:
            for part in self._parts:
                console.print(_renderable(part))
        text = captured.get()
        if text.count("\n") < console.height:
            click.echo(text, nl=False)
        else:
            click.echo_via_pager(text)


def _plain(cell: Cell) -> str:
    return printable(cell.text if isinstance(cell, Styled) else cell)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # late: heavy, and most text is plain

    return cell_len(text)


def _plain_lines(part: tuple[Sequence[str], Sequence[Sequence[Cell]]] | Cell) -> list[str]:
    if isinstance(part, (str, Styled)):
        return [_plain(part)]
    titles, rows = part
    return Columns(titles).lines(rows) if titles else _without_titles(rows)


def _without_titles(rows: Sequence[Sequence[Cell]]) -> list[str]:
    return Columns([""] * len(rows[0])).lines(rows)[1:]


def _renderable(part: tuple[Sequence[str], Sequence[Sequence[Cell]]] | Cell) -> RenderableType:
    from rich.table import Table  # late, as above
    from rich.text import Text

    def text(cell: Cell) -> Text:
        return Text(_plain(cell), style=cell.style if isinstance(cell, Styled) else "")

    if isinstance(part, (str, Styled)):
        return text(part)
    titles, rows = part
    table = Table(box=None, show_header=bool(titles), header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles or [""] * len(rows[0]):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(text, row))
    return table
