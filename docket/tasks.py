"""The tasks every docket has: to see that work flows, that failures show, and that waiting waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from docket.dependencies import CurrentDocket, CurrentExecution, CurrentWorker, Retry, TaskLogger

if TYPE_CHECKING:
    from docket.docket import Docket
    from docket.execution import Execution
    from docket.worker import Worker

__all__ = ["fail", "sleep", "standard_tasks", "trace"]


async def trace(
    message: str,
    logger: TaskLogger = TaskLogger(),
    docket: Docket = CurrentDocket(),
    worker: Worker = CurrentWorker(),
    execution: Execution = CurrentExecution(),
) -> None:
    """This logs a message, where it ran, and how late."""
    late = execution.docket.clock.now() - execution.when
    logger.info("%s: %r of docket %r ran on worker %r, %s after it was due", message, execution.key, docket.name, worker.name, late)


async def fail(
    message: str,
    docket: Docket = CurrentDocket(),
    worker: Worker = CurrentWorker(),
    execution: Execution = CurrentExecution(),
    retry: Retry = Retry(attempts=2),
) -> None:
    """This fails with a message, twice: it has two attempts. Raises `RuntimeError`."""
    raise RuntimeError(f"{message}: {execution.key!r} of docket {docket.name!r} failed on worker {worker.name!r}, attempt {retry.attempt} of {retry.attempts}")


async def sleep(seconds: float, logger: TaskLogger = TaskLogger()) -> None:
    """This takes that many seconds, and a slot of its worker."""
    logger.info("Sleeping for %s seconds", seconds)
    await anyio.sleep(seconds)


standard_tasks = [trace, fail, sleep]
"""What `--tasks docket.tasks:standard_tasks` names."""
