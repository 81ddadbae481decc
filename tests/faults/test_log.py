"""The log outside Redis, and what is made of it."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults._history import Ack, Body, History, Outage, Process, Wait, bodies_of, stalls_of
from tests.faults._log import Log, read
from tests.faults._schedule import made

PROCESSES = [Process("w0.1", 0, "new", 0.0, 9.0, "killed"), Process("w1.1", 1, "new", 0.0, 20.0, "told")]


def test_events_of_several_processes_are_read_in_the_order_of_their_writing(tmp_path: Path):
    path, before = tmp_path / "events.jsonl", time.monotonic()
    one, other = Log(path, "one"), Log(path, "other")

    one.write("start", key="k")
    other.write("start", key="l")
    one.write("end", key="k")

    events = read(path)
    assert [(event["who"], event["kind"], event["key"]) for event in events] == [("one", "start", "k"), ("other", "start", "l"), ("one", "end", "k")]
    assert before <= events[0]["at"] <= events[2]["at"] <= time.monotonic()
    one.close()
    other.close()


def test_a_log_that_nobody_has_written_is_empty(tmp_path: Path):
    assert read(tmp_path / "events.jsonl") == []


def start(who: str, delivery: int, at: float, **more: object) -> dict[str, object]:
    event = {"kind": "start", "who": who, "key": "k", "generation": 3, "delivery": delivery, "attempt": 1, "task": "steady", "at": at, "claimed": at}
    return {**event, **more}


def test_a_body_ends_when_it_says_or_with_its_process():
    end = {"kind": "end", "who": "w1.1", "key": "k", "generation": 3, "delivery": 2, "at": 12.0, "how": "done"}

    found = bodies_of([start("w0.1", 1, 8.0), start("w1.1", 2, 11.0, tenant="red"), end], PROCESSES)

    assert found == [
        Body("k", 3, 1, 1, "steady", "w0.1", 8.0, 9.0, "killed", 8.0),
        Body("k", 3, 2, 1, "steady", "w1.1", 11.0, 12.0, "done", 11.0, tenant="red"),
    ]


def test_a_stall_is_an_outage_of_its_slot():
    assert stalls_of([{"kind": "stall", "who": "w1.1", "began": 3.0, "at": 4.0}], PROCESSES) == [Outage("stall", 1, 3.0, 4.0)]


def test_a_history_survives_being_written(tmp_path: Path):
    seen = History(
        made(7, 5.0), 0.0, 5.0, 9.0, [Ack("k", "add", "steady", 1.0, 1.1, 2.0, "created", 3, 1.0)], bodies_of([start("w0.1", 1, 8.0)], PROCESSES),
        [Outage("stop", 0, 2.0, 3.0)], PROCESSES, [Wait("k", 3, "result")], {"k": {"generation": "3", "state": "completed"}}, {"scheduled": 1}, ["key"], ["trouble"],
    )  # fmt: skip

    seen.save(tmp_path / "history.json")

    assert History.load(tmp_path / "history.json") == seen
