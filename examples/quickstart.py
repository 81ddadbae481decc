"""The main job in one file: work for now, work for later, a task that repeats, and a task that is retried.

Look at the times: what is due starts when it is due, what repeats keeps its pace, and what fails comes again.

python examples/quickstart.py                                        # everything in this process, no Redis
DOCKET_URL=redis://localhost:6379/0 python examples/quickstart.py    # the same on Redis
"""

import asyncio
import logging
import os
import time
from datetime import timedelta

from docket import Docket, Perpetual, Retry, Worker

docket = Docket(name="quickstart", url=os.environ.get("DOCKET_URL", "memory://quickstart"))
started = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - started:4.1f} s] {text}", flush=True)


@docket.task
async def greet(name: str) -> str:
    say(f"greet: hello, {name}")
    return f"{name} was greeted"


@docket.task
@Perpetual(every=timedelta(milliseconds=500))
async def heartbeat() -> None:
    say("heartbeat: still here")


@docket.task
async def flaky(retry: Retry = Retry(attempts=3, delay=timedelta(milliseconds=200))) -> str:
    if retry.attempt < 3:
        say(f"flaky: attempt {retry.attempt} fails")
        raise RuntimeError("not yet")
    say(f"flaky: attempt {retry.attempt} works")
    return "third time lucky"


async def main() -> None:
    async with docket:
        say(f"scheduling on {docket.url}")
        now = await greet.schedule("Ada")
        later = await greet.schedule("Grace", when=timedelta(seconds=1))
        retried = await flaky.schedule()
        await heartbeat.schedule(key="heartbeat")

        async with Worker(docket) as worker:
            # a perpetual task has no end of its own: run it four times, and everything else to its end
            await worker.run_at_most({"heartbeat": 4})

        for execution in (now, later, retried):
            say(f"{execution.function_name} gave {await execution.get_result()!r}")


if __name__ == "__main__":
    logging.getLogger("docket").setLevel(logging.ERROR)  # the attempts that fail are part of the show, and need no tracebacks
    asyncio.run(main())
