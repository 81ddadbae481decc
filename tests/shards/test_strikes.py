"""What is struck on a divided docket is struck in every shard."""

from __future__ import annotations

import pytest

from docket import Docket
from docket._store.records import Delivery
from docket.errors import InDoubt, RedisUnavailable
from tests._waiting import eventually
from tests.worker._hands import at_work, claim, ignored


async def versions(docket: Docket) -> set[bytes | None]:
    return {await shard.backend.call("HGET", shard.keys.meta, "strikes") for shard in docket.store.shards}


async def test_every_shard_knows_the_version(docket_name: str, url: str):
    async with Docket(docket_name, url, shards=4) as docket:
        assert await versions(docket) == {None}

        await docket.strike("send")

        assert await versions(docket) == {b"%d" % docket.store.strikes.version}


async def test_who_claims_in_any_shard_reads_what_it_missed(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    """Word of a strike may be lost; a claim tells."""
    async with Docket(docket_name, url, shards=4) as docket, Docket(docket_name, url, shards=4) as deaf:

        @docket.task
        async def send() -> None: ...

        for number in range(12):
            await docket.add(send, key=f"k{number}")()
        monkeypatch.setattr(deaf.store.strikes, "on_message", ignored)
        await docket.strike(send)
        known = deaf.store.strikes

        for shard in docket.store.shards:
            known.version, known.instructions = 0, set()
            if entries := await ready_in(deaf, shard.index):
                await claim(deaf, "w~1", entries)
                assert len(known.instructions) == 1


async def ready_in(docket: Docket, index: int) -> list[Delivery]:
    shard = docket.store.shards[index]
    await shard.delivery.ensure_group()
    reader = shard.delivery.reader()
    try:
        return await shard.delivery.read(reader, "w~1", 100, 1)
    finally:
        await reader.aclose()


async def test_a_shard_that_was_not_told_is_told_by_who_claims_in_it(docket_name: str, url: str):
    """Whoever struck something may have died before it was handed on; else every claim would read again."""
    ran: list[int] = []
    async with Docket(docket_name, url, shards=4) as docket:

        @docket.task
        async def send(number: int) -> None:
            ran.append(number)

        await docket.strike(send, "number", "==", 3)
        for shard in docket.store.shards[:2]:
            await shard.backend.call("HDEL", shard.keys.meta, "strikes")
        for shard in docket.store.shards[2:]:
            await shard.backend.call("HSET", shard.keys.meta, "strikes", 9_999_999_999_999_999)

        for number in range(40):
            await docket.add(send, key=f"k{number}")(number)
        async with at_work(docket):
            await eventually(lambda: len(ran) == 39)
            await eventually(lambda: told(docket))

    assert 3 not in ran


async def told(docket: Docket) -> bool:
    return await versions(docket) == {b"%d" % docket.store.strikes.version}


async def test_a_change_that_could_not_be_handed_on_says_that_it_may_not_hold_yet(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    async with Docket(docket_name, url, shards=4) as docket:
        script = docket.store.backend.script

        async def cut(name: str, *rest: object) -> object:
            if name == "hand":
                raise RedisUnavailable("cut")
            return await script(name, *rest)  # pyright: ignore[reportArgumentType]

        async def is_not_there(timeout: float) -> bool:
            return False

        monkeypatch.setattr(docket.store.backend, "script", cut)
        monkeypatch.setattr(docket.store.backend, "available", is_not_there)
        with pytest.raises(InDoubt, match="Make it again"):
            await docket.strike("send")

        monkeypatch.undo()
        await docket.strike("send")
        assert await told(docket)
