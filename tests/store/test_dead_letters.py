"""Keeping dead letters: within their bounds, a bounded amount of work at a time, and whatever two callers do at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from docket._clock import SYSTEM
from docket._store import Store
from docket._store.records import Claimed, Order, Revival
from docket._store.shard import Shard
from docket.errors import InDoubt
from docket.states import ExecutionState
from tests._shards import nth, only_shard, together
from tests.store._interleaving import after_command
from tests.store._work import claim, end, fetch, order, soon, start

MINUTE = timedelta(minutes=1)
LARGE = b"x" * 100


async def bury(store: Store, *keys: str, payload: bytes = b"args", failure: bytes = b"{}") -> list[int]:
    """These runs die, one after another; their generations."""
    died: list[int] = []
    for key in keys:
        claimed = await start(store, order(key, payload))
        await store.lifecycle.settle(end(claimed, ExecutionState.FAILED, failure=failure))
        died.append(claimed.run.generation)
    return died


async def listed(store: Store, count: int = 100) -> list[str]:
    letters = await store.letters.read([generation for _, generation in await store.letters.newest(None, count)])
    return [letter.key for letter in letters if letter is not None]


async def counted(store: Store) -> int:
    return len(await store.letters.newest(None, 1000))


async def now_us(store: Store) -> int:
    return (await store.delivery.move_due([]))[2]


async def ttl_of(store: Store, key: str) -> int:
    return await store.backend.call("PTTL", key)


@pytest.mark.only_server("the engine in the process tells no expiry")
async def test_letters_and_their_list_expire(store: Store, shard: Shard):
    [died] = await bury(store, "k")

    assert 0 < await ttl_of(store, shard.keys.letter(died)) <= 60_000
    first = await ttl_of(store, shard.keys.dead)
    assert 0 < first <= 60_000

    await store.backend.call("PEXPIRE", shard.keys.dead, 1000)
    await bury(store, *together(store, "other"))
    assert await ttl_of(store, shard.keys.dead) > 1000  # the list lives as long as the last of them


async def test_what_has_expired_is_no_letter_any_more_and_is_trimmed(docket_name: str, url: str):
    store = await Store.open(docket_name, url, execution_ttl=MINUTE, clock=SYSTEM, dead_letter_retention=MINUTE, dead_letter_count=100)
    await store.delivery.ensure_group()
    try:
        await bury(store, "old")
        await store.backend.call("DEL", store.keys.letter(1))
        await bury(store, "new")
        assert await listed(store) == ["new"]
        [(new, _), _] = await store.letters.newest(None, 10)

        assert await only_shard(store).letters.trim(new + 59_999_999) == 1
        assert await counted(store) == 1
        assert await only_shard(store).letters.trim(new + 60_000_000) == 1
        assert await counted(store) == await only_shard(store).letters.trim(new + 60_000_000) == 0
    finally:
        await store.aclose()


async def test_of_too_many_the_oldest_go(store: Store, shard: Shard):
    keys = together(store, "a", "b", "c", "d", "e")
    await bury(store, *keys)

    assert await shard.letters.trim(await now_us(store)) == 2

    assert await listed(store) == keys[:1:-1]
    assert await shard.letters.trim(await now_us(store)) == 0


async def test_a_trim_throws_away_two_hundred_at_a_time(store: Store, shard: Shard):
    for start_at in range(0, 450, 50):
        members = [part for number in range(start_at, start_at + 50) for part in (-number - 1, number)]
        await store.backend.call("ZADD", shard.keys.dead, *members)
    await store.backend.call("PEXPIRE", shard.keys.dead, 60_000)

    assert [await shard.letters.trim(0) for _ in range(4)] == [200, 200, 47, 0]
    assert await counted(store) == 3


async def test_who_keeps_none_leaves_those_of_others_alone(store: Store, docket_name: str, url: str):
    await bury(store, "k")
    other = await Store.open(docket_name, url, execution_ttl=MINUTE, clock=SYSTEM)
    try:
        assert await other.shard_of("k").letters.trim(await now_us(store) + 3_600_000_000) == 0
        assert await listed(store) == ["k"]
    finally:
        await other.aclose()


async def test_a_page_asks_for_no_more_than_it_shows(store: Store, monkeypatch: pytest.MonkeyPatch):
    await bury(store, "a", "b", "c", "d")
    asked: list[Any] = []
    call = store.backend.call

    async def watched(*command: Any) -> Any:
        asked.append(command)
        return await call(*command)

    monkeypatch.setattr(store.backend, "call", watched)

    assert len(await store.letters.newest(None, 2)) == 2
    assert [command[-2:] for command in asked] == [(0, 2)] * len(store.shards)


async def test_letters_that_died_in_one_moment_come_once_each(store: Store, shard: Shard):
    await store.backend.call("ZADD", shard.keys.dead, *[part for number in range(7) for part in (-5, number)], -9, 100, -1, 200)
    await store.backend.call("PEXPIRE", shard.keys.dead, 60_000)

    found: list[str] = []
    before: tuple[int, str] | None = None
    while page := await store.letters.newest(before, 2):
        found += [generation for _, generation in page]
        before = page[-1]

    assert found == ["100", *map(str, range(7)), "200"]


async def test_large_letters_are_read_as_far_as_there_is_room_and_one_alone_whole(store: Store):
    died = [str(generation) for generation in await bury(store, *together(store, "a", "b"), payload=LARGE, failure=b"{}")]

    one, other = await store.letters.read(died, room=150)
    assert one is not None and (one.payload, one.is_whole) == (LARGE, True)
    assert other is not None and (other.payload, other.payload_bytes, other.is_whole) == (None, 100, False)
    whole = await store.letters.whole(died[1])
    assert whole is not None and whole.payload == LARGE


@pytest.mark.parametrize("field", ["attempt", "died_at", "size", "when"])
async def test_what_is_no_letter_fails_no_listing(store: Store, shard: Shard, field: str):
    [spoilt] = await bury(store, "k")
    await bury(store, "fine")
    await store.backend.call("HSET", shard.keys.letter(spoilt), field, "nonsense")

    assert await listed(store) == ["fine"]


@pytest.mark.parametrize(("score", "member"), [("-inf", b"77"), ("+inf", b"77"), (1, b"\xff")])
async def test_nor_does_an_entry_of_the_list_that_names_none(store: Store, shard: Shard, score: str | int, member: bytes):
    await bury(store, "k")
    await store.backend.call("ZADD", shard.keys.dead, score, member)

    assert await listed(store) == ["k"]


async def test_they_are_thrown_away_two_hundred_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    script = store.backend.script

    async def watched(name: str, keys: Any, args: Any) -> Any:
        calls.append(len(keys))
        return await script(name, keys, args)

    monkeypatch.setattr(store.backend, "script", watched)

    assert await store.letters.discard([str(number) for number in range(450)]) == 0
    assert sorted(calls, reverse=True) == [count for count in (201, 201, 51) for _ in store.shards]


# Running again, with others at it


async def test_of_two_who_run_it_again_at_once_one_does(store: Store):
    [died] = await bury(store, "k")

    answers = await asyncio.gather(*(store.lifecycle.revive(Revival("k", died)) for _ in range(5)))

    assert sorted(answer.word for answer in answers) == ["done", "gone", "gone", "gone", "gone"]
    assert await store.delivery.depth() == (1, 0)
    await store.lifecycle.cancel("k")


async def test_who_throws_it_away_and_who_runs_it_again_do_not_both(store: Store):
    [died] = await bury(store, "k")

    answer, gone = await asyncio.gather(store.lifecycle.revive(Revival("k", died)), store.letters.discard([str(died)]))

    assert (answer.word, gone) in [("done", 0), ("gone", 1)]
    await store.lifecycle.cancel("k")


def sealing(payload: bytes) -> Callable[[int], bytes]:
    def seal(generation: int) -> bytes:
        return b"%d:%b" % (generation, payload)

    return seal


async def test_a_key_that_comes_to_life_as_a_sealed_letter_is_sealed_keeps_it(store: Store, monkeypatch: pytest.MonkeyPatch):
    [died] = await bury(store, "k")
    after_command(monkeypatch, store, "number", lambda: store.lifecycle.schedule(order()))

    answer = await store.lifecycle.revive(Revival("k", died, seal=sealing(b"args")))

    assert (answer.word, answer.state) == ("wrong", ExecutionState.QUEUED)
    assert await listed(store) == ["k"]
    await store.lifecycle.cancel("k")


async def test_a_key_that_lived_as_a_sealed_letter_was_sealed_takes_it_with_a_later_number(store: Store, monkeypatch: pytest.MonkeyPatch):
    [died] = await bury(store, "k")

    async def lives_and_ends() -> None:
        await store.lifecycle.settle(end(await start(store)))

    after_command(monkeypatch, store, "number", lives_and_ends)

    answer = await store.lifecycle.revive(Revival("k", died, seal=sealing(LARGE)))

    assert (answer.word, answer.generation) == ("done", nth(store, 4))
    [claimed] = await claim(store, await fetch(store))
    assert isinstance(claimed, Claimed)
    assert claimed.payload == b"%d:" % nth(store, 4) + LARGE
    await store.lifecycle.settle(end(claimed))


async def test_a_key_that_comes_to_life_after_it_was_run_again_is_that_run(store: Store):
    [died] = await bury(store, "k")
    await store.lifecycle.revive(Revival("k", died, when_us=await soon(store)))

    answer = await store.lifecycle.schedule(Order("k", "send", b"other", None))

    assert (answer.created, answer.generation) == (False, nth(store, 2))
    await store.lifecycle.cancel("k")


# A reply that is lost


def lose_a_reply(monkeypatch: pytest.MonkeyPatch, store: Store, happens: Callable[[], Awaitable[object]] | None = None) -> None:
    """The script runs, and whoever asked does not learn of it; what happens, happens before they ask again."""
    script, lost = store.backend.script, list[str]()

    async def lossy(name: str, keys: Any, args: Any) -> Any:
        reply = await script(name, keys, args)
        if name == "revive" and not lost:
            lost.append(name)
            if happens is not None:
                await happens()
            raise InDoubt("the reply was lost")
        return reply

    monkeypatch.setattr(store.backend, "script", lossy)


@pytest.mark.parametrize("seal", [None, sealing(b"args")], ids=["plain", "sealed"])
async def test_a_lost_reply_is_asked_for_again_and_it_runs_once(store: Store, seal: Any, monkeypatch: pytest.MonkeyPatch):
    [died] = await bury(store, "k")
    lose_a_reply(monkeypatch, store)

    answer = await store.lifecycle.revive(Revival("k", died, seal=seal))

    assert (answer.word, answer.generation, answer.state) == ("done", nth(store, 2), ExecutionState.QUEUED)
    assert await store.delivery.depth() == (1, 0)
    await store.lifecycle.cancel("k")


async def test_where_the_new_run_is_over_before_it_is_asked_again_nobody_can_tell(store: Store, monkeypatch: pytest.MonkeyPatch):
    [died] = await bury(store, "k")

    async def is_over_and_forgotten() -> None:
        [claimed] = await claim(store, await fetch(store))
        assert isinstance(claimed, Claimed)
        await store.lifecycle.settle(end(claimed))
        await store.backend.call("DEL", store.keys.run("k"))

    lose_a_reply(monkeypatch, store, is_over_and_forgotten)

    with pytest.raises(InDoubt, match="the reply was lost"):
        await store.lifecycle.revive(Revival("k", died))


async def test_a_letter_that_somebody_else_took_is_gone_and_not_in_doubt(store: Store):
    [died] = await bury(store, "k")
    await store.letters.discard([str(died)])

    assert (await store.lifecycle.revive(Revival("k", died))).word == "gone"
