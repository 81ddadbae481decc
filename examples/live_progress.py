"""A task reports how far it is, and somebody else, who knows nothing but its key, draws a bar that moves.

Look at the bar: it begins before the task does, and ends with what the task gave. In a second terminal `docket watch import-prices` draws its own.

python examples/live_progress.py                                        # everything in this process, no Redis
DOCKET_URL=redis://localhost:6379/0 python examples/live_progress.py    # the same on Redis
"""

import asyncio
import os
import sys
from contextlib import aclosing
from datetime import timedelta

from docket import Docket, Progress, Worker
from docket.states import TERMINAL

docket = Docket(name="live-progress", url=os.environ.get("DOCKET_URL", "memory://live-progress"))
KEY = "import-prices"
LINE = "\r\x1b[K" if sys.stdout.isatty() else "\n"  # on a terminal, each line takes the place of the one before it


@docket.task
async def import_prices(file: str, rows: int, progress: Progress = Progress()) -> str:
    await progress.set_total(rows)
    for row in range(rows):
        if row % 500 == 0:
            await progress.set_message(f"{file}, from row {row}")
            await asyncio.sleep(0.2)  # the work
        await progress.increment()  # as often as you like: it is written at most every 50 ms
    return f"{rows} rows imported"


def draw(state: str, current: int, total: int, message: str) -> None:
    bar = "█" * (30 * current // total)
    print(f"{LINE}{state:9} │{bar:30}│ {100 * current // total:3} %  {message}", end="", flush=True)


async def follow(key: str) -> None:
    execution = await docket.get_execution(key)
    assert execution is not None
    state, current, total, message = "", 0, 1, ""
    async with aclosing(execution.subscribe()) as events:
        async for event in events:
            if event["type"] == "progress":
                current, total, message = event["current"] or 0, event["total"], event["message"] or ""
            else:
                state = event["state"].value
            draw(state, current, total, message)
            if event["type"] == "state" and event["state"] in TERMINAL:
                break
    print()
    print(await execution.get_result(timeout=timedelta(seconds=5)))


async def main() -> None:
    async with docket:
        await import_prices.schedule("prices.csv", 5_000, key=KEY, when=timedelta(milliseconds=300))
        async with Worker(docket) as worker:  # usually in another process
            await asyncio.gather(worker.run_until_finished(), follow(KEY))


if __name__ == "__main__":
    asyncio.run(main())
