"""The drawing of the states, from docket/states.py: what may follow what is read there, and only where a line runs is told here."""

from __future__ import annotations

import html
from dataclasses import dataclass

from docket.states import TERMINAL, TRANSITIONS, ExecutionState
from docket_site.source import Source

__all__ = ["LINES", "states"]

SCHEDULED, QUEUED, RUNNING = ExecutionState.SCHEDULED, ExecutionState.QUEUED, ExecutionState.RUNNING
COMPLETED, FAILED, CANCELLED = ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED

WIDTH, HEIGHT = 780, 390
BOX = (124, 50)
CENTRE: dict[ExecutionState, tuple[int, int]] = {
    SCHEDULED: (92, 190),
    QUEUED: (290, 190),
    RUNNING: (488, 190),
    COMPLETED: (704, 95),
    FAILED: (704, 190),
    CANCELLED: (704, 330),
}


@dataclass(frozen=True)
class Line:
    """This is how one transition is drawn, and what brings it about."""

    path: str
    word: str
    at: tuple[int, int]
    anchor: str = "middle"
    told: str = ""
    """What the table says, where that is more than the drawing has room for."""


# Right along the middle, back above it, to the end CANCELLED below it.
LINES: dict[tuple[ExecutionState, ExecutionState], Line] = {
    (SCHEDULED, QUEUED): Line("M154 190 H226", "due", (190, 181), told="it is due"),
    (QUEUED, RUNNING): Line("M352 190 H424", "claimed", (388, 181), told="a worker claims it"),
    (RUNNING, COMPLETED): Line("M550 180 C 596 180, 592 95, 640 95", "returned", (590, 122), "end", "the function returned"),
    (RUNNING, FAILED): Line("M550 190 H640", "raised", (596, 208), told="it raised and no attempt is left, or it could not be run"),
    (RUNNING, CANCELLED): Line(
        "M520 215 C 520 290, 560 318, 640 318", "cancelled, struck", (556, 276), "start", "it was cancelled, struck or dropped by a limit, or raised `Cancel`"
    ),
    (QUEUED, CANCELLED): Line("M290 215 V310 Q290 330 310 330 H640", "cancelled", (370, 321), told="it was cancelled, or cleared"),
    (SCHEDULED, CANCELLED): Line("M92 215 V322 Q92 342 112 342 H640", "cancelled", (170, 333), told="it was cancelled, or cleared"),
    (QUEUED, SCHEDULED): Line("M270 165 C 270 112, 128 112, 124 162", "rescheduled", (196, 116), told="it was rescheduled by somebody"),
    (RUNNING, QUEUED): Line(
        "M468 165 C 468 112, 326 112, 322 162",
        "retried, or handed back",
        (386, 116),
        told="it is tried again at once, held back by a limit, handed back by a worker that stops, or taken back from one that died",
    ),
    (RUNNING, SCHEDULED): Line(
        "M500 165 C 500 20, 80 20, 80 162",
        "retried after a delay, or snoozed",
        (290, 46),
        told="it is tried again after a delay, snoozed, or waits for a worker that knows the task",
    ),
}


def states(source: Source) -> str:
    """This is the drawing, or (with `table`) the same as a table.

    Raises `ValueError` when the states allow what is not drawn, or the other way round.
    """
    allowed = {(before, after) for before, following in TRANSITIONS.items() for after in following}
    if allowed != set(LINES):
        raise ValueError(f"drawn or allowed, and not both: {sorted((a.value, b.value) for a, b in allowed ^ set(LINES))}")
    return _table() if source.about == "table" else _drawing()


def _table() -> str:
    lines = ["| from | to | when |", "|---|---|---|"]
    lines += [
        f"| {before.value} | {after.value} | {line.told or line.word} |"
        for before in ExecutionState
        for (start, after), line in LINES.items()
        if start is before
    ]
    return "\n".join(lines)


def _drawing() -> str:
    parts = [
        f'<figure class="states"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="states-title" xmlns="http://www.w3.org/2000/svg">',
        '<title id="states-title">The states of a run, and what may follow what</title>',
        '<defs><marker id="states-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">',
        '<path d="M0 0 L8 4 L0 8 z" class="states-tip"/></marker></defs>',
        '<path d="M8 190 H26" class="states-line" marker-end="url(#states-tip)"/>',
    ]
    for (_, after), line in LINES.items():
        kind = "states-line states-end" if after in TERMINAL else "states-line"
        x, y = line.at
        parts.append(f'<path d="{line.path}" class="{kind}" marker-end="url(#states-tip)"/>')
        parts.append(f'<text x="{x}" y="{y}" text-anchor="{line.anchor}" class="states-word">{html.escape(line.word)}</text>')
    wide, high = BOX
    for state, (x, y) in CENTRE.items():
        kind = f"states-box states-{state.value}" + (" states-terminal" if state in TERMINAL else "")
        parts.append(f'<rect x="{x - wide // 2}" y="{y - high // 2}" width="{wide}" height="{high}" rx="12" class="{kind}"/>')
        if state in TERMINAL:
            parts.append(f'<rect x="{x - wide // 2 + 4}" y="{y - high // 2 + 4}" width="{wide - 8}" height="{high - 8}" rx="9" class="{kind} states-inner"/>')
        parts.append(f'<text x="{x}" y="{y + 6}" text-anchor="middle" class="states-name">{state.value}</text>')
    parts.append("</svg><figcaption>Dashed lines lead to an end, after which nothing follows.</figcaption></figure>")
    return "\n".join(parts)
