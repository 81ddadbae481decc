"""Never more at once than a limit says, whatever is asked for and whoever dies, and everything comes to its end."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docket import ConcurrencyLimit, Cooldown, Debounce, Docket, RateLimit, Retry, Worker
from docket.dependencies import Dependency
from docket.states import TERMINAL
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.worker._hands import SOON

KEYS = [f"k{number}" for number in range(6)]
MILLISECOND = timedelta(milliseconds=1)

keys = st.sampled_from(KEYS)
steps = st.integers(0, 8)
actions = st.one_of(
    st.tuples(st.just("add"), keys, steps),
    st.tuples(st.just("add"), keys, steps),
    st.tuples(st.just("replace"), keys, steps),
    st.tuples(st.just("cancel"), keys, steps),
    st.tuples(st.just("pass"), keys, steps),
)
others = st.lists(
    st.sampled_from(
        [
            RateLimit(3, per=5 * MILLISECOND),
            RateLimit(2, per=5 * MILLISECOND, drop=True),
            Cooldown(3 * MILLISECOND),
            Debounce(2 * MILLISECOND),
            Retry(attempts=2),
        ]
    ),
    unique_by=type,
    max_size=2,
)


class Scenario:
    """A task under a limit, and what it saw."""

    shards: int | None = None

    def __init__(self, most: int, per_value: bool, declared: list[Dependency]) -> None:
        self.most = most
        self.at_once: Counter[int] = Counter()
        self.exceeded: list[tuple[int, int]] = []
        limit = ConcurrencyLimit("value", max_concurrent=most) if per_value else ConcurrencyLimit(most)
        self.per_value = per_value
        self.handle: Any = self.declared(limit, *declared)

    def declared(self, *dependencies: Any) -> Any:
        task: Any = self.task()
        for dependency in dependencies:
            task = dependency(task)
        return task

    def task(self) -> Any:
        async def limited(value: int, turns: int) -> None:
            whose = value if self.per_value else 0
            self.at_once[whose] += 1
            if self.at_once[whose] > self.most:
                self.exceeded.append((whose, self.at_once[whose]))
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
                if turns == 7:
                    raise OSError("seven")
            finally:
                self.at_once[whose] -= 1

        return limited

    async def play(self, script: list[tuple[str, str, int]], workers: int) -> None:
        async with Docket(name="limits", url=f"memory://{uuid.uuid4().hex}", shards=self.shards) as docket:
            for number, (action, key, turns) in enumerate(script):
                if number == len(script) // 2:
                    running = [asyncio.create_task(self.work(docket)) for _ in range(workers)]
                if action == "add":
                    await docket.add(self.handle, key=key)(turns % 2, turns)
                elif action == "replace":
                    await docket.replace(self.handle, when=docket.clock.now(), key=key)(turns % 2, turns)
                elif action == "cancel":
                    await docket.cancel(key)
                else:
                    for _ in range(turns):
                        await asyncio.sleep(0.0005)
            await asyncio.gather(*running)  # pyright: ignore[reportPossiblyUnboundVariable] - a script has at least one action
            await self.all_has_ended(docket)

    async def work(self, docket: Docket) -> None:
        async with Worker(docket, concurrency=4, schedule_automatic_tasks=False) as worker:
            await worker.run_until_finished()

    async def all_has_ended(self, docket: Docket) -> None:
        await self.work(docket)  # what was added after the others had finished
        for key in KEYS:
            execution = await docket.get_execution(key)
            assert execution is None or execution.state in TERMINAL, (key, execution.state)
        assert await docket.store.delivery.depth() == (0, 0)
        assert await docket.store.delivery.contended() == 0
        for value in ("limited", "limited/value=0", "limited/value=1"):
            assert await docket.store.backend.call("ZCARD", docket.store.keys.concurrency(value)[0]) == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 3), st.booleans(), others, st.lists(actions, min_size=1, max_size=30), st.integers(1, 2))
def test_whatever_is_asked_for(most: int, per_value: bool, declared: list[Dependency], script: list[tuple[str, str, int]], workers: int):
    scenario = Scenario(most, per_value, declared)

    asyncio.run(asyncio.wait_for(scenario.play(script, workers), 20))

    assert scenario.exceeded == []
    assert not any(scenario.at_once.values())


LEASE_MS = 1000
MOST = 3
TASKS = 60
KILLS = 4

FLEET = f"""
import asyncio, sys
from datetime import timedelta
import redis.asyncio
from docket import ConcurrencyLimit, CurrentExecution, Docket, Worker

