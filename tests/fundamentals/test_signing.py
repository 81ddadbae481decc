"""Signed dockets: what was not signed for a run, by somebody with a key, is neither decoded nor run, and no reader takes it for a result."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from docket import CurrentDocket, Docket, Execution, ExecutionState, Perpetual, Retry, Worker
from docket.errors import PayloadRefused, ResultUnavailable
from tests._waiting import eventually

OLD, NEW, OTHER = "an old signing key 0", "a new signing key 1", "somebody else's key"
LATER = timedelta(hours=1)

detonated: list[str] = []


class Bomb:
    """This says that it was decoded."""

    def __reduce__(self) -> Any:
        return detonated.append, ("boom",)


@pytest.fixture(autouse=True)
def unarmed() -> None:
    detonated.clear()


@pytest.fixture
async def docket(docket_name: str, url: str) -> AsyncIterator[Docket]:
    """This is an entered docket that signs."""
    async with Docket(docket_name, url, signing_keys=[NEW]) as docket:
        yield docket


async def put(docket: Docket, key: str, **fields: Any) -> None:
    """This is what somebody who may write to Redis does: they change the record of a run."""
    for name, value in fields.items():
        await docket.store.backend.call("HSET", docket.store.keys.run(key), name, value)


async def field(docket: Docket, key: str, name: str) -> bytes:
    return await docket.store.backend.call("HGET", docket.store.keys.run(key), name)


async def refusal(execution: Execution[Any]) -> str:
    await execution.sync()
    assert execution.state is ExecutionState.FAILED
    with pytest.raises(PayloadRefused) as caught:
        await execution.get_result()
    return str(caught.value)


async def test_what_is_signed_runs_and_its_result_is_believed(docket: Docket, worker: Worker):
    @docket.task
    async def add(left: int, right: int = 0) -> int:
        return left + right

    @docket.task
    async def echo(text: str) -> str:
        return text

    small, large = await add.schedule(1, right=2), await echo.schedule("x" * 500)
    await worker.run_until_finished()

    assert await small.get_result() == 3
    assert await large.get_result() == "x" * 500


async def test_a_task_that_gives_nothing_ends_signed_too(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule(key="k")
    await worker.run_until_finished()
    assert await execution.get_result() is None

    await docket.store.backend.call("HDEL", docket.store.keys.run("k"), "outcome")
    with pytest.raises(PayloadRefused, match="not signed"):
        await execution.get_result()


async def test_what_is_not_signed_is_refused_before_it_is_decoded(docket: Docket, worker: Worker):
    ran: list[str] = []

    @docket.task
    async def job(word: str) -> None:
        ran.append(word)

    bad, good = await job.schedule("bad", key="bad", when=LATER), await job.schedule("good")
    await put(docket, "bad", payload=pickle.dumps(((Bomb(),), {})))
    await bad.promote()
    await worker.run_until_finished()

    assert "is not signed" in await refusal(bad)
    assert (detonated, ran) == ([], ["good"])
    assert await good.get_result() is None


@pytest.mark.parametrize("large", [False, True])
async def test_an_altered_payload_is_refused(docket: Docket, worker: Worker, large: bool):
    @docket.task
    async def job(word: str) -> None: ...

    execution = await job.schedule("x" * 500 if large else "x", key="k", when=LATER)
    if large:
        payload = await docket.store.backend.call("GET", docket.store.keys.payload("k"))
        await docket.store.backend.call("SET", docket.store.keys.payload("k"), payload.replace(b"xxx", b"yyy"))
    else:
        await put(docket, "k", large="", payload=b"")
        await docket.store.backend.call("HDEL", docket.store.keys.run("k"), "large")
        await put(docket, "k", payload=(await signed_for(docket, "k", execution.generation))[:-1] + b"!")
    await execution.promote()
    await worker.run_until_finished()

    assert "is not signed for this run" in await refusal(execution)


async def signed_for(docket: Docket, key: str, generation: int) -> bytes:
    seal = docket.payloads.sealing("job", key, b"\x80a payload")
    assert seal is not None
    return seal(generation)


async def taken(docket: Docket, key: str) -> bytes:
    return await field(docket, key, "payload") or await docket.store.backend.call("GET", docket.store.keys.payload(key))


async def moved(docket: Docket, execution: Execution[Any], payload: bytes) -> None:
    """This puts a payload into another run's place."""
    await docket.store.backend.call("HDEL", docket.store.keys.run(execution.key), "large")
    await put(docket, execution.key, payload=payload)
    await execution.promote()


async def test_a_payload_cannot_be_replayed_under_another_key(docket: Docket, worker: Worker):
    @docket.task
    async def pay(amount: int) -> None: ...

    await pay.schedule(1000, key="rich", when=LATER)
    poor = await pay.schedule(1, key="poor", when=LATER)
    await moved(docket, poor, await taken(docket, "rich"))
    await docket.cancel("rich")
    await worker.run_until_finished()

    assert "moved here from another run" in await refusal(poor)


