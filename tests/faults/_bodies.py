"""What tasks of the fault test do in their bodies: they take their time, and write start and end to the log outside Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from docket import Execution
from tests.faults._log import Log

__all__ = ["TooEarly", "open_log", "recorded"]


class TooEarly(Exception):
    """This is how a task fails that is to be tried again."""


_logs: list[Log] = []


def open_log(log: Log) -> None:
    """This says where tasks of this process write."""
    _logs.append(log)


@asynccontextmanager
async def recorded(run: Execution[Any], **more: Any) -> AsyncGenerator[None]:
    """This writes when a body starts, and when and how it ends."""
    [log] = _logs
    assert run.started_at is not None
    names = {"key": run.key, "generation": run.generation, "delivery": run.delivery}
    # `claimed` is the server's clock, which is the wall clock of this machine
    log.write("start", **names, task=run.function_name, attempt=run.attempt, claimed=run.started_at.timestamp(), **more)
    how = "done"
    try:
        yield
    except asyncio.CancelledError:
        how = "cancelled"
        raise
    except BaseException:
        how = "failed"
        raise
    finally:
        log.write("end", **names, how=how)
