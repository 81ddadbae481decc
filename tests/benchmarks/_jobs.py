"""What is measured, of whom, with how many tasks, and in which order; each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks._environments import PEERS, Environment
from tests.benchmarks._results import DOCKET, FLOOR, PUBLISHED, Failed, Ran

HERE = Path(__file__).parent
MEASURES = HERE / "measures"
CONCURRENCY = 32
TIMEOUT_SECONDS = 600
_ERROR_LENGTH = 300


@dataclass(frozen=True)
class Job:
    """This is one process to run: a script in the environment of a system."""

    system: str
    measure: str
    script: Path
    n: int
    concurrency: int | None = None
    "None: the default of the system."
    url: str | None = None
    "None: the server's."
    repeated: bool = True
    "Whether it runs once in every round; else once in all."
    hiredis: bool = True
    "Whether redis-py may use hiredis."
    cluster: bool = False
    "Whether it measures a cluster of three primaries beside the server."

    @property
    def name(self) -> str:
        """This is how `--only` and the progress lines call it."""
        return f"{self.system}:{self.measure}"

    def is_meant_by(self, words: Sequence[str]) -> bool:
        """This says whether one of the words names the job, its system or its measure; without words every job is meant."""
        return not words or any(word in (self.name, self.system, self.measure) for word in words)


def all_jobs(n: int, *, quick: bool) -> Iterator[Job]:
    """This lists every job in the order of a round: the systems that are compared run next to each other."""
    yield Job(FLOOR, "drain-32", MEASURES / "floor.py", n, CONCURRENCY)
    yield Job(FLOOR, "drain-32-without-hiredis", MEASURES / "floor.py", n, CONCURRENCY, hiredis=False)
    yield from _docket_jobs(DOCKET, n, quick=quick)
    for peer in PEERS:
        if peer == PUBLISHED:
            yield from _docket_jobs(PUBLISHED, n, quick=quick)
        else:
            yield Job(peer, "drain-32", HERE / "peers" / f"peer_{peer}.py", n, CONCURRENCY)


def _docket_jobs(system: str, n: int, *, quick: bool) -> Iterator[Job]:
    """This lists what the two docket packages have in common, and what only ours is asked."""
    ours = system == DOCKET
    drained = n if ours else max(n // 10, 100)  # the published one takes minutes for the whole, at the same rate

    def job(
        measure: str, script: str, count: int, *, concurrency: int | None = None, url: str | None = None, repeated: bool = True, cluster: bool = False
    ) -> Job:
        return Job(system, measure, MEASURES / f"{script}.py", count, concurrency, url, repeated=repeated and ours, cluster=cluster)

    yield job("drain-32", "throughput", drained, concurrency=CONCURRENCY)
    if ours:
        yield job("drain-32-metrics", "with_metrics", drained, concurrency=CONCURRENCY)
        yield job("drain-32-logs", "with_logs", drained, concurrency=CONCURRENCY)
    yield job("drain-default", "throughput", drained)
    yield job("drain-memory", "throughput", drained, concurrency=CONCURRENCY, url="memory://bench")
    yield job("add-many", "add_many", 5 * n if ours else n)
    yield job("latency", "latency", 100 if quick else 500)
    yield job("lateness", "lateness", 200 if quick else 500)
    yield job("burst", "burst", 2_000 if ours or not quick else 200)
    yield job("connections-10", "connections", 80, concurrency=10, repeated=False)
    yield job("connections-1000", "connections", 4_000, concurrency=1_000, repeated=False)
    yield job("memory", "memory", 8_000, repeated=False)
    yield job("idle", "idle", 5 if quick else 15, repeated=False)
    if ours:
        yield job("backlog", "backlog", 50_000 if quick else 1_000_000, repeated=False)
        yield job("lasting", "lasting", 20_000 if quick else 1_000_000, concurrency=CONCURRENCY, repeated=False)
        yield job("growth", "growth", 10_000 if quick else 1_000_000, concurrency=CONCURRENCY, repeated=False)
        yield job("workers", "workers", drained, repeated=False)
        yield job("shards", "shards", drained, concurrency=CONCURRENCY, repeated=False, cluster=True)
        yield job("startup", "startup", 5 if quick else 15, repeated=False)
        yield job("limits", "limits", 1_000 if quick else 5_000, repeated=False)
        yield job("injection", "injection", 1_000 if quick else 5_000, repeated=False)


def run_job(job: Job, environment: Environment, server_url: str, folder: Path, cluster_url: str = "") -> Ran | Failed:
    """This runs one job to its end and reads the one line it prints; whatever goes wrong in it is an answer, not an end."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("BENCH_", "DOCKET_"))}
    variables |= {"BENCH_URL": job.url or server_url, "BENCH_N": str(job.n), "PYTHONHASHSEED": "0"}
    if cluster_url:
        variables["BENCH_CLUSTER_URL"] = cluster_url
    if job.concurrency is not None:
        variables["BENCH_CONCURRENCY"] = str(job.concurrency)
    if job.system in PEERS:
        variables["PYTHONPATH"] = str(MEASURES)  # `support`, and nothing of ours besides
    command = [environment.python, job.script] if job.hiredis else [environment.python, MEASURES / "without_hiredis.py", job.script]
    try:
        # Not in the current directory, whose `docket` is not the peer's.
        done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Failed(f"took longer than {TIMEOUT_SECONDS} s")
    try:
        report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Failed(_last_words(done.stderr) or f"printed no report and ended with {done.returncode}")
    return Ran(report["values"], report["notes"])


def _last_words(stderr: str) -> str:
    """This is what an error says: the last line of a traceback, without the frame of an exception group."""
    lines = [words for line in stderr.splitlines() if (words := line.strip(" |+-"))]
    return lines[-1][:_ERROR_LENGTH] if lines else ""
