"""The two tables: every system's rates, and docket beside its goals; for the terminal and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.benchmarks._environments import PEERS, Environment
from tests.benchmarks._goals import Line, Verdict
from tests.benchmarks._results import DOCKET, FLOOR, Results

_RATES = (
    ("drain, 32", "drain-32", "drain_per_second"),
    ("drain, default", "drain-default", "drain_per_second"),
    ("drain, memory://", "drain-memory", "drain_per_second"),
    ("add, 32 callers", "drain-32", "add_per_second"),
    ("add_many", "add-many", "add_many_per_second"),
)
SYSTEM_COLUMNS = ("tasks/s", *(label for label, _, _ in _RATES), "remark")
GOAL_COLUMNS = ("docket", "measured", "goal", "", "pydocket", "remark")
_STYLES = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.NOT_MEASURED: "yellow", Verdict.NO_GOAL: ""}


def system_rows(results: Results, environments: Mapping[str, Environment]) -> Iterator[tuple[str, ...]]:
    """This gives one row for every system that was asked, one without an environment included."""
    asked = {system for system, _ in results.runs} | set(results.broken)
    for system in (FLOOR, DOCKET, *PEERS):
        if system not in asked:
            continue
        environment = environments.get(system)
        version = environment.versions.get("pydocket" if system == DOCKET else system, "") if environment else ""
        rates = [results.median(system, measure, value) for _, measure, value in _RATES]
        if system == FLOOR:
            rates[-1] = results.median(FLOOR, "drain-32", "add_many_per_second")  # one script does both
        errors = dict.fromkeys(error for _, measure, _ in _RATES if (error := results.error(system, measure)))
        yield (f"{system} {version}".strip(), *("" if rate is None else f"{rate:,.0f}" for rate in rates), "; ".join(errors))


def goal_rows(lines: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    """This gives one row for every goal."""
    for line in lines:
        yield line.goal.label, line.show(line.value), line.goal.bound, line.verdict.value, line.show(line.published), line.remark


def print_tables(console: Console, results: Results, lines: Sequence[Line], environments: Mapping[str, Environment]) -> None:
    """This prints both tables."""
    systems = Table(*SYSTEM_COLUMNS)
    for row in system_rows(results, environments):
        systems.add_row(*map(Text, row))
    goals = Table(*GOAL_COLUMNS)
    for line, row in zip(lines, goal_rows(lines), strict=True):
        goals.add_row(*(Text(cell, style=_STYLES[line.verdict] if place == GOAL_COLUMNS.index("") else "") for place, cell in enumerate(row)))
    console.print(systems)
    console.print(goals)


def as_markdown(conditions: Mapping[str, object], results: Results, lines: Sequence[Line], environments: Mapping[str, Environment]) -> str:
    """This gives both tables and the conditions they were measured under as Markdown."""
    described = "\n".join(f"* {name}: {value}" for name, value in conditions.items())
    systems = _markdown_table(SYSTEM_COLUMNS, system_rows(results, environments))
    return f"{described}\n\n{systems}\n\n{_markdown_table(GOAL_COLUMNS, goal_rows(lines))}\n"


def _markdown_table(columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
