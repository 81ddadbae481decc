"""Limits by the store's own calls: batches, places kept and swept, and replies that were lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from docket._store import Store
from docket._store.records import Admission, Applicant, Claimed, Requirement
from docket.errors import ServerError
from docket.states import ExecutionState
from tests._proxy import Proxy
from tests._waiting import eventually
from tests.store._work import claim, end, fetch, order, start

MINUTE_US = 60_000_000
ONE_PLACE = (Requirement("concurrency", "f", "1"),)
ONE_A_MINUTE = (Requirement("rate", "f", "1", str(MINUTE_US)),)
ADMITTED, PARKED = Admission("admitted"), Admission("parked")


def applicant(claimed: Claimed, requirements: Sequence[Requirement] = ONE_PLACE, lease_us: int = MINUTE_US) -> Applicant:
    return Applicant(claimed.run, claimed.message_id, tuple(requirements), lease_us)


async def started(store: Store, *keys: str) -> list[Claimed]:
    return [await start(store, order(key)) for key in keys]


async def finish(store: Store, *runs: Claimed) -> None:
    """This ends runs that have a place, and whatever is let in for that."""
    for run in runs:
        await store.lifecycle.settle(replace(end(run), limit="f"))
    while entries := await fetch(store):
        for claimed in await claim(store, entries):
            if isinstance(claimed, Claimed):
                await store.lifecycle.settle(replace(end(claimed), limit="f"))


async def holders(store: Store) -> dict[bytes, float]:
    flat = await store.backend.call("ZRANGE", store.keys.concurrency("f")[0], 0, -1, "WITHSCORES")
    return {member: float(score) for member, score in zip(flat[::2], flat[1::2], strict=True)}


async def test_what_applies_at_the_same_moment_is_one_call_and_each_has_its_answer(store: Store):
    runs = await started(store, "a", "b", "c", "d")

    admissions = await asyncio.gather(
        store.limits.admit(applicant(runs[0])),
        store.limits.admit(applicant(runs[1])),
        store.limits.admit(applicant(runs[2], ONE_A_MINUTE)),
        store.limits.admit(applicant(runs[3], (Requirement("rate", "f", "1", str(MINUTE_US), "1"), *ONE_PLACE))),
    )

    assert admissions == [ADMITTED, PARKED, ADMITTED, Admission("dropped", "rate")]
    assert await store.delivery.contended() == 1
    await finish(store, runs[0])
    assert await store.delivery.contended() == 0


async def test_a_run_that_is_to_come_later_learns_when(store: Store):
    first, second = await started(store, "a", "b")
    await store.limits.admit(applicant(first, ONE_A_MINUTE))

    admission = await store.limits.admit(applicant(second, ONE_A_MINUTE))

    _, wait, now = await store.delivery.move_due([])
    assert admission.word == "later"
    assert wait is not None and int(admission.detail) == now + wait
    await store.lifecycle.cancel("b")


async def test_more_than_one_batch_of_applicants(store: Store):
    runs: list[Claimed] = []
    for number in range(250):
        await store.lifecycle.schedule(order(f"k{number}"))
    while entries := await fetch(store, 100):
        runs += [claimed for claimed in await claim(store, entries) if isinstance(claimed, Claimed)]

    admissions = await asyncio.gather(*(store.limits.admit(applicant(run, (Requirement("concurrency", "f", "225"),))) for run in runs))

    assert admissions == [ADMITTED] * 225 + [PARKED] * 25
    await store.limits.hold([("f", store.limits.holder("f", run.run)) for run in runs[:225]], 2 * MINUTE_US)
    _, _, now = await store.delivery.move_due([])
    assert min((await holders(store)).values()) > now + MINUTE_US
    await asyncio.gather(*(store.lifecycle.settle(replace(end(run), limit="f")) for run in runs[:225]))
    await finish(store)


async def test_a_refusal_by_the_server_is_the_applicants_own(store: Store):
    one, other = await started(store, "a", "b")
    await store.backend.call("SET", store.keys.limit("cooldown", "f"), "no hash", "PX", 60_000)

    spoilt = store.limits.admit(applicant(one, (Requirement("cooldown", "f", "1000"),)))
    fine = store.limits.admit(applicant(other))
    answers = await asyncio.gather(spoilt, fine, return_exceptions=True)

    assert isinstance(answers[0], ServerError) and "WRONGTYPE" in str(answers[0])
    assert answers[1] == ADMITTED


async def test_places_are_swept_when_nobody_has_looked_since(store: Store):
    one, other = await started(store, "a", "b")
    await store.limits.admit(applicant(one, lease_us=30_000))
    await store.limits.admit(applicant(other))
    _, _, now = await store.delivery.move_due([])

    assert await store.shard_of("f").limits.sweep(now - MINUTE_US) == 0  # somebody has looked since

    async def is_let_in() -> bool:
        assert await store.shard_of("f").limits.sweep(now + MINUTE_US) in (0, 1)
        return not await store.delivery.contended()

    await eventually(is_let_in)
    assert list(await holders(store)) == [b"%d" % other.run.generation]
    assert await store.shard_of("f").limits.sweep(now + MINUTE_US) == 0
    await finish(store)


async def test_an_answer_that_was_lost_is_the_same_when_asked_again(far_store: Store, proxy: Proxy):
    one, other = await started(far_store, "a", "b")
    proxy.lose_reply_to = b"EVALSHA"
    assert await far_store.limits.admit(applicant(one, (*ONE_PLACE, *ONE_A_MINUTE))) == ADMITTED
    assert proxy.lost == 1

    proxy.lose_again = 1
    assert await far_store.limits.admit(applicant(other)) == Admission("superseded")  # it was parked, and is nobody's

    assert proxy.lost == 2
    record = await far_store.inspection.load("b")
    assert record is not None and record.state is ExecutionState.QUEUED
    await finish(far_store, one)


async def test_work_that_waits_for_a_place_is_work_for_who_knows_it(store: Store):
    one, other = await started(store, "a", "b")
    await store.limits.admit(applicant(one))
    await store.limits.admit(applicant(other))
    await store.lifecycle.settle(end(one))  # the place stays taken

    assert await store.delivery.depth() == (0, 0)
    assert await store.delivery.work_for({"send"}) == (True, set())
    assert await store.delivery.work_for({"other"}) == (False, {"send"})

    await store.limits.hold([("f", store.limits.holder("f", one.run))], -1)
    await store.shard_of("f").limits.sweep(2**53)
    await finish(store)


@pytest.mark.parametrize("how", ["cancelled", "replaced"])
async def test_who_is_gone_by_the_time_it_is_let_in_leaves_the_place_to_the_next(store: Store, how: str):
    a, b, c = await started(store, "a", "b", "c")
    for run in (a, b, c):
        await store.limits.admit(applicant(run))
    if how == "cancelled":
        await store.lifecycle.cancel("b")
    else:
        await store.lifecycle.schedule(order("b", replace=True))

    await store.lifecycle.settle(replace(end(a), limit="f"))
    for _ in range(2):
        await claim(store, await fetch(store))

    assert list(await holders(store)) == [b"%d" % c.run.generation]
    record = await store.inspection.load("c")
    assert record is not None and record.state is ExecutionState.RUNNING
    await store.lifecycle.cancel("b")
