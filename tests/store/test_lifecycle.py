"""Schedule, claim, settle and cancel, as the rest of docket calls them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from docket._clock import SYSTEM
from docket._store import Store
from docket._store.records import Claimed, Delivery, Order, Ordered, Outcome, Refused, RunId, Settlement
from docket._store.shard import STRIDE, Shard
from docket.errors import InDoubt, InvalidSchedule, NotEntered, ServerError
from docket.states import ExecutionState
from tests._shards import nth, together
from tests.store._interleaving import after_command
from tests.store._work import claim, end, fetch, order, soon, start


async def test_a_run_lives_from_its_order_to_its_end(store: Store):
    ordered = await store.lifecycle.schedule(Order("k", "send", b"args", trace=b"t"))
    [claimed] = await claim(store, await fetch(store))
    assert isinstance(claimed, Claimed)
    state = await store.lifecycle.settle(end(claimed, value=b"result"))

    run = RunId("k", nth(store, 1), 1)
    assert ordered == Ordered(True, run.generation, ExecutionState.QUEUED, claimed.when_us)
    assert claimed == Claimed(
        run, claimed.message_id, "send", b"args", ordered.when_us, claimed.started_us, attempt=1, crashes=0, large_payload=False, trace=b"t"
    )
    assert claimed.started_us >= claimed.when_us
    assert state is ExecutionState.COMPLETED
    record = await store.inspection.load("k")
    assert record is not None
    assert record.outcome == Outcome(ExecutionState.COMPLETED, None, b"result")


async def test_a_live_key_answers_what_stands_there(store: Store):
    when = await soon(store)
    await store.lifecycle.schedule(order(when_us=when))

    assert await store.lifecycle.schedule(order()) == Ordered(False, nth(store, 1), ExecutionState.SCHEDULED, when)


async def test_many_callers_at_once_each_get_their_own_answer(store: Store):
    answers = await asyncio.gather(*(store.lifecycle.schedule(order(f"k{number % 300}")) for number in range(500)))

    assert sum(answer.created for answer in answers) == 300
    shards = [store.shard_of(f"k{number}").index for number in range(300)]
    assert {answer.generation for answer in answers} == {shard * STRIDE + number + 1 for shard in {*shards} for number in range(shards.count(shard))}


@pytest.mark.parametrize("payload", [b"", b"x" * 400_000], ids=["more than 200", "more than a megabyte"])
async def test_many_orders_go_out_in_pieces_and_are_answered_in_order(store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch, payload: bytes):
    pieces: list[int] = []
    script = store.backend.script

    async def counted(name: str, keys: list[str], args: tuple[object, ...]) -> object:
        pieces.append(sum(key.startswith(shard.keys.run("")) for key in keys))
        return await script(name, keys, args)

    monkeypatch.setattr(store.backend, "script", counted)
    number = 5 if payload else 450

    keys = together(store, *(f"k{index}" for index in range(number)))
    answers = await store.lifecycle.schedule_many([order(key, payload) for key in keys])

    assert [answer.generation for answer in answers if isinstance(answer, Ordered)] == list(range(nth(store, 1), nth(store, number + 1)))
    assert pieces == ([2, 2, 1] if payload else [200, 200, 50])


async def test_orders_that_are_refused_together_each_learn_why(store: Store, monkeypatch: pytest.MonkeyPatch):
    async def refuses(name: str, keys: Any, args: Any) -> Any:
        raise ServerError("not like this")

    monkeypatch.setattr(store.backend, "script", refuses)

    answers = await store.lifecycle.schedule_many([order(f"k{number}") for number in range(500)])

    assert {str(answer) for answer in answers} == {"not like this"}


async def test_no_orders_have_no_answers(store: Store):
    assert await store.lifecycle.schedule_many([]) == []


async def test_a_bad_record_fails_its_own_order_alone(store: Store):
    await store.backend.call("SET", store.keys.run("b"), "no record")

    first, second, third = await asyncio.gather(*(store.lifecycle.schedule(order(key)) for key in "abc"), return_exceptions=True)
    many = await store.lifecycle.schedule_many([order("b"), order("d")])

    assert isinstance(first, Ordered)
    assert isinstance(second, ServerError)
    assert isinstance(third, Ordered)
    assert isinstance(many[0], ServerError)
    assert isinstance(many[1], Ordered)
    await store.backend.call("DEL", store.keys.run("b"))


@pytest.mark.parametrize("key", ["", "ümläut", "日本", "with space\nand line", "{other}:runs:x", "a:1", "\0"])
@pytest.mark.parametrize("payload", [b"small", b"x" * 100], ids=["small", "large"])
async def test_any_text_can_be_a_key(store: Store, key: str, payload: bytes):
    claimed = await start(store, order(key, payload))

    assert (claimed.run.key, claimed.payload) == (key, payload)
    await store.lifecycle.settle(end(claimed))
    record = await store.inspection.load(key)
    assert record is not None
    assert record.state is ExecutionState.COMPLETED


@pytest.mark.parametrize("given", [("half a pair \ud800", "f"), ("k", "\udc80")])
def test_what_utf8_cannot_write_is_refused_before_it_joins_a_batch(given: tuple[str, str]):
    key, function = given
    with pytest.raises(InvalidSchedule, match="surrogate"):
        Order(key, function, b"")


async def test_an_errors_text_that_utf8_cannot_write_is_settled_all_the_same(store: Store):
    claimed = await start(store)

    assert await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, error="no file \udc80")) is ExecutionState.FAILED

    record = await store.inspection.load("k")
    assert record is not None
    assert record.error == "no file ?"


async def test_binary_payloads_and_results_come_back_as_they_were(store: Store):
    everything = bytes(range(256))

    claimed = await start(store, order(payload=everything[-40:]))
    assert claimed.payload == everything[-40:]
    await store.lifecycle.settle(end(claimed, value=everything))
    again = await start(store, order(payload=everything))

    assert again.payload == everything
    assert again.large_payload


async def test_a_refused_entry_says_why(store: Store):
    await store.lifecycle.schedule(order())
    deliveries = await fetch(store)
    await store.lifecycle.cancel("k")

    assert await claim(store, deliveries) == [Refused("k", nth(store, 1), "cancelled")]


async def test_an_unreadable_record_is_refused_with_its_error(store: Store):
    await store.backend.call("SET", store.keys.run("k"), "no record")

    [refused] = await claim(store, [Delivery(b"1-1", "k", 1)])

    assert isinstance(refused, Refused)
    assert refused.reason.startswith("error: ")
    assert "WRONGTYPE" in refused.reason
    await store.backend.call("DEL", store.keys.run("k"))


async def test_a_replaced_run_cannot_be_settled(store: Store):
    claimed = await start(store)
    await store.lifecycle.schedule(order(replace=True))

    assert await store.lifecycle.settle(end(claimed)) is None

    record = await store.inspection.load("k")
    assert record is not None
    assert (record.generation, record.state) == (nth(store, 2), ExecutionState.QUEUED)


async def test_an_unreadable_record_fails_its_own_settlement_alone(store: Store):
    bad, good = [await start(store, order(key)) for key in ("bad", "good")]
    await store.backend.call("DEL", store.keys.run("bad"))
    await store.backend.call("SET", store.keys.run("bad"), "no record")

    answers = await asyncio.gather(store.lifecycle.settle(end(bad)), store.lifecycle.settle(end(good)), return_exceptions=True)

    assert isinstance(answers[0], ServerError)
    assert answers[1] is ExecutionState.COMPLETED
    await store.backend.call("DEL", store.keys.run("bad"))


async def test_what_is_settled_goes_out_in_pieces_of_a_megabyte(store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch):
    runs = [await start(store, order(key)) for key in together(store, *(f"k{number}" for number in range(5)))]
    pieces: list[int] = []
    script = store.backend.script

    async def counted(name: str, keys: list[str], args: tuple[object, ...]) -> object:
        pieces.append(sum(key.startswith(shard.keys.run("")) for key in keys))
        return await script(name, keys, args)

    monkeypatch.setattr(store.backend, "script", counted)

    await asyncio.gather(*(store.lifecycle.settle(end(claimed, value=b"x" * 400_000)) for claimed in runs))

    assert pieces == [2, 2, 1]


async def test_a_retry_comes_back_with_its_attempt(store: Store):
    claimed = await start(store, order(payload=b"x" * 100))

    state = await store.lifecycle.settle(replace(end(claimed, ExecutionState.FAILED, error="boom", again="retry"), attempt=2))

    assert state is ExecutionState.QUEUED
    record = await store.inspection.load("k")
    assert record is not None
    assert (record.error, record.outcome, record.attempt) == ("boom", None, 2)
    [again] = await claim(store, await fetch(store))
    assert isinstance(again, Claimed)
    assert (again.run, again.attempt, again.payload) == (RunId("k", nth(store, 1), 2), 2, claimed.payload)


async def test_a_next_link_leaves_its_own_end_behind(store: Store):
    claimed = await start(store)
    when = await soon(store)

    state = await store.lifecycle.settle(replace(end(claimed, again="next", value=b"result"), when_us=when, payload=b"y" * 100))

    assert state is ExecutionState.SCHEDULED
    assert await store.inspection.outcome("k", nth(store, 1)) == Outcome(ExecutionState.COMPLETED, None, b"result")
    record = await store.inspection.load("k")
    assert record is not None
    assert (record.generation, record.when_us, record.payload) == (nth(store, 2), when, b"y" * 100)
    await store.lifecycle.cancel("k")


async def test_a_next_link_without_a_result_leaves_its_end_behind_too(store: Store):
    claimed = await start(store)

    await store.lifecycle.settle(end(claimed, again="next"))

    assert await store.inspection.outcome("k", nth(store, 1)) == Outcome(ExecutionState.COMPLETED)


async def test_a_successor_asked_for_by_the_run_goes_live_when_it_ends(store: Store):
    claimed = await start(store)
    asked = Order("k", "send", b"next", within=claimed.run)

    first = await store.lifecycle.schedule(asked)
    record = await store.inspection.load("k")
    state = await store.lifecycle.settle(end(claimed, wide=True))

    assert first.created
    assert (first.generation, first.state) == (nth(store, 2), ExecutionState.SCHEDULED)
    assert record is not None
    assert (record.generation, record.successor) == (nth(store, 1), nth(store, 2))
    assert state is ExecutionState.QUEUED
    [again] = await claim(store, await fetch(store))
    assert isinstance(again, Claimed)
    assert (again.run.generation, again.payload) == (nth(store, 2), b"next")


async def test_cancel_answers_what_it_met(store: Store):
    assert await store.lifecycle.cancel("k") == (None, 0)

    await store.lifecycle.schedule(order(when_us=await soon(store)))
    assert await store.lifecycle.cancel("k") == (ExecutionState.SCHEDULED, nth(store, 1))

    await start(store)
    assert await store.lifecycle.cancel("k") == (ExecutionState.RUNNING, nth(store, 2))


async def test_with_no_time_to_live_nothing_is_left(docket_name: str, url: str):
    store = await Store.open(docket_name, url, execution_ttl=timedelta(0), clock=SYSTEM)
    await store.delivery.ensure_group()
    claimed = await start(store, order(payload=b"x" * 100))

    assert await store.lifecycle.settle(end(claimed, value=b"y" * 100)) is ExecutionState.COMPLETED

    assert await store.inspection.load("k") is None
    assert await store.lifecycle.settle(end(claimed)) is None
    await store.aclose()


@pytest.mark.parametrize("again", [None, "end"])
async def test_with_no_time_to_live_a_repeat_after_a_lost_reply_answers_what_it_did(
    docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch, again: str | None
):
    store = await Store.open(docket_name, url, execution_ttl=timedelta(0), clock=SYSTEM)
    await store.delivery.ensure_group()
    claimed = await start(store)

    async def the_reply_is_lost() -> None:
        raise InDoubt("lost")

    after_command(monkeypatch, store, "settle", the_reply_is_lost)

    assert await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, again=again)) is ExecutionState.FAILED
    await store.aclose()


async def test_a_store_that_was_left_takes_no_more_work(docket_name: str, url: str):
    store = await Store.open(docket_name, url, execution_ttl=timedelta(0), clock=SYSTEM)
    await store.aclose()

    with pytest.raises(NotEntered):
        await store.lifecycle.schedule(order())
    with pytest.raises(NotEntered):
        await store.lifecycle.settle(Settlement(RunId("k", 1, 1), b"1-1", Outcome(ExecutionState.COMPLETED)))
    await store.aclose()
