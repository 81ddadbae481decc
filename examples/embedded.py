"""A whole task system with no server to install: docket starts one itself, in a directory, and everybody on this machine who names it shares it.

Look at the ids: the tasks run in another process. Look at "later" as well: it was scheduled before everybody left, server included, and is there again.

pip install 'pydocket[embedded]'     # or have a redis-server on PATH
python examples/embedded.py

The worker is a process of its own, next to this one, which could be your web app. What they share is in `.docket`, here, and stays there.
"""

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from docket import Docket

docket = Docket(name="embedded", url=os.environ.get("DOCKET_URL", "embedded://./.docket"))


@docket.task
async def greet(name: str) -> str:
    return f"hello, {name}, from process {os.getpid()}"


async def schedule() -> None:
    async with docket:  # the first one in starts the server
        await greet.schedule("Grace", when=timedelta(milliseconds=500), key="later")
        print(f"process {os.getpid()} has scheduled a task for later; now everybody leaves, and the server ends", flush=True)


async def wait() -> None:
    async with docket:  # what was scheduled is still there
        later = await docket.get_execution("later")
        now = await greet.schedule("Ada")
        print(await now.get_result())
        if later is not None:
            print(await later.get_result())


if __name__ == "__main__":
    asyncio.run(schedule())
    example = Path(__file__)
    environment = {**os.environ, "PYTHONPATH": f"{example.parent}:{os.environ.get('PYTHONPATH', '')}"}
    worker = subprocess.Popen([sys.executable, "-m", "docket", "worker", "--tasks", f"{example.stem}:docket"], env=environment)  # noqa: S603 - our own words
    try:
        asyncio.run(wait())
    finally:
        worker.terminate()
        worker.wait()
