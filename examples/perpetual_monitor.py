"""A monitor for each service: a perpetual task that looks more often while something is wrong, and ends when its service is gone.

Look at the times between the lines of one service: 0.4 s while it is well, 0.1 s while it is not.

python examples/perpetual_monitor.py                                        # everything in this process, no Redis
DOCKET_URL=redis://localhost:6379/0 python examples/perpetual_monitor.py    # the same on Redis
"""

import asyncio
import os
import time
from datetime import timedelta

from docket import Disposition, Docket, Perpetual, Worker

docket = Docket(name="perpetual-monitor", url=os.environ.get("DOCKET_URL", "memory://perpetual-monitor"))
started = time.monotonic()

HEALTH = {"shop": iter(["well", "slow", "slow", "slow", "well", "well", "gone"]), "mail": iter(["well", "well", "gone"])}  # what would be asked of them


def say(text: str) -> None:
    print(f"[{time.monotonic() - started:4.1f} s] {text}", flush=True)


@docket.task
async def monitor(service: str, perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=400))) -> None:
    health = next(HEALTH[service])
    say(f"{service} is {health}")
    if health == "slow":
        perpetual.after(timedelta(milliseconds=100))  # this once; else the next run comes as declared
    elif health == "gone":
        perpetual.cancel()


async def monitor_all() -> None:
    for service in HEALTH:
        execution = await monitor.schedule(service, key=f"monitor-{service}")
        what = "is watched from now on" if execution.disposition is Disposition.SCHEDULED else "was watched already"
        say(f"{service} {what}")


async def main() -> None:
    async with docket:
        await monitor_all()
        await monitor_all()  # as at every start of an application: a chain that lives is left alone
        async with Worker(docket) as worker:
            await worker.run_until_finished()  # here because both chains end by themselves; `docket worker` runs for ever
        say("nothing is left to watch")


if __name__ == "__main__":
    asyncio.run(main())
