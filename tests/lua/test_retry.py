"""`retry.lua`."""

from __future__ import annotations

import pytest

from docket._store.records import StateChange
from docket.errors import ServerError
from docket.states import ExecutionState
from tests.lua._scripts import LARGE, TTL_MS, End, Item, Lua

QUEUED = ExecutionState.QUEUED


async def ended(lua: Lua, item: Item | None = None, *, state: str = "failed", outcome: bytes = b"", error: str = "") -> None:
    """This has a run of `k`, generation 1, end."""
    [run] = await lua.running(item or Item())
    await lua.settle(End(run.message_id, 1, state=state, outcome=outcome, error=error, wide=True))


@pytest.mark.parametrize("state", ["failed", "cancelled"])
async def test_what_failed_or_was_cancelled_runs_again_as_a_new_run(lua: Lua, state: str):
    await ended(lua, Item(trace=b"t", when=5), state=state)
    ended_at = (await lua.record())["completed_at"]

    word, generation, standing, when = await lua.retry(token=10**12)

    assert (word, generation, standing) == (b"created", 2, b"queued")
    assert await lua.record() == {
        "state": "queued", "generation": "2", "function": "f", "when": when.decode(), "token": str(10**12), "payload": "p", "trace": "t",
        "earlier": f"1 {state} {ended_at}",
    }  # fmt: skip
    assert lua.events == [StateChange("k", 2, QUEUED, int(when), None, None, None, None)]
    if not lua.store.is_memory:
        assert await lua.store.backend.call("PTTL", lua.keys.run("k")) == -1
    [entry] = await lua.read()
    [reply] = await lua.claim(entry)
    assert (entry.generation, reply[0], reply[1], len(reply)) == (2, b"claimed", 1, 8)


async def test_work_that_was_cancelled_before_it_began_runs_too(lua: Lua):
    await lua.schedule(Item(when=await lua.now_us() + 10_000_000))
    await lua.cancel()

    assert (await lua.retry())[0] == b"created"

    assert await lua.depth() == (1, 0)


async def test_a_large_payload_is_kept_for_it_without_an_expiry(lua: Lua):
    await ended(lua, Item(payload=LARGE))

    await lua.retry()

    assert await lua.get(lua.keys.payload("k")) == LARGE
    assert (await lua.record())["large"] == "1"
    if not lua.store.is_memory:
        assert await lua.store.backend.call("PTTL", lua.keys.payload("k")) == -1


@pytest.mark.parametrize("outcome", [b"f3:why,", b"f200:" + b"y" * 200 + b","], ids=["small", "large"])
async def test_how_the_other_run_ended_can_still_be_read(lua: Lua, outcome: bytes):
    await ended(lua, outcome=outcome)

    await lua.retry()

    assert await lua.get(lua.keys.outcome("k", 1)) == outcome
    if not lua.store.is_memory:
        assert 0 < await lua.store.backend.call("PTTL", lua.keys.outcome("k", 1)) <= TTL_MS
    assert "beside" not in await lua.record()


@pytest.mark.parametrize(("state", "letter"), [("failed", b"f"), ("cancelled", b"x")])
async def test_an_end_of_which_nothing_was_kept_is_told_by_its_state(lua: Lua, state: str, letter: bytes):
    await ended(lua, state=state)

    await lua.retry()

    assert await lua.get(lua.keys.outcome("k", 1)) == letter + b"0:,"


async def test_a_repeat_answers_as_the_first_time(lua: Lua):
    await ended(lua)
    first = await lua.retry(token=10**12)

    assert await lua.retry(token=10**12) == first

    assert await lua.depth() == (1, 0)
    assert lua.events == []


async def test_another_try_finds_that_the_first_has_taken_the_place(lua: Lua):
    await ended(lua)
    await lua.retry()

    assert await lua.retry() == [b"superseded"]
    assert await lua.retry(generation=2) == [b"wrong", b"queued"]


async def test_what_completed_is_not_run_again(lua: Lua):
    await ended(lua, state="completed")

    assert await lua.retry() == [b"wrong", b"completed"]


async def test_what_has_not_ended_is_not_run_again(lua: Lua):
    await lua.schedule(Item(when=await lua.now_us() + 10_000_000))
    assert await lua.retry() == [b"wrong", b"scheduled"]

    await lua.reschedule()
    assert await lua.retry() == [b"wrong", b"queued"]

    await lua.claim(*await lua.read())
    assert await lua.retry() == [b"wrong", b"running"]


async def test_where_nothing_is_known_nothing_can_run_again(lua: Lua):
    assert await lua.retry() == [b"gone"]


async def test_without_its_arguments_nothing_is_written(lua: Lua):
    await ended(lua, Item(payload=LARGE))
    await lua.store.backend.call("DEL", lua.keys.payload("k"))

    assert await lua.retry() == [b"gone"]

    assert (await lua.record())["state"] == "failed"
    assert await lua.depth() == (0, 0)


async def test_a_bad_record_is_an_error(lua: Lua):
    await lua.spoil()

    with pytest.raises(ServerError, match="WRONGTYPE"):
        await lua.retry()

    await lua.mend()


async def test_its_dead_letter_goes(lua: Lua):
    [run] = await lua.running(Item())
    await lua.settle(End(run.message_id, 1, state="failed", failure="{1}"))

    assert (await lua.retry())[0] == b"created"

    assert await lua.scores(lua.keys.dead) == {}
    assert await lua.exists(lua.keys.letter(1)) == 0
