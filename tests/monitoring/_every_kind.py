"""Tasks to which everything happens that a worker counts. The worker under test runs them in a process of its own."""

import asyncio
from datetime import timedelta

from docket import Cancel, CurrentDocket, Docket, Perpetual, Retry

LATER = timedelta(hours=1)


async def succeed() -> None: ...


async def fail() -> None:
    raise RuntimeError("bad luck")


async def flaky(retry: Retry = Retry(attempts=2)) -> None:
    raise RuntimeError(f"the {retry.attempt}. time")


async def beat(perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=50))) -> None: ...


async def give_up() -> None:
    raise Cancel("enough")


async def stay(docket: Docket = CurrentDocket()) -> None:
    """This is replaced as it runs."""
    await docket.add(supersede, key="supersede")()
    await asyncio.sleep(3600)


async def struck() -> None: ...


async def orphaned() -> None:
    """A worker that has died held this one."""


async def ask_for_everything(docket: Docket = CurrentDocket()) -> None:
    """This schedules on the worker itself, so that it counts what callers count, too."""
    for task in (succeed, fail, flaky, beat, give_up):
        await docket.add(task, key=task.__name__)()
    await docket.add(succeed, when=LATER, key="replaced")()
    await docket.replace(succeed, LATER, "replaced")()
    await docket.add(succeed, when=LATER, key="cancelled")()
    await docket.cancel("cancelled")
    await docket.add(struck, when=timedelta(milliseconds=300), key="struck at the worker")()
    await docket.strike(struck)
    await docket.add(struck, key="struck at once")()
    await docket.add(stay, key="superseded")()


async def supersede(docket: Docket = CurrentDocket()) -> None:
    await docket.replace(succeed, None, "superseded")()


tasks = [succeed, fail, flaky, beat, give_up, stay, struck, orphaned, ask_for_everything, supersede]
