"""The fault test: `nox -s faults`, or `python -m tests.faults` where docket and a server are installed.

Real worker processes and a real server, and everything that can go wrong with them, as a seed says; then the invariants are checked.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.faults._checks import check
from tests.faults._driver import RESERVE, run
from tests.faults._history import History
from tests.faults._report import Result, print_report
from tests.faults._schedule import Schedule, made

SEEDS = (1, 2, 3, 4, 5)
MINUTES = 2.0
SHORTEST = 5.0
"""Seconds of faults, at least."""

OVERTIME = 120.0
"""Seconds that everything may take beyond what it should, then it is ended: it hangs."""


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """This reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", default=None, help="a seed; may be repeated (default 1 to 5)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long all seeds take together, about (default 2)")
    parser.add_argument("--shards", type=int, default=None, help="how many shards the docket has (default: 4 with every other seed)")
    parser.add_argument("--history", type=Path, default=None, metavar="DIR", help="keep the history of every seed there, not only of those that fail")
    parser.add_argument("--replay", type=Path, default=None, metavar="FILE", help="carry out the orders and faults of a history once more")
    return parser.parse_args(arguments)


def schedules(options: argparse.Namespace) -> list[Schedule]:
    """This is what is to be run."""
    if options.replay is not None:
        return [History.load(options.replay).schedule]
    seeds: Sequence[int] = options.seed or SEEDS
    return [made(seed, max(SHORTEST, options.minutes * 60 / len(seeds) - RESERVE), options.shards) for seed in seeds]


def folder_of(schedule: Schedule, kept: Path | None) -> Path:
    """This makes an empty folder for what a run leaves behind."""
    if kept is None:
        return Path(tempfile.mkdtemp(prefix=f"docket-faults-{schedule.seed}-"))
    folder = kept / f"seed-{schedule.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def judged(schedule: Schedule, folder: Path, seconds: float, *, always_kept: bool) -> Result:
    """This runs a schedule and checks what was seen. What a run leaves behind is kept when it failed, or when it is wanted. It may take so many seconds."""
    (folder / "schedule.json").write_text(schedule.dumps())
    history = asyncio.run(asyncio.wait_for(run(schedule, folder), seconds))
    violations = check(history)
    if not violations and not always_kept:
        shutil.rmtree(folder)
        return Result(history, violations, None)
    path = folder / "history.json"
    history.save(path)
    return Result(history, violations, path)


def main() -> int:
    """This runs, checks and prints; it fails when anything was violated, and when a run does not come to its end."""
    options = parsed()
    # A log file takes wide lines as they are.
    console = Console() if sys.stdout.isatty() else Console(width=220)
    asked = schedules(options)
    deadline = time.monotonic() + sum(schedule.seconds + RESERVE for schedule in asked) + OVERTIME
    results: list[Result] = []
    hung = False
    for schedule in asked:
        folder = folder_of(schedule, options.history)
        try:
            results.append(judged(schedule, folder, deadline - time.monotonic(), always_kept=options.history is not None))
        except asyncio.TimeoutError:
            console.print(f"seed {schedule.seed} does not come to its end; what it has left is in {folder}", style="bold red", soft_wrap=True)
            hung = True
            break
        console.print(f"seed {schedule.seed}: {len(results[-1].violations)} violations", style="dim", highlight=False)
    print_report(console, results, options.minutes)
    return 1 if hung or any(result.violations for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
