"""The invariants: plain functions from what was seen to what was violated. Each has a test that shows that it can fail.

Leases cannot be seen from outside, so what they promise is checked as far as it follows from what can be seen. A worker renews its lease every
quarter of its length, so it stands for at least three quarters from the moment at which the worker could renew last. From what went wrong follows
when a worker could not renew: it was stopped, its connections failed, the server was down, or it found itself that it had stood still (a busy machine
does that, too). Only `LAPSES_AFTER` of a lease later may its lease have lapsed, unless it is back and has had `RENEWS` seconds to renew it by then;
and it takes `STOPS` seconds more to stop its bodies. `lapses` are these times, and outside of them nobody else may run what it runs.
"""

from __future__ import annotations

import itertools
import math
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.faults._history import Ack, Body, History
from tests.faults._schedule import CHAIN
from tests.faults._tasks_old import ATTEMPTS, PLACES

__all__ = ["CHECKS", "LATEST", "Violation", "check", "worst_lateness"]

LAPSES_AFTER = 0.65
"""Of a lease: it is renewed every quarter, which leaves three, and a little for the way."""

RENEWS = 0.4
"""Seconds in which a worker that is back renews its lease, or learns that it lost it."""

STOPS = 0.5
"""Seconds in which a worker that lost its lease has stopped its bodies."""

RECONNECTS = 1.0
"""Seconds between two tries to connect, at most."""

LATEST = 8.0
"""Seconds without any fault after which a due task has started."""

STOPS_WITHIN = 15.0
"""Seconds in which a worker has stopped that was told to, whatever else goes wrong: its grace, its time to close, and patience with Redis."""

KEEP_LEASES = ("kill", "term", "slow", "script flush", "group destroy")
"""Faults through which whoever lives can renew its lease."""

