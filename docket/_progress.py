"""How far a task says it is, for the task and for those who watch it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docket._clock import to_us
from docket._context import witness
from docket._events import moment, progress_event, progress_of
from docket._store.events import Reading
from docket._store.records import ProgressChange
from docket._watching import Watch
from docket.errors import InvalidOption

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Coroutine
    from datetime import datetime

    from typing_extensions import Self

    from docket._events import ProgressEvent
    from docket._store.records import RunId
    from docket.docket import Docket

__all__ = ["ExecutionProgress"]


class ExecutionProgress:
    """This is how far a task says it is. The task reports with `set_total`, `increment` and `set_message`; others read or subscribe."""

    def __init__(self, docket: Docket, key: str, run: RunId | None = None) -> None:
        self._docket = docket
        self.key = key
        """The key of the task."""
        self.current: int | None = None
        """How much is done, as last read or reported; None: it has not begun."""
        self.total: int = 1
        """How much there is to do."""
        self.message: str | None = None
        """What is being done, in the task's words."""
        self.updated_at: datetime | None = None
        """When it was last reported, in UTC."""
        self._run = run

    @property
    def docket(self) -> Docket:
        """This is the docket of the task."""
        return self._docket

    @classmethod
    async def create(cls, docket: Docket, key: str) -> Self:
        """This reads the progress of the task that has this key; of one that is not known (any more) it says that nothing was reported."""
        progress = cls(docket, key)
        await progress.sync()
        return progress

    def set_total(self, total: int) -> Coroutine[Any, Any, None]:
        """This says how much there is to do, 100 until then. Raises `InvalidOption` below 1."""
        if total < 1:
            raise InvalidOption("Total must be at least 1")
        return self._update(total=total)

    def increment(self, amount: int = 1) -> Coroutine[Any, Any, None]:
        """This says that so much more is done; many at once add up. Raises `InvalidOption` below 1."""
        if amount < 1:
            raise InvalidOption("Amount must be at least 1")
        return self._update(add=amount)

    def set_message(self, message: str | None) -> Coroutine[Any, Any, None]:
        """This says in words what is being done."""
        return self._update(message=message)

    async def _update(self, **changes: Any) -> None:
        self.take(await self.docket.store.progress.update(self.key, self._run, **changes))
        if (watching := witness.get()) is not None:
            watching.reported(self)

    async def sync(self) -> None:
        """This reads what was last reported. A task that is not known (any more) changes nothing."""
        record = await self.docket.store.inspection.load(self.key)
        self.take(record and progress_of(record))

    async def subscribe(self, *, ready: asyncio.Event | None = None) -> AsyncGenerator[ProgressEvent, None]:
        """This gives the progress as it stands, then every change, without end. `ready` is set once no change can be missed."""
        await self.sync()
        yield self.event()
        watch = Watch(self._docket, self.key, 0, None, self.change())
        async with self._docket.store.events.track(self.key) as track:
            while True:
                found = await track.get()
                if ready is not None and isinstance(found, Reading) and found.in_place:
                    ready.set()
                for event in await watch.take(found):
                    if event["type"] == "progress":
                        self.take(watch.progress)
                        yield event

    def event(self) -> ProgressEvent:
        """This gives the progress as last read, in the form of an event; not part of the public interface."""
        return progress_event(self.change())

    def change(self) -> ProgressChange:
        """This gives the progress as last read, as the store would; not part of the public interface."""
        return ProgressChange(self.key, 0, self.current, self.total, self.message, self.updated_at and to_us(self.updated_at))

    def take(self, change: ProgressChange | None) -> None:
        """This takes what was read or heard, where None changes nothing; not part of the public interface."""
        if change is None:
            return
        self.current, self.total, self.message = change.current, change.total, change.message
        self.updated_at = moment(change.updated_us)
