"""Database connections around tasks: Django closes old ones at the start and the end of a request, and a worker has no requests."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections, connections, reset_queries

from docket._threads import around_calls
from docket.dependencies import Dependency

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["DatabaseConnections"]


class DatabaseConnections(Dependency):
    """This treats the database connections that a task uses as Django does those of a request.

    A connection belongs to a thread. Before and after each function that docket calls in a thread, connections of that thread that are broken or older than
    `CONN_MAX_AGE` are closed. The asynchronous methods of Django that an `async def` task calls have a thread of that run's own, as they have one for
    each request, so runs do not close each other's connections; at the end of the run they are closed. `docketworker` puts it around every task.
    """

    def __init__(self) -> None:
        self._own = ThreadSensitiveContext()

    async def __aenter__(self) -> Self:
        around_calls.set(_looked_at)
        self._own = ThreadSensitiveContext()
        await self._own.__aenter__()
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        if self._own in SyncToAsync.context_to_thread_executor:  # Django was called
            await sync_to_async(connections.close_all)()
        await self._own.__aexit__(exc_type, exc, traceback)  # pyright: ignore[reportUnknownMemberType] - asgiref says nothing of it


def _look() -> None:
    reset_queries()  # which are gathered for ever with DEBUG
    close_old_connections()


@contextmanager
def _looked_at() -> Generator[None, None, None]:
    _look()
    try:
        yield
    finally:
        _look()
