"""What a task costs each server: all of a docket on one, the same divided into twelve shards there, and divided over three primaries of a cluster."""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack

from probe import Probe
from subjects import new_worker
from support import NotAsExpected, Report, Settings, run_measure

from docket import Docket

SHARDS = 12
ROUNDS = 3
CHUNK = 2_000
WARM_UP = 500


async def nothing(number: int) -> None:
    """This is the task."""


class Watched:
    """These are the servers of one subject, with what they have used so far."""

    def __init__(self, probes: list[Probe]) -> None:
        self._probes = probes

    async def seconds(self) -> list[float]:
        """This is the processor time of each server."""
        return [await probe.processor_seconds() for probe in self._probes]

    async def completed(self) -> list[dict[str, int]]:
        """This says of each server how many runs each shard on it has completed."""
        return [await probe.completed() for probe in self._probes]


async def measure(settings: Settings) -> Report:
    """This measures the three subjects in turn, a few times, and takes the round in which the servers used least: what else goes on in the machine only adds."""
    cluster_url = os.environ["BENCH_CLUSTER_URL"]
    primaries = [f"redis://{place}" for place in cluster_url.partition("://")[2].split(",")]
    subjects = {
        "one": (settings.url, [settings.url], 1),
        "one_divided": (settings.url, [settings.url], SHARDS),
        "three": (cluster_url, primaries, SHARDS),
    }
    least: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for name, (url, places, shards) in subjects.items():
            async with AsyncExitStack() as stack:
                probes = [await stack.enter_async_context(Probe(place)) for place in places]
                for probe in probes:
                    await probe.flush()
                found = await costs(settings, url, shards, Watched(probes))
            if name not in least or found["server_us_per_task"] < least[name]["server_us_per_task"]:
                least[name] = found
    values = {f"{name}_{what}": value for name, found in least.items() for what, value in found.items()}
    values["divided_to_one"] = least["one_divided"]["server_us_per_task"] / least["one"]["server_us_per_task"]
    values["busiest_of_three_to_one"] = least["three"]["busiest_us_per_task"] / least["one"]["server_us_per_task"]
    each = ", ".join(f"{values[f'three_server_{number}_add_us'] + values[f'three_server_{number}_drain_us']:.1f}" for number in range(1, len(primaries) + 1))
    notes = {
        "of": f"{settings.n:,} tasks, added {CHUNK:,} at a time; the round of {ROUNDS} in which the servers used least",
        "three": f"microseconds a task: {each}; one server: {least['one']['server_us_per_task']:.1f}",
    }
    return Report(values, notes)


async def costs(settings: Settings, url: str, shards: int, watched: Watched) -> dict[str, float]:
    """This adds and drains, and gives microseconds per task, of each server and of this process, what each server had to do, and the rates."""
    name = f"bench-shards-{os.getpid()}"
    async with Docket(name, url, shards=shards) as docket:
        docket.register(nothing)
        await round_of(docket, settings, WARM_UP)
        had = await watched.completed()
        before, own_before, began = await watched.seconds(), time.process_time(), time.perf_counter()
        await add(docket, settings.n)
        added, own_added, adding = await watched.seconds(), time.process_time(), time.perf_counter() - began
        async with new_worker(docket, settings) as worker:
            began = time.perf_counter()
            await worker.run_until_finished()
            draining = time.perf_counter() - began
        ran, own_ran = await watched.seconds(), time.process_time()
        have = await watched.completed()
    of_shards = [{shard: count - earlier.get(shard, 0) for shard, count in each.items()} for each, earlier in zip(have, had, strict=True)]
    of_servers = [sum(each.values()) for each in of_shards]
    if sum(of_servers) != settings.n:
        msg = f"{sum(of_servers)} of {settings.n} tasks were completed"
        raise NotAsExpected(msg)
    per_task = 1e6 / settings.n
    values = {
        "server_us_per_task": (sum(ran) - sum(before)) * per_task,
        "busiest_us_per_task": max(end - start for start, end in zip(before, ran, strict=True)) * per_task,
        "process_us_per_task": (own_ran - own_before) * per_task,
        "process_add_us": (own_added - own_before) * per_task,
        "add_per_second": settings.n / adding,
        "drain_per_second": settings.n / draining,
        "largest_server_to_even": max(of_servers) * len(of_servers) / settings.n,
        "largest_shard_to_even": max(count for each in of_shards for count in each.values()) * shards / settings.n,
    }
    for number, (start, middle, end, executed) in enumerate(zip(before, added, ran, of_servers, strict=True), 1):
        values |= {
            f"server_{number}_add_us": (middle - start) * per_task,
            f"server_{number}_drain_us": (end - middle) * per_task,
            f"server_{number}_executed": executed,
        }
    return values


async def round_of(docket: Docket, settings: Settings, tasks: int) -> None:
    """This adds and drains some tasks that are not counted: connections and scripts are there after that."""
    await add(docket, tasks)
    async with new_worker(docket, settings) as worker:
        await worker.run_until_finished()


async def add(docket: Docket, tasks: int) -> None:
    """This adds tasks, many at a time."""
    for first in range(0, tasks, CHUNK):
        await docket.add_many([docket.call(nothing)(number) for number in range(first, min(first + CHUNK, tasks))])


if __name__ == "__main__":
    run_measure(measure)
