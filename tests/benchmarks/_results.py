"""What was measured, by system and measure. What it means is `_goals`' business."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

DOCKET = "docket"
FLOOR = "floor"
PUBLISHED = "pydocket"
Measured = Mapping[str, float]


@dataclass(frozen=True)
class Failed:
    """This is a measure that gave no numbers, and why."""

    error: str


@dataclass(frozen=True)
class Ran:
    """This is one run of one measure."""

    values: Measured
    notes: Mapping[str, str]


@dataclass
class Results:
    """This collects every run and answers with medians."""

    runs: dict[tuple[str, str], list[Ran | Failed]] = field(default_factory=dict[tuple[str, str], "list[Ran | Failed]"])
    broken: dict[str, Failed] = field(default_factory=dict[str, Failed])
    "Systems without an environment."

    def record(self, system: str, measure: str, run: Ran | Failed) -> None:
        """This adds one run."""
        self.runs.setdefault((system, measure), []).append(run)

    def error(self, system: str, measure: str) -> str | None:
        """This is why a measure has no value: one failed run is enough, because a system that loses work sometimes is not measured by the rest."""
        if system in self.broken:
            return self.broken[system].error
        return next((run.error for run in self.runs.get((system, measure), ()) if isinstance(run, Failed)), None)

    def median(self, system: str, measure: str, value: str) -> float | None:
        """This is the median of a value over the runs; None when it was not measured, or failed."""
        if self.error(system, measure) is not None:
            return None
        found = [run.values[value] for run in self.runs.get((system, measure), ()) if isinstance(run, Ran) and value in run.values]
        return statistics.median(found) if found else None

    def note(self, system: str, measure: str, name: str) -> str:
        """This is what the last run that gave numbers had to say besides."""
        found = [run.notes[name] for run in self.runs.get((system, measure), ()) if isinstance(run, Ran) and name in run.notes]
        return found[-1] if found else ""

    def fastest(self, systems: Iterable[str], measure: str, value: str) -> tuple[float, str] | None:
        """This is the highest median among some systems, and whose it is."""
        found = [(rate, system) for system in systems if (rate := self.median(system, measure, value)) is not None]
        return max(found, default=None)

    def as_json(self) -> dict[str, object]:
        """This is everything, for the file."""
        systems: dict[str, dict[str, object]] = {system: {"error": failed.error} for system, failed in self.broken.items()}
        for (system, measure), runs in self.runs.items():
            names = dict.fromkeys(name for run in runs if isinstance(run, Ran) for name in run.values)
            systems.setdefault(system, {})[measure] = {
                "median": {name: self.median(system, measure, name) for name in names},
                "runs": [{"error": run.error} if isinstance(run, Failed) else {"values": run.values, "notes": run.notes} for run in runs],
            }
        return {"systems": systems}
