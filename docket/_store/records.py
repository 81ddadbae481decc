"""What goes into the store and what comes out of it, as values. Redis spellings stay inside `_store`.

Nobody changes one. Those that are made for every task are not frozen all the same: making a frozen one of ten fields takes a microsecond more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from docket.errors import InvalidSchedule
from docket.states import ExecutionState

__all__ = [
    "Admission",
    "Announcement",
    "Applicant",
    "Beat",
    "Change",
    "Changed",
    "Claimed",
    "Counts",
    "Delivery",
    "Earlier",
    "Failure",
    "Letter",
    "Order",
    "Ordered",
    "Outcome",
    "ProgressChange",
    "Refused",
    "Requirement",
    "Retention",
    "Revival",
    "RunId",
    "RunRecord",
    "Settlement",
    "StateChange",
    "Underway",
]


@dataclass(frozen=True, slots=True)
class Retention:
    """This says how long a docket keeps what, and how surely."""

    ttl_ms: int
    """What is left of a run that has ended."""
    letters_ms: int = 0
    """Dead letters."""
    most_letters: int = 0
    replicas: int = 0
    """How many have to confirm what was scheduled."""


@dataclass(frozen=True, slots=True)
class RunId:
    """This names one claim of one run: what settle, progress and hand-back are fenced by."""

    key: str
    generation: int
    delivery: int


def _token() -> int:
    return secrets.randbits(62)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Order:
    """This asks for a run. `token` lets the script recognise its own repeat after a lost reply."""

    key: str
    function: str
    payload: bytes
    when_us: int | None = None  # None: now, by the server's clock
    replace: bool = False
    trace: bytes = b""
    within: RunId | None = None  # the run this is asked from, if it is asked from one
    seal: Callable[[int], bytes] | None = None  # gives the payload as it is sealed for a generation, which is then taken beforehand
    token: int = field(default_factory=_token)

    def __post_init__(self) -> None:
        # Here and not where it is packed: there it would fail every order of its batch
        for name, value in (("key", self.key), ("name of a task", self.function)):
            if not value.isascii() and not _is_text(value):
                raise InvalidSchedule(f"{value!a} cannot be the {name}: it holds half a surrogate pair, which is no text that UTF-8 can write")


@dataclass(frozen=True, slots=True)
class Ordered:
    """This answers an `Order`: the run that now stands under the key, and whether this order made it."""

    created: bool
    generation: int
    state: ExecutionState
    when_us: int
    replicas: int = 0
    """How many replicas have confirmed that, where that was asked for."""


@dataclass(frozen=True, slots=True)
class Change:
    """This asks for one very run to be moved to another moment (None: now), or to run again. `token` lets the script recognise its own repeat."""

    key: str
    generation: int
    when_us: int | None = None
    seal: Callable[[int], bytes] | None = None  # of a run that runs again: as in an `Order`
    payload: None = None  # which is the seal's to know
    token: int = field(default_factory=_token)


@dataclass(frozen=True, slots=True)
class Changed:
    """This answers a `Change`: `done`, with how the run that was asked for now stands; or `wrong`, with the state it is in; `superseded`; `gone`."""

    word: str
    state: ExecutionState | None = None
    generation: int = 0
    when_us: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """This is one entry of the stream, fetched and not yet claimed."""

    message_id: bytes
    key: str
    generation: int
    limit: str = ""  # the concurrency limit that let it in and keeps a place for it


@dataclass(slots=True)
class Claimed:
    """This run is ours to run now."""

    run: RunId
    message_id: bytes
    function: str
    payload: bytes
    when_us: int
    started_us: int
    large_payload: bool
    trace: bytes
    attempt: int = 1
    crashes: int = 0  # workers that died while running it
    limit: str = ""  # the concurrency limit that keeps a place for it
    first_when_us: int | None = None  # of a run that is tried again: when it was first due
    first_started_us: int | None = None  # and when its first attempt started
    blamed: int = 0  # workers that died while they ran this and nothing else
    unknown_since_us: int | None = None  # when a worker first handed it back because it does not know the task


@dataclass(frozen=True, slots=True)
class Refused:
    """This entry was not ours to run (cancelled, replaced, run already, gone); it has been acknowledged away."""

    key: str
    generation: int
    reason: str


@dataclass(slots=True)
class Outcome:
    """This is how a run ended."""

    state: ExecutionState
    error: str | None = None
    value: bytes | None = None  # the pickled result, or the pickled exception
    struck: bool = False  # a strike ended it, before it began; `error` says which


@dataclass(slots=True)
class Settlement:
    """This ends a claim: the outcome, and what is to follow under the same key, if anything.

    * a plain end: `again` is None;
    * a retry: `again="retry"`, `delay_us`, `attempt`; same generation, same payload; `outcome` tells the error so far;
    * a link of a chain: `again="next"`, `delay_us` or `when_us`, and `payload` unless the arguments stay; a new generation;
    * the end of everything: `again="end"`; a successor that the run asked for is dropped;
    * back to the others: `again="release"`, `delay_us`; same attempt, as though it had not been claimed. What its body still does counts for nothing.
    """

    run: RunId
    message_id: bytes
    outcome: Outcome
    again: str | None = None  # None | "retry" | "next" | "release" | "end"
    when_us: int | None = None  # None: at once
    attempt: int = 1
    payload: bytes | None = None
    seal: Callable[[int], bytes] | None = None  # of a next link: as in an `Order`
    limit: str = ""  # the concurrency limit whose place it gives up
    unknown: bool = False  # of a release: the worker does not know the task
    failure: bytes = b""  # the attempt that failed, for its dead letter: see `_letters`
    wide: bool = False  # the run has a large payload, or may have asked for a successor: more keys are touched


@dataclass(frozen=True, slots=True)
class Earlier:
    """This is the end of the run that stood under a key before, as far as the record of the next one remembers it."""

    generation: int
    state: ExecutionState
    was_replaced: bool
    completed_us: int | None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """This is everything the record of a task says, read once."""

    key: str
    state: ExecutionState
    generation: int
    delivery: int
    function: str
    payload: bytes | None
    when_us: int
    attempt: int
    worker: str | None
    started_us: int | None
    completed_us: int | None
    error: str | None  # of the end, or of the last attempt
    outcome: Outcome | None
    trace: bytes
    crashes: int
    progress_current: int | None
    progress_total: int
    progress_message: str | None
    progress_us: int | None
    successor: int | None  # the generation of the successor this run asked for
    earlier: Earlier | None = None  # of the run before it


@dataclass(frozen=True, slots=True)
class Letter:
    """This is a dead letter, as it is kept."""

    key: str
    generation: int
    function: str
    payload: bytes | None  # None: not read, because it is too large for a listing
    payload_bytes: int
    when_us: int
    attempt: int
    died_us: int
    trace: bytes
    history: tuple[bytes, ...]  # one JSON text for each attempt that is known, the last one last
    is_whole: bool = True  # else the attempts before the last were not read, nor was the payload


@dataclass(frozen=True, slots=True)
class Revival:
    """This asks for a dead letter to be run again, at a moment (None: now). `token` lets the script recognise its own repeat."""

    key: str
    generation: int
    when_us: int | None = None
    payload: bytes | None = None  # None: as it was
    seal: Callable[[int], bytes] | None = None  # as in an `Order`
    token: int = field(default_factory=_token)


@dataclass(frozen=True, slots=True)
class StateChange:
    """This is one transition of one run, as published. The full shape, always."""

    key: str
    generation: int
    state: ExecutionState
    when_us: int
    worker: str | None
    started_us: int | None
    completed_us: int | None
    error: str | None
    superseded: bool = False  # this generation ended because another took its place, or never began
    never_began: bool = False  # a successor that was asked for, and dropped or cancelled; nothing was told of it before


@dataclass(frozen=True, slots=True)
class ProgressChange:
    """This is one report of progress of one run, as published."""

    key: str
    generation: int
    current: int | None
    total: int
    message: str | None
    updated_us: int | None


@dataclass(frozen=True, slots=True)
class Announcement:
    """This is what a live worker says of itself."""

    instance: str
    name: str
    last_seen_us: int
    tasks: frozenset[str]


@dataclass(frozen=True, slots=True, order=True)
class Beat:
    """This is the last sign of life of a worker instance."""

    name: str
    instance: str
    seen_us: int


@dataclass(frozen=True, slots=True)
class Underway:
    """This is what a screen shows of a run that a worker has."""

    key: str
    function: str
    worker: str
    started_us: int
    attempt: int
    progress: ProgressChange | None  # None: it has not reported any


@dataclass(frozen=True, slots=True)
class Failure:
    """This is one of the last failures for good, as a screen shows it."""

    key: str
    function: str
    worker: str | None
    attempt: int
    when_us: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """This counts the runs of a docket. While they move, one may be counted twice or not at all."""

    scheduled: int
    """Due later, or told by a limit to come back later; `overdue` among them."""
    queued: int
    """Ready, and not fetched by a worker; among them entries of work that was cancelled, until a worker comes across them."""
    running: int
    """With a worker."""
    waiting: int
    """Parked by a concurrency limit, until a place is free."""
    completed: int
    """Runs that completed, since the docket was first used. So the others, too: links of a chain and attempts count each."""
    failed: int
    """Runs that failed for good."""
    cancelled: int
    """Runs that were cancelled, struck, or dropped by a limit."""
    retried: int
    """Attempts after which another followed."""
    overdue: int = 0
    """Due, and still to be made ready by a worker."""
    dead_letters: int = 0
    """Dead letters that are kept; some that have expired lately may be among them."""

    @property
    def live(self) -> int:
        """This is how many are scheduled, ready, waiting or running."""
        return self.scheduled + self.queued + self.running + self.waiting


@dataclass(frozen=True, slots=True)
class Requirement:
    """This is a limit that a run has to pass: whose it is, and its numbers as the script takes them."""

    kind: str  # concurrency | rate | cooldown | debounce
    identity: str
    a: str
    b: str = ""
    c: str = ""


@dataclass(frozen=True, slots=True)
class Applicant:
    """This is a claimed run before its limits."""

    run: RunId
    message_id: bytes
    requirements: tuple[Requirement, ...]
    lease_us: int


@dataclass(frozen=True, slots=True)
class Admission:
    """This says what became of an `Applicant`: admitted, parked, later, dropped, cancelled or superseded.

    A parked or later run is queued and no longer claimed; a dropped or cancelled one is still to be settled.
    """

    word: str
    detail: str = ""
