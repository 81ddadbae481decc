"""Those who follow events in a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

from docket import ExecutionState
from tests._waiting import eventually

__all__ = ["Follower", "following"]


class Follower:
    """This is what one subscriber has been told so far."""

    def __init__(self, events: AsyncGenerator[Any, None]) -> None:
        self.events: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self._source = events

    async def run(self) -> None:
        try:
            async with aclosing(self._source) as source:
                async for event in source:
                    self.events.append(event)
        except Exception as exc:  # what ended it is for the test to look at
            self.error = exc

    def states(self, key: str | None = None) -> list[ExecutionState]:
        """This is the states that were told, of one key or of all."""
        return [event["state"] for event in self.events if event["type"] == "state" and key in (None, event["key"])]

    @property
    def progress(self) -> list[tuple[int | None, int, str | None]]:
        """This is the progress that was told."""
        return [(event["current"], event["total"], event["message"]) for event in self.events if event["type"] == "progress"]

    @property
    def last(self) -> Mapping[str, Any]:
        """This is the last state that was told, in full."""
        return [event for event in self.events if event["type"] == "state"][-1]

    async def until(self, *states: ExecutionState) -> None:
        """This waits until these are the last states that were told."""
        await eventually(lambda: tuple(self.states()[-len(states) :]) == states or self.error is not None)
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def following(subscribe: Any, **options: Any) -> AsyncGenerator[Follower, None]:
    """This follows events for the length of a block; it begins once no change can be missed."""
    ready = asyncio.Event()
    follower = Follower(cast("AsyncGenerator[Any, None]", subscribe(ready=ready, **options)))
    running = asyncio.create_task(follower.run())
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        yield follower
    finally:
        running.cancel()
        await asyncio.wait([running])
