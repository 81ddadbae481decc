"""What a terminal shows, as an SVG: in its colours, on a ground of its own, with the reader's own font, so that nothing is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

import pyte
from pyte.screens import Char

__all__ = ["DimScreen", "svg"]

WIDTH, HEIGHT, SIZE = 8.4, 18, 14
"""Of a letter's place, and of the letter in it."""
MARGIN = 12

GROUND, LETTERS, FAINT = "#1b1e26", "#dee2ea", "#8b93a5"
COLOURS = {
    "black": GROUND,
    "red": "#ff7b7b",
    "green": "#7fd88f",
    "brown": "#efc864",  # as pyte calls yellow
    "blue": "#7aa5ff",
    "magenta": "#d08fee",
    "cyan": "#63d3e4",
    "white": LETTERS,
    "brightblack": "#565d6d",
}
NO_BREAK = "\u00a0"
"""In place of spaces, of which a browser would make one out of many."""

_DIM, _NOT_DIM = 2, 22
_BLINKING, _NOT_BLINKING = 5, 25
_COLOUR_FOLLOWS = {38: {2: 4, 5: 2}, 48: {2: 4, 5: 2}}


class DimScreen(pyte.Screen):
    """This is a screen that knows dim letters, which pyte does not: as blinking ones, of which docket shows none."""

    def select_graphic_rendition(self, *attrs: int, **kwargs: Any) -> None:
        """This sets how the next letters look."""
        swapped: list[int] = []
        rest = list(attrs)
        while rest:
            attribute = rest.pop(0)
            swapped.append(attribute)
            if attribute in _COLOUR_FOLLOWS and rest:
                number = _COLOUR_FOLLOWS[attribute].get(rest[0], 0)
                swapped += rest[:number]
                del rest[:number]
            elif attribute == _DIM:
                swapped[-1] = _BLINKING
            elif attribute == _NOT_DIM:
                swapped.append(_NOT_BLINKING)
        super().select_graphic_rendition(*swapped, **kwargs)


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return COLOURS.get(name) or COLOURS.get(name.removeprefix("bright")) or f"#{name}"


def _looks(char: Char) -> tuple[str, str | None, bool]:
    """This gives the colour of the letter, that of its ground, and whether it is bold."""
    ink = _colour(char.fg, FAINT if char.blink else LETTERS)
    ground = _colour(char.bg, GROUND)
    if char.reverse:
        ink, ground = ground, ink
    return ink, (ground if ground != GROUND else None), char.bold


def _pieces(screen: pyte.Screen) -> Iterator[tuple[int, int, str, tuple[str, str | None, bool]]]:
    """This gives what stands on the screen, cut where the looks change."""
    for y in range(screen.lines):
        row = [screen.buffer[y][x] for x in range(screen.columns)]
        x = 0
        for looks, chars in groupby(row, key=_looks):
            text = "".join(char.data for char in chars)
            if text.strip() or looks[1]:
                yield x, y, text, looks
            x += len(text)


def svg(screen: pyte.Screen, title: str) -> str:
    """This draws what the screen shows, up to its last line."""
    pieces = list(_pieces(screen))
    rows = max((y for _, y, _, _ in pieces), default=0) + 1
    width, height = round(screen.columns * WIDTH + 2 * MARGIN), rows * HEIGHT + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{GROUND}"/>',
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="{SIZE}">',
    ]
    for x, y, text, (ink, ground, is_bold) in pieces:
        if ground:
            place = f'x="{MARGIN + x * WIDTH:g}" y="{MARGIN + y * HEIGHT}" width="{len(text) * WIDTH:g}" height="{HEIGHT}"'
            lines.append(f'<rect {place} fill="{ground}"/>')
        kept = text.rstrip()
        begin = len(kept) - len(kept.lstrip())
        if kept:
            place = f'x="{MARGIN + (x + begin) * WIDTH:g}" y="{MARGIN + y * HEIGHT + SIZE}" textLength="{(len(kept) - begin) * WIDTH:g}"'
            weight = ' font-weight="bold"' if is_bold else ""
            lines.append(f'<text {place} fill="{ink}"{weight}>{escape(kept[begin:]).replace(" ", NO_BREAK)}</text>')
    return "\n".join([*lines, "</g>", "</svg>", ""])
