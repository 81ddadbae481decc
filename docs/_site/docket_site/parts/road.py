"""The drawing of one task's road, from the table that stands in its place for those who read the file."""

from __future__ import annotations

import html
import re

from docket_site.source import Source

__all__ = ["road", "steps"]

ROW = re.compile(r"^\|(.*)\|$", re.MULTILINE)
CODE = re.compile(r"`([^`]*)`")


def steps(table: str) -> list[dict[str, str]]:
    """This reads a table of Markdown: a dictionary for each row, by the heads of the columns."""
    heads, _, *rows = ([cell.strip() for cell in row.split("|")] for row in ROW.findall(table))
    return [dict(zip(heads, row, strict=True)) for row in rows]


def road(source: Source) -> str:
    """This draws the steps in two lanes: what a process does, and what it has the server do."""
    drawn: list[str] = []
    for number, step in enumerate(steps(source.instead), start=1):
        lane = html.escape(step["who"])
        drawn += [
            f'<li class="road-step road-{lane.split()[-1]}">',
            f'<div class="road-here"><span class="road-number">{number}</span><strong>{html.escape(step["step"])}</strong><span class="road-who">{lane}</span>',
            f'<p class="road-file">{_marked(step["where"])}</p></div>',
            f'<div class="road-redis{"" if CODE.search(step["in Redis"]) else " road-nothing"}">{_marked(step["in Redis"])}</div>',
            "</li>",
        ]
    heads = '<div class="road-heads"><span>where it is done</span><span>what Redis does</span></div>'
    return "\n".join([f'<div class="road">{heads}<ol>', *drawn, "</ol></div>"])


def _marked(text: str) -> str:
    return CODE.sub(r"<code>\1</code>", html.escape(text, quote=False))
