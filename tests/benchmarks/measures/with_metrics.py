"""The throughput measure with an SDK that takes docket's metrics, set up as `docket worker --metrics-port` does."""

from __future__ import annotations

import urllib.request

import throughput
from support import NotAsExpected, Report, Settings, run_measure

from docket import instrumentation


async def measure(settings: Settings) -> Report:
    """This measures tasks per second in and out, and sees to it that they were counted."""
    with instrumentation.metrics_server("127.0.0.1", 0) as port:
        report = await throughput.measure(settings)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as served:
            lines: list[str] = served.read().decode().splitlines()
    counted = sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("docket_task_duration_seconds_count"))
    if counted != settings.n:
        msg = f"{counted:.0f} durations of {settings.n} tasks were recorded"
        raise NotAsExpected(msg)
    return report


if __name__ == "__main__":
    run_measure(measure)
