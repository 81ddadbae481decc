"""What is known of one run of the fault test when it is over, all of it seen from outside: plain values that can be written, read and checked.

Moments are those of the monotonic clock, except where a name says `wall`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults._schedule import Schedule

__all__ = ["Ack", "Body", "History", "Outage", "Process", "Wait", "bodies_of", "stalls_of"]


@dataclass(frozen=True)
class Ack:
    """This is an order of a producer, and what it was answered."""

    key: str
    verb: str
    """`add`, `replace` or `cancel`."""
    task: str
    began: float
    ended: float
    ended_wall: float
    answer: str
    """`created` or `exists`; `cancelled`; `refused` when it raised and nothing was written; `unknown` when it raised and may have been carried out."""
    generation: int = 0
    due: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Body:
    """This is one call of a task's function."""

    key: str
    generation: int
    delivery: int
    attempt: int
    task: str
    worker: str
    started: float
    ended: float
    how: str
    """`done`, `failed` or `cancelled`; `killed` when its process ended first."""
    claimed_wall: float
    tenant: str = ""
    blocks: bool = False
    """Whether it blocks the event loop."""
    left: int = 0
    """Of a relay: how many are to follow."""


@dataclass(frozen=True)
class Outage:
    """This is a time in which a worker, or everybody, could not do what it should."""

    kind: str
    slot: int
    """Which worker; -1: everybody."""
    began: float
    ended: float
    refuses: bool = False
    """Whether new connections failed meanwhile."""


@dataclass(frozen=True)
class Process:
    """This is one worker process."""

    name: str
    slot: int
    code: str
    began: float
    ended: float
    how: str
    """`killed`, `told` to stop, or `died`."""
    took: float = 0.0
    """Seconds from being told to stop to the end."""
    status: int = 0


@dataclass(frozen=True)
class Wait:
    """This is somebody who waited for a result."""

    key: str
    generation: int
    answer: str
    """`result`, or the name of what was raised."""


@dataclass
class History:
    """This is all that was seen."""

    schedule: Schedule
    began: float
    quiet: float
    """When the last fault was over, and everything was put right."""
    ended: float
    acks: list[Ack]
    bodies: list[Body]
    outages: list[Outage]
    processes: list[Process]
    waits: list[Wait]
    records: dict[str, dict[str, str]]
    """What stands under each key in the end."""
    undrained: dict[str, int] = field(default_factory=dict[str, int])
    """What was still there when time was up, and how much of it."""
    lasting: list[str] = field(default_factory=list[str])
    """Keys without an expiry that should have one."""
    trouble: list[str] = field(default_factory=list[str])
    """What workers logged as errors."""

    def slot_of(self, worker: str) -> int:
        """This is the slot of a worker process."""
        return next(process.slot for process in self.processes if process.name == worker)

    def save(self, path: Path) -> None:
        """This writes it all down."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """This reads what `save` wrote."""
        raw: dict[str, Any] = json.loads(path.read_text())
        raw["schedule"] = Schedule.loads(json.dumps(raw["schedule"]))
        for name, kind in (("acks", Ack), ("bodies", Body), ("outages", Outage), ("processes", Process), ("waits", Wait)):
            raw[name] = [kind(**each) for each in raw[name]]
        return cls(**raw)


def bodies_of(events: Sequence[Mapping[str, Any]], processes: Sequence[Process]) -> list[Body]:
    """This pairs starts with ends. A body without an end ended with its process."""
    ends = {(event["who"], event["key"], event["generation"], event["delivery"]): event for event in events if event["kind"] == "end"}
    deaths = {process.name: process.ended for process in processes}
    bodies: list[Body] = []
    for start in events:
        if start["kind"] != "start":
            continue
        end = ends.get((start["who"], start["key"], start["generation"], start["delivery"]))
        ended, how = (deaths.get(start["who"], math.inf), "killed") if end is None else (end["at"], end["how"])
        bodies.append(
            Body(
                start["key"], start["generation"], start["delivery"], start["attempt"], start["task"], start["who"], start["at"], ended, how, start["claimed"],
                start.get("tenant", ""), start.get("blocks", False), start.get("left", 0),
            )
        )  # fmt: skip
    return bodies


def stalls_of(events: Sequence[Mapping[str, Any]], processes: Sequence[Process]) -> list[Outage]:
    """This is when processes found that they had stood still, for whatever reason."""
    slots = {process.name: process.slot for process in processes}
    return [Outage("stall", slots[event["who"]], event["began"], event["at"]) for event in events if event["kind"] == "stall"]
