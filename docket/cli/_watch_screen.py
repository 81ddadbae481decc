"""What `docket watch` shows in a terminal: the lines, in colour, and below them a live one with the time that passes and a bar."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from docket.cli._display import Display
from docket.cli._output import STATE_STYLES
from docket.cli._watch_lines import Lines, due_words, progress_words, seconds_between
from docket.cli._words import local_moment, printable, span
from docket.states import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.console import RenderableType
    from typing_extensions import Self

    from docket.cli._following import Run
    from docket.cli._watch_lines import Line

__all__ = ["Screen"]

STYLES = {**STATE_STYLES, "note": "yellow"}

_BAR_WIDTH = 40


class Screen:
    """This is an audience to be entered: for as long as it is, the live line is shown."""

    def __init__(self, now_us: Callable[[], int], console: Console | None = None) -> None:
        self._now_us = now_us
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._lines = Lines(self._print, now_us)
        self._run: Run | None = None
        self._waiting_since = now_us()
        self._is_away = False
        self._spinner = Spinner("dots" if self._console.encoding.startswith("utf") else "line", style="cyan")
        self._display = Display(lambda: Live(console=self._console, get_renderable=self.below, refresh_per_second=8, transient=True))

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._display.__exit__(kind, error, trace)

    # What it hears

    def waiting(self) -> None:
        self._lines.waiting()

    def stands(self, run: Run, before: Run | None) -> None:
        self._run = run
        self._lines.stands(replace(run, progress=None), before)  # of which there is the bar

    def progressed(self, run: Run) -> None:
        self._run = run

    def replaced(self, run: Run) -> None:
        self._run = None
        self._lines.replaced(run)

    def goes_on(self, following: Run) -> None:
        self._lines.goes_on(following)

    def away(self) -> None:
        self._is_away = True
        self._lines.away()

    def back(self) -> None:
        self._is_away = False
        self._lines.back()

    def tick(self) -> None:
        """The live line keeps time by itself."""

    # What it shows

    def _print(self, line: Line) -> None:
        self._console.print(Text.assemble((local_moment(line.when_us), "dim"), "  ", (line.text, STYLES[line.kind])))

    def below(self) -> RenderableType:
        """This is the live line, and the bar if the run has reported progress."""
        run = self._run
        self._spinner.update(text=Text(self._state(run), style="yellow" if self._is_away else ""))
        if run is None or run.progress is None:
            return self._spinner
        bar = ProgressBar(total=run.progress.total, completed=run.progress.current or 0, width=min(_BAR_WIDTH, self._console.width // 2))
        row = Table.grid(padding=(0, 1))
        row.add_column()
        row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(bar, Text(progress_words(run.progress)))
        return Group(self._spinner, row)

    def _state(self, run: Run | None) -> str:
        now = self._now_us()
        if self._is_away:
            return "Redis is away; what the task does meanwhile is shown when it is back"
        if run is None:
            return f"waiting for it to be added, for {span(seconds_between(self._waiting_since, now))}"
        if run.state is ExecutionState.SCHEDULED:
            return f"scheduled, {due_words(run, now)}"
        if run.state is ExecutionState.QUEUED:
            return f"queued for {span(seconds_between(run.when_us, now))}; no worker has taken it yet"
        if run.state is not ExecutionState.RUNNING or run.started_us is None:
            return run.state.value
        return f"running for {span(seconds_between(run.started_us, now))} on {printable(run.worker or '?')}"
