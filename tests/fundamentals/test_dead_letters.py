"""Dead letters: what failed for good is kept with all that is known of it, and can be run again or thrown away."""

from __future__ import annotations

import logging
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from docket import Cancel, Discard, Docket, Perpetual, Retry, Worker
from docket.docket import DeadLetter
from docket.errors import InvalidOption, PayloadError, UnknownTask, WrongState
from docket.states import Disposition, ExecutionState
from tests._shards import only_shard
from tests._waiting import eventually
from tests.worker._hands import at_work

LATER = timedelta(hours=1)
works = False


@pytest.fixture(autouse=True)
def broken() -> None:
    global works
    works = False


async def send(number: int, *, to: str = "nobody") -> str:
    if not works:
        raise RuntimeError(f"no line for {number}")
    return f"{number} to {to}"


async def letters(docket: Docket, **wanted: Any) -> list[DeadLetter]:
    return [letter async for letter in docket.dead_letters(**wanted)]


async def one(docket: Docket) -> DeadLetter:
    [letter] = await letters(docket)
    return letter


async def failed(docket: Docket, worker: Worker, *keys: str) -> None:
    for key in keys:
        await docket.add(send, key=key)(7, to="Jane")
    await worker.run_until_finished()


async def test_what_is_known_of_a_failure_is_kept(docket: Docket, worker: Worker):
    async def fails(number: int, retry: Retry = Retry(attempts=3)) -> None:
        raise RuntimeError(f"no {retry.attempt}")

    execution = await docket.add(fails, key="k")(7)
    await worker.run_until_finished()

    letter = await one(docket)
    assert (letter.id, letter.key, letter.task, letter.reason, letter.error) == (str(execution.generation), "k", "fails", "failed", "RuntimeError: no 3")
    assert (letter.args, letter.kwargs, letter.trace_id, letter.when) == ((7,), {}, None, letter.when)
    assert letter.payload_bytes > 0
    assert (letter.attempt, letter.call_repr()) == (3, "fails(...){k}")
    assert letter.docket is docket
    assert [(attempt.attempt, attempt.error, attempt.worker) for attempt in letter.attempts] == [
        (number, f"RuntimeError: no {number}", worker.name) for number in (1, 2, 3)
    ]
    assert "in fails" in letter.attempts[0].traceback
    assert letter.attempts[0].started_at <= letter.attempts[0].ended_at
    assert letter.attempts[0].started_at <= letter.attempts[-1].started_at <= letter.died_at
    assert repr(letter) == f"<DeadLetter {letter.id}: fails{{k}} failed>"
    await letter.discard()


async def test_what_ends_otherwise_is_no_dead_letter(docket: Docket, worker: Worker):
    times = 0

    async def fine(retry: Retry = Retry(attempts=2)) -> None:
        nonlocal times
        times += 1
        if times == 1:
            raise RuntimeError("once")

    async def stops() -> None:
        raise Cancel

    await docket.add(fine)()
    await docket.add(stops)()
    await worker.run_until_finished()

    assert await letters(docket) == []


async def test_a_failed_link_of_a_chain_is_one_and_so_is_what_was_discarded(docket: Docket, worker: Worker):
    @docket.task
    @Perpetual(every=timedelta(0))
    async def beat() -> None:
        raise RuntimeError("missed")

    async def pointless() -> None:
        raise Discard("no use")

    await beat.schedule(key="beat")
    await worker.run_at_most({"beat": 2})
    await docket.add(pointless, key="p")()
    await worker.run_until_finished()

    assert [(letter.key, letter.reason) for letter in await letters(docket)] == [("p", "discarded"), ("beat", "failed"), ("beat", "failed")]


async def test_a_letter_runs_again(docket: Docket, worker: Worker):
    global works
    await failed(docket, worker, "k")
    works = True

    execution = await (await one(docket)).retry()
    await worker.run_until_finished()

    assert await execution.get_result() == "7 to Jane"
    assert execution.disposition is Disposition.SCHEDULED
    assert await letters(docket) == []


