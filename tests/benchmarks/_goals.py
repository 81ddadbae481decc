"""The goals, as data: what is read from the results, and how good it must be. Ratios hold within one run of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from tests.benchmarks._environments import PEERS
from tests.benchmarks._results import DOCKET, FLOOR, PUBLISHED, Results

Reading = Callable[[Results, str], float | None]

MUST_BE_MEASURED = ("saq", "taskiq")


class Verdict(Enum):
    """This is how a measured value stands to its goal."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"
    NO_GOAL = ""


@dataclass(frozen=True)
class Goal:
    """This is one line of the table of goals."""

    label: str
    measure: str
    reading: Reading
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    digits: int = 1
    basis: Callable[[Results], str] = lambda _: ""
    "Says what a ratio was computed from."

    @property
    def bound(self) -> str:
        """This is the goal in words."""
        if self.at_least is not None:
            return f"≥ {self.at_least:,g}{self.unit}"
        return f"≤ {self.at_most:,g}{self.unit}" if self.at_most is not None else ""

    def judge(self, value: float | None) -> Verdict:
        """This compares a value with the goal."""
        if value is None:
            return Verdict.NOT_MEASURED
        if self.at_least is None and self.at_most is None:
            return Verdict.NO_GOAL
        good = (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)
        return Verdict.MET if good else Verdict.MISSED


@dataclass(frozen=True)
class Line:
    """This is a goal with what was measured."""

    goal: Goal
    value: float | None
    published: float | None
    verdict: Verdict
    remark: str

    def show(self, value: float | None) -> str:
        """This is a value as the tables print it."""
        return "" if value is None else f"{value:,.{self.goal.digits}f}{self.goal.unit}"

    def as_json(self) -> dict[str, object]:
        """This is the line for the file."""
        return {
            "goal": self.goal.label,
            "bound": self.goal.bound,
            "value": self.value,
            "pydocket": self.published,
            "verdict": self.verdict.value,
            "remark": self.remark,
        }


def _value(measure: str, name: str) -> Reading:
    return lambda results, system: results.median(system, measure, name)


def _by_fastest_peer(name: str) -> Reading:
    def reading(results: Results, system: str) -> float | None:
        own = results.median(system, "drain-32", name)
        fastest = results.fastest((peer for peer in PEERS if peer != system), "drain-32", name)
        complete = all(results.median(peer, "drain-32", name) for peer in MUST_BE_MEASURED)
        return own / fastest[0] if own and fastest and complete else None

    return reading


def _say_fastest_peer(name: str) -> Callable[[Results], str]:
    def basis(results: Results) -> str:
        if missing := [peer for peer in MUST_BE_MEASURED if not results.median(peer, "drain-32", name)]:
            return f"does not count without {' and '.join(missing)}"
        fastest = results.fastest(PEERS, "drain-32", name)
        return f"fastest peer: {fastest[1]}, {fastest[0]:,.0f}/s" if fastest else ""

    return basis


def _by(measure: str, name: str, other_system: str | None, other_measure: str, *, percent: bool = False) -> Reading:
    def reading(results: Results, system: str) -> float | None:
        own, other = results.median(system, measure, name), results.median(other_system or system, other_measure, name)
        return own / other * (100 if percent else 1) if own and other else None

    return reading


def _say_rate(system: str, measure: str, name: str, what: str) -> Callable[[Results], str]:
    def basis(results: Results) -> str:
        rate = results.median(system, measure, name)
        return f"{what}: {rate:,.0f}/s" if rate else ""

    return basis


def _say_note(measure: str, name: str) -> Callable[[Results], str]:
    return lambda results: results.note(DOCKET, measure, name)


_DRAIN = "drain_per_second"
_ADD = "add_per_second"
_DRAIN_32 = _value("drain-32", _DRAIN)

