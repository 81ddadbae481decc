"""What `docket watch` writes line by line: sentences for people, JSON for scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docket._events import iso
from docket.cli._words import local_moment, percent, printable, span
from docket.states import TERMINAL, ExecutionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from docket._store.records import ProgressChange
    from docket.cli._following import Run

__all__ = ["Journal", "Line", "Lines", "due_words", "progress_words", "seconds_between"]

_PROGRESS_EVERY_US = 1_000_000
"""A task may report thousands of times a second; of those, a reader gets the last one of each second, and the very last."""


@dataclass(frozen=True, slots=True)
class Line:
    """This is one line of the transcript; its kind, a state or `note`, gives the colour."""

    when_us: int
    text: str
    kind: str

    def __str__(self) -> str:
        return f"{local_moment(self.when_us)}  {self.text}"


def seconds_between(earlier_us: int, later_us: int) -> float:
    """This gives the seconds from one moment to another."""
    return (later_us - earlier_us) / 1e6


def due_words(run: Run, now_us: int) -> str:
    """This says when a run is due."""
    left = seconds_between(now_us, run.when_us)
    return f"due in {span(left)}" if left > 0 else "due now"


def progress_words(progress: ProgressChange) -> str:
    """This says how far a task says it is: `45/100 (45%) Charging cards`."""
    current = progress.current or 0
    words = f"{current}/{progress.total} ({percent(current, progress.total)}%)"
    return f"{words} {printable(progress.message)}" if progress.message else words


def _took(run: Run) -> str:
    if run.started_us is None or run.completed_us is None:
        return ""
    return f" after {span(seconds_between(run.started_us, run.completed_us))}"


def _error(run: Run) -> str:
    return f": {printable(run.error)}" if run.error else ""


def _stage_words(run: Run, before: Run | None, now_us: int) -> str:
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    due = f", {due_words(run, now_us)}" if run.state is ExecutionState.SCHEDULED else ""
    if run.state in (ExecutionState.SCHEDULED, ExecutionState.QUEUED):
        if before is not None and run.attempt > before.attempt:
            return f"attempt {run.attempt - 1} failed{_error(run)}; attempt {run.attempt} is {run.state.value}{due}"
        if before is not None and before.state is ExecutionState.RUNNING:
            return f"given back, and {run.state.value} again{due}"
        return f"{run.state.value}{attempt}{due}"
    if run.state is ExecutionState.RUNNING:
        since = "" if before is not None or run.started_us is None else f" for {span(seconds_between(run.started_us, now_us))}"
        return f"running on {printable(run.worker or '?')}{attempt}{since}"
    return f"{run.state.value}{_took(run)}{attempt}{_error(run)}"


class Lines:
    """This writes a line for every stage, and for progress at a readable pace."""

    def __init__(self, write: Callable[[Line], None], now_us: Callable[[], int]) -> None:
        self._write = write
        self._now_us = now_us
        self._is_waiting = False
        self._pace = _Pace(self._tell_progress, now_us)

    def waiting(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._note("no such task yet; waiting for it to be added")

    def stands(self, run: Run, before: Run | None) -> None:
        now = self._now_us()
        when = run.completed_us if run.state in TERMINAL else run.started_us
        words = _stage_words(run, before, now)
        self._pace.flush()
        if before is None:
            words = f"{printable((run.function or '') + '{' + run.key + '}')}: {words}"
        self._write(Line(when or now, words, run.state.value))
        if before is None and run.progress is not None and run.state not in TERMINAL:
            self.progressed(run)

    def progressed(self, run: Run) -> None:
        self._pace.take(run)

    def replaced(self, run: Run) -> None:
        self._pace.flush()
        self._note("replaced by another run of the same key, which is followed from here on")

    def goes_on(self, following: Run) -> None:
        self._note(f"the next run is {_stage_words(following, None, self._now_us())}")

    def away(self) -> None:
        self._note("Redis is away; waiting for it")

    def back(self) -> None:
        self._note("Redis is back")

    def tick(self) -> None:
        self._pace.tick()

    def _note(self, text: str) -> None:
        self._write(Line(self._now_us(), text, "note"))

    def _tell_progress(self, run: Run) -> None:
        assert run.progress is not None
        self._write(Line(run.progress.updated_us or self._now_us(), progress_words(run.progress), "progress"))


class Journal:
    """This writes an event for everything: the states and the progress in the shape of `Execution.subscribe`, with a little more."""

    def __init__(self, key: str, write: Callable[[dict[str, Any]], None], now_us: Callable[[], int]) -> None:
        self._key = key
        self._write = write
        self._is_waiting = False
        self._pace = _Pace(self._tell_progress, now_us)

    def waiting(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._write({"type": "waiting", "key": self._key})

    def stands(self, run: Run, before: Run | None) -> None:
        self._pace.flush()
        self._write(
            {
                "type": "state",
                "key": run.key,
                "state": run.state.value,
                "when": iso(run.when_us),
                "worker": run.worker,
                "started_at": iso(run.started_us),
                "completed_at": iso(run.completed_us),
                "error": run.error,
                "task": run.function,
                "attempt": run.attempt,
                "generation": run.generation,
            }
        )
        if before is None and run.progress is not None and run.state not in TERMINAL:  # an end is the last line
            self._pace.take(run)

    def progressed(self, run: Run) -> None:
        self._pace.take(run)

    def replaced(self, run: Run) -> None:
        self._pace.flush()
        self._write({"type": "replaced", "key": run.key, "generation": run.generation})

    def goes_on(self, following: Run) -> None:
        """The last line is the end of the run that was watched."""

    def away(self) -> None:
        self._write({"type": "away", "key": self._key})

    def back(self) -> None:
        self._write({"type": "back", "key": self._key})

    def tick(self) -> None:
        self._pace.tick()

    def _tell_progress(self, run: Run) -> None:
        progress = run.progress
        assert progress is not None
        self._write(
            {
                "type": "progress",
                "key": run.key,
                "current": progress.current,
                "total": progress.total,
                "message": progress.message,
                "updated_at": iso(progress.updated_us),
                "generation": run.generation,
            }
        )


class _Pace:
    """This passes reports on, at most one a second; the last of them always comes, before anything else is told."""

    def __init__(self, tell: Callable[[Run], None], now_us: Callable[[], int]) -> None:
        self._tell = tell
        self._now_us = now_us
        self._told_us = 0
        self._kept: Run | None = None

    def take(self, run: Run) -> None:
        self._kept = run

    def tick(self) -> None:
        if self._now_us() - self._told_us >= _PROGRESS_EVERY_US:
            self.flush()

    def flush(self) -> None:
        if self._kept is not None:
            run, self._kept = self._kept, None
            self._told_us = self._now_us()
            self._tell(run)
