"""Each invariant of the fault test, fed a history that keeps it and one that violates it: a check that cannot fail proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults._checks import CHECKS, LAPSES_AFTER, LATEST, RENEWS, STOPS, check, lapses, worst_lateness
from tests.faults._history import Ack, Body, History, Outage, Process, Wait
from tests.faults._schedule import made

LEASE = 1.5
WALL = 1_000_000.0
"""How far the wall clock is ahead of the monotonic one."""


def ack(key: str, at: float, generation: int, verb: str = "add", **more: object) -> Ack:
    given = Ack(key, verb, "steady", at - 0.01, at, at + WALL, "created", generation, due=at)
    return replace(given, **more)


def cancel(key: str, at: float, answer: str = "cancelled") -> Ack:
    return ack(key, at, 0, "cancel", answer=answer, task="", due=0.0)


def body(key: str, generation: int, started: float, ended: float, worker: str = "w0.1", **more: object) -> Body:
    given = Body(key, generation, 1, 1, "steady", worker, started, ended, "done", started + WALL)
    return replace(given, **more)


def history(*seen: Ack | Body | Outage | Wait, records: dict[str, dict[str, str]] | None = None, quiet: float = 50.0) -> History:
    """A history of two workers in which nothing went wrong but what is given."""
    acks = [each for each in seen if isinstance(each, Ack)]
    if records is None:
        records = {each.key: {"generation": str(each.generation), "state": "completed"} for each in acks if each.generation}
    return History(
        made(1, 5.0), 0.0, quiet, 100.0, acks, [each for each in seen if isinstance(each, Body)], [each for each in seen if isinstance(each, Outage)],
        [Process("w0.1", 0, "new", 0.0, 100.0, "told"), Process("w1.1", 1, "old", 0.0, 100.0, "told")], [each for each in seen if isinstance(each, Wait)], records,
    )  # fmt: skip


def violated(seen: History) -> set[str]:
    return {violation.check for violation in check(seen)}


def test_a_history_in_which_all_went_well_violates_nothing():
    seen = history(
        ack("k", 1, 1), body("k", 1, 1.1, 2),
        ack("replaced", 1, 2, due=3), ack("replaced", 2, 3, "replace"), body("replaced", 3, 2.1, 3),
        ack("cancelled", 1, 4, due=3), cancel("cancelled", 2),
        ack("chain-1", 1, 5, task="link"), body("chain-1", 9, 51, 52, task="link"), cancel("chain-1", 53),
        ack("relay", 1, 6, task="relay"), body("relay", 6, 1.1, 2, task="relay", left=1), body("relay", 7, 2.1, 3, task="relay"),
        ack("flaky", 1, 8), body("flaky", 8, 1.1, 2, how="failed"), body("flaky", 8, 2.1, 3, delivery=2, attempt=2),
        ack("limited", 1, 10), body("limited", 10, 1.1, 2, tenant="red"), Wait("limited", 10, "result"),
    )  # fmt: skip

    assert check(seen) == []
    assert worst_lateness(seen) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("check_name", "seen"),
    [
        pytest.param("lost", history(ack("k", 1, 1)), id="never run"),
        pytest.param("lost", history(ack("k", 1, 1), body("k", 1, 1.1, 2, how="killed")), id="killed and not run again"),
        pytest.param("lost", history(ack("k", 1, 1), ack("k", 2, 2, "replace"), body("k", 1, 1.1, 2)), id="the replacement never run"),
        pytest.param("lost", history(ack("k", 1, 1), ack("k", 2, 0, "replace", answer="unknown")), id="neither it nor what may have replaced it"),
        pytest.param("lost", history(ack("k", 1, 1), cancel("k", 2), ack("k", 3, 2), body("k", 1, 1.1, 1.9)), id="asked for again after a cancel, never run"),
        pytest.param(
            "state", history(ack("k", 1, 1), body("k", 1, 1.1, 2), records={"k": {"generation": "1", "state": "failed"}}), id="run, and recorded as failed"
        ),
        pytest.param("state", history(ack("k", 1, 1), body("k", 1, 1.1, 2), records={}), id="no record"),
        pytest.param("twice at once", history(ack("k", 1, 1), body("k", 1, 1.1, 3), body("k", 1, 2, 4, "w1.1")), id="two workers"),
        pytest.param("twice at once", history(ack("k", 1, 1), body("k", 1, 1.1, 3), body("k", 1, 2, 4, delivery=2)), id="one worker, twice"),
        pytest.param(
            "twice at once",
            history(ack("k", 1, 1), body("k", 1, 1.1, 9), body("k", 1, 8, 9, "w1.1"), Outage("stop", 0, 2, 4)),
            id="long after the stop was over",
        ),
        pytest.param(
            "twice at once",
            history(ack("k", 1, 1), body("k", 1, 1.1, 9), body("k", 1, 2.4, 3, "w1.1"), Outage("stop", 0, 2, 4)),
            id="before the lease can have lapsed",
        ),
        pytest.param("claimed though superseded", history(ack("k", 1, 1), cancel("k", 2), body("k", 1, 2.1, 3)), id="after a cancel"),
        pytest.param(
            "claimed though superseded",
            history(ack("k", 1, 1), cancel("k", 2), ack("k", 3, 2), body("k", 1, 2.1, 2.9), body("k", 2, 3.1, 4)),
            id="after a cancel, before another add",
        ),
        pytest.param(
            "claimed though superseded", history(ack("k", 1, 1), ack("k", 2, 2, "replace"), body("k", 1, 2.1, 3), body("k", 2, 3.1, 4)), id="after a replace"
        ),
        pytest.param(
            "claimed though superseded",
            history(ack("chain-1", 1, 1, task="link"), cancel("chain-1", 60), body("chain-1", 9, 61, 62, task="link")),
            id="a link after its chain was cancelled",
        ),
        pytest.param("lost", history(ack("k", 1, 1), cancel("k", 2, "refused")), id="not cancelled, never run"),
        pytest.param("unasked", history(ack("k", 1, 0, answer="refused"), body("k", 7, 2, 3), records={}), id="refused, and run all the same"),
        pytest.param("unasked", history(ack("k", 1, 1), body("k", 1, 1.1, 2), body("k", 2, 2.1, 3)), id="a generation nobody knows"),
        pytest.param(
            "chain", history(ack("chain-1", 1, 1, task="link"), body("chain-1", 9, 40, 41, task="link"), cancel("chain-1", 60)), id="a chain that broke"
        ),
        pytest.param("chain", history(ack("relay", 1, 1, task="relay"), body("relay", 1, 1.1, 2, task="relay", left=2)), id="a relay that was dropped"),
        pytest.param(
            "attempts",
            history(
                ack("k", 1, 1), *(body("k", 1, n, n + 0.5, how="failed", attempt=n, delivery=n) for n in range(1, 6)), body("k", 1, 7, 8, attempt=5, delivery=6)
            ),
            id="tried too often",
        ),
        pytest.param(
            "attempts",
            history(ack("k", 1, 1), body("k", 1, 1.1, 2, how="killed"), body("k", 1, 3, 4, attempt=2, delivery=2)),
            id="a crash that used up an attempt",
        ),
        pytest.param(
            "limit", history(*(ack(f"k{n}", 1, n) for n in (1, 2, 3)), *(body(f"k{n}", n, 1.1, 2, tenant="red") for n in (1, 2, 3))), id="three at once"
        ),
        pytest.param("late", history(ack("k", 1, 1), body("k", 1, 1.1 + LATEST, 20)), id="late"),
        pytest.param("late", history(ack("k", 1, 1), body("k", 1, 3.1 + LATEST, 20), Outage("server", -1, 1, 3)), id="late after an outage"),
        pytest.param(
            "late",
            history(ack("k", 1, 1), body("k", 1, 1.1, 2, how="killed"), body("k", 1, 2.1 + LEASE + LATEST, 20, delivery=2)),
            id="late after its worker died",
        ),
        pytest.param("early", history(ack("k", 1, 1, due=3), body("k", 1, 2.9, 4)), id="early"),
        pytest.param("left behind", replace(history(), undrained={"scheduled": 1}), id="work that is left"),
        pytest.param("left behind", replace(history(), lasting=["{faults}:junk"]), id="a key for ever"),
        pytest.param("left behind", history(records={"k": {"generation": "1", "state": "queued"}}), id="a record that is live"),
        pytest.param("waiting", history(Wait("k", 1, "nothing")), id="somebody waits for ever"),
        pytest.param("waiting", history(ack("k", 1, 1), body("k", 1, 1.1, 2), Wait("k", 1, "ExecutionCancelled")), id="told that it was cancelled when it ran"),
        pytest.param("process", replace(history(), processes=[Process("w0.1", 0, "new", 0, 9, "died", status=1)]), id="a worker that died"),
        pytest.param("process", replace(history(), processes=[Process("w0.1", 0, "new", 0, 9, "told", status=1)]), id="a worker that stopped with an error"),
        pytest.param("process", replace(history(), processes=[Process("w0.1", 0, "new", 0, 90, "told", took=30)]), id="a worker that did not stop"),
        pytest.param("process", replace(history(), processes=[Process("w0.1", 0, "new", 0, 9, "told", status=-15)]), id="a worker that did not listen"),
        pytest.param("process", replace(history(), trouble=["w0.1 logged: ERROR"]), id="an error in a log"),
    ],
)
def test_a_violation_is_found(check_name: str, seen: History):
    assert violated(seen) == {check_name}


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(history(ack("k", 1, 1), cancel("k", 2, "unknown")), id="perhaps cancelled, never run"),
        pytest.param(replace(history(), processes=[Process("w0.1", 0, "new", 0, 1, "told", status=-15)]), id="told to stop before it could hear"),
        pytest.param(history(ack("k", 1, 1), cancel("k", 2, "unknown"), body("k", 1, 2.1, 3)), id="perhaps cancelled, and run"),
        pytest.param(history(ack("k", 1, 1), ack("k", 2, 0, "replace", answer="unknown"), body("k", 2, 2.1, 3)), id="perhaps replaced, and it was"),
        pytest.param(history(ack("k", 1, 0, answer="unknown"), records={}), id="perhaps added, and it was not"),
        pytest.param(history(ack("k", 1, 0, answer="unknown"), body("k", 7, 2, 3)), id="perhaps added, and it was"),
        pytest.param(history(ack("k", 1, 1), cancel("k", 2), body("k", 1, 1.9, 2.5, how="cancelled")), id="claimed before it was cancelled"),
        pytest.param(history(ack("k", 1, 1), cancel("k", 2), ack("k", 2.1, 1, answer="exists")), id="added to a run that is being stopped"),
        pytest.param(
            history(ack("k", 1, 1), body("k", 1, 1.1, 4.2, how="cancelled"), body("k", 1, 3.5, 5, "w1.1", delivery=2), Outage("stop", 0, 2, 4)),
            id="run again while the one that ran it was stopped for longer than its lease",
        ),
        pytest.param(
            history(ack("k", 1, 1), body("k", 1, 1.1, 2, how="killed"), body("k", 1, 4, 5, "w1.1", delivery=2)),
            id="run again after its worker died",
        ),
        pytest.param(
            history(
                ack("k1", 1, 1), ack("k2", 1, 2), ack("k3", 1, 3), body("k1", 1, 1.1, 6, tenant="red"), body("k2", 2, 1.1, 6, "w1.1", tenant="red"),
                body("k3", 3, 4, 6, "w1.1", tenant="red"), Outage("mute", 0, 2, 4),
            ),
            id="a place that lapsed",
        ),
        pytest.param(
            history(ack("k", 1, 1), ack("k", 2, 2), body("k", 1, 1.1, 1.9), body("k", 2, 2.1, 3), Wait("k", 1, "ResultUnavailable")),
            id="the result of a run whose key was used again",
        ),
        pytest.param(history(ack("k", 1, 1), body("k", 1, 18, 20), *(Outage("server", -1, at, at + 1) for at in range(5, 20, 5))), id="never long enough without a fault"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_and_what_is_lawful_is_no_violation(seen: History):
    assert check(seen) == []


def test_a_lease_lapses_only_after_it_could_not_be_renewed_for_long_enough():
    short, long = Outage("stop", 0, 10, 10.2), Outage("stop", 0, 20, 23)

    assert lapses(history(short, long), 0) == [(20 + LAPSES_AFTER * LEASE, 23 + RENEWS + STOPS)]
    assert lapses(history(short, long), 1) == []


def test_outages_that_follow_each_other_at_once_count_as_one():
    seen = history(Outage("cut", -1, 10, 10), Outage("refuse", 0, 10.4, 11, refuses=True), Outage("stall", 0, 12, 12.1))

    assert lapses(seen, 0) == [(10 + LAPSES_AFTER * LEASE, 12.1 + RENEWS + STOPS)]


def test_a_lease_stands_through_what_does_not_touch_it():
    assert lapses(history(Outage("slow", 0, 10, 20), Outage("term", 0, 10, 20), Outage("script flush", -1, 10, 10)), 0) == []


def test_a_blocked_event_loop_learns_late_that_the_lease_is_gone():
    seen = history(Outage("stop", 0, 10, 13), body("k", 1, 12.9, 15, blocks=True))

    assert lapses(seen, 0) == [(10 + LAPSES_AFTER * LEASE, 15 + RENEWS + STOPS)]


def test_every_check_has_been_seen_to_fail():
    [parameters] = [mark.args[1] for mark in test_a_violation_is_found.pytestmark]  # pyright: ignore[reportFunctionMemberAccess]

    assert {parameter.values[0] for parameter in parameters} == set(CHECKS)
