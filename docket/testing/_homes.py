"""Where a test's docket comes from: made for the test, or the application's own, which stands in memory while the test lasts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import fields
from typing import Any

from docket._collections import load_tasks
from docket._redis import forget
from docket._uuid7 import uuid7
from docket.docket import Docket
from docket.errors import NotEntered
from docket.testing._clock import MovableClock
from docket.worker import Worker

__all__ = ["Tasks", "docket_in_memory", "entered_docket", "entered_worker", "worker_of"]

Tasks = Docket | str | Iterable["str | Callable[..., Any]"]
"""The application's docket or tasks: the thing itself, `module:member` for it, or several."""


@contextmanager
def docket_in_memory(tasks: Tasks, clock: MovableClock) -> Generator[Docket, None, None]:
    """This gives a docket with these tasks, in an engine of its own and with this clock. An application's docket is put back to what it was
    afterwards, without what was registered meanwhile.
    """
    url = f"memory://test-{uuid7()}"
    functions, found = _found(tasks)
    docket = found or Docket(url=url, clock=clock)
    options, former = docket.options, docket.clock
    if found is not None:
        try:
            docket.reconfigure(clock=clock, url=url, result_storage=None, credential_provider=None)
        except NotEntered as exc:
            raise NotEntered(
                f"docket {docket.name!r} is entered already, so it cannot be put into memory for this test; enter it in the test, or in fixtures that use `docket`"
            ) from exc
    try:
        with docket.registry.for_now():
            for function in functions:
                docket.register(function)
            yield docket
    finally:
        if found is not None:
            docket.reconfigure(clock=former, **{field.name: getattr(options, field.name) for field in fields(options)})
        forget(url)


def _found(tasks: Tasks) -> tuple[list[Callable[..., Any]], Docket | None]:
    if isinstance(tasks, Docket):
        return [], tasks
    several = [tasks] if isinstance(tasks, str) else list(tasks)
    loaded = load_tasks([path for path in several if isinstance(path, str)])
    return [*loaded.functions, *(function for function in several if not isinstance(function, str))], loaded.docket


def worker_of(docket: Docket) -> Worker:
    """This makes the worker of a test. It starts no automatic tasks: a test of one task is not to be a test of all, and it should end."""
    return Worker(docket, name="test", schedule_automatic_tasks=False)


@asynccontextmanager
async def entered_docket(docket: Docket) -> AsyncGenerator[Docket, None]:
    """This enters a docket for a test."""
    async with docket:
        yield docket


@asynccontextmanager
async def entered_worker(docket: Docket) -> AsyncGenerator[Worker, None]:
    """This gives an entered worker, on a docket that need not be entered yet."""
    async with docket, worker_of(docket) as worker:
        yield worker
