"""One run at a time for each customer, and no more than three calls of a partner in 0.4 s, whatever the number of workers.

Look at the first part: `a` and `b` run side by side, but never twice. Look at the second: threes, however many slots the two workers have.

python examples/limits.py                                        # everything in this process, no Redis
DOCKET_URL=redis://localhost:6379/0 python examples/limits.py    # the same on Redis
"""

import asyncio
import os
import time
from collections import Counter
from datetime import timedelta
from typing import Annotated

from docket import ConcurrencyLimit, Docket, RateLimit, Worker

docket = Docket(name="limits", url=os.environ.get("DOCKET_URL", "memory://limits"))
started = time.monotonic()
running: Counter[str] = Counter()


def say(text: str) -> None:
    print(f"[{time.monotonic() - started:4.1f} s] {text}", flush=True)


@docket.task
async def sync_account(customer: Annotated[str, ConcurrencyLimit(1)], number: int) -> None:
    running[customer] += 1
    say(f"sync {customer}{number}: {dict(+running)}")
    await asyncio.sleep(0.15)  # the work
    running[customer] -= 1


@docket.task
@RateLimit(3, per=timedelta(milliseconds=400))
async def call_partner(number: int) -> None:
    say(f"call {number}")


async def main() -> None:
    async with docket, Worker(docket, name="one") as one, Worker(docket, name="two") as two:
        say("each customer's account by one run at a time")
        await docket.add_many(sync_account.call(customer, number) for number in (1, 2, 3) for customer in ("a", "b"))
        await asyncio.gather(one.run_until_finished(), two.run_until_finished())

        say("three calls in 0.4 s")
        await docket.add_many(call_partner.call(number) for number in range(9))
        await asyncio.gather(one.run_until_finished(), two.run_until_finished())  # who is held back takes no slot, and nobody polls


if __name__ == "__main__":
    asyncio.run(main())