async def test_nor_for_another_task(docket: Docket, worker: Worker):
    @docket.task
    async def show(account: int) -> None: ...

    @docket.task
    async def close(account: int) -> None: ...

    execution = await show.schedule(1, key="k", when=LATER)
    await put(docket, "k", function="close")
    await execution.promote()
    await worker.run_until_finished()

    found = await docket.get_execution("k")
    assert found is not None
    assert found.function_name == "close"
    assert "is not signed for this run" in await refusal(found)


async def test_nor_on_another_docket(docket: Docket, docket_name: str, url: str):
    @docket.task
    async def pay(amount: int) -> None: ...

    await pay.schedule(1000, key="k", when=LATER)
    payload = await taken(docket, "k")
    async with Docket(docket_name + "-2", url, signing_keys=[NEW]) as second, Worker(second) as worker:
        there = await second.add(pay.function, when=LATER, key="k")(1)
        assert there.generation == 1
        await moved(second, there, payload)
        await worker.run_until_finished()

        assert "is not signed for this run" in await refusal(there)
    await docket.cancel("k")


async def test_nor_under_another_generation_even_with_its_token(docket: Docket, worker: Worker):
    amounts: list[int] = []

    @docket.task
    async def pay(amount: int) -> None:
        amounts.append(amount)

    await pay.schedule(1000, key="k", when=LATER)
    payload, token = await taken(docket, "k"), await field(docket, "k", "token")
    second = await pay.replace(1, key="k", when=LATER)
    await moved(docket, second, payload)
    await put(docket, "k", token=token)
    await worker.run_until_finished()

    assert f"(generation {second.generation})" in await refusal(second)
    assert amounts == []


async def test_chains_retries_and_successors_are_signed_link_by_link(docket: Docket, worker: Worker):
    runs: list[tuple[str, int]] = []

    @docket.task
    async def chain(count: int, perpetual: Perpetual = Perpetual(every=timedelta(0))) -> None:
        runs.append(("chain", count))
        perpetual.perpetuate(count + 1)

    @docket.task
    @Perpetual(every=timedelta(0))
    async def same(word: str) -> None:
        runs.append((word, 0))

    @docket.task
    async def fails(retry: Retry = Retry(attempts=2)) -> None:
        runs.append(("fails", retry.attempt))
        raise ValueError

    @docket.task
    async def again(left: int, docket: Docket = CurrentDocket()) -> None:
        runs.append(("again", left))
        if left:
            await docket.add(again, key="again")(left - 1)

    await chain.schedule(1, key="chain")
    await same.schedule("same", key="same")
    await same.schedule("x" * 500, key="large")
    await fails.schedule()
    await again.schedule(2, key="again")
    await worker.run_at_most({"chain": 3, "same": 3, "large": 2})

    assert [count for name, count in runs if name == "chain"] == [1, 2, 3]
    assert [name for name, _ in runs].count("same") == 3
    assert [name for name, _ in runs].count("x" * 500) == 2
    assert [attempt for name, attempt in runs if name == "fails"] == [1, 2]
    assert [left for name, left in runs if name == "again"] == [2, 1, 0]


async def test_a_run_that_is_asked_for_again_is_signed_anew(docket: Docket, worker: Worker):
    words: list[str] = []

    @docket.task
    async def job(word: str) -> None:
        words.append(word)
        raise ValueError(word)

    for word in ("small", "x" * 500):
        await job.schedule(word, key=word[0])
        await worker.run_until_finished()
        first = await docket.get_execution(word[0])
        assert first is not None
        second = await first.retry()
        assert second.args == (word,)
        await worker.run_until_finished()
        with pytest.raises(ValueError, match=word):
            await second.get_result()

    assert words == ["small", "small", "x" * 500, "x" * 500]


async def test_a_run_with_an_altered_payload_is_not_asked_for_again(docket: Docket, worker: Worker):
    @docket.task
    async def job(word: str) -> None:
        raise ValueError(word)

    execution = await job.schedule("small", key="k")
    await worker.run_until_finished()
    await put(docket, "k", payload=b"\x80forged")
    await docket.store.backend.call("HDEL", docket.store.keys.run("k"), "large")

    with pytest.raises(PayloadRefused, match="is not signed"):
        await execution.retry()


async def test_nothing_is_signed_anew_for_a_run_that_is_gone(docket: Docket):
    @docket.task
    async def job() -> None: ...

    execution = await job.schedule(key="k")
    await docket.cancel("k")
    await docket.store.backend.call("DEL", docket.store.keys.run("k"))

    with pytest.raises(ResultUnavailable, match="nothing is known of it"):
        await execution.retry()


