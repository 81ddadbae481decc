"""What was entered for a run, to be left in reverse order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from docket._threads import Thread
from docket.dependencies._deadline import Deadline

__all__ = ["Exits"]

logger = logging.getLogger("docket.dependencies")


class Exits:
    """This enters context managers and leaves them in reverse order: each of them, whatever the others do. Synchronous ones in `thread`, if there is one."""

    __slots__ = ("_entered", "thread")

    def __init__(self, thread: Thread | None = None) -> None:
        self._entered: list[tuple[Any, bool]] = []  # the manager, and whether it is an async one
        self.thread = thread

    async def enter_async(self, manager: AbstractAsyncContextManager[Any, Any]) -> Any:
        """This enters an async context manager and gives what that gives."""
        value = await manager.__aenter__()
        self._entered.append((manager, True))
        return value

    async def enter(self, manager: AbstractContextManager[Any, Any]) -> Any:
        """This enters a context manager and gives what that gives."""
        return self.enter_here(manager) if self.thread is None else await self.thread.call(self.enter_here, manager)

    def enter_here(self, manager: AbstractContextManager[Any, Any]) -> Any:
        """This enters a context manager in the thread that asks."""
        value = manager.__enter__()
        self._entered.append((manager, False))
        return value

    def take(self, others: Exits) -> None:
        """This takes over what others entered: it will be left before what is here already."""
        self._entered += others._entered
        others._entered = []

    async def leave(self, exc: BaseException | None, within: float | None = None) -> None:
        """This leaves everything. Each manager sees the failure so far and cannot undo it; one that fails puts its own in its place.

        Raises the failure that leaving brought, if it did. Each async manager has `within` seconds; one that still waits then is cancelled,
        and the log says so. A synchronous one is waited for as long as it takes.
        """
        failure = exc
        while self._entered:
            try:
                if self._entered[-1][1]:
                    await self._leave_async(failure, within)
                elif self.thread is None:
                    failure = self._leave_here(failure)
                else:
                    failure = await self.thread.call(self._leave_here, failure)
            except BaseException as error:  # noqa: BLE001 - the others are left all the same; then it is raised
                failure = _followed(error, failure)
        if failure is not None and failure is not exc:
            raise failure

    async def _leave_async(self, failure: BaseException | None, within: float | None) -> None:
        manager, _ = self._entered.pop()
        leaving = manager.__aexit__(*_details(failure))
        await (leaving if within is None else _leave_within(within, manager, leaving))

    def _leave_here(self, failure: BaseException | None) -> BaseException | None:
        """Leaves synchronous managers up to the next async one, and gives the failure as it then is."""
        while self._entered and not self._entered[-1][1]:
            manager, _ = self._entered.pop()
            try:
                manager.__exit__(*_details(failure))
            except BaseException as error:  # noqa: BLE001 - as above
                failure = _followed(error, failure)
        return failure


def _details(failure: BaseException | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if failure is None else (type(failure), failure, failure.__traceback__)


def _followed(error: BaseException, failure: BaseException | None) -> BaseException:
    """Gives the later error, which remembers the earlier."""
    if error is not failure and error.__context__ is None:
        error.__context__ = failure
    return error


async def _leave_within(seconds: float, manager: Any, leaving: Awaitable[object]) -> None:
    # No cancel scope: what is left may be a scope or task group of anyio itself, which must not be left from within a later one.
    deadline = Deadline(seconds)
    try:
        with deadline:
            await leaving
    except asyncio.CancelledError:
        if not deadline.fired or deadline.foreign:
            raise
    if deadline.fired:
        made_by = getattr(manager, "func", manager)  # what a generator was made a context manager from
        logger.warning("Stopped waiting for a dependency to close", extra={"dependency": getattr(made_by, "__qualname__", repr(made_by))})
