"""What happens in one run of the fault test, and when: a pure function of the seed, so that a run can be had again.

Times are seconds since the run began. A schedule can be written as JSON and read back; carrying it out is `_producer`'s and `_faults`' business.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CHAIN", "FAULTS", "Fault", "Order", "Schedule", "Story", "made"]

LEASE = 1.5
"""Seconds of `redelivery_timeout`: short enough that most faults outlast it."""

WORKERS = ("new", "old", "new")
"""Whose code each worker starts with."""

DIVIDED = 4
"""Shards of a docket that is divided."""

CHAIN = "chain"
"""What keys of perpetual chains begin with."""

TENANTS = ("red", "green", "blue")

STORY_EVERY = 0.06
FAULT_EVERY = 0.75
LEAD_IN = 0.5
"""Seconds before the first fault."""


@dataclass(frozen=True)
class Order:
    """This is something that a producer asks for."""

    at: float
    verb: str
    """`add`, `replace` or `cancel`."""
    task: str = ""
    delay: float = 0.0
    """Seconds from the order until the task is due."""
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Story:
    """This is all that producers ask for under one key, one order after another."""

    key: str
    orders: tuple[Order, ...]


@dataclass(frozen=True)
class Fault:
    """This is something that goes wrong."""

    at: float
    kind: str
    target: int = -1
    """Which worker, or which worker's connections; the number behind the last worker's means the producers', -1 everybody."""
    lasts: float = 0.0
    code: str = ""
    """For a worker that is started again: whose code it has then."""
    command: str = ""
    """For a reply that is lost: to which command."""


