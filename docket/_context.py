"""What surrounds the code that runs now: the run it belongs to, and the dockets entered around it.

Entering and leaving themselves are `_sessions`' business; here is only remembered who is entered, and where.
"""

from __future__ import annotations

import os
import weakref
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from docket._clock import SYSTEM, Clock
from docket.errors import NoDocket

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from docket._progress import ExecutionProgress
    from docket._worker._decision import Decision
    from docket.docket import Docket
    from docket.execution import Execution
    from docket.states import ExecutionState
    from docket.worker import Worker

__all__ = [
    "Entry",
    "Onlooker",
    "Witness",
    "ambient_docket",
    "clock_here",
    "current_docket",
    "current_execution",
    "current_worker",
    "docket_named",
    "enter",
    "leave",
    "onlookers",
    "remember",
    "while_waiting",
    "witness",
]

current_docket: ContextVar[Docket] = ContextVar("docket")
"""The docket whose worker runs this; not set outside a run."""
current_worker: ContextVar[Worker] = ContextVar("worker")
"""The worker that runs this; not set outside a run."""
current_execution: ContextVar[Execution] = ContextVar("execution")
"""The run this belongs to; not set outside one."""


class Witness(Protocol):
    """This sees what runs do, for the testing kit: all that start in a context where it is the `witness`."""

    def began(self, execution: Execution) -> None:
        """This sees a claimed run, before its limits."""
        ...

    def reported(self, progress: ExecutionProgress) -> None:
        """This sees progress, as it is after a report."""
        ...

    def scheduled(self, execution: Execution) -> None:
        """This sees a run that was scheduled, by whoever did."""
        ...

    def settled(self, execution: Execution, decision: Decision, result: Any, stands: ExecutionState | None) -> None:
        """This sees how a run ended, and what its key's record says then; None where another has taken its place."""
        ...


class Onlooker(Protocol):
    """This looks on while the workers of this process run tasks, for an error tracker. Called in the run's own task of the event loop; what it raises is logged."""

    def began(self, execution: Execution) -> None:
        """This sees a claimed run, before anything of the user's is called."""
        ...

    def failed(self, execution: Execution, exception: BaseException, became: str) -> None:
        """This sees what a run failed of, before it is logged; and what became of it: `failed`, `discarded` or `retried`."""
        ...

    def left(self, execution: Execution) -> None:
        """This sees that the worker is done with a run."""
        ...


onlookers: dict[str, Onlooker] = {}
"""Those who look on, by name."""

while_waiting: ContextVar[AbstractAsyncContextManager[None] | None] = ContextVar("while waiting", default=None)
"""What a run enters for as long as it waits for the end of another one."""

witness: ContextVar[Witness | None] = ContextVar("witness", default=None)


class Entry:
    """This is one entering of a docket that has not been left. Compared by identity; dead once it was left, also in contexts that still hold it."""

    __slots__ = ("alive", "docket", "execution", "pid")

    def __init__(self, docket: Docket) -> None:
        self.docket = docket
        self.execution = current_execution.get(None)
        self.pid = os.getpid()
        self.alive = True

    @property
    def here(self) -> bool:
        """This says whether the docket is still entered, and in the event loop that asks."""
        return self.alive and self.docket.is_entered


_stack: ContextVar[tuple[Entry, ...]] = ContextVar("entered dockets", default=())
_process: list[Entry] = []
_made: weakref.WeakValueDictionary[int, Docket] = weakref.WeakValueDictionary()
_counter = count()


def enter(docket: Docket) -> None:
    """This notes that a docket was entered, in this context and in the process."""
    entry = Entry(docket)
    _stack.set((*(held for held in _stack.get() if held.alive), entry))
    del _process[: sum(held.pid != entry.pid for held in _process)]  # a forked child starts with none of its parent's; other threads may add theirs meanwhile
    _process.append(entry)


def leave(docket: Docket) -> None:
    """This notes that a docket was left: its innermost entering in this context, else (it was entered in another one) its last."""
    entries = [held for held in _process if held.docket is docket]
    around = [held for held in _stack.get() if held in entries]
    for entry in (around or entries)[-1:]:
        entry.alive = False
        _process.remove(entry)
    # Set anew rather than reset: the token belongs to the context that entered, which need not be this one.
    _stack.set(tuple(held for held in _stack.get() if held.alive))


def ambient_docket(wanted_by: str) -> Docket:
    """This gives the docket meant by code that names none: the innermost of this context, else the only entered one.

    Inside a run, the run's docket counts as entered around everything except what the run entered itself.
    Raises `NoDocket`, which names who asked.
    """
    execution = current_execution.get(None)
    around = [entry for entry in _stack.get() if entry.here]
    running = current_docket.get(None)
    if around and (running is None or around[-1].execution is execution):
        return around[-1].docket
    if running is not None:
        return running

    entered = {id(entry.docket): entry.docket for entry in _process if entry.here}
    if len(entered) == 1:
        return next(iter(entered.values()))
    found = "no docket is entered" if not entered else f"{len(entered)} dockets are entered ({', '.join(sorted(repr(d.name) for d in entered.values()))})"
    raise NoDocket(
        f"{wanted_by} names no docket, and {found}; declare it with @docket.task, schedule it with docket.add(...), or do so inside `async with docket:`"
    )


def clock_here() -> Clock:
    """This is the clock of the docket whose run this is; outside of one, the system's."""
    running = current_docket.get(None)
    return SYSTEM if running is None else running.clock


def remember(docket: Docket) -> None:
    """This keeps a docket findable by its name, for as long as somebody else keeps the docket."""
    _made[next(_counter)] = docket


def docket_named(name: str) -> Docket:
    """This finds a docket of this process by its name: the one that runs this code, else an entered one, else the last one made.

    Raises `NoDocket`.
    """
    running = current_docket.get(None)
    if running is not None and running.name == name:
        return running
    for entry in reversed((*_process, *_stack.get())):
        if entry.docket.name == name and entry.here:
            return entry.docket
    for number in sorted(_made.keys(), reverse=True):
        made = _made.get(number)
        if made is not None and made.name == name:
            return made
    known = ", ".join(sorted({repr(made.name) for made in _made.values()})) or "none"
    raise NoDocket(f"there is no docket named {name!r} in this process, only {known}; dockets travel by name, so import the module that makes it first")