async def test_it_may_run_later_and_with_other_arguments(docket: Docket, worker: Worker):
    global works
    await failed(docket, worker, "k")
    works = True

    later = await (await one(docket)).retry(when=LATER)
    assert later.state is ExecutionState.SCHEDULED
    await docket.cancel("k")

    works = False
    await failed(docket, worker, "k")
    works = True
    execution = await (await one(docket)).retry(kwargs={"to": "John"})
    await worker.run_until_finished()
    assert await execution.get_result() == "7 to John"

    works = False
    await failed(docket, worker, "k")
    works = True
    execution = await (await one(docket)).retry(args=[8], kwargs={})
    await worker.run_until_finished()
    assert await execution.get_result() == "8 to nobody"


async def test_a_key_in_use_keeps_its_letter(docket: Docket, worker: Worker):
    await failed(docket, worker, "k")
    await docket.add(send, when=LATER, key="k")(1)

    with pytest.raises(WrongState, match=r"send\{k\} cannot be run again: a run of that key is scheduled"):
        await (await one(docket)).retry()

    assert len(await letters(docket)) == 1
    await docket.cancel("k")


async def test_many_run_again_spread_over_time(docket: Docket, worker: Worker):
    global works
    await failed(docket, worker, "a", "b", "c", "busy")
    await docket.add(send, when=LATER, key="busy")(1)
    works = True

    executions = await docket.retry_dead_letters(rate=100, when=timedelta(milliseconds=10))

    moments = sorted(execution.when for execution in executions)
    assert [after - before for before, after in pairwise(moments)] == [timedelta(milliseconds=10)] * 2
    assert [letter.key for letter in await letters(docket)] == ["busy"]
    await docket.cancel("busy")
    await worker.run_until_finished()
    with pytest.raises(InvalidOption, match="rate is 0"):
        await docket.retry_dead_letters(rate=0)


async def test_a_process_without_the_task_can_run_it_again(docket: Docket, docket_name: str, url: str, worker: Worker):
    global works
    await failed(docket, worker, "k")
    works = True

    async with Docket(docket_name, url) as elsewhere:
        execution = await (await one(elsewhere)).retry()
    await worker.run_until_finished()

    found = await docket.get_execution(execution.key)
    assert found is not None
    assert await found.get_result() == "7 to Jane"


async def test_letters_are_found_by_task_key_and_reason_a_page_at_a_time(docket: Docket, worker: Worker):
    async def other() -> None:
        raise Discard("no use")

    await failed(docket, worker, "a-1", "a-2", "b-1")
    await docket.add(other, key="a-3")()
    await worker.run_until_finished()

    assert [letter.key for letter in await letters(docket)] == ["a-3", *[letter.key for letter in await letters(docket, task="send")]]
    assert {letter.key for letter in await letters(docket, key_prefix="a-")} == {"a-1", "a-2", "a-3"}
    assert [letter.key for letter in await letters(docket, reason="discarded")] == ["a-3"]
    assert len(await letters(docket, limit=2)) == 2
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await docket.dead_letters().page(cursor, size=1)
        found += [letter.key for letter in page.letters]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(found) == ["a-1", "a-2", "a-3", "b-1"]
    with pytest.raises(InvalidOption, match="is no cursor"):
        await docket.dead_letters().page("nonsense")
    with pytest.raises(InvalidOption, match="limit is 0"):
        docket.dead_letters(limit=0)


async def test_what_cannot_be_decoded_keeps_its_payload_and_stops_nothing(docket: Docket, worker: Worker):
    async def fine() -> str:
        return "fine"

    docket.register(send)
    await docket.add(send, key="k")(1)
    async with docket.redis() as redis:
        await redis.execute_command("HSET", docket.store.keys.run("k"), "payload", "garbage")
    behind = await docket.add(fine)()
    await worker.run_until_finished()

    assert await behind.get_result() == "fine"
    letter = await one(docket)
    assert (letter.reason, letter.payload_bytes) == ("undecodable", 7)
    with pytest.raises(PayloadError):
        _ = letter.args
    execution = await letter.retry(args=[1], kwargs={"to": "x"})  # with arguments that can be read
    await docket.cancel(execution.key)


async def test_arguments_that_no_longer_bind_end_it_whatever_its_retries(docket: Docket, docket_name: str, url: str, worker: Worker):
    async def changed(number: int, retry: Retry = Retry.forever()) -> None: ...

    docket.register(changed)
    async with Docket(docket_name, url) as producer:
        execution = await producer.add("changed", key="k")(1, colour="red")
        behind = await producer.add("changed")(1)
        await worker.run_until_finished()
        await behind.get_result()
        with pytest.raises(Exception, match="changed.* cannot be called like that"):
            await execution.get_result()

    assert (await one(docket)).reason == "arguments"


