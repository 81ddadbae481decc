"""A real `docket worker --metrics-port`, to which everything has happened that it counts."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docket import Docket
from docket._redis.wire import RESPONSE_TIMEOUT
from tests._servers import RedisServer, running_server
from tests._shards import only_shard
from tests.monitoring._exported import Exported, read

ROOT = Path(__file__).parents[2]
PATIENCE = 4 * RESPONSE_TIMEOUT
COUNTED = (
    *("docket_tasks_added_total", "docket_tasks_replaced_total", "docket_tasks_scheduled_total", "docket_tasks_cancelled_total"),
    *("docket_tasks_started_total", "docket_tasks_completed_total", "docket_tasks_succeeded_total", "docket_tasks_failed_total"),
    *("docket_tasks_retried_total", "docket_tasks_perpetuated_total", "docket_tasks_stricken_total", "docket_tasks_superseded_total"),
    *("docket_tasks_redelivered_total", "docket_task_duration_seconds_count", "docket_task_punctuality_seconds_count"),
    *("docket_schedule_depth", "docket_strikes_in_effect", "docket_dead_letters", "docket_cache_size"),
)
"""What is more than zero once everything has happened that the worker can do while Redis is there."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


async def prepare(url: str) -> None:
    """This leaves one task with a worker that died, and one that asks for everything else."""
    async with Docket("monitored", url) as docket:
        await docket.add("orphaned", key="orphaned")()
        shard = only_shard(docket.store)
        delivery = shard.delivery
        await delivery.ensure_group()
        await delivery.renew("dead~1", 0, [], first=True)
        reader = delivery.reader()
        await shard.lifecycle.claim("dead~1", await delivery.read(reader, "dead~1", 1, 1000))
        await reader.aclose()
        await docket.add("ask_for_everything")()


@pytest.fixture(scope="package")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """This is what the worker serves when everything has happened."""
    port = free_port()
    log = tmp_path_factory.mktemp("monitoring") / "worker.log"
    with running_server("--appendonly", "yes", "--appendfsync", "always") as server, log.open("w") as sink:
        asyncio.run(prepare(server.url))
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "docket", "worker", "--docket", "monitored", "--url", server.url, "--metrics-port", str(port)),
                *("--tasks", "tests.monitoring._every_kind:tasks", "--redelivery-timeout", "1s", "--reconnection-delay", "100ms"),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=sink,
            stderr=sink,
        )
        try:
            yield serve_until_everything_happened(server, port, log)
        finally:
            worker.kill()
            worker.wait()


def serve_until_everything_happened(server: RedisServer, port: int, log: Path) -> Exported:
    found = Exported()

    def counts(*names: str) -> bool:
        nonlocal found
        try:
            found = read(port)
        except OSError:  # it is yet to start
            return False
        return all(found.sums.get(name, 0) > 0 for name in names) and found.where >= {"docket", "worker"}

    def what() -> object:
        return f"{[name for name in COUNTED if not found.sums.get(name)]} is missing, of {found.sums}; {found.where}; {log.read_text()[-5000:]}"

    wait_for(lambda: counts(*COUNTED), what)
    server.stop()
    wait_for(lambda: counts("docket_redis_disruptions_total"), what)
    server.start()
    return found
