"""Dead letters of a divided docket: each is in the shard of its key, and found whichever that is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from docket import Docket, Worker
from docket._store.records import Revival
from docket.states import ExecutionState

SHARDS = 4
KEYS = [f"k{number}" for number in range(12)]


@pytest.fixture
async def divided(docket_name: str, url: str) -> AsyncIterator[Docket]:
    """This is a docket of several shards in which twelve runs have failed for good."""
    async with Docket(docket_name, url, shards=SHARDS, dead_letter_retention=timedelta(minutes=1)) as docket:

        @docket.task
        async def fails(text: str) -> None:
            raise ValueError("bad")

        for key in KEYS:
            await docket.add(fails, key=key)(key * 100)
        async with Worker(docket) as worker:
            await worker.run_until_finished()
        yield docket


async def generations(docket: Docket) -> list[str]:
    return [generation for _, generation in await docket.store.letters.newest(None, 100)]


async def test_they_are_listed_and_counted_wherever_they_are(divided: Docket):
    assert len({divided.store.shard_of(key).index for key in KEYS}) == SHARDS
    letters = await divided.store.letters.read(await generations(divided))
    assert sorted(letter.key for letter in letters if letter is not None) == sorted(KEYS)
    assert (await divided.counts()).dead_letters == len(await divided.store.letters.newest(None, 1000)) == len(KEYS)
    assert {failure.key for failure in await divided.store.glance.failures(100)} == set(KEYS)


async def test_what_there_is_no_room_for_is_read_by_itself(divided: Docket):
    for generation in await generations(divided):
        [letter] = await divided.store.letters.read([generation], room=0)
        assert letter is not None
        assert (letter.payload, letter.is_whole) == (None, False)
        whole = await divided.store.letters.whole(generation)
        assert whole is not None
        assert whole.is_whole
        assert whole.payload is not None
    assert await divided.store.letters.whole("77") is None


async def test_only_those_that_are_wanted_are_read(divided: Docket):
    found = await generations(divided)
    wanted = [letter for letter in await divided.store.letters.read(found, key_prefix="k11") if letter is not None]
    assert [letter.key for letter in wanted] == ["k11"]
    assert await divided.store.letters.read(found, task="another") == [None] * len(KEYS)


async def test_they_run_again_in_their_own_shard(divided: Docket):
    for letter in await divided.store.letters.read(await generations(divided)):
        assert letter is not None
        changed = await divided.store.lifecycle.revive(Revival(letter.key, letter.generation))
        assert (changed.word, changed.state) == ("done", ExecutionState.QUEUED)

    assert await generations(divided) == []
    async with Worker(divided) as worker:
        await worker.run_until_finished()
    assert len(await generations(divided)) == len(KEYS)