@dataclass(frozen=True)
class Schedule:
    """This is one run of the fault test."""

    seed: int
    seconds: float
    lease: float
    workers: tuple[str, ...]
    stories: tuple[Story, ...]
    faults: tuple[Fault, ...]
    shards: int = 1

    def dumps(self) -> str:
        """This is the schedule as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Schedule:
        """This reads what `dumps` wrote."""
        raw: dict[str, Any] = json.loads(text)
        stories: list[Story] = []
        for story in raw["stories"]:
            orders: list[dict[str, Any]] = story["orders"]
            for order in orders:
                order["arguments"] = tuple(order["arguments"])
            stories.append(Story(story["key"], tuple(Order(**order) for order in orders)))
        faults = tuple(Fault(**fault) for fault in raw["faults"])
        return cls(raw["seed"], raw["seconds"], raw["lease"], tuple(raw["workers"]), tuple(stories), faults, raw["shards"])


def made(seed: int, seconds: float, shards: int | None = None) -> Schedule:
    """This makes the schedule of a seed: `seconds` of orders and faults. With every other seed the docket is divided, unless `shards` says how it is."""
    chance = random.Random(seed)
    if shards is None:
        shards = 1 if seed % 2 else DIVIDED
    return Schedule(seed, seconds, LEASE, WORKERS, tuple(_stories(chance, seconds)), tuple(_faults(chance, seconds)), shards)


# Stories


def _moments(chance: random.Random, first: float, last: float, every: float) -> Iterator[float]:
    at = first
    while (at := at + chance.expovariate(1 / every)) < last:
        yield round(at, 3)


def _stories(chance: random.Random, seconds: float) -> Iterator[Story]:
    for number in range(3):
        yield Story(f"{CHAIN}-{number}", (Order(0.1 * number, "add", "link"),))
    yield Story(f"{CHAIN}-ends", (Order(0.0, "add", "link"), Order(seconds / 2, "cancel")))
    plots, weights = zip(*_PLOTS, strict=True)
    for number, at in enumerate(_moments(chance, 0.0, seconds, STORY_EVERY)):
        plot = chance.choices(plots, weights)[0]
        yield Story(f"{plot.__name__.strip('_')}-{number}", tuple(plot(chance, at)))


def _work(chance: random.Random) -> float:
    """Seconds that a body takes: mostly few, now and then more than a lease."""
    return round(chance.uniform(1.1, 1.6) * LEASE if chance.random() < 0.03 else chance.uniform(0.0, 0.3), 3)


def _delay(chance: random.Random, share: float = 0.5) -> float:
    return round(chance.uniform(0.1, 2.5), 3) if chance.random() < share else 0.0


def _steady(chance: random.Random, at: float, verb: str = "add", delay: float | None = None) -> Order:
    padding = "x" * chance.choice((0, 0, 100, 5000))  # arguments of more than 64 bytes stand apart from the record
    return Order(round(at, 3), verb, "steady", _delay(chance) if delay is None else delay, (_work(chance), padding))


def _plain(chance: random.Random, at: float) -> Iterator[Order]:
    yield _steady(chance, at)


def _repeated(chance: random.Random, at: float) -> Iterator[Order]:
    for _ in range(3):
        yield _steady(chance, at)
        at += chance.uniform(0.0, 0.3)


def _replaced(chance: random.Random, at: float) -> Iterator[Order]:
    yield _steady(chance, at)
    for _ in range(chance.randint(1, 3)):
        at += chance.uniform(0.02, 1.0)
        yield _steady(chance, at, "replace")


def _cancelled(chance: random.Random, at: float) -> Iterator[Order]:
    yield _steady(chance, at)
    yield Order(round(at + chance.uniform(0.02, 1.5), 3), "cancel")


def _revived(chance: random.Random, at: float) -> Iterator[Order]:
    yield from _cancelled(chance, at)
    yield _steady(chance, at + chance.uniform(1.5, 2.0))


def _flaky(chance: random.Random, at: float) -> Iterator[Order]:
    yield Order(at, "add", "flaky", _delay(chance, 0.2), (_work(chance), chance.randint(1, 3)))


def _limited(chance: random.Random, at: float) -> Iterator[Order]:
    yield Order(at, "add", "limited", _delay(chance, 0.2), (chance.choice(TENANTS), _work(chance)))


def _paced(chance: random.Random, at: float) -> Iterator[Order]:
    yield Order(at, "add", "paced", 0.0, (0.01,))


def _newcomer(chance: random.Random, at: float) -> Iterator[Order]:
    yield Order(at, "add", "newcomer", _delay(chance, 0.2), (_work(chance),))


def _stubborn(chance: random.Random, at: float) -> Iterator[Order]:
    yield Order(at, "add", "stubborn", 0.0, (round(chance.uniform(0.2, 1.3) * LEASE, 3),))


def _relay(chance: random.Random, at: float) -> Iterator[Order]:
    yield Order(at, "add", "relay", 0.0, (chance.randint(1, 6),))


_PLOTS = (
    (_plain, 12), (_repeated, 4), (_replaced, 5), (_cancelled, 4), (_revived, 2), (_flaky, 4),
    (_limited, 6), (_paced, 1), (_newcomer, 2), (_stubborn, 0.5), (_relay, 2),
)  # fmt: skip


# Faults

FAULTS = {
    "kill": 3, "stop": 4, "term": 2, "server": 2, "cut": 1, "refuse": 2, "mute": 2, "deaf": 4, "slow": 1,
    "half close": 2, "lose reply": 4, "script flush": 1, "client kill": 1, "group destroy": 1,
}  # fmt: skip
"""What may go wrong, and how often beside the others."""

_OF_A_MOMENT = ("cut", "half close", "lose reply", "script flush", "client kill", "group destroy")
_OF_PROCESSES = ("kill", "stop", "term")
_OF_LINKS = ("cut", "refuse", "mute", "deaf", "slow", "half close", "lose reply")
_RESTART = 1.0
"""Seconds that a worker takes to start, about."""


def _faults(chance: random.Random, seconds: float) -> Iterator[Fault]:
    kinds, weights = tuple(FAULTS), tuple(FAULTS.values())
    busy: dict[str, float] = {}
    for at in _moments(chance, LEAD_IN, seconds, FAULT_EVERY):
        kind = chance.choices(kinds, weights)[0]
        what, target = "server", -1
        if kind in _OF_PROCESSES:
            what, target = "process", chance.randrange(len(WORKERS))
        elif kind in _OF_LINKS:
            what, target = "link", chance.randrange(len(WORKERS) + 1)
        lasts = _duration(chance, kind, of_producers=target == len(WORKERS))
        place = f"{what} {target}"
        if kind in ("script flush", "client kill", "group destroy") or busy.get(place, 0.0) <= at:
            if lasts:
                busy[place] = at + lasts + (_RESTART if what == "process" else 0.1)
            code = chance.choice(WORKERS) if kind in ("kill", "term") else ""
            yield Fault(at, kind, target, lasts, code, chance.choice(("EVALSHA", "XREADGROUP")) if kind == "lose reply" else "")


def _duration(chance: random.Random, kind: str, *, of_producers: bool) -> float:
    if kind in _OF_A_MOMENT:
        return 0.0
    if kind in ("kill", "term"):
        return round(chance.uniform(0.1, 1.0), 3)
    if of_producers and chance.random() < 0.3:
        return round(chance.uniform(5.1, 6.5), 3)  # longer than an order is tried again
    outlasts_the_lease = chance.random() < (0.3 if kind == "server" else 0.6)
    return round(LEASE * (chance.uniform(1.1, 2.0) if outlasts_the_lease else chance.uniform(0.1, 0.7)), 3)


def counted(faults: Sequence[Fault]) -> dict[str, int]:
    """This counts faults of each kind."""
    return {kind: sum(fault.kind == kind for fault in faults) for kind in FAULTS}