MARK = '''
local time = redis.call('TIME')
redis.call('RPUSH', KEYS[1], table.concat({{ARGV[1], ARGV[2], ARGV[3], string.format('%.0f', time[1] * 1000000 + time[2])}}, ' '))
'''

async def main(name, url, number):
    marks = redis.asyncio.Redis.from_url(url)

    async def mark(what, run):
        await marks.eval(MARK, 1, "marks", what, number, f"{{run.generation}}.{{run.delivery}}")

    async def limited(seconds, run=CurrentExecution(), limit=ConcurrencyLimit({MOST})):
        await mark("start", run)
        await asyncio.sleep(seconds)
        await mark("end", run)

    async with Docket(name, url) as docket:
        docket.register(limited)
        async with Worker(docket, name=f"fleet-{{number}}", concurrency=5, redelivery_timeout=timedelta(milliseconds={LEASE_MS})) as worker:
            await worker.run_forever()

asyncio.run(main(*sys.argv[1:]))
"""


class Fleet:
    """Worker processes, which are killed."""

    def __init__(self, docket: Docket, server: RedisServer, folder: Path) -> None:
        self._script = folder / "fleet.py"
        self._script.write_text(FLEET)
        self._arguments = (docket.name, server.url)
        self._client: Any = server.client()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.died: dict[str, int] = {}

    def start(self) -> None:
        number = str(len(self.running) + len(self.died))
        self.running[number] = subprocess.Popen([sys.executable, str(self._script), *self._arguments, number])

    def kill(self, number: str) -> None:
        seconds, microseconds = self._client.time()
        self.died[number] = seconds * 1_000_000 + microseconds
        process = self.running.pop(number)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def marks(self) -> list[list[str]]:
        return [mark.decode().split() for mark in self._client.lrange("marks", 0, -1)]

    def at_work(self) -> list[str]:
        """Which of those alive have something under way."""
        balance: Counter[str] = Counter()
        for what, number, *_ in self.marks():
            balance[number] += 1 if what == "start" else -1
        return [number for number in self.running if balance[number] > 0]

    def most_at_once(self) -> int:
        """A run lasts from its start to its end; one whose process was killed, until then at least."""
        changes: list[tuple[int, int]] = []
        open_runs: dict[tuple[str, str], int] = {}
        for what, number, run, moment in self.marks():
            if what == "start":
                open_runs[number, run] = int(moment)
                changes.append((int(moment), 1))
            else:
                del open_runs[number, run]
                changes.append((int(moment), -1))
        changes += [(max(self.died[number], began), -1) for (number, _), began in open_runs.items()]
        now = most = 0
        for _, change in sorted(changes):
            now += change
            most = max(most, now)
        return most

    def clear_up(self) -> None:
        for number in list(self.running):
            self.kill(number)
        self._client.delete("marks")


@pytest.mark.only_server("processes share it")
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
async def test_whoever_dies(docket: Docket, redis_server: RedisServer, tmp_path: Path):
    fleet = Fleet(docket, redis_server, tmp_path)
    for _ in range(3):
        fleet.start()
    try:
        asked = await docket.add_many(cast("Any", docket.call("limited"))(random.uniform(0.02, 0.08)) for _ in range(TASKS))
        for _ in range(KILLS):
            await eventually(fleet.at_work)
            fleet.kill(random.choice(fleet.at_work() or list(fleet.running)))
            fleet.start()
            await asyncio.sleep(random.uniform(0.1, 0.4))
        await asyncio.gather(*(one.get_result(timeout=SOON) for one in asked))
        marks, most = fleet.marks(), fleet.most_at_once()
    finally:
        fleet.clear_up()

    assert most == MOST
    assert len({run.partition(".")[0] for what, _, run, _ in marks if what == "end"}) == TASKS
    assert await docket.store.delivery.contended() == 0
