"""One task finds what is to be done and floods the docket with a small task for each piece; three workers share the flood.

Look at the second find: of what it finds, only what is new is scheduled. Look at the last line, too: each customer was reminded once.

python examples/find_and_flood.py                                        # everything in this process, no Redis
DOCKET_URL=redis://localhost:6379/0 python examples/find_and_flood.py    # the same on Redis
"""

import asyncio
import os
import time
from collections import Counter
from datetime import timedelta

from docket import ConcurrencyLimit, CurrentWorker, Disposition, Docket, Perpetual, Worker

docket = Docket(name="find-and-flood", url=os.environ.get("DOCKET_URL", "memory://find-and-flood"))
started = time.monotonic()

due: set[int] = set()  # in your database
becoming_due = iter([range(1, 25), range(25, 31)])
reminders: list[int] = []
ran_by: Counter[str] = Counter()


def say(text: str) -> None:
    print(f"[{time.monotonic() - started:4.1f} s] {text}", flush=True)


@docket.task
@ConcurrencyLimit(4)  # in all, so that the workers have slots left for other things
async def remind(customer: int, worker: Worker = CurrentWorker()) -> None:
    if customer not in due:
        return  # reminded since it was found: whoever is scheduled often looks before he acts
    await asyncio.sleep(0.1)  # the work
    due.remove(customer)
    reminders.append(customer)
    ran_by[worker.name] += 1


@docket.task
async def find(perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=250), automatic=True)) -> None:
    due.update(next(becoming_due, ()))
    found = sorted(due)
    calls = [remind.options(key=f"remind-{customer}").call(customer) for customer in found]
    executions = await docket.add_many(calls)  # many in one round trip
    new = sum(execution.disposition is Disposition.SCHEDULED for execution in executions)
    say(f"find: {len(found):2} are due, {new:2} of them scheduled, {len(found) - new:2} were so already")
    if not found:
        perpetual.cancel()  # only here, where there is an end; yours would come back every hour


async def main() -> None:
    async with docket:
        async with (
            Worker(docket, name="Anna", concurrency=2) as anna,
            Worker(docket, name="Ben", concurrency=2) as ben,
            Worker(docket, name="Cleo", concurrency=2) as cleo,
        ):  # usually processes of their own, on machines of their own
            await asyncio.gather(*(worker.run_until_finished() for worker in (anna, ben, cleo)))
        for name, count in sorted(ran_by.items()):
            say(f"{name} sent {count}")
        say(f"{len(reminders)} reminders for {len(set(reminders))} customers")


if __name__ == "__main__":
    asyncio.run(main())