async def test_a_forged_result_is_refused_before_it_is_decoded(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> int:
        return 1

    execution = await job.schedule(key="k")
    await worker.run_until_finished()
    genuine = await field(docket, "k", "outcome")

    for forged in (b"c0:,=" + pickle.dumps(Bomb()), b"f" + genuine[1:], genuine.replace(b"c0:,", b"c4:okay,"), b"c0:,"):
        await put(docket, "k", outcome=forged, state="failed" if forged.startswith(b"f") else "completed")
        with pytest.raises(PayloadRefused):
            await execution.get_result()
    assert detonated == []

    await put(docket, "k", outcome=genuine, state="completed")
    assert await execution.get_result() == 1


async def test_a_stored_exception_is_verified_and_comes_back(docket: Docket, worker: Worker):
    @docket.task
    async def job() -> None:
        raise ValueError("bad")

    execution = await job.schedule(key="k")
    await worker.run_until_finished()

    with pytest.raises(ValueError, match="bad"):
        await execution.get_result()


async def test_keys_rotate(docket_name: str, url: str):
    async def job(number: int) -> int:
        return number

    async with Docket(docket_name, url, signing_keys=[OLD]) as before:
        early = await before.add(job, key="early")(1)
    async with Docket(docket_name, url, signing_keys=[NEW, OLD]) as between, Worker(between) as worker:
        between.register(job)
        late = await between.add(job, key="late")(2)
        await worker.run_until_finished()
        assert await between.add(job, key="early")(1)
        await between.cancel("early")
    async with Docket(docket_name, url, signing_keys=[NEW]) as after:
        after.register(job)
        found = await after.get_execution("late")
        assert found is not None
        assert await found.get_result() == 2
    assert early.generation < late.generation
    async with Docket(docket_name, url, signing_keys=[OTHER]) as stranger:
        stranger.register(job)
        found = await stranger.get_execution("late")
        assert found is not None
        with pytest.raises(PayloadRefused, match="a key that signing_keys no longer holds"):
            await found.get_result()


async def test_signing_can_be_introduced_while_work_is_under_way(docket_name: str, url: str):
    ran: list[int] = []

    async def job(number: int) -> int:
        ran.append(number)
        return number

    async with Docket(docket_name, url) as unsigned:
        execution = await unsigned.add(job, key="k")(1)
    async with Docket(docket_name, url, signing_keys=[NEW], require_signatures=False) as lenient, Worker(lenient) as worker:
        lenient.register(job)
        await worker.run_until_finished()
        signed = await lenient.add(job, key="signed")(2)
        found = await lenient.get_execution("k")
        assert found is not None
        assert await found.get_result() == 1
    async with Docket(docket_name, url) as unsigned, Worker(unsigned) as worker:  # one that has not been given keys yet
        unsigned.register(job)
        await worker.run_until_finished()
        found = await unsigned.get_execution("signed")
        assert found is not None
        assert await found.get_result() == 2
    async with Docket(docket_name, url, signing_keys=[NEW], require_signatures=False) as lenient:
        lenient.register(job)
        assert await (await lenient.add(job, key="late", when=LATER)(3)).cancel() is None
    assert ran == [1, 2]
    assert execution.generation < signed.generation


async def test_a_result_kept_elsewhere_is_signed_there(docket_name: str, url: str):
    kept: dict[str, Any] = {}

    class Storage:
        async def put(self, key: str, value: dict[str, Any], *, collection: str | None = None, ttl: float | None = None) -> None:
            kept[key] = value

        async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
            return kept.get(key)

    async with Docket(docket_name, url, signing_keys=[NEW], result_storage=Storage()) as docket, Worker(docket) as worker:

        @docket.task
        async def job() -> str:
            return "x" * 1_000_000  # more than may stand in Redis

        execution, other = await job.schedule(key="k"), await job.schedule(key="other")
        await worker.run_until_finished()
        assert len(await execution.get_result()) == 1_000_000
        kept["k:1"] = kept[f"other:{other.generation}"]

        with pytest.raises(PayloadRefused, match="is not signed for this run"):
            await execution.get_result()


async def test_what_surrounds_a_run_and_fails_is_signed_as_well(docket: Docket, worker: Worker, monkeypatch: pytest.MonkeyPatch):
    from docket._worker import _run

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise LookupError("decide")

    @docket.task
    async def job(retry: Retry = Retry(attempts=1)) -> None: ...

    monkeypatch.setattr(_run, "decide", broken)
    execution = await job.schedule()
    await worker.run_until_finished()

    with pytest.raises(Exception, match="LookupError: decide"):
        await execution.get_result()


async def test_under_a_key_that_another_task_has_the_result_is_that_ones(docket: Docket, worker: Worker):
    @docket.task
    async def first() -> int:
        return 1

    @docket.task
    async def second() -> str:
        return "two"

    await first.schedule(key="k", when=timedelta(milliseconds=50))
    execution = await second.schedule(key="k")
    await worker.run_until_finished()

    assert await execution.get_result() == 1
    execution = await docket.add("elsewhere", key="k")()
    await execution.cancel()
    await eventually(lambda: docket.get_execution("k"))
