"""Moving one run, running it again, cancelling it: through lost replies, and while it moves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from docket._store import Store
from docket._store.records import Applicant, Change, Changed, Claimed, Requirement
from docket.states import ExecutionState
from tests._proxy import Proxy
from tests._shards import nth
from tests.store._interleaving import after_command
from tests.store._work import claim, end, fetch, order, soon, start

SCHEDULED, QUEUED, FAILED = ExecutionState.SCHEDULED, ExecutionState.QUEUED, ExecutionState.FAILED
ONE_AT_A_TIME = (Requirement("concurrency", "x", "1"),)
MINUTE_US = 60_000_000


async def in_line(store: Store) -> tuple[Claimed, int]:
    """This has a run `a` hold the only place, which is given, and `b` wait in line, of which the generation is."""
    await store.lifecycle.schedule_many([order("a"), order("b")])
    claims = {claimed.run.key: claimed for claimed in await claim(store, await fetch(store)) if isinstance(claimed, Claimed)}
    for claimed in (claims["a"], claims["b"]):
        await store.limits.admit(Applicant(claimed.run, claimed.message_id, ONE_AT_A_TIME, MINUTE_US))
    return claims["a"], claims["b"].run.generation


async def test_a_run_is_moved_and_made_ready(store: Store):
    await store.lifecycle.schedule(order())
    later = await soon(store)

    assert await store.lifecycle.reschedule(Change("k", nth(store, 1), later)) == Changed("done", SCHEDULED, nth(store, 1), later)
    promoted = await store.lifecycle.reschedule(Change("k", nth(store, 1)))

    assert (promoted.word, promoted.state) == ("done", QUEUED)
    assert promoted.when_us < later


async def test_a_run_in_line_is_found_there_and_moved(store: Store):
    _, waiter = await in_line(store)

    changed = await store.lifecycle.reschedule(Change("b", waiter, await soon(store)))

    assert changed.state is SCHEDULED
    assert await store.delivery.contended() == 0


async def test_a_run_that_is_let_in_while_it_is_looked_for_gives_its_place_up(store: Store, monkeypatch: pytest.MonkeyPatch):
    holder, waiter = await in_line(store)

    async def a_place_frees() -> None:
        await store.lifecycle.settle(replace(end(holder), limit="x"))

    after_command(monkeypatch, store, "reschedule", a_place_frees)

    changed = await store.lifecycle.reschedule(Change("b", waiter, await soon(store)))

    assert changed.state is SCHEDULED
    assert await store.backend.call("ZCARD", store.keys.concurrency("x")[0]) == 0
    assert not any(isinstance(answer, Claimed) for answer in await claim(store, await fetch(store)))


async def test_what_cannot_be_done_is_told_with_the_state_that_was_found(store: Store):
    assert await store.lifecycle.reschedule(Change("k", nth(store, 1), await soon(store))) == Changed("gone")
    claimed = await start(store)

    assert await store.lifecycle.reschedule(Change("k", nth(store, 1), await soon(store))) == Changed("wrong", ExecutionState.RUNNING)
    assert await store.lifecycle.retry(Change("k", nth(store, 1))) == Changed("wrong", ExecutionState.RUNNING)
    assert await store.lifecycle.retry(Change("k", nth(store, 7))) == Changed("superseded")

    await store.lifecycle.settle(end(claimed, FAILED, error="why"))
    again = await store.lifecycle.retry(Change("k", nth(store, 1)))
    assert (again.word, again.state, again.generation) == ("done", QUEUED, nth(store, 2))


@pytest.mark.parametrize("promoted", [True, False])
async def test_a_move_whose_reply_was_lost_is_answered_with_what_stands(far_store: Store, proxy: Proxy, promoted: bool):
    await far_store.lifecycle.schedule(order(when_us=await soon(far_store)))
    later = await soon(far_store)
    proxy.lose_reply_to = b"EVALSHA"

    changed = await far_store.lifecycle.reschedule(Change("k", 1, None if promoted else later))

    assert proxy.lost == 1
    assert changed.state is (QUEUED if promoted else SCHEDULED)
    assert await far_store.delivery.depth() == ((1, 0) if promoted else (0, 1))


async def test_another_try_whose_reply_was_lost_is_made_once(far_store: Store, proxy: Proxy):
    claimed = await start(far_store)
    await far_store.lifecycle.settle(end(claimed, FAILED))
    proxy.lose_reply_to = b"EVALSHA"

    again = await far_store.lifecycle.retry(Change("k", 1))

    assert proxy.lost == 1
    assert (again.word, again.generation) == ("done", 2)
    assert await far_store.delivery.depth() == (1, 0)


async def test_a_cancellation_whose_reply_was_lost_leaves_the_run_cancelled(far_store: Store, proxy: Proxy):
    await far_store.lifecycle.schedule(order())
    proxy.lose_reply_to = b"EVALSHA"

    await far_store.lifecycle.cancel("k", 1)

    record = await far_store.inspection.load("k")
    assert record is not None
    assert record.state is ExecutionState.CANCELLED
