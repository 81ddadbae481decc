"""The benchmark: `nox -s bench`, or `python -m tests.benchmarks` where docket, uvloop and a server are installed.

Measures docket, a bare floor and every peer that installs, side by side on one private server; prints two tables and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from tests._servers import RedisServer, running_server
from tests._topologies import running_cluster
from tests.benchmarks._environments import PEERS, Environment, own_environment, peer_environment
from tests.benchmarks._goals import judged
from tests.benchmarks._jobs import Job, all_jobs, run_job
from tests.benchmarks._results import DOCKET, FLOOR, Failed, Results
from tests.benchmarks._tables import as_markdown, print_tables

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"
FULL_N = 20_000
QUICK_N = 2_000


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """This reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--n", type=int, default=None, metavar="TASKS", help="no-op tasks to drain (default 20,000)")
    parser.add_argument("--runs", type=int, default=None, help="rounds, of which medians are taken (default 3)")
    parser.add_argument("--quick", action="store_true", help=f"one round, {QUICK_N:,} tasks, a backlog of 50,000: to see that all runs, not to compare")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a system, a measure or system:measure; may be repeated")
    parser.add_argument("--list", action="store_true", help="list what there is to measure, and leave")
    parser.add_argument("--fresh", action="store_true", help="make the environments of the peers anew, with their newest versions")
    parser.add_argument("--json", type=Path, default=FOLDER / "results.json", metavar="PATH", help="where the results go (default .bench/results.json)")
    parser.add_argument("--markdown", type=Path, default=None, metavar="PATH", help="where the tables go as Markdown, for docs/performance.md")
    options = parser.parse_args(arguments)
    options.n = options.n or (QUICK_N if options.quick else FULL_N)
    options.runs = options.runs or (1 if options.quick else 3)
    return options


def conditions(options: argparse.Namespace, server: RedisServer) -> dict[str, object]:
    """This says where and how the numbers came to be."""
    info = cast("dict[str, object]", cast("Any", server.client()).info("server"))
    name = str(info.get("server_name", "redis"))
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "load before": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown",
        "python": f"{platform.python_implementation()} {platform.python_version()}, uvloop everywhere",
        "server": f"{name} {info.get(f'{name}_version', info['redis_version'])}, no persistence, loopback",
        "tasks": f"{options.n:,} drained per run, median of {options.runs}",
        "goals": "under their conditions" if options.n >= FULL_N and not options.quick else "NOT under their conditions: a quick or small run",
        "logging": "INFO and below off; state tracking on (default execution_ttl)",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def made_environments(systems: Iterable[str], results: Results, console: Console, *, fresh: bool) -> dict[str, Environment]:
    """This readies an interpreter for every system; one that cannot be had is noted in the results."""
    own = own_environment()
    environments: dict[str, Environment] = {}
    for system in systems:
        if system not in PEERS:
            environments[system] = own
            continue
        console.print(f"environment of {system} …", style="dim")
        made = peer_environment(system, FOLDER, fresh=fresh)
        if isinstance(made, Failed):
            results.broken[system] = made
            console.print(f"{system} {made.error}", style="yellow", markup=False)
        else:
            environments[system] = made
    return environments


def measure(jobs: Sequence[Job], environments: Mapping[str, Environment], server: RedisServer, results: Results, console: Console, *, runs: int) -> None:
    """This runs every job in turn: in each round each of the repeated ones once, so that a slow minute of the machine hits all alike."""
    for round_ in range(runs):
        for job in jobs:
            if job.system not in environments or (round_ and not job.repeated) or results.error(job.system, job.measure):
                continue
            server.flush()
            began = time.monotonic()
            with running_cluster(replicas=0) if job.cluster else nullcontext() as cluster:
                run = run_job(job, environments[job.system], server.url, server.directory, cluster.url if cluster else "")
            results.record(job.system, job.measure, run)
            said = run.error if isinstance(run, Failed) else ", ".join(f"{name} {value:,.2f}" for name, value in run.values.items())
            console.print(f"{job.name} ({round_ + 1}, {time.monotonic() - began:.0f} s): {said}", style="dim", markup=False, highlight=False)


def main() -> int:
    """This measures, prints and writes; it fails when docket itself could not be measured, not when a goal was missed."""
    options = parsed()
    # A log file takes wide lines as they are.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    jobs = [job for job in all_jobs(options.n, quick=options.quick) if job.is_meant_by(options.only)]
    if options.list or not jobs:
        console.print(*(job.name for job in all_jobs(options.n, quick=options.quick)), sep="\n")
        return 0 if options.list else 2
    FOLDER.mkdir(exist_ok=True)
    results = Results()
    environments = made_environments(dict.fromkeys(job.system for job in jobs), results, console, fresh=options.fresh)
    with running_server() as server:
        described = conditions(options, server)
        measure(jobs, environments, server, results, console, runs=options.runs)
    lines = [line for line in judged(results) if (DOCKET, line.goal.measure) in results.runs]
    for name, value in described.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    print_tables(console, results, lines, environments)
    written = {
        "conditions": described,
        "versions": {system: environment.versions for system, environment in environments.items()},
        **results.as_json(),
        "goals": [line.as_json() for line in lines],
    }
    options.json.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")
    console.print(f"written: {options.json}", markup=False, highlight=False)
    if options.markdown:
        options.markdown.write_text(as_markdown(described, results, lines, environments))
    failed = [job.name for job in jobs if job.system in (DOCKET, FLOOR) and results.error(job.system, job.measure)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
