"""Running dead letters again: signed, struck and large ones, many at once, and with others at it at the same time."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from docket import Docket, Worker
from docket._dead import retry_all
from docket.docket import DeadLetter
from docket.errors import InvalidArguments, InvalidOption, PayloadError, PayloadRefused, ResultUnavailable, WrongState
from docket.execution import Execution
from docket.states import Disposition, ExecutionState
from tests._waiting import eventually
from tests.store._interleaving import after_command
from tests.worker._hands import at_work

LATER = timedelta(hours=1)
KEY = "a signing key of this test"
LARGE = "x" * 1000
works = False
calls: list[str] = []


@pytest.fixture(autouse=True)
def broken() -> None:
    global works
    works = False
    calls.clear()


async def send(number: int, to: str = "nobody") -> str:
    if not works:
        raise RuntimeError("no line")
    calls.append(f"{number} to {to}")
    return calls[-1]


async def die(docket: Docket, *keys: str, to: str = "Jane") -> list[DeadLetter]:
    """These runs die; their letters, in that order. From then on, sending works."""
    global works
    works = False
    for key in keys:
        await docket.add(send, key=key)(7, to=to)
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    works = True
    found = {letter.key: letter async for letter in docket.dead_letters()}
    return [found[key] for key in keys]


def leave_no_room(monkeypatch: pytest.MonkeyPatch, docket: Docket) -> None:
    """Listings bring along next to nothing from here on."""
    read: Any = docket.store.letters.read

    async def read_little(*args: Any, room: int = 100, **options: Any) -> Any:
        return await read(*args, room=room, **options)

    monkeypatch.setattr(docket.store.letters, "read", read_little)


async def finish(docket: Docket) -> None:
    async with Worker(docket) as worker:
        await worker.run_until_finished()


async def keys(docket: Docket) -> list[str]:
    return [letter.key async for letter in docket.dead_letters()]


async def test_what_it_passes_is_known_of_the_new_run(docket: Docket):
    [letter] = await die(docket, "k")

    execution = await letter.retry()

    assert (execution.args, execution.kwargs, execution.attempt, execution.disposition) == ((7,), {"to": "Jane"}, 1, Disposition.SCHEDULED)
    assert execution.generation > int(letter.id)
    await docket.cancel("k")


async def test_whoever_waits_for_the_run_that_died_still_learns_of_its_failure(docket: Docket):
    [letter] = await die(docket, "k")
    died = await docket.get_execution("k")
    assert died is not None

    await letter.retry()
    await finish(docket)

    with pytest.raises(RuntimeError, match="no line"):
        await died.get_result()
    assert calls == ["7 to Jane"]


async def test_the_trace_stays_the_one_in_which_it_was_scheduled_first(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    with provider.get_tracer("shop").start_as_current_span("checkout") as span:
        await docket.add(send, key="k")(1)
    await finish(docket)
    [letter] = [letter async for letter in docket.dead_letters()]

    assert letter.trace_id == trace.format_trace_id(span.get_span_context().trace_id)
    execution = await letter.retry()
    assert [trace.format_trace_id(link.context.trace_id) for link in execution.incoming_span_links()] == [letter.trace_id]
    await docket.cancel("k")


async def test_a_second_retry_finds_the_letter_gone(docket: Docket):
    [letter] = await die(docket, "k")

    answers = await asyncio.gather(letter.retry(), letter.retry(), letter.retry(kwargs={"to": "John"}), return_exceptions=True)

    assert sorted(type(answer).__name__ for answer in answers) == ["Execution", "ResultUnavailable", "ResultUnavailable"]
    await finish(docket)
    assert len(calls) == 1
    with pytest.raises(ResultUnavailable, match=r"send\{k\} cannot be run again: its dead letter is gone"):
        await letter.retry()
    assert not await letter.discard()


async def test_with_other_arguments_too_a_key_in_use_keeps_its_letter(docket: Docket):
    [letter] = await die(docket, "k")
    await docket.add(send, when=LATER, key="k")(1)

    with pytest.raises(WrongState, match="a run of that key is scheduled"):
        await letter.retry(args=[1], kwargs={})

    assert await keys(docket) == ["k"]
    await docket.cancel("k")


async def test_a_run_that_retries_a_letter_of_its_own_key_is_told_that_it_runs(docket: Docket):
    [letter] = await die(docket, "k")
    told: list[str] = []
    attempts: list[dict[str, Any]] = [{}, {"args": [1]}]

    async def asks() -> None:
        for edits in attempts:
            with pytest.raises(WrongState) as caught:
                await letter.retry(**edits)
            told.append(str(caught.value))

    await docket.add(asks, key="k")()
    await finish(docket)

    assert ["is running" in each for each in told] == [True, True]
    assert await keys(docket) == ["k"]


async def test_what_a_strike_means_stays_a_letter(docket: Docket):
    jane, john = await die(docket, "jane") + await die(docket, "john", to="John")
    await docket.strike("send", "to", "==", "Jane")

    with pytest.raises(WrongState, match=r"send\{jane\} cannot be run again: struck by send\(to == 'Jane'\)"):
        await jane.retry()
    with pytest.raises(WrongState, match="struck by"):
        await john.retry(kwargs={"to": "Jane"})
    assert [execution.key for execution in await docket.retry_dead_letters()] == ["john"]

    assert await keys(docket) == ["jane"]
    await docket.restore("send", "to", "==", "Jane")
    await jane.retry()
    await finish(docket)
    assert sorted(calls) == ["7 to Jane", "7 to John"]


async def test_other_arguments_are_checked_where_the_function_is_known(docket: Docket, docket_name: str, url: str):
    [letter] = await die(docket, "k")

    with pytest.raises(InvalidArguments, match="colour"):
        await letter.retry(kwargs={"colour": "red"})

    async with Docket(docket_name, url) as elsewhere:
        [same] = [letter async for letter in elsewhere.dead_letters()]
        execution = await same.retry(args=["any"], kwargs={"colour": "red"})
        assert execution.function_name == "send"
    await docket.cancel("k")


# Signed


async def test_a_signed_letter_is_signed_anew(docket_name: str, url: str):
    async with Docket(docket_name, url, signing_keys=[KEY]) as docket:
        plain, edited = await die(docket, "plain", "edited")
        await edited.retry(kwargs={"to": "John"})
        execution = await plain.retry()
        assert execution.kwargs == {"to": "Jane"}  # what was written can be read back, so it is signed for its generation
        await finish(docket)

        assert sorted(calls) == ["7 to Jane", "7 to John"]
        assert await keys(docket) == []


async def test_a_signed_letter_is_not_run_again_by_a_process_without_keys(docket_name: str, url: str):
    async with Docket(docket_name, url, signing_keys=[KEY]) as docket, Docket(docket_name, url) as without:
        await die(docket, "k")
        [letter] = [letter async for letter in without.dead_letters()]

        with pytest.raises(PayloadRefused, match="this docket has no signing_keys"):
            await letter.retry()
        assert await keys(docket) == ["k"]


async def test_a_letter_that_was_refused_says_so_and_needs_other_arguments(docket_name: str, url: str):
    async with Docket(docket_name, url) as careless:
        careless.register(send)
        await careless.add("send", key="k")(1)
    async with Docket(docket_name, url, signing_keys=[KEY]) as docket:
        docket.register(send)
        await finish(docket)
        [letter] = [letter async for letter in docket.dead_letters(reason="refused")]
        assert "is not signed" in letter.error
        fine = await die(docket, "fine")

        with pytest.raises(PayloadRefused):
            await letter.retry()
        with pytest.raises(PayloadRefused):
            await letter.retry(kwargs={"to": "Jane"})
        assert [execution.key for execution in await docket.retry_dead_letters()] == [fine[0].key]
        assert await keys(docket) == ["k"]
        await letter.retry(args=[2], kwargs={})
        await finish(docket)
        assert "2 to nobody" in calls


# Large


async def test_what_was_left_out_of_a_listing_is_read_when_it_is_needed(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    async with Docket(docket_name, url, signing_keys=[KEY]) as docket:
        await die(docket, "plain", "edited", to=LARGE)
        leave_no_room(monkeypatch, docket)
        edited, plain = sorted([letter async for letter in docket.dead_letters()], key=lambda letter: letter.key)
        with pytest.raises(PayloadError, match=rf"too large for a listing; read them with docket.dead_letters\(\).get\('{plain.id}'\)"):
            _ = plain.args
        whole = await docket.dead_letters().get(plain.id)
        assert whole is not None and whole.kwargs == {"to": LARGE}

        await plain.retry()
        await edited.retry(args=[8])
        await finish(docket)

        assert sorted(calls) == [f"7 to {LARGE}", f"8 to {LARGE}"]


async def test_without_signing_keys_what_was_left_out_need_not_be_read(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    await die(docket, "k", to=LARGE)
    with monkeypatch.context() as patch:
        leave_no_room(patch, docket)
        [letter] = [letter async for letter in docket.dead_letters()]
    monkeypatch.delattr(type(docket.store.letters), "whole")

    execution = await letter.retry()

    with pytest.raises(PayloadError, match="were not read"):
        _ = execution.args
    await finish(docket)
    assert calls == [f"7 to {LARGE}"]


async def test_what_goes_while_the_rest_is_read_is_gone(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    async with Docket(docket_name, url, signing_keys=[KEY]) as docket:
        await die(docket, "k", to=LARGE)
        with monkeypatch.context() as patch:
            leave_no_room(patch, docket)
            [letter] = [letter async for letter in docket.dead_letters()]
        assert await letter.discard()

        with pytest.raises(ResultUnavailable):
            await letter.retry()


# One by its id, and all of a kind


async def test_one_is_found_by_its_id(docket: Docket):
    [letter] = await die(docket, "k")

    found = await docket.dead_letters(task="send", key_prefix="k", reason="failed").get(letter.id)
    assert found is not None and found.key == "k"
    for others in (docket.dead_letters(task="other"), docket.dead_letters(key_prefix="x"), docket.dead_letters(reason="poison")):
        assert await others.get(letter.id) is None
    assert await docket.dead_letters().get("no such id") is None


async def test_a_reason_that_there_is_not_is_a_slip(docket: Docket):
    with pytest.raises(InvalidOption, match="reason is 'poisson'; give one of failed, "):
        docket.dead_letters(reason="poisson")


async def test_all_of_a_kind_are_thrown_away(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    await die(docket, "a-1", "a-2", "b-1", "b-2", "b-3")
    monkeypatch.setattr("docket._dead.MOST", 2)

    assert await docket.dead_letters(key_prefix="a").discard() == 2
    assert await docket.dead_letters(limit=1).discard() == 1
    assert len(await keys(docket)) == 2
    assert await docket.dead_letters().discard() == 2
    assert await docket.dead_letters().discard() == 0


async def test_of_many_letters_of_one_key_the_latest_runs(docket: Docket):
    await die(docket, "k", to="the first")
    await die(docket, "k", to="the second")

    [execution] = await docket.retry_dead_letters()

    assert execution.kwargs == {"to": "the second"}
    assert await keys(docket) == ["k"]
    await docket.cancel("k")


async def test_one_that_goes_while_many_are_run_again_keeps_none_from_it(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    _, second, _ = await die(docket, "a", "b", "c")
    after_command(monkeypatch, docket.store, "letters", second.discard)

    became = {letter.key: result async for letter, result in retry_all(docket.dead_letters(), rate=10)}

    assert isinstance(became["b"], ResultUnavailable)
    c, a = became["c"], became["a"]
    assert isinstance(c, Execution) and isinstance(a, Execution)
    assert abs(a.when - c.when) == timedelta(milliseconds=100)  # one that is gone takes no place
    await docket.cancel("a")
    await docket.cancel("c")


async def test_of_those_who_run_many_again_at_once_each_letter_is_taken_by_one(docket: Docket):
    await die(docket, *(f"k{number}" for number in range(30)))

    async with at_work(docket):
        taken = await asyncio.gather(docket.retry_dead_letters(), docket.retry_dead_letters(rate=10_000), docket.dead_letters().discard())
        await eventually(lambda: _are_done(len(taken[0]) + len(taken[1])))

    assert len(taken[0]) + len(taken[1]) + taken[2] == 30
    assert await keys(docket) == []


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
async def test_a_rate_is_a_number_above_zero(docket: Docket, rate: float):
    with pytest.raises(InvalidOption, match="rate is "):
        await docket.retry_dead_letters(rate=rate)


# What stands there that is none of ours


async def test_attempts_that_somebody_else_has_written_are_left_out(docket: Docket):
    [letter] = await die(docket, "k")
    for garbage in ("no JSON", "[]", '{"attempt": 1}', '{"attempt":1,"reason":"x","error":"","traceback":"","worker":"","started_at":1,"ended_at":2}'):
        await docket.store.backend.call("HSET", docket.store.shard_of("k").keys.letter(letter.id), "history", garbage)

        [found] = [letter async for letter in docket.dead_letters()]

        assert (found.attempts, found.reason, found.error) == ((), "failed", "")
    assert await docket.dead_letters(reason="failed").discard() == 1


async def test_a_trace_that_is_none_has_no_id(docket: Docket):
    [letter] = await die(docket, "k")
    for garbage in ("{}", '{"traceparent": "00-1"}', "no JSON"):
        await docket.store.backend.call("HSET", docket.store.shard_of("k").keys.letter(letter.id), "trace", garbage)

        [found] = [letter async for letter in docket.dead_letters()]
        assert found.trace_id is None


# The hook


async def test_the_hook_is_told_of_what_failed_around_the_body_too(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []

    def broken(*_: Any) -> None:
        raise RuntimeError("what surrounds it")

    async with Docket(docket_name, url, on_dead=lambda letter: told.append(f"{letter.key} {letter.error}")) as docket:

        async def fine() -> None: ...

        async with Worker(docket) as worker:
            await docket.add(fine, key="k")()
            monkeypatch.setattr("docket._worker._report.Report.started", broken)
            await worker.run_until_finished()

        assert [letter.reason async for letter in docket.dead_letters()] == ["failed"]

    assert told == ["k RuntimeError: what surrounds it"]


async def test_where_none_are_kept_what_failed_around_the_body_leaves_none_either(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []

    def broken(*_: Any) -> None:
        raise RuntimeError("what surrounds it")

    async def fine() -> None: ...

    async with Docket(docket_name, url, on_dead=lambda letter: told.append(letter.key), dead_letter_retention=timedelta(0)) as docket, Worker(docket) as worker:
        execution = await docket.add(fine, key="k")()
        monkeypatch.setattr("docket._worker._report.Report.started", broken)
        await worker.run_until_finished()

        await execution.sync()
        assert (execution.state, execution.error) == (ExecutionState.FAILED, "RuntimeError: what surrounds it")
        assert await keys(docket) == told == []


async def test_a_hook_that_takes_for_ever_is_given_up(docket_name: str, url: str, caplog: pytest.LogCaptureFixture):
    async def hangs(letter: DeadLetter) -> None:
        await asyncio.sleep(3600)

    async with Docket(docket_name, url, on_dead=hangs) as docket, Worker(docket, cleanup_timeout=timedelta(milliseconds=20)) as worker:
        await docket.add(send, key="k")(1)
        with caplog.at_level(logging.ERROR, logger="docket.worker"):
            await worker.run_until_finished()

    assert "on_dead failed for k" in caplog.text


async def test_a_letter_that_is_gone_before_the_hook_is_told_is_not_told_of(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []
    async with Docket(docket_name, url, on_dead=lambda letter: told.append(letter.key)) as docket, Worker(docket) as worker:
        await docket.add(send, key="k")(1)
        after_command(monkeypatch, docket.store, "settle", lambda: docket.store.letters.discard(["1"]))
        await worker.run_until_finished()

        assert told == []
        assert await keys(docket) == []


async def test_a_run_that_is_run_again_leaves_no_letter(docket: Docket):
    await die(docket, "k")
    execution = await docket.get_execution("k")
    assert execution is not None and execution.state is ExecutionState.FAILED

    await execution.retry()

    assert await keys(docket) == []
    await docket.cancel("k")


async def test_they_are_counted(docket: Docket):
    await die(docket, "a", "b")

    assert (await docket.counts()).dead_letters == 2
    await docket.dead_letters().discard()
    assert (await docket.counts()).dead_letters == 0


async def test_a_poisoned_docket_is_worked_off_beside_its_letters(docket: Docket):
    """A worker that is at work while letters are run again takes them like any other work."""
    await die(docket, *(f"k{number}" for number in range(20)))

    async with at_work(docket):
        await docket.retry_dead_letters(rate=1000)
        await eventually(lambda: _are_done(20))

    assert await keys(docket) == []


async def _are_done(count: int) -> bool:
    return len(calls) == count
