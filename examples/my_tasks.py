"""Tasks for a worker in a process of its own, with a Redis between the two.

In the folder of this file:

    export DOCKET_URL=redis://localhost:6379/0
    docket worker --tasks my_tasks:docket      # one terminal: runs what is scheduled, until Ctrl-C
    python my_tasks.py                         # another: schedules, and waits for the result

A collection does as well, where name and URL of the docket come from elsewhere: `docket worker --tasks my_tasks:collection`.
"""

import asyncio
import os
from datetime import timedelta

from docket import Depends, Docket, Perpetual, TaskLogger

docket = Docket(name="my-docket", url=os.environ.get("DOCKET_URL", "redis://localhost:6379/0"))


@docket.task
async def send_welcome_email(customer_id: int, name: str, logger: TaskLogger = Depends(TaskLogger)) -> bool:
    logger.info("Welcome", customer_id=customer_id, customer=name)
    return True


@docket.task
@Perpetual(every=timedelta(seconds=30), automatic=True)  # automatic: starts with the first worker
async def monitor_service(logger: TaskLogger = Depends(TaskLogger)) -> None:
    logger.info("Service status", status="fine")


collection = [send_welcome_email, monitor_service]


async def main() -> None:
    async with docket:
        execution = await send_welcome_email.schedule(12345, "Jane Smith")
        later = await send_welcome_email.schedule(12345, "Jane Q. Smith", key="again", when=timedelta(seconds=10))
        print(f"Scheduled {execution.key} for now and {later.key!r} for in ten seconds; waiting for the first ...")
        print("It gave", await execution.get_result())


if __name__ == "__main__":
    if "DOCKET_URL" in os.environ:
        asyncio.run(main())
    else:
        print("Set DOCKET_URL to a Redis that a worker uses too, such as redis://localhost:6379/0")
