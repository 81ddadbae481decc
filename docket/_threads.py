"""Calling synchronous functions in threads: a bounded number at a time, so that none holds up the event loop.

The threads are anyio's, so `anyio.from_thread` works in what is called here. Which functions go to a thread is their callers' business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread

__all__ = ["Thread", "Threads", "around_calls"]

logger = logging.getLogger("docket.worker")

T = TypeVar("T")

_ABSENT: Any = object()

around_calls: ContextVar[Callable[[], AbstractContextManager[object]] | None] = ContextVar("around calls in threads", default=None)
"""What is entered around each function that is called in a thread, in that thread: for what belongs to a thread, such as Django's database connections."""


def _never() -> bool:
    return False


_Ending = tuple[Any, BaseException | None, list[tuple[ContextVar[Any], Any]]]
"""What a call gave or raised, and the context variables that it set."""


class Threads:
    """This bounds how many synchronous functions of a worker run at the same time."""

    def __init__(self, count: int) -> None:
        self._slots = anyio.CapacityLimiter(count)

    def thread(self, owner: Callable[[], str], labels: Mapping[str, object]) -> Thread:
        """This gives what calls the functions of one owner, a run for example; the log calls it what `owner` says."""
        return Thread(self._slots, owner, labels)


class Thread:
    """This calls the synchronous functions of one owner in threads, one at a time; not always in the same thread.

    They share one context, so that a generator may reset in its `finally` what it set before its `yield`; and what they set
    is seen by the owner's coroutines, as though everything ran in one place.
    """

    __slots__ = ("_context", "_labels", "_owner", "_slots")

    def __init__(self, slots: anyio.CapacityLimiter, owner: Callable[[], str], labels: Mapping[str, object]) -> None:
        self._slots = slots
        self._owner = owner
        self._labels = labels
        self._context: Context | None = None

    async def call(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """This calls a function in a thread and gives its result.

        While it waits for a free thread it can be cancelled like anything else. A function that has begun cannot be stopped:
        its end is awaited all the same, and then CancelledError raised. (It can ask: `anyio.from_thread.check_cancelled()`.)
        """
        return await self._call(partial(function, *args, **kwargs), _never)

    async def call_out(self, counts: Callable[[], bool], function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """This calls a function as `call` does, but where `counts` says so the end of one that has begun counts although it was told to stop."""
        return await self._call(partial(function, *args, **kwargs), counts)

    async def _call(self, function: Callable[[], T], counts: Callable[[], bool]) -> T:
        told = anyio.CancelScope()
        work = asyncio.ensure_future(self._work(told, function))
        stopped: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as exc:
                if stopped is None:
                    if work in self._slots.statistics().borrowers:
                        logger.warning("%s was told to stop, and a thread cannot be stopped: its slot is held until it ends", self._owner(), extra=self._labels)
                    told.cancel()
                stopped = exc
        ending = work.result()
        value, error, changes = ending or (None, None, [])
        for variable, content in changes:
            variable.set(content)
        try:
            if stopped is not None and (ending is None or not counts()):
                raise stopped
            if error is not None:
                raise error
        finally:
            del error, stopped, ending, work  # which hold this frame
        return cast("T", value)

    async def _work(self, told: anyio.CancelScope, function: Callable[[], Any]) -> _Ending | None:
        with told:  # which cuts the wait for a free thread short, and which a function that has begun only sees by `check_cancelled`
            return await anyio.to_thread.run_sync(self._run, function, limiter=self._slots)
        return None  # told before it began

    def _run(self, function: Callable[[], Any]) -> _Ending:
        """In the thread: calls the function in the owner's context. What it raises is a value here, as the loop would take SystemExit for its own."""
        around = copy_context()
        context = self._context
        if context is None:
            context = self._context = around
        else:
            context.run(_catch_up, around)
        before = context.copy()
        value, error = None, None
        surround = around_calls.get()
        try:
            if surround is None:
                value = context.run(function)
            else:
                with surround():
                    value = context.run(function)
        except BaseException as exc:  # noqa: BLE001 - raised again by `call`
            error = exc
        return value, error, [(variable, content) for variable, content in context.items() if before.get(variable, _ABSENT) is not content]


def _catch_up(around: Context) -> None:
    """Sets in this context what was set in the other since."""
    here = copy_context()
    for variable, content in around.items():
        if here.get(variable, _ABSENT) is not content:
            variable.set(content)
