"""The runs this worker holds: starting them, stopping them, and the slots they take.

A run is a plain asyncio task, not one of an anyio task group: a group's costs fifteen times as much to start (measured),
and cancels every later await, where a body is to be cancelled once. This object is their owner: it starts, stops and awaits them.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opentelemetry.trace import Span

    from docket._store.records import Claimed, RunId
    from docket.execution import Execution

__all__ = ["ABANDONED", "HANDED_BACK", "LOST", "Running", "Runs"]

LOST = "lost"
"""Another worker has taken the run over."""

HANDED_BACK = "handed back"
"""The worker stops, so the run goes to another as though it had not been claimed."""

ABANDONED = "abandoned"
"""It was told to stop and did not: its run was handed back without it."""


def _for_ever() -> float:
    return math.inf


class Running:
    """This is one claimed run, from claim to settle."""

    __slots__ = ("claimed", "execution", "gave_way", "holder", "in_body", "is_counted", "is_over", "note", "occupies_slot", "place", "span", "stopped", "task")

    def __init__(self, claimed: Claimed) -> None:
        self.claimed = claimed
        self.execution: Execution[Any] | None = None
        self.gave_way = False
        """Whether it gave up its turn to run alone, because it waits for another run."""
        self.in_body = False
        self.is_counted = False
        """Whether it counts among those that run, in metrics."""
        self.is_over = False
        """Whether the body has ended; what follows is closing, deciding and settling."""
        self.note: tuple[str, dict[str, object]] | None = None
        """How log lines call it, and the fields they carry, once one was written."""
        self.occupies_slot = True
        self.place: str | None = None
        """The concurrency limit under which it holds a place."""
        self.holder: int | str = 0
        """The name under which it holds that."""
        self.span: Span | None = None
        """What traces know it by, until it has ended."""
        self.stopped: str | None = None
        """Why it was told to stop: `cancelled`, `replaced`, `lost`, `handed back` or `abandoned`."""
        self.task: asyncio.Task[None] | None = None

    def stop(self, reason: str) -> None:
        """This cancels the body, once; a run that has no body now only learns the reason."""
        if reason == "replaced" and self.execution is not None and self.execution.replaced_itself:
            return  # it asked for that, and may see itself out
        if reason == HANDED_BACK and self.is_over:
            return  # it has finished, and is only to be settled
        if self.stopped is None:
            self.stopped = reason
            if self.in_body and self.task is not None:
                self.task.cancel()


class Runs:
    """This holds what runs."""

    def __init__(self, concurrency: int, perform: Callable[[Running, Runs], Awaitable[None]]) -> None:
        self._concurrency = concurrency
        self._most = 2 * concurrency + 50
        self._perform = perform
        self._active: dict[RunId, Running] = {}
        self._bodies = 0
        self._reserved = 0
        self.reservations = 0
        """How often slots were reserved so far."""
        self._aside = 0
        """Runs with a slot that wait for their turn, because a suspect waits for its own or has it."""
        self._suspects = 0
        self._alone: Running | None = None
        """The suspect that has the worker for itself."""
        self._changed = asyncio.Event()
        self._owner = asyncio.current_task()

    @property
    def free(self) -> int:
        """This is how many more may start now. Runs that only wait to be settled take no slot, but there is an end to them too."""
        if self._suspects:
            return 0
        taken = self._bodies + self._reserved
        return min(self._concurrency - taken, self._most - len(self._active) - self._reserved)

    @property
    def idle(self) -> bool:
        """This says whether nothing is held at all, nor about to be."""
        return not self._active and not self._reserved

    @property
    def is_torn_down(self) -> bool:
        """This says whether the event loop is being closed under us: what cancels the runs then has cancelled their owner too."""
        cancelling = getattr(self._owner, "cancelling", None)  # from Python 3.11; before, nobody can tell
        return bool(cancelling and cancelling())

    def reserve(self, slots: int) -> None:
        """This keeps slots for entries that are being claimed."""
        self._reserved += slots
        self.reservations += 1

    def release(self, slots: int) -> None:
        """This gives up reserved slots, after what was claimed has been started."""
        self._reserved -= slots
        self._changed.set()

    def start(self, claimed: Claimed) -> None:
        """This starts a run, unless it runs here already: an entry may come twice, when its consumer group had to be made again."""
        if claimed.run in self._active:
            return
        running = self._active[claimed.run] = Running(claimed)
        self._bodies += 1
        running.task = asyncio.create_task(self._go(running), name=claimed.run.key)

    async def _go(self, running: Running) -> None:
        try:
            await self._perform(running, self)
        finally:
            self.free_slot(running)
            self._active.pop(running.claimed.run, None)
            self._changed.set()

    def free_slot(self, running: Running) -> None:
        """This says that the body is done; settling may still be under way."""
        if running.occupies_slot:
            running.occupies_slot = False
            self._bodies -= 1
            self._changed.set()
        if self._alone is running:
            self._end_turn(running)
        self.end_waiting(running)

    @property
    def has_suspects(self) -> bool:
        """This says whether a run is here that is to run alone: then no other body may start."""
        return self._suspects > 0

    async def turn(self) -> None:
        """This waits until a body may start beside others."""
        self._aside += 1
        self._changed.set()
        try:
            while self._suspects:
                await self.changed()
        finally:
            self._aside -= 1

    async def turn_alone(self, running: Running, patience: float) -> bool:
        """This waits until a body may start with nothing beside it, which holds until its slot is free; False when that took too long.

        Nothing else is fetched or started meanwhile. What runs here may wait for the very run that waits for its end, hence the patience, in seconds.
        """
        self._aside += 1
        self._suspects += 1
        self._changed.set()
        is_alone = is_over = False
        timer: asyncio.TimerHandle | None = None

        def lose_patience() -> None:
            nonlocal is_over
            is_over = True
            self._changed.set()

        try:
            while self._alone is not None:  # other suspects, one after another: they take no longer than they take
                await self.changed()
            self._alone = running
            timer = asyncio.get_running_loop().call_later(patience, lose_patience)
            while self._bodies > self._aside and not is_over:
                await self.changed()
            is_alone = not is_over
        finally:
            if timer is not None:
                timer.cancel()
            self._aside -= 1
            if not is_alone:
                self._end_turn(running)
        return is_alone

    def is_alone(self, running: Running) -> bool:
        """This says whether a suspect has its turn."""
        return self._alone is running

    def give_way(self, running: Running) -> None:
        """This ends the turn of a suspect whose body waits for another run, and is not in that one's way."""
        running.gave_way = True
        self._aside += 1
        self._end_turn(running)

    def end_waiting(self, running: Running) -> None:
        """This says that it waits no longer, or not any more because it has ended."""
        if running.gave_way:
            running.gave_way = False
            self._aside -= 1
            self._changed.set()

    def _end_turn(self, running: Running) -> None:
        if self._alone is running:
            self._alone = None
        self._suspects -= 1
        self._changed.set()

    def stop(self, key: str, generation: int, reason: str) -> None:
        """This tells a run to stop, if it is one of ours."""
        for run, running in self._active.items():
            if run.key == key and run.generation == generation:
                running.stop(reason)

    def stop_all(self, reason: str) -> None:
        """This tells every run to stop."""
        for running in self._active.values():
            running.stop(reason)

    def hand_back(self) -> list[Running]:
        """This tells every run to stop that has not finished, to go to another worker; it answers which these are."""
        self.stop_all(HANDED_BACK)
        return [running for running in self._active.values() if running.stopped == HANDED_BACK]

    def abandon(self) -> list[Running]:
        """This lets go of everything that is held, bodies that go on among it, and answers what was ours. Nothing of it is settled by its own doing any more."""
        left = [running for running in self._active.values() if running.stopped != LOST]
        self._active.clear()
        for running in left:
            running.stopped = ABANDONED
            self.free_slot(running)
            if running.is_over and running.task is not None:  # our own steps, or what a user's storage makes of them
                running.task.cancel()
        return left

    def held(self) -> list[RunId]:
        """This names the runs that are ours to keep alive."""
        return [run for run, running in self._active.items() if running.stopped != LOST]

    def running(self) -> list[Running]:
        """This gives what is held, as it is now. Any thread may ask: a dictionary is copied in one step."""
        return [*self._active.copy().values()]

    def places(self) -> list[tuple[str, int | str]]:
        """This names the places held under concurrency limits: limit and holder. Any thread may ask."""
        return [(running.place, running.holder) for running in self.running() if running.place is not None]

    def messages(self) -> set[bytes]:
        """This names the stream entries of everything held."""
        return {running.claimed.message_id for running in self._active.values()}

    def __len__(self) -> int:
        return len(self._active)

    async def changed(self) -> None:
        """This waits until a slot frees or a run ends."""
        self._changed.clear()
        await self._changed.wait()

    async def slot(self) -> None:
        """This waits for a free slot."""
        while self.free <= 0:
            await self.changed()

    def look_again(self) -> None:
        """This has whoever waits for a change look how much time is left."""
        self._changed.set()

    async def drained(self, *, is_out: Callable[[], bool], patience: float, left: Callable[[], float] = _for_ever) -> bool:
        """This waits until nothing is held any more, bodies for as long as there are seconds `left`.

        Runs that only wait to be settled are given up when Redis has been out for `patience` seconds; they are run again
        once the lease lapses. It answers whether all came to their end.
        """
        loop = asyncio.get_running_loop()
        out_since: float | None = None
        while self._active:
            if (seconds := left()) <= 0:
                return False
            try:
                await asyncio.wait_for(self.changed(), min(1.0, seconds))
            except asyncio.TimeoutError:
                out_since = (out_since or loop.time()) if is_out() else None
                if out_since is not None and self._bodies == 0 and loop.time() - out_since >= patience:
                    return await self._give_up()
        return True

    async def _give_up(self) -> bool:
        tasks = [running.task for running in self._active.values() if running.task is not None]
        for running in self._active.values():
            running.stopped = ABANDONED
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return False
