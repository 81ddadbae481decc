"""`docket snapshot`: a docket as a whole, as of now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from docket.cli._options import Connection, as_json, connected, run_briefly

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from docket._snapshot import Counts, DocketSnapshot
    from docket.cli._output import Page
    from docket.execution import Execution

__all__ = ["snapshot"]


@click.command()
@click.option("--tasks", multiple=True, metavar="MODULE:MEMBER", help="Show calls, with the arguments annotated Logged: where the tasks are. Repeatable.")
@click.option("--stats", is_flag=True, help="Also sum up what is listed, by task.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=1000, show_default=True, help="How many of each to list at most.")
@as_json("one JSON object (`counts`, and in `running` and `future` those of `docket ls`)")
@connected("has only just begun: there is nothing in it to look at")
def snapshot(tasks: tuple[str, ...], stats: bool, limit: int, as_json: bool, connection: Connection) -> None:
    """Show what is running, what comes next, and how much there is of everything.

    What comes next is listed in about the order in which it will run: queued work, then scheduled work by its due time.
    """
    run_briefly(_snapshot(connection, tasks, limit, stats=stats, as_json=as_json))


async def _snapshot(connection: Connection, tasks: tuple[str, ...], limit: int, *, stats: bool, as_json: bool) -> None:
    import asyncio  # late, like what follows: heavy, and not needed for help

    from docket.cli._output import Page, write_json

    async with connection.open(tasks=tasks) as docket:
        seen, counts = await asyncio.gather(docket.snapshot(limit=limit), docket.counts())
    if as_json:
        write_json([_object(docket.name, seen, counts, stats=stats)])
        return
    page = Page()
    _fill(page, docket.name, seen, counts, known=docket.tasks)
    if stats:
        _fill_stats(page, seen)
    page.show()


def _object(name: str, seen: DocketSnapshot, counts: Counts, *, stats: bool) -> dict[str, Any]:
    from docket.cli._describe import as_object, iso  # late, as above

    described = {
        "docket": name,
        "taken": iso(seen.taken),
        "counts": {each: getattr(counts, each) for each in ("scheduled", "queued", "running", "waiting", "completed", "failed", "cancelled", "retried")},
        "total_tasks": seen.total_tasks,
        "running": [as_object(execution) for execution in seen.running],
        "future": [as_object(execution) for execution in seen.future],
        "workers": [{"name": worker.name, "last_seen": iso(worker.last_seen), "tasks": sorted(worker.tasks)} for worker in seen.workers],
        "is_all": seen.next is None,
    }
    if stats:
        described["stats"] = [
            {"task": sums.task, "running": sums.running, "future": sums.future, "first_due": iso(sums.first_due), "last_due": iso(sums.last_due)}
            for sums in _summed(seen)
        ]
    return described


def _fill(page: Page, name: str, seen: DocketSnapshot, counts: Counts, known: Mapping[str, object]) -> None:
    from docket._clock import to_us  # late, as above
    from docket.cli._describe import progress_words, state_cell, when_words
    from docket.cli._output import Styled, count_of
    from docket.cli._words import local_moment

    def shown(execution: Execution[Any]) -> str:
        return execution.call_repr().removesuffix(f"{{{execution.key}}}") if execution.function_name in known else execution.function_name

    now = seen.taken
    page.line(Styled(f"Docket {name!r} at {local_moment(to_us(now))}", "bold"))
    page.line(f"{counts.running:,} running, {counts.queued:,} queued, {counts.waiting:,} waiting for a limit, {counts.scheduled:,} scheduled")
    page.line(f"So far: {counts.completed:,} completed, {counts.failed:,} failed, {counts.cancelled:,} cancelled, {counts.retried:,} retried")
    page.line(f"{count_of(len(seen.workers), 'live worker')}")
    if seen.running:
        page.line()
        page.table(
            ("RUNNING", "FOR", "TASK", "WORKER", "PROGRESS"),
            [
                (execution.key, when_words(execution, now).removeprefix("for "), shown(execution), execution.worker, progress_words(execution))
                for execution in seen.running
            ],
        )
    if seen.future:
        page.line()
        page.table(
            ("NEXT", "STATE", "WHEN", "TASK"),
            [(execution.key, state_cell(execution.state), when_words(execution, now), shown(execution)) for execution in seen.future],
        )
    if seen.next is not None:
        page.line("There is more; --limit lists more of it, and docket ls all.")


def _fill_stats(page: Page, seen: DocketSnapshot) -> None:
    from docket.cli._describe import distance_words  # late, as above

    sums = _summed(seen)
    if not sums:
        return
    now = seen.taken
    page.line()
    if seen.next is not None:
        page.line("Of what is listed:")
    page.table(
        ("TASK", "RUNNING", "NEXT", "FIRST DUE", "LAST DUE"),
        [(each.task, f"{each.running:,}", f"{each.future:,}", distance_words(each.first_due, now), distance_words(each.last_due, now)) for each in sums],
    )


@dataclass
class _Sums:
    """This sums up one task, as far as it is listed."""

    task: str
    running: int = 0
    future: int = 0
    first_due: datetime | None = None
    last_due: datetime | None = None

    def add_due(self, when: datetime) -> None:
        """This counts one that has not begun."""
        self.future += 1
        self.first_due = min(self.first_due or when, when)
        self.last_due = max(self.last_due or when, when)


def _summed(seen: DocketSnapshot) -> list[_Sums]:
    sums: dict[str, _Sums] = {}

    def of(task: str) -> _Sums:
        return sums.setdefault(task, _Sums(task))

    for execution in seen.running:
        of(execution.function_name).running += 1
    for execution in seen.future:
        of(execution.function_name).add_due(execution.when)
    return [sums[task] for task in sorted(sums)]
