"""Group commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from docket._redis.batcher import BATCH_BYTES, BATCH_ITEMS, Batcher
from docket.errors import NotEntered


class Sending:
    """This stands for the wire: batches wait here until they are let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self, batch: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(batch))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [ValueError(f"{item} is bad") if item < 0 else item * 10 for item in batch]


@asynccontextmanager
async def running(batcher: Batcher[int, int]) -> AsyncGenerator[None]:
    task = asyncio.create_task(batcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def let_it_send(sending: Sending, batches: int = 1) -> None:
    while len(sending.batches) < batches:
        await asyncio.sleep(0)


async def test_alone_a_caller_waits_for_nobody():
    sending = Sending()
    batcher = Batcher[int, int]("test", sending)
    async with running(batcher):
        assert await batcher.submit(1) == 10
        assert await batcher.submit(2) == 20

    assert sending.batches == [[1], [2]]


async def test_what_gathers_while_one_batch_is_under_way_goes_out_as_the_next():
    sending = Sending()
    batcher = Batcher[int, int]("test", sending)
    sending.gate.clear()
    async with running(batcher):
        first = batcher.submit(1)
        await let_it_send(sending)
        rest = [batcher.submit(number) for number in (2, 3, 4)]
        sending.gate.set()

        assert await first == 10
        assert await asyncio.gather(*rest) == [20, 30, 40]

    assert sending.batches == [[1], [2, 3, 4]]


async def test_a_batch_has_at_most_two_hundred_items():
    sending = Sending()
    batcher = Batcher[int, int]("test", sending)
    async with running(batcher):
        await asyncio.gather(*(batcher.submit(number) for number in range(450)))

    assert [len(batch) for batch in sending.batches] == [BATCH_ITEMS, BATCH_ITEMS, 50]


async def test_a_batch_has_at_most_a_megabyte_and_a_larger_item_goes_alone():
    sending = Sending()
    batcher = Batcher[int, int]("test", sending, size=lambda item: item)
    items = [BATCH_BYTES // 2, BATCH_BYTES // 2, 1, 2 * BATCH_BYTES, 2]
    async with running(batcher):
        await asyncio.gather(*(batcher.submit(item) for item in items))

    assert sending.batches == [items[:2], [1], [2 * BATCH_BYTES], [2]]


async def test_an_error_for_one_item_is_its_own():
    batcher = Batcher[int, int]("test", Sending())
    async with running(batcher):
        answers = await asyncio.gather(*(batcher.submit(item) for item in (1, -2, 3)), return_exceptions=True)

    assert answers[::2] == [10, 30]
    assert isinstance(answers[1], ValueError)


async def test_a_failed_batch_fails_for_all_and_the_next_goes_out():
    sending = Sending()
    sending.error = OSError("gone")
    batcher = Batcher[int, int]("test", sending)
    async with running(batcher):
        answers = await asyncio.gather(*(batcher.submit(item) for item in (1, 2)), return_exceptions=True)
        sending.error = None

        assert answers == [sending.error or answers[0]] * 2
        assert isinstance(answers[0], OSError)
        assert await batcher.submit(3) == 30


async def test_a_caller_cancelled_before_sending_withdraws_its_item():
    sending = Sending()
    batcher = Batcher[int, int]("test", sending)
    sending.gate.clear()
    async with running(batcher):
        first = batcher.submit(1)
        await let_it_send(sending)
        withdrawn, third = batcher.submit(2), batcher.submit(3)
        withdrawn.cancel()
        sending.gate.set()

        assert await first == 10
        assert await third == 30

    assert sending.batches == [[1], [3]]


@pytest.mark.parametrize("error", [None, OSError("gone")], ids=["answered", "failed"])
async def test_what_was_sent_stands_although_its_caller_was_cancelled(error: OSError | None):
    sending = Sending()
    sending.error = error
    batcher = Batcher[int, int]("test", sending)
    sending.gate.clear()
    async with running(batcher):
        cancelled, other = batcher.submit(1), batcher.submit(2)
        await let_it_send(sending)
        cancelled.cancel()
        sending.gate.set()

        if error is None:
            assert await other == 20
        else:
            with pytest.raises(OSError):
                await other

    assert sending.batches == [[1, 2]]


async def test_when_everybody_has_withdrawn_nothing_is_sent():
    sending = Sending()
    batcher = Batcher[int, int]("test", sending)
    batcher.submit(1).cancel()
    async with running(batcher):
        assert await batcher.submit(2) == 20

    assert sending.batches == [[2]]


async def test_leaving_answers_everybody_who_waits():
    sending = Sending()
    batcher = Batcher[int, int]("test", sending)
    sending.gate.clear()
    async with running(batcher):
        sent = batcher.submit(1)
        cancelled = batcher.submit(2)
        await let_it_send(sending)
        waiting = batcher.submit(3)
        cancelled.cancel()

    for future in (sent, waiting):
        with pytest.raises(NotEntered, match="may have been carried out"):
            await future
    with pytest.raises(NotEntered, match="has been left"):
        batcher.submit(4)
