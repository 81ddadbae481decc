"""One frame of `docket top`: a pure function from what was read to lines that fit the screen, whatever its size.

Everything that others wrote (keys, names, errors, messages) is made harmless, and cut to what there is room for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from docket.cli._durations import format_short
from docket.cli._words import local_moment, percent, printable, span

if TYPE_CHECKING:
    from docket._store.records import Counts, Failure, ProgressChange, Underway
    from docket.cli._top_reading import History, Reading, WorkerRow

__all__ = ["View", "frame", "rows_for"]

_LATE = 60.0
"""Seconds after which work that is ready and not fetched is marked: nobody has room for it, or nobody knows the task."""

_DIM, _BOLD, _BAD, _GOOD, _WARN, _TITLE = "dim", "bold", "bold red", "green", "yellow", "bold cyan"


@dataclass(frozen=True, slots=True)
class View:
    """This is everything that a frame shows."""

    docket: str
    url: str
    reading: Reading | None
    """None: there has been no look yet."""
    history: History
    now_us: int
    interval: timedelta
    paused: bool = False
    away_since_us: int | None = None
    """Since when Redis is away; None: it is not."""
    is_live: bool = True
    """Whether keys do something."""
    unicode: bool = True


def rows_for(height: int) -> int:
    """This is how many rows of a kind a frame of that height can show: nobody is to read more of them."""
    return max(height - 12, 3)  # the other lines: above, below, the numbers, and each other table's title and first row


def frame(view: View, width: int, height: int) -> list[Text]:
    """This draws at most `height` lines of at most `width` columns."""
    lines = _lines(view, width, height)[:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _lines(view: View, width: int, height: int) -> list[Text]:
    head = _head(view, width)
    if view.reading is None:
        return [head, Text("Redis is away; waiting for it", style=_WARN) if view.away_since_us else Text("Looking ...", style=_DIM)]
    lines = [head, _rule(view, width), *_numbers(view, view.reading, width)]
    foot = [_foot(view)] if view.is_live and height > 3 else []
    room = height - len(foot)
    lines += _fitted(_sections(view, view.reading, width), room - len(lines))
    if foot:
        lines += [Text()] * (room - len(lines))
    return lines[:room] + foot


# The lines above and below


def _head(view: View, width: int) -> Text:
    left = Text.assemble(("docket ", _DIM), (printable(view.docket), _BOLD), (f"  {printable(view.url)}", _DIM))
    if not view.is_live:
        return _both_ends(left, Text(local_moment(view.now_us)), width)
    state = (" PAUSED ", "bold yellow reverse") if view.paused else ""
    right = Text.assemble(state, (f"  every {format_short(view.interval)}  ", _DIM), _time(view.now_us))
    return _both_ends(left, right, width)


def _rule(view: View, width: int) -> Text:
    if view.away_since_us is None or view.reading is None:
        return Text(("─" if view.unicode else "-") * width, style=_DIM)
    words = (
        f" Redis is away for {span(_seconds(view.away_since_us, view.now_us))}; this is what was seen {span(_seconds(view.reading.now_us, view.now_us))} ago"
    )
    return Text(set_cell_size(words, width), style="bold white on red")


def _foot(view: View) -> Text:
    keys = [("q", "quit"), ("p", "go on" if view.paused else "pause"), ("+ -", "interval"), ("space", "look now")]
    foot = Text()
    for key, meaning in keys:
        foot.append(f" {key} ", "reverse").append(f" {meaning}  ", _DIM)
    return foot


def _both_ends(left: Text, right: Text, width: int) -> Text:
    room = width - right.cell_len - 2
    if room < 12:
        left.truncate(width, overflow="ellipsis")
        return left
    left.truncate(room, overflow="ellipsis")
    return left + Text(" " * (width - left.cell_len - right.cell_len)) + right


# The numbers

_DEPTH_WIDTH = 39


def _numbers(view: View, reading: Reading, width: int) -> list[Text]:
    depth = _depth(reading)
    if width < 72:
        flow = _flow(view, reading.counts, min(12, width - 31))
        return [*depth, *flow]
    flow = _flow(view, reading.counts, min(60, width - _DEPTH_WIDTH - 31))
    for line in depth:
        line.truncate(_DEPTH_WIDTH, overflow="ellipsis", pad=True)
    flow += [Text()] * (len(depth) - len(flow))
    return [left + right for left, right in zip(depth, flow, strict=True)]


def _depth(reading: Reading) -> list[Text]:
    counts = reading.counts
    waited = None if reading.ready_since_us is None else _seconds(reading.ready_since_us, reading.now_us)
    due = None if reading.next_due_us is None else _seconds(reading.now_us, reading.next_due_us)
    is_late = waited is not None and waited > _LATE
    busy = sum(1 for worker in reading.workers if worker.running)
    on = f"on {busy} of {len(reading.workers)} workers" if reading.workers else "no worker is alive"
    return [
        _number("running", counts.running, _GOOD if counts.running else "", on, _DIM if reading.workers else _BAD),
        _number("queued", counts.queued, "", "" if waited is None else f"for up to {span(waited)}", _BAD if is_late else _DIM),
        _number("waiting", counts.waiting, "", "behind limits" if counts.waiting else "", _DIM),
        _number("overdue", counts.overdue, _BAD if counts.overdue and not reading.workers else "", "", _DIM),
        _number("scheduled", counts.scheduled, "", "" if due is None or due <= 0 else f"next in {span(due)}", _DIM),
    ]


def _number(label: str, number: int, style: str, note: str, note_style: str) -> Text:
    return Text.assemble((f"{label:<9}", _DIM), (f"{_many(number):>9}", f"{_BOLD} {style}" if number else _DIM), "  ", (note, note_style))


def _flow(view: View, counts: Counts, points: int) -> list[Text]:
    lines: list[Text] = []
    for total, style in (("completed", _GOOD), ("failed", "red"), ("retried", _WARN), ("cancelled", "")):
        rate = view.history.rate(total)
        line = Text.assemble((f"{total:<9}", _DIM), (f"{_per_second(rate):>9}", f"{_BOLD} {style}" if rate else _DIM), "  ")
        if points >= 8 and view.is_live:
            line.append(_spark(view.history.course(total, points), points, unicode=view.unicode), style).append(" ")
        lines.append(line.append(f"{_many(getattr(counts, total)):>10}", _DIM))
    return lines


def _spark(course: Sequence[float], points: int, *, unicode: bool) -> str:
    steps = "▁▂▃▄▅▆▇█" if unicode else "_.-=+*%#"
    most = max(course, default=0.0)
    if not most:
        return (steps[0] * len(course)).rjust(points)
    return "".join(steps[0] if not value else steps[max(1, round(value / most * (len(steps) - 1)))] for value in course).rjust(points)


# The tables

_ROOMY = 20
"""Lines of room from which on empty ones are spent to keep tables apart."""

_MOST_DRAWN = 100
"""Rows that are drawn, of however many there are: more do not fit any screen."""


@dataclass(frozen=True, slots=True)
class _Section:
    """This is a title, and rows of which as many are shown as fit; `all_of_them` are there. The weight is its share of the room."""

    title: Callable[[int], Text]
    rows: Sequence[Text]
    weight: int


def _sections(view: View, reading: Reading, width: int) -> list[_Section]:
    sections = [
        _running(view, reading, width),
        _workers(reading.workers, reading.now_us, width),
        _failures(reading.failures, reading.counts.dead_letters, width),
    ]
    if reading.strikes:
        told = f"{len(reading.strikes)} in effect: {', '.join(map(printable, reading.strikes[:_MOST_DRAWN]))}"
        sections.insert(0, _Section(lambda shown: Text.assemble(("Strikes ", _TITLE), (told, _WARN)), [], 1))
    return sections


def _fitted(sections: Sequence[_Section], room: int) -> list[Text]:
    """Every section gets its title and a row, in order, for as long as there is room; the rest is shared by weight."""
    shown = dict.fromkeys(range(len(sections)), 0)
    taken: list[int] = []
    gaps = len(sections) if room >= _ROOMY else 0  # a large screen has lines to spare between them
    room -= gaps
    for index, section in enumerate(sections):
        least = 1 + min(1, len(section.rows))
        if least <= room:
            taken.append(index)
            shown[index] = least - 1
            room -= least
    while room > 0:
        hungry = [index for index in taken if shown[index] < len(sections[index].rows)]
        if not hungry:
            break
        index = min(hungry, key=lambda each: shown[each] / sections[each].weight)
        shown[index] += 1
        room -= 1
    lines: list[Text] = []
    for index in taken:
        if gaps or room >= len(taken):
            lines.append(Text())
        lines.append(sections[index].title(shown[index]))
        lines += sections[index].rows[: shown[index]]
    return lines


def _title(name: str, number: int, shown: int, what: str) -> Text:
    title = Text.assemble((name, _TITLE), (f" {_many(number)}", _BOLD))
    if shown < number:
        title.append(f"  the {f'{shown} ' if shown > 1 else ''}{what}" if shown else "", _DIM)
    return title


def _running(view: View, reading: Reading, width: int) -> _Section:
    runs = reading.underway
    rows = _table(
        [
            _Column([_task(run) for run in runs], least=8, most=24),
            _Column([printable(run.key) for run in runs], least=8, most=36),
            _Column([printable(run.worker) for run in runs], least=8, most=24, style=_DIM, from_width=70),
            _Column([span(_seconds(run.started_us, reading.now_us)) for run in runs], least=6, most=8, is_right=True),
        ],
        width,
        rest=[_progress(run.progress, max(6, min(20, width // 10)), unicode=view.unicode) for run in runs],
        rest_from=44,
        rest_least=28 if any(run.progress for run in runs) else 0,
    )
    number = max(reading.counts.running, len(runs))
    return _Section(lambda shown: _title("Running", number, shown, "longest"), rows or [Text("nothing runs", style=_DIM)], 4)


def _task(run: Underway) -> str:
    name = printable(run.function)
    return f"{name} (attempt {run.attempt})" if run.attempt > 1 else name


def _progress(progress: ProgressChange | None, width: int, *, unicode: bool) -> Text:
    if progress is None:
        return Text()
    done = percent(progress.current or 0, progress.total)
    filled = done * width // 100
    full, empty = ("━", "━") if unicode else ("#", ".")
    return Text.assemble(
        (full * filled, "cyan"),
        (empty * (width - filled), "bright_black"),
        (f" {done:>3}% ", _BOLD),
        (printable(progress.message) if progress.message else f"{progress.current or 0}/{progress.total}", _DIM),
    )


def _workers(all_of_them: Sequence[WorkerRow], now_us: int, width: int) -> _Section:
    workers = all_of_them[:_MOST_DRAWN]
    rows = _table(
        [
            _Column([printable(worker.name) for worker in workers], least=8, most=36),
            _Column([f"runs {worker.running}" for worker in workers], least=6, most=10),
            _Column([_knows(worker) for worker in workers], least=8, most=18, style=_DIM, from_width=56),
        ],
        width,
        rest=[Text(f"seen {span(_seconds(worker.seen_us, now_us))} ago", style=_DIM) for worker in workers],
        rest_from=36,
        rest_least=14,
    )
    nobody = Text("no worker is alive: nothing will run", style=_BAD)
    return _Section(lambda shown: _title("Workers", len(all_of_them), shown, "busiest"), rows or [nobody], 2)


def _knows(worker: WorkerRow) -> str:
    if worker.tasks is None:
        return ""
    return f"knows {worker.tasks} task{'' if worker.tasks == 1 else 's'}"


def _failures(failures: Sequence[Failure], dead_letters: int, width: int) -> _Section:
    rows = _table(
        [
            _Column([_time(failure.when_us) for failure in failures], least=8, most=8, style=_DIM),
            _Column([printable(failure.function) for failure in failures], least=8, most=24),
            _Column([printable(failure.key) for failure in failures], least=8, most=36, from_width=50),
        ],
        width,
        rest=[Text(printable(failure.error or "?"), style="red") for failure in failures],
        rest_from=30,
        rest_least=28,
    )
    none = Text("none of late", style=_DIM)
    title = Text("Last failures", style=_TITLE)
    if dead_letters:
        title.append(f"  {_many(dead_letters)} dead letter{'' if dead_letters == 1 else 's'}", _DIM)
    return _Section(lambda shown: title, rows or [none], 2)


@dataclass(frozen=True, slots=True)
class _Column:
    """This is a column that is as wide as its widest cell, within bounds; it is left out of screens narrower than `from_width`."""

    cells: Sequence[str]
    least: int
    most: int
    style: str = ""
    is_right: bool = False
    from_width: int = 0


def _table(columns: Sequence[_Column], width: int, *, rest: Sequence[Text], rest_from: int, rest_least: int) -> list[Text]:
    """Columns side by side; what room they leave is for the `rest`, from `rest_from` columns on, and so much of it at least as far as they can shrink."""
    columns = [column for column in columns if width >= column.from_width]
    has_rest = width >= rest_from
    widths = [min(max(map(cell_len, column.cells), default=0), column.most) for column in columns]
    room = width - (rest_least + 2 if has_rest else 0) - 2 * (len(columns) - 1)
    while sum(widths) > room and any(each > column.least for each, column in zip(widths, columns, strict=True)):
        widths[max(range(len(widths)), key=lambda index: widths[index] - columns[index].least)] -= 1
    rows: list[Text] = []
    for number, more in enumerate(rest):
        row = Text()
        for column, column_width in zip(columns, widths, strict=True):
            cell = _cut_inside(column.cells[number], column_width)
            padding = " " * (column_width - cell_len(cell))
            row.append("  " if row else "").append(padding + cell if column.is_right else cell + padding, column.style)
        if has_rest:
            row = row + Text("  ") + more
        rows.append(row)
    return rows


# Words


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "…" if width > 1 else set_cell_size(text, max(width, 0))


def _time(microseconds: int) -> str:
    return local_moment(microseconds).partition(" ")[2]


def _cut_inside(text: str, width: int) -> str:
    """Keys of docket's own begin alike and end differently."""
    if cell_len(text) <= width or not text.isascii():
        return _cut(text, width)
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _seconds(earlier_us: int, later_us: int) -> float:
    return (later_us - earlier_us) / 1e6


def _many(number: int) -> str:
    return f"{number:,}" if number < 10_000_000 else f"{number / 1e6:,.1f}M"


def _per_second(rate: float | None) -> str:
    if rate is None:
        return "-"
    if not rate:
        return "0/s"
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.1f}/s" if rate >= 0.05 else "<0.1/s"
