"""What goes into the store and what comes out of it, as values. Redis spellings stay inside `_store`.

Nobody changes one. Those that are made for every task are not frozen all the same: making a frozen one of ten fields takes a microsecond more.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from docket.errors import InvalidSchedule
from docket.states import ExecutionState

__all__ = [
    "Admission",
    "Announcement",
    "Applicant",
    "Claimed",
    "Delivery",
    "Order",
    "Ordered",
    "Outcome",
    "ProgressChange",
    "Refused",
    "Requirement",
    "RunId",
    "RunRecord",
    "Settlement",
    "StateChange",
]


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
    attempt: int
    crashes: int  # workers that died while running it
    large_payload: bool
    trace: bytes
    limit: str = ""  # the concurrency limit that keeps a place for it
    first_when_us: int | None = None  # of a run that is tried again: when it was first due
    first_started_us: int | None = None  # and when its first attempt started


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


@dataclass(slots=True)
class Settlement:
    """This ends a claim: the outcome, and what is to follow under the same key, if anything.

    * a plain end: `again` is None;
    * a retry: `again="retry"`, `delay_us`, `attempt`; same generation, same payload; `outcome` tells the error so far;
    * a link of a chain: `again="next"`, `delay_us` or `when_us`, and `payload` unless the arguments stay; a new generation;
    * the end of everything: `again="end"`; a successor that the run asked for is dropped;
    * back to the others: `again="release"`, `delay_us`; same attempt, as though it had not been claimed.
    """

    run: RunId
    message_id: bytes
    outcome: Outcome
    again: str | None = None  # None | "retry" | "next" | "release" | "end"
    when_us: int | None = None  # None: at once
    attempt: int = 1
    payload: bytes | None = None
    limit: str = ""  # the concurrency limit whose place it gives up
    wide: bool = False  # the run has a large payload, or may have asked for a successor: more keys are touched


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
    superseded: bool = False  # this generation ended because another took its place


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
