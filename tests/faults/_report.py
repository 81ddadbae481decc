"""What is printed when runs are over: a table with one line per seed, what was violated, and how to have it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults._checks import Violation, worst_lateness
from tests.faults._history import History
from tests.faults._schedule import FAULTS, counted

__all__ = ["Result", "print_report", "redeliveries"]


@dataclass(frozen=True)
class Result:
    """This is one seed's run, judged."""

    history: History
    violations: Sequence[Violation]
    kept: Path | None
    """Where the history is."""


def redeliveries(history: History) -> int:
    """This counts bodies that started again without a failure."""
    seen: set[tuple[str, int, int]] = set()
    again = 0
    for body in history.bodies:
        attempt = (body.key, body.generation, body.attempt)
        again += attempt in seen
        seen.add(attempt)
    return again


def print_report(console: Console, results: Sequence[Result], minutes: float) -> None:
    """This prints it all."""
    table = Table(box=None, pad_edge=False)
    table.add_column("seed", justify="right")
    for name in ("shards", "seconds", "orders", "raised", "tasks", "bodies", "again", *FAULTS, "latest", "violations"):
        table.add_column(name, justify="right")
    for result in results:
        history = result.history
        faults = counted(history.schedule.faults)
        table.add_row(
            str(history.schedule.seed), str(history.schedule.shards), f"{history.ended - history.began:.0f}", str(len(history.acks)), str(sum(ack.answer in ("unknown", "refused") for ack in history.acks)),
            str(len({(body.key, body.generation) for body in history.bodies})), str(len(history.bodies)), str(redeliveries(history)),
            *(str(faults[kind] or "") for kind in FAULTS), f"{worst_lateness(history):.1f} s", str(len(result.violations)),
        )  # fmt: skip
    console.print(table)
    for result in results:
        if not result.violations:
            continue
        seed, shards = result.history.schedule.seed, result.history.schedule.shards
        console.print(f"\nseed {seed} violated:", style="bold red")
        for violation in result.violations:
            console.print(f"  {violation.check}: {violation.text}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"  its history: {result.kept}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"  the same faults again: nox -s faults -- --replay {result.kept}", markup=False, highlight=False, soft_wrap=True)
        console.print(
            f"  the same seed again: nox -s faults -- --seed {seed} --shards {shards} --minutes {minutes:g}", markup=False, highlight=False, soft_wrap=True
        )
