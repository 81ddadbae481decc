"""Generations that are taken before the runs are there, for what is sealed for one generation."""

from __future__ import annotations

from typing import Any

import pytest

from docket._store import Store, lifecycle
from docket._store.records import Change, Order, Ordered, Outcome, Revival, Settlement
from docket.errors import RedisUnavailable, ServerError
from docket.states import ExecutionState
from tests.store._interleaving import after_command
from tests.store._work import end, order, soon, start


def sealed(key: str = "k", *, when_us: int | None = None, replace: bool = False, payload: bytes = b"args") -> Order:
    """This is an order whose payload says which generation it is for."""
    return Order(key, "send", payload, when_us, replace, seal=lambda generation: payload + b" of %d" % generation)


async def payload_of(store: Store, key: str = "k") -> bytes | None:
    record = await store.inspection.load(key)
    assert record is not None
    return record.payload


@pytest.mark.leaves_keys("the work stays undone")
async def test_each_of_a_batch_is_sealed_for_its_own_generation(store: Store):
    later = await soon(store)

    answers = await store.lifecycle.schedule_many([sealed("a", when_us=later), order("b", when_us=later), sealed("c", when_us=later, payload=b"x" * 100)])

    generations = {key: answer.generation for key, answer in zip("abc", answers, strict=True) if not isinstance(answer, Exception)}
    assert len(set(generations.values())) == 3
    assert await payload_of(store, "a") == b"args of %d" % generations["a"]
    assert await payload_of(store, "b") == b"args"
    assert await payload_of(store, "c") == b"x" * 100 + b" of %d" % generations["c"]


@pytest.mark.leaves_keys("the work stays undone")
async def test_who_took_a_number_and_came_second_takes_another(store: Store, monkeypatch: pytest.MonkeyPatch):
    later = await soon(store)
    others: list[int] = []

    async def another_replaces_it() -> None:
        others.append((await store.lifecycle.schedule_many([order(replace=True, when_us=later)]))[0].generation)  # type: ignore[union-attr] # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownArgumentType]

    after_command(monkeypatch, store, "number", another_replaces_it)
    answer = await store.lifecycle.schedule(sealed(replace=True, when_us=later))

    assert answer.created
    assert answer.generation > others[0]
    assert await payload_of(store) == b"args of %d" % answer.generation


@pytest.mark.leaves_keys("the work stays undone")
async def test_an_outage_while_a_number_is_taken_anew_fails_that_order_alone(store: Store, monkeypatch: pytest.MonkeyPatch):
    later = await soon(store)
    script = store.backend.script

    async def replaced_and_then_away() -> None:
        await store.lifecycle.schedule_many([order("b", replace=True, when_us=later)])

        async def away(name: str, keys: Any, args: Any) -> Any:
            reply = await script(name, keys, args)
            if name == "schedule":
                monkeypatch.setattr(store.backend, "script", gone)
            return reply

        async def gone(name: str, keys: Any, args: Any) -> Any:
            raise RedisUnavailable("away")

        monkeypatch.setattr(store.backend, "script", away)

    monkeypatch.setattr(lifecycle, "SCHEDULE_PATIENCE", 0.0)
    after_command(monkeypatch, store, "number", replaced_and_then_away)
    made, late = await store.lifecycle.schedule_many([order("a", when_us=later), sealed("b", replace=True, when_us=later)])

    assert isinstance(made, Ordered) and made.created
    assert isinstance(late, RedisUnavailable)


AHEAD = str(2**50)
"""A generation that no counter reaches."""


@pytest.mark.leaves_keys("the record is the test's")
async def test_a_number_that_the_docket_never_gave_out_holds_up_nobody(store: Store):
    await store.backend.call("HSET", store.keys.run("k"), "state", "completed", "generation", AHEAD)

    refused, made = await store.lifecycle.schedule_many([sealed(), sealed("b", when_us=await soon(store))])

    assert isinstance(refused, ServerError) and "a number that this docket has not reached" in str(refused)
    assert isinstance(made, Ordered) and made.created


@pytest.mark.leaves_keys("the record is the test's")
async def test_nor_does_it_hold_up_who_runs_a_dead_letter_again(store: Store):
    claimed = await start(store)
    await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, failure=b"{}"))
    await store.backend.call("HSET", store.keys.run("k"), "generation", AHEAD)

    with pytest.raises(ServerError, match="a number that this docket has not reached"):
        await store.lifecycle.revive(Revival("k", claimed.run.generation, payload=b"args", seal=lambda _: b"args"))


@pytest.mark.leaves_keys("the work stays undone")
async def test_a_next_link_is_sealed_for_the_generation_it_gets(store: Store):
    claimed = await start(store)
    settlement = Settlement(claimed.run, claimed.message_id, Outcome(ExecutionState.COMPLETED), again="next", when_us=await soon(store), payload=b"args")
    settlement.seal = lambda generation: b"args of %d" % generation

    assert await store.lifecycle.settle(settlement) is ExecutionState.SCHEDULED

    record = await store.inspection.load("k")
    assert record is not None
    assert record.payload == b"args of %d" % record.generation


@pytest.mark.leaves_keys("the work stays undone")
async def test_a_run_that_runs_again_is_sealed_for_its_new_generation(store: Store):
    claimed = await start(store)
    await store.lifecycle.settle(end(claimed, ExecutionState.FAILED))

    answer = await store.lifecycle.retry(Change("k", claimed.run.generation, seal=lambda generation: b"args of %d" % generation))

    assert answer.generation > claimed.run.generation
    assert await payload_of(store) == b"args of %d" % answer.generation
