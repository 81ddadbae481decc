"""How long commands take from the shell and back, beside a Python that imports a Redis client and structlog and does nothing."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from support import Report, Settings, run_measure

BASELINE = [sys.executable, "-c", "import redis.asyncio, structlog"]
COMMANDS = {"help": ["--help"], "version": ["version"], "ls": ["ls"], "worker_help": ["worker", "--help"]}


def seconds(command: list[str], variables: dict[str, str]) -> float:
    """This runs a command to its end."""
    began = time.perf_counter()
    subprocess.run(command, env=variables, check=True, capture_output=True)
    return time.perf_counter() - began


async def measure(settings: Settings) -> Report:
    """This takes medians over n rounds, in each of which everything runs once; ratios are of each round's own baseline."""
    docket = str(Path(sys.executable).with_name("docket"))
    variables = {**os.environ, "DOCKET_URL": settings.url, "DOCKET_NAME": "bench-startup"}
    baseline: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(settings.n):
        baseline.append(seconds(BASELINE, variables))
        for name, words in COMMANDS.items():
            found[name].append(seconds([docket, *words], variables))
    ratios = {name: statistics.median(own / base for own, base in zip(times, baseline, strict=True)) for name, times in found.items()}
    slowest = max(ratios, key=lambda name: ratios[name])
    shown = ", ".join(f"{name} {statistics.median(times) * 1000:.0f} ms" for name, times in found.items())
    return Report(
        {f"{name}_to_baseline": ratio for name, ratio in ratios.items()} | {"slowest_to_baseline": ratios[slowest]},
        {"commands": f"baseline {statistics.median(baseline) * 1000:.0f} ms, {shown}"},
    )


if __name__ == "__main__":
    run_measure(measure)