STARTS_WITHIN = 5.0
"""Seconds in which a worker listens to what it is told."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Violation:
    """This is something that must not be."""

    check: str
    text: str


# When a lease may have lapsed


def merged(spans: Sequence[Span]) -> list[Span]:
    """This joins spans that touch."""
    found: list[Span] = []
    for began, ended in sorted(spans):
        if found and began <= found[-1][1]:
            found[-1] = (found[-1][0], max(ended, found[-1][1]))
        else:
            found.append((began, ended))
    return found


def lapses(history: History, slot: int) -> list[Span]:
    """This is when the lease of whoever worked in a slot may have lapsed, or its worker may not yet have learnt of it."""
    spans = [
        (outage.began, outage.ended + RENEWS + (RECONNECTS if outage.refuses else 0.0))
        for outage in history.outages
        if outage.slot in (slot, -1) and outage.kind not in KEEP_LEASES
    ]
    blocked = [(body.started, body.ended + RENEWS) for body in history.bodies if body.blocks and history.slot_of(body.worker) == slot]
    found: list[Span] = []
    for began, ended in merged(spans):
        lapsed = began + LAPSES_AFTER * history.schedule.lease
        if lapsed < ended:  # a blocked event loop learns of it when it turns again
            found.append((lapsed, STOPS + max([ended, *(until for since, until in blocked if since <= ended <= until)])))
    return found


def _covered(began: float, ended: float, spans: Sequence[Span]) -> bool:
    return any(since <= began and ended <= until for since, until in spans)


# What was asked


def _by_key(acks: Sequence[Ack]) -> dict[str, list[Ack]]:
    found: dict[str, list[Ack]] = defaultdict(list)
    for ack in acks:
        found[ack.key].append(ack)
    return found


def _expected(acks: Sequence[Ack]) -> Iterator[tuple[Ack, bool]]:
    """The runs of one key that must come to their end; and whether a later run of the key will do, because it may have been replaced."""
    for position, ack in enumerate(acks):
        earlier, later = acks[:position], acks[position + 1 :]
        if ack.answer == "exists" and any(other.verb == "cancel" for other in earlier):
            continue  # it may be the run that was told to stop, and has not stopped yet
        later = [other for other in later if other.answer != "refused"]
        if ack.generation and not any(other.verb == "cancel" or (other.verb == "replace" and other.answer != "unknown") for other in later):
            yield ack, any(other.answer == "unknown" for other in later)


def check_lost(history: History) -> Iterator[str]:
    """Nothing lost: what was acknowledged, and neither cancelled nor replaced since, was run to its end."""
    done: dict[str, set[int]] = defaultdict(set)
    for body in history.bodies:
        if body.how == "done":
            done[body.key].add(body.generation)
    for key, acks in _by_key(history.acks).items():
        for ack, or_later in _expected(acks):
            if ack.generation not in done[key] and not (or_later and any(other > ack.generation for other in done[key])):
                stands = history.records.get(key, {})
                yield f"{key} generation {ack.generation} ({ack.verb} acknowledged at {ack.ended - history.began:.3f}) was never run to its end; the record says {stands}"


def check_states(history: History) -> Iterator[str]:
    """What was run to its end, and neither cancelled nor replaced, says so: its record is completed."""
    for key, acks in _by_key(history.acks).items():
        record = history.records.get(key)
        for ack, _ in _expected(acks):
            if record is None:
                yield f"{key} has no record"
            elif record["generation"] == str(ack.generation) and record["state"] != "completed":
                yield f"{key} generation {ack.generation} ended as {record}"


def check_overlaps(history: History) -> Iterator[str]:
    """Nobody runs what another runs whose lease stands."""
    runs: dict[tuple[str, int], list[Body]] = defaultdict(list)
    for body in history.bodies:
        runs[body.key, body.generation].append(body)
    for (key, generation), bodies in runs.items():
        bodies.sort(key=lambda body: body.started)
        for position, one in enumerate(bodies):
            for other in bodies[position + 1 :]:
                began, ended = other.started, min(one.ended, other.ended)
                if began >= ended or any(_covered(began, ended, lapses(history, history.slot_of(body.worker))) for body in (one, other)):
                    continue
                yield (
                    f"{key} generation {generation} was run by {one.worker} (delivery {one.delivery}) and {other.worker} (delivery {other.delivery}) at once, "
                    f"from {began - history.began:.3f} to {ended - history.began:.3f}"
                )


def check_superseded(history: History) -> Iterator[str]:
    """Nothing is claimed after it was acknowledged to be cancelled or replaced."""
    by_key = _by_key(history.acks)
    for body in history.bodies:
        acks = by_key.get(body.key, [])
        for position, ack in enumerate(acks):
            if body.claimed_wall <= ack.ended_wall or ack.answer in ("unknown", "refused"):
                continue
            asked_later = any(other.began >= ack.ended or (other.answer == "unknown" and other.verb != "cancel") for other in acks)
            known_before = any(other.generation == body.generation for other in acks[:position])
            if (ack.verb == "cancel" and (known_before or not asked_later)) or (ack.verb == "replace" and body.generation < ack.generation):
                yield (
                    f"{body.key} generation {body.generation} was claimed by {body.worker} {body.claimed_wall - ack.ended_wall:.6f} s after "
                    f"it was acknowledged to be {ack.verb}{'led' if ack.verb == 'cancel' else 'd'}"
                )
                break


def check_unasked(history: History) -> Iterator[str]:
    """Nothing runs that nobody asked for. Links of a chain and successors have generations that no producer hears of."""
    by_key = _by_key(history.acks)
    for body in history.bodies:
        acks = by_key.get(body.key, [])
        if body.task in ("link", "relay") or any(ack.generation == body.generation or ack.answer == "unknown" for ack in acks):
            continue
        yield f"{body.key} generation {body.generation} was run by {body.worker}, and nobody asked for it"


def check_chains(history: History) -> Iterator[str]:
    """No perpetual chain breaks: each went on when all was quiet again, until it was cancelled; and each relay was run to its last."""
    for key, acks in _by_key(history.acks).items():
        bodies = [body for body in history.bodies if body.key == key]
        cancelled = next((ack.began for ack in acks if ack.verb == "cancel" and ack.answer != "refused"), math.inf)
        is_to_live = key.startswith(CHAIN) and any(ack.generation for ack in acks) and cancelled > history.quiet
        if is_to_live and not any(body.started > history.quiet for body in bodies):
            last = max((body.started for body in bodies), default=history.began)
            yield (
                f"{key} broke: its last link started at {last - history.began:.3f}; all was quiet from {history.quiet - history.began:.3f} on; "
                f"the record says {history.records.get(key)}"
            )
        if any(ack.task == "relay" and ack.generation for ack in acks) and not any(body.left == 0 and body.how == "done" for body in bodies):
            yield f"{key} was not run to its last; the record says {history.records.get(key)}"


def check_attempts(history: History) -> Iterator[str]:
    """A run is tried no more often than it says, and crashes use up no attempts."""
    failures: dict[tuple[str, int], set[int]] = defaultdict(set)
    for body in sorted(history.bodies, key=lambda body: body.claimed_wall):
        before = failures[body.key, body.generation]
        if body.attempt > ATTEMPTS:
            yield f"{body.key} generation {body.generation} was tried for the {body.attempt}th time"
        if body.attempt > 1 and body.attempt - 1 not in before:
            yield f"{body.key} generation {body.generation} came to attempt {body.attempt} although attempt {body.attempt - 1} had not failed"
        if body.how == "failed":
            before.add(body.attempt)


def check_limits(history: History) -> Iterator[str]:
    """No limit is exceeded by bodies whose workers kept their leases. Whose lease may have lapsed may have lost its place, too, for the rest of its run."""
    changes: dict[str, list[tuple[float, int, Body]]] = defaultdict(list)
    for body in history.bodies:
        if not body.tenant:
            continue
        spans = lapses(history, history.slot_of(body.worker))
        ended = min([body.ended, *(since for since, until in spans if since < body.ended and body.started < until)])
        if ended > body.started:
            changes[body.tenant] += [(body.started, 1, body), (ended, -1, body)]
    for tenant, moments in changes.items():
        running: list[Body] = []
        for at, change, body in sorted(moments, key=lambda moment: moment[:2]):
            if change < 0:
                running.remove(body)
                continue
            running.append(body)
            if len(running) > PLACES:
                names = ", ".join(f"{body.key} by {body.worker}" for body in running)
                yield f"{len(running)} of {tenant} ran at once at {at - history.began:.3f}, where {PLACES} may: {names}"


# Lateness


def _calm_between(began: float, ended: float, spans: Sequence[Span]) -> float:
    """The longest time between two moments in which nothing was wrong."""
    longest, at = 0.0, began
    for since, until in spans:
        if until <= at:
            continue
        if since >= ended:
            break
        longest, at = max(longest, since - at), until
    return max(longest, ended - at)


def _latenesses(history: History) -> Iterator[tuple[float, str]]:
    """How long each run was due, with nothing wrong, before it started. Not asked of tasks that wait for a place, or for a worker that knows them."""
    spans = merged([(outage.began, outage.ended) for outage in history.outages])
    starts: dict[tuple[str, int], list[Body]] = defaultdict(list)
    for body in sorted(history.bodies, key=lambda body: body.started):
        starts[body.key, body.generation].append(body)
    for ack in history.acks:
        if ack.answer == "created" and ack.task not in ("limited", "paced", "newcomer") and (bodies := starts.get((ack.key, ack.generation))):
            due = max(ack.due, ack.began)
            yield _calm_between(due, bodies[0].started, spans), f"{ack.key} generation {ack.generation}, due at {due - history.began:.3f}"
    for (key, generation), bodies in starts.items():
        for before, after in itertools.pairwise(bodies):
            if before.how == "killed":
                due = before.ended + history.schedule.lease
                yield _calm_between(due, after.started, spans), f"{key} generation {generation}, whose worker died at {before.ended - history.began:.3f}"


def worst_lateness(history: History) -> float:
    """This is how late the latest run was, in seconds in which nothing was wrong."""
    return max((late for late, _ in _latenesses(history)), default=0.0)


def check_late(history: History) -> Iterator[str]:
    """What is due starts soon, once nothing is wrong any more."""
    for late, name in _latenesses(history):
        if late > LATEST:
            yield f"{name}, was {late:.1f} s late with nothing wrong"


def check_early(history: History) -> Iterator[str]:
    """Nothing starts before it is due."""
    due = {(ack.key, ack.generation): ack.due for ack in history.acks if ack.answer == "created"}
    for body in history.bodies:
        early = due.get((body.key, body.generation), 0.0) - body.started
        if early > 0.005:
            yield f"{body.key} generation {body.generation} started {early:.3f} s early"


# What is left


def check_drained(history: History) -> Iterator[str]:
    """Everything is done in the end, and nothing stays in Redis but what expires."""
    for what, count in history.undrained.items():
        yield f"{count} {what} left"
    for key in history.lasting:
        yield f"{key} never expires"
    for key, record in history.records.items():
        if record["state"] in ("scheduled", "queued", "running"):
            yield f"{key} stands as {record}"


def check_waits(history: History) -> Iterator[str]:
    """Whoever waits for a result gets one, or is told why there is none. Who hears of the end late, when the key has been used again, is told that nothing is known any more."""
    by_key = _by_key(history.acks)
    for wait in history.waits:
        acks = by_key.get(wait.key, [])
        is_last = not any(ack.generation > wait.generation or ack.answer == "unknown" for ack in acks)
        if is_last and wait.answer != "result" and any(ack.generation == wait.generation for ack, _ in _expected(acks)):
            yield f"waiting for {wait.key} generation {wait.generation}, which ran to its end, gave {wait.answer}"
        elif wait.answer not in ("result", "ExecutionCancelled", "ExecutionSuperseded") and (is_last or wait.answer != "ResultUnavailable"):
            yield f"waiting for {wait.key} generation {wait.generation} gave {wait.answer}"


def check_processes(history: History) -> Iterator[str]:
    """No worker ends unless it is told to, and then in good order and in time."""
    for process in history.processes:
        if process.how == "died":
            yield f"{process.name} ended by itself, with status {process.status}"
        elif process.how == "told" and process.status == -signal.SIGTERM and process.ended - process.began < STARTS_WITHIN:
            continue  # it was told before it could hear
        elif process.how == "told" and process.status:
            yield f"{process.name} was told to stop, and ended with status {process.status}"
        elif process.took > STOPS_WITHIN:
            yield f"{process.name} was told to stop, and took {process.took:.1f} s"
    yield from history.trouble


CHECKS: dict[str, Callable[[History], Iterator[str]]] = {
    "lost": check_lost,
    "state": check_states,
    "twice at once": check_overlaps,
    "claimed though superseded": check_superseded,
    "unasked": check_unasked,
    "chain": check_chains,
    "attempts": check_attempts,
    "limit": check_limits,
    "late": check_late,
    "early": check_early,
    "left behind": check_drained,
    "waiting": check_waits,
    "process": check_processes,
}


def check(history: History) -> list[Violation]:
    """This gives everything that was violated."""
    return [Violation(name, text) for name, judge in CHECKS.items() for text in judge(history)]
