"""Functions that block, and a program that is not async: `def` tasks run in threads of the worker, and `docket.sync()` schedules without `await`.

Look at the times: four reports of half a second each are there after half a second. Look at the pulse as well: nothing stands still meanwhile.

python examples/sync_tasks.py                                        # everything in this process, no Redis
DOCKET_URL=redis://localhost:6379/0 python examples/sync_tasks.py    # the same on Redis
"""

import asyncio
import os
import threading
import time
from datetime import timedelta

from docket import Docket, Perpetual, Progress, Worker

docket = Docket(name="sync-tasks", url=os.environ.get("DOCKET_URL", "memory://sync-tasks"))
started = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - started:4.1f} s] {text}\n", end="", flush=True)  # as one piece, as others may be writing


@docket.task
def report(month: int, progress: Progress = Progress()) -> str:
    say(f"report {month} begins")
    progress.set_total(10)  # without await, in a `def` task
    for _ in range(10):
        time.sleep(0.05)  # work that blocks: a library that is not async, pandas, a file
        progress.increment()
    docket.sync().add(archive)(month)
    return f"report {month}"


@docket.task
def archive(month: int) -> None:
    say(f"archive {month}")


@docket.task
async def pulse(perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=200), automatic=True)) -> None:
    say("pulse")


async def work(stopping: threading.Event) -> None:
    async with docket, Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        await asyncio.to_thread(stopping.wait)
        worker.stop()
        await running
        await docket.cancel("pulse")


def main() -> None:
    stopping = threading.Event()
    with docket.sync() as client:  # for threads, scripts, Django views
        worker = threading.Thread(target=asyncio.run, args=(work(stopping),))  # usually a process of its own: `docket worker`
        worker.start()
        try:
            reports = [client.add(report)(month) for month in (1, 2, 3, 4)]
            for each in reports:
                say(f"got {each.get_result()!r}")
            done = client.get_execution(reports[0].key)
            assert done is not None
            say(f"its progress: {done.progress.current} of {done.progress.total}")
        finally:
            stopping.set()
            worker.join()


if __name__ == "__main__":
    main()
