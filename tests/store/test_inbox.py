"""What was heard and not yet taken."""

from __future__ import annotations

import asyncio

import pytest

from docket._store import inbox as module
from docket._store.inbox import DISCONNECTED, Gap, Inbox, Mark
from docket.errors import NotEntered


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for three messages of one byte."""
    monkeypatch.setattr(module, "ROOM", 3 * (1 + 200))


async def taken(inbox: Inbox) -> list[bytes | Mark | Gap]:
    items: list[bytes | Mark | Gap] = []
    while (item := await inbox.get(0)) is not None:
        items.append(item)
    return items


async def test_what_came_first_is_taken_first():
    inbox = Inbox()
    inbox.put(b"1")
    inbox.mark(7)
    inbox.interrupt()
    inbox.put(b"2")

    assert await taken(inbox) == [b"1", Mark(7), DISCONNECTED, b"2"]


async def test_who_waits_is_woken_and_who_waits_in_vain_is_told():
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.get(None))
    await asyncio.sleep(0)
    inbox.put(b"1")

    assert await waiting == b"1"
    assert await inbox.get(0.001) is None


async def test_one_interruption_after_another_is_one():
    inbox = Inbox()
    inbox.interrupt()
    inbox.interrupt()
    inbox.put(b"1")
    inbox.interrupt()

    assert await taken(inbox) == [DISCONNECTED, b"1", DISCONNECTED]


@pytest.mark.usefixtures("small")
async def test_what_there_is_no_room_for_is_left_out_and_counted():
    inbox = Inbox()
    for number in b"123456":
        inbox.put(bytes([number]))

    assert await taken(inbox) == [b"1", b"2", b"3", Gap("overflow", 3)]


@pytest.mark.usefixtures("small")
async def test_after_the_gap_was_taken_everything_is_kept_again():
    inbox = Inbox()
    for number in b"12345":
        inbox.put(bytes([number]))
    for _ in range(3):
        await inbox.get(0)
    inbox.put(b"6")  # there would be room, but what came before it was left out

    assert await inbox.get(0) == Gap("overflow", 3)
    for number in b"789":
        inbox.put(bytes([number]))
    assert await taken(inbox) == [b"7", b"8", b"9"]


@pytest.mark.usefixtures("small")
async def test_room_comes_back_as_messages_are_taken():
    inbox = Inbox()
    for number in range(50):
        inbox.put(b"%d" % (number % 10))
        inbox.put(b"x")
        assert await inbox.get(0) == b"%d" % (number % 10)
        assert await inbox.get(0) == b"x"


@pytest.mark.usefixtures("small")
async def test_marks_and_interruptions_are_kept_in_any_case():
    inbox = Inbox()
    for number in b"1234":
        inbox.put(bytes([number]))
    inbox.mark(1)
    inbox.interrupt()

    assert await taken(inbox) == [b"1", b"2", b"3", Gap("overflow", 1), Mark(1), DISCONNECTED]


async def test_a_closed_inbox_gives_what_it_holds_and_then_says_so():
    inbox = Inbox()
    inbox.put(b"1")
    inbox.close()

    assert await inbox.get(None) == b"1"
    with pytest.raises(NotEntered):
        await inbox.get(None)


async def test_who_waits_as_it_is_closed_is_told():
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.get(None))
    await asyncio.sleep(0)
    inbox.close()

    with pytest.raises(NotEntered):
        await waiting


async def test_who_takes_many_at_once_lets_others_run():
    inbox = Inbox()
    for _ in range(1000):
        inbox.put(b"x")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(other())
    for _ in range(1000):
        await inbox.get(None)
    others.cancel()

    assert turns >= 9


async def test_who_is_cancelled_as_it_waits_takes_nothing_along():
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.get(None))
    await asyncio.sleep(0)
    inbox.put(b"1")
    waiting.cancel()
    await asyncio.wait([waiting])

    assert await inbox.get(0) == b"1"
