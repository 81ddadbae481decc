"""An agenda collects calls and scatters them over a stretch of time, so that a thousand of them do not hit a partner in one second.

Look at the two pictures of what the partner sees, a line for each tenth of a second: first all at once, then scattered.

python examples/agenda_scatter.py                                        # everything in this process, no Redis
DOCKET_URL=redis://localhost:6379/0 python examples/agenda_scatter.py    # the same on Redis
"""

import asyncio
import os
import time
from datetime import timedelta

from docket import Agenda, Docket, Worker

docket = Docket(name="agenda-scatter", url=os.environ.get("DOCKET_URL", "memory://agenda-scatter"))

TENTH = 0.1
calls_seen: list[float] = []


@docket.task
async def call_partner(customer: int) -> None:
    calls_seen.append(time.monotonic())


def picture() -> None:
    begin = min(calls_seen)
    tenths = [int((seen - begin) / TENTH) for seen in calls_seen]
    for tenth in range(max(tenths) + 1):
        print(f"  {tenth * TENTH:3.1f} s  {'#' * tenths.count(tenth)}")
    print(f"  the most in a tenth of a second: {max(tenths.count(tenth) for tenth in tenths)}", flush=True)
    calls_seen.clear()


async def main() -> None:
    async with docket, Worker(docket) as worker:
        agenda = Agenda()
        for customer in range(40):
            agenda.add(call_partner)(customer)

        print(f"{len(agenda)} calls at once:")
        await docket.add_many(call_partner.call(customer) for customer in range(40))
        await worker.run_until_finished()
        picture()

        print(f"{len(agenda)} calls scattered over a second:")
        executions = await agenda.scatter(docket, over=timedelta(seconds=1))  # an hour, or a night; `jitter=` makes it less regular
        await worker.run_until_finished()
        picture()

        first, last = executions[0].when, executions[-1].when
        print(f"The first was due {(last - first).total_seconds():.1f} s before the last.")


if __name__ == "__main__":
    asyncio.run(main())
