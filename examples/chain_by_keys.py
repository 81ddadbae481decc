"""The road of an order under one key: each step makes the next one live in the moment in which it ends, so no crash comes between the two.

Look at order-1: asked for twice, it runs once, and its key tells at any time where it is. Look at order-2: cancelled on its way, it is not shipped.

python examples/chain_by_keys.py                                        # everything in this process, no Redis
DOCKET_URL=redis://localhost:6379/0 python examples/chain_by_keys.py    # the same on Redis
"""

import asyncio
import os
import time
from contextlib import aclosing
from datetime import timedelta

from docket import Docket, Execution, ExecutionState, TaskKey, Worker

docket = Docket(name="chain-by-keys", url=os.environ.get("DOCKET_URL", "memory://chain-by-keys"))
started = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - started:4.1f} s] {text}", flush=True)


@docket.task
async def reserve(order: int, key: str = TaskKey()) -> None:
    say(f"{key}: reserved")
    await charge.options(key=key).schedule(order)


@docket.task
async def charge(order: int, key: str = TaskKey()) -> None:
    say(f"{key}: charged")
    await ship.options(key=key, when=timedelta(seconds=1)).schedule(order)


@docket.task
async def ship(order: int, key: str = TaskKey()) -> str:
    say(f"{key}: shipped")
    return f"order {order} is on its way"


async def find(key: str) -> Execution:
    execution = await docket.get_execution(key)
    assert execution is not None
    return execution


async def tell(key: str) -> None:
    execution = await find(key)
    say(f"{key} stands at {execution.function_name}: {execution.state.value}")


async def until_it_waits(key: str) -> None:
    execution = await find(key)
    async with aclosing(execution.subscribe()) as events:  # of all steps: they have one key
        async for event in events:
            if event["type"] == "state" and event["state"] is ExecutionState.SCHEDULED:
                return


async def main() -> None:
    async with docket, Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())

        for order in (1, 2):
            await reserve.options(key=f"order-{order}").schedule(order)
        again = await reserve.options(key="order-1").schedule(1)
        say(f"order-1 asked for again: {again.disposition.value}")

        for key in ("order-1", "order-2"):
            await until_it_waits(key)
            await tell(key)
        await docket.cancel("order-2")
        await tell("order-2")

        last = await find("order-1")
        say(f"order-1 gave {await last.get_result()!r}")
        await tell("order-1")
        worker.stop()
        await running


if __name__ == "__main__":
    asyncio.run(main())
