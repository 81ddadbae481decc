"""A task is tried three times with growing pauses; what fails for good stays as a dead letter until somebody has looked at it.

Look at the times of the attempts, at what the letter tells, and at what runs once the bank is open again: the same call, from its letter.

python examples/dead_letters.py                                        # everything in this process, no Redis
DOCKET_URL=redis://localhost:6379/0 python examples/dead_letters.py    # the same on Redis
"""

import asyncio
import logging
import os
import time
from datetime import timedelta

from docket import Docket, Retry, Worker
from docket.docket import DeadLetter


async def tell(letter: DeadLetter) -> None:
    say(f"to whom it may concern: {letter.key} has failed for good")  # a message to somebody


docket = Docket(name="dead-letters", url=os.environ.get("DOCKET_URL", "memory://dead-letters"), on_dead=tell)
started = time.monotonic()
is_open = False


def say(text: str) -> None:
    print(f"[{time.monotonic() - started:4.1f} s] {text}", flush=True)


@docket.task
async def charge(
    order: int,
    euros: int,
    retry: Retry = Retry(attempts=3, minimum_delay=timedelta(milliseconds=200), maximum_delay=timedelta(seconds=5), on=ConnectionError),
) -> str:
    say(f"charge {order}: attempt {retry.attempt}")
    if euros < 0:
        raise ValueError("less than nothing")  # not one of `on`: trying again would change nothing
    if not is_open:
        raise ConnectionError("the bank is closed")
    return f"{euros} € for order {order}"


async def main() -> None:
    global is_open  # noqa: PLW0603 - the bank's, in a small world
    async with docket, Worker(docket) as worker:
        await docket.dead_letters().discard()  # of an earlier time
        await charge.schedule(17, 40, key="charge-17")
        await charge.schedule(18, -5, key="charge-18")
        await worker.run_until_finished()

        async for letter in docket.dead_letters():
            say(f"letter of {letter.key}: {letter.task}{letter.args}, {letter.error}")
            for attempt in letter.attempts:
                say(f"    attempt {attempt.attempt} on {attempt.worker}: {attempt.error}")

        is_open = True
        say("the bank is open")
        again = [await letter.retry() async for letter in docket.dead_letters(key_prefix="charge-17")]  # or: docket dead retry ID
        await worker.run_until_finished()
        for execution in again:
            say(f"it gave {await execution.get_result()!r}")
        say(f"{await docket.dead_letters().discard()} letter thrown away")


if __name__ == "__main__":
    logging.getLogger("docket").setLevel(logging.CRITICAL)  # the attempts that fail are part of the show, and need no tracebacks
    asyncio.run(main())