async def test_a_type_error_of_the_body_is_a_failure_like_any_other(docket: Docket, worker: Worker):
    async def confused(number: int, retry: Retry = Retry(attempts=2)) -> None:
        raise TypeError("not this kind")

    await docket.add(confused, key="k")(1)
    await worker.run_until_finished()

    letter = await one(docket)
    assert (letter.reason, letter.error, len(letter.attempts)) == ("failed", "TypeError: not this kind", 2)


async def test_a_task_that_stays_unknown_ends_with_a_letter(docket_name: str, url: str, caplog: pytest.LogCaptureFixture):
    async with Docket(docket_name, url, unknown_task_limit=timedelta(milliseconds=300)) as docket:
        execution = await docket.add("nobody_knows", key="k")(1)
        async with at_work(docket):
            with pytest.raises(UnknownTask, match="no worker has known the task 'nobody_knows' for 0:00:00.300000"):
                await execution.get_result(timeout=timedelta(seconds=20))

        letter = await one(docket)
        assert (letter.reason, letter.task, letter.args, letter.attempts[0].attempt) == ("unknown", "nobody_knows", (1,), 1)


async def test_without_retention_there_are_none(docket_name: str, url: str):
    async with Docket(docket_name, url, dead_letter_retention=timedelta(0)) as docket, Worker(docket) as worker:
        await failed(docket, worker, "k")

        assert await letters(docket) == []
        async with docket.redis() as redis:
            assert await redis.execute_command("EXISTS", docket.key("dead")) == 0


async def test_the_oldest_go_when_there_are_too_many(docket_name: str, url: str):
    async with Docket(docket_name, url, dead_letter_count=2) as docket, Worker(docket) as worker:
        await failed(docket, worker, "a")
        await failed(docket, worker, "b")
        await failed(docket, worker, "c")

        assert await only_shard(docket.store).letters.trim(docket.clock.now_us()) == 1
        assert [letter.key for letter in await letters(docket)] == ["c", "b"]


async def test_the_hook_is_told_of_each(docket_name: str, url: str, caplog: pytest.LogCaptureFixture):
    told: list[str] = []

    async def tell(letter: DeadLetter) -> None:
        told.append(f"{letter.key} {letter.error}")
        if letter.key == "b":
            raise ValueError("the hook's own")

    async with Docket(docket_name, url, on_dead=tell) as docket, Worker(docket) as worker:
        await failed(docket, worker, "a")
        with caplog.at_level(logging.ERROR, logger="docket.worker"):
            await failed(docket, worker, "b")

    assert told == ["a RuntimeError: no line for 7", "b RuntimeError: no line for 7"]
    assert "on_dead failed for b" in caplog.text


async def test_a_plain_function_can_be_the_hook(docket_name: str, url: str):
    told: list[str] = []
    async with Docket(docket_name, url, on_dead=lambda letter: told.append(letter.key)) as docket, Worker(docket) as worker:
        await failed(docket, worker, "a")
    assert told == ["a"]


def test_the_hook_is_a_function():
    with pytest.raises(InvalidOption, match="on_dead is 'page me'"):
        Docket(on_dead="page me")  # pyright: ignore[reportArgumentType] - bad on purpose


async def test_only_the_last_twenty_attempts_are_kept(docket: Docket, worker: Worker):
    async def fails(retry: Retry = Retry(attempts=25)) -> None:
        raise RuntimeError("no")

    await docket.add(fails)()
    await worker.run_until_finished()

    assert [attempt.attempt for attempt in (await one(docket)).attempts] == list(range(6, 26))


async def test_a_worker_throws_away_what_is_too_much(docket_name: str, url: str):
    async with Docket(docket_name, url, dead_letter_count=1) as docket:
        async with Worker(docket) as worker:
            await failed(docket, worker, "a", "b", "c")
        async with at_work(docket):
            await eventually(lambda: _is_alone(docket))


async def _is_alone(docket: Docket) -> bool:
    return len((await docket.dead_letters().page()).letters) == 1