GOALS = (
    Goal("drain, concurrency 32", "drain-32", _DRAIN_32, "/s", digits=0),
    Goal("… to the fastest peer", "drain-32", _by_fastest_peer(_DRAIN), " x", at_least=5, digits=2, basis=_say_fastest_peer(_DRAIN)),
    Goal(
        "… share of the floor",
        "drain-32",
        _by("drain-32", _DRAIN, FLOOR, "drain-32", percent=True),
        " %",
        at_least=25,
        basis=_say_rate(FLOOR, "drain-32", _DRAIN, "floor"),
    ),
    Goal(
        "… share of a floor without hiredis",
        "drain-32",
        _by("drain-32", _DRAIN, FLOOR, "drain-32-without-hiredis", percent=True),
        " %",
        basis=_say_rate(FLOOR, "drain-32-without-hiredis", _DRAIN, "floor without hiredis"),
    ),
    Goal(
        "… with metrics exported, to the rate without",
        "drain-32-metrics",
        _by("drain-32-metrics", _DRAIN, None, "drain-32"),
        " x",
        at_least=0.7,
        digits=2,
    ),
    Goal(
        "… with plain INFO lines in a file, to the rate without",
        "drain-32-logs",
        _by("drain-32-logs", _DRAIN, None, "drain-32"),
        " x",
        at_least=0.65,
        digits=2,
    ),
    Goal("drain, default concurrency", "drain-default", _value("drain-default", _DRAIN), "/s", digits=0),
    Goal("… to the rate at 32", "drain-default", _by("drain-default", _DRAIN, None, "drain-32"), " x", at_least=0.6, digits=2),
    Goal("drain on memory://, concurrency 32", "drain-memory", _value("drain-memory", _DRAIN), "/s", at_least=8_000, digits=0),
    Goal("add, 32 callers at once", "drain-32", _value("drain-32", _ADD), "/s", digits=0),
    Goal("… to the fastest peer", "drain-32", _by_fastest_peer(_ADD), " x", at_least=1.2, digits=2, basis=_say_fastest_peer(_ADD)),
    Goal("add_many", "add-many", _value("add-many", "add_many_per_second"), "/s", at_least=40_000, digits=0),
    Goal("add to start, idle worker, p50", "latency", _value("latency", "p50_ms"), " ms", at_most=2, digits=2),
    Goal("add to start, idle worker, p99", "latency", _value("latency", "p99_ms"), " ms", at_most=5, digits=2),
    Goal("lateness at 100/s, default concurrency, p50", "lateness", _value("lateness", "p50_ms"), " ms", at_most=5, digits=2),
    Goal("lateness at 100/s, default concurrency, p99", "lateness", _value("lateness", "p99_ms"), " ms", at_most=25, digits=2),
    Goal("2,000 due at once, default concurrency, all done", "burst", _value("burst", "settled_seconds"), " s", at_most=1, digits=2),
    Goal("Redis connections at concurrency 10", "connections-10", _value("connections-10", "connections"), at_most=6, digits=0),
    Goal("Redis connections at concurrency 1,000", "connections-1000", _value("connections-1000", "connections"), at_most=6, digits=0),
    Goal("Redis bytes per queued task", "memory", _value("memory", "queued_small"), at_most=400, digits=0),
    Goal("Redis bytes per scheduled task", "memory", _value("memory", "scheduled_small"), at_most=500, digits=0),
    Goal("Redis bytes per queued task, 100-byte payload", "memory", _value("memory", "queued_100_bytes"), at_most=560, digits=0),
    Goal("Redis bytes per scheduled task, 100-byte payload", "memory", _value("memory", "scheduled_100_bytes"), at_most=620, digits=0),
    Goal("idle worker, share of a core", "idle", _value("idle", "core_percent"), " %", at_most=1, digits=2),
    Goal("idle worker, Redis commands", "idle", _value("idle", "commands_per_second"), "/s", at_most=5, digits=1, basis=_say_note("idle", "commands")),
    Goal("backlog of scheduled tasks: slowest command", "backlog", _value("backlog", "slowest_ms"), " ms", at_most=10, basis=_say_note("backlog", "slowest")),
    Goal("backlog of scheduled tasks: add to add when empty", "backlog", _value("backlog", "add_full_to_empty"), " x", at_least=0.95, digits=2),
    Goal("backlog of scheduled tasks: snapshot", "backlog", _value("backlog", "snapshot_ms"), " ms", at_most=100),
    Goal("backlog of scheduled tasks: first page of a listing", "backlog", _value("backlog", "page_ms"), " ms", at_most=100),
    Goal(
        "12 shards on three primaries: processor of the busiest, to that of one server with one shard",
        "shards",
        _value("shards", "busiest_of_three_to_one"),
        " x",
        at_most=0.5,
        digits=2,
        basis=_say_note("shards", "three"),
    ),
    Goal("… the busiest one's share of the tasks, to an even share", "shards", _value("shards", "three_largest_server_to_even"), " x", at_most=1.1, digits=2),
    Goal("12 shards on one server: its processor, to that with one shard", "shards", _value("shards", "divided_to_one"), " x", digits=2),
    Goal(
        "1,000,000 tasks: the worker's memory grows by",
        "lasting",
        _value("lasting", "worker_growth_mb"),
        " MB",
        at_most=5,
        basis=_say_note("lasting", "worker"),
    ),
    Goal(
        "1,000,000 tasks: left in Redis after their time",
        "lasting",
        _value("lasting", "redis_growth_kb"),
        " kB",
        at_most=500,
        basis=_say_note("lasting", "left"),
    ),
    Goal(
        "a command from the shell, to importing a Redis client and structlog",
        "startup",
        _value("startup", "slowest_to_baseline"),
        " x",
        at_most=1.6,
        digits=2,
        basis=_say_note("startup", "commands"),
    ),
    Goal("injection: a trivial task on memory://", "injection", _value("injection", "trivial_us"), " µs"),
    Goal("injection: three nested Depends and a Retry cost", "injection", _value("injection", "injection_us"), " µs", at_most=60),
    Goal("5,000 tasks over one ConcurrencyLimit(10), to the same without", "limits", _value("limits", "limited_to_free"), " x", at_least=0.5, digits=2),
)


def judged(results: Results) -> Iterator[Line]:
    """This sets every goal beside what was measured in this run, and beside the published package."""
    for goal in GOALS:
        value = goal.reading(results, DOCKET)
        remark = results.error(DOCKET, goal.measure) or goal.basis(results)
        if published_error := results.error(PUBLISHED, goal.measure):
            remark = f"{remark}; pydocket: {published_error}".strip("; ")
        yield Line(goal, value, goal.reading(results, PUBLISHED), goal.judge(value), remark)
