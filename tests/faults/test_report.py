"""What is printed in the end."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from tests.faults._checks import Violation
from tests.faults._history import Body, History
from tests.faults._report import Result, print_report, redeliveries
from tests.faults._schedule import made


def body(delivery: int, attempt: int) -> Body:
    return Body("k", 1, delivery, attempt, "steady", "w0.1", 0.0, 1.0, "done", 0.0)


def history(*bodies: Body) -> History:
    return History(made(7, 5.0), 0.0, 5.0, 9.0, [], list(bodies), [], [], [], {})


def printed(*results: Result) -> str:
    console = Console(file=io.StringIO(), width=300)
    print_report(console, results, 2.0)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_attempt_that_starts_again_is_a_redelivery_and_a_retry_is_none():
    assert redeliveries(history(body(1, 1), body(2, 1), body(3, 2))) == 1


def test_a_violation_is_printed_with_what_replays_it():
    said = printed(Result(history(), [Violation("lost", "k was never run")], Path("/kept/history.json")))

    assert "lost: k was never run" in said
    assert "nox -s faults -- --replay /kept/history.json" in said
    assert "nox -s faults -- --seed 7 --shards 1 --minutes 2" in said


def test_without_violations_there_is_the_table_alone():
    said = printed(Result(history(), [], None))

    assert len(said.splitlines()) == 2
