"""Whatever is published on a docket's channels: who listens goes on listening."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket._messages import loads_netstrings
from docket._store.events import Feed, Signals
from docket._store.records import ProgressChange, StateChange
from docket.errors import PayloadError
from tests._examples import examples
from tests.fuzz._damage import LONG_NUMBERS, anything, damaged, packed

pytestmark = pytest.mark.usefixtures("bounded_memory")

FIELDS = st.sampled_from([b"", b"k", b"p", b"1", b"-1", b"7.5", b" 7", b"1_0", b"\xff", b"cancelled", b"replaced", b"running", b"9" * 30]) | LONG_NUMBERS
netstrings = st.lists(FIELDS | st.binary(max_size=8), max_size=8).map(packed)
numbers = st.sampled_from([b"0", b"1", b"-1", b"", b"x", b"3.5", b"9" * 20]) | LONG_NUMBERS


def _transition(words: tuple[bytes, ...], free: bytes) -> bytes:
    return b"s " + b" ".join(words) + b"\n" + free


transitions = st.builds(
    _transition,
    st.tuples(numbers, st.sampled_from([b"queued", b"completed", b"gone"]), numbers, numbers, numbers, st.sampled_from([b"", b"1", b"9"]), numbers, numbers),
    st.binary(max_size=20),
)
published = netstrings | damaged(netstrings) | transitions | damaged(transitions) | anything


class Nobody:
    """This is a subscriber that hears nothing by itself."""

    connected = True

    def __init__(self) -> None:
        self.listeners: dict[str, Any] = {}

    def hears(self, channel: str) -> bool:
        return False

    async def add(self, channel: str, listener: Any, *, prefix: bool = False, sharded: bool = False) -> bool:
        self.listeners[channel] = listener
        return True

    async def remove(self, channel: str, listener: Any, *, prefix: bool = False, sharded: bool = False) -> None:
        del self.listeners[channel]


@examples(300)
@given(published)
def test_netstrings_are_read_or_refused(message: bytes):
    try:
        fields = loads_netstrings(message)
    except PayloadError:
        return
    assert sum(len(field) for field in fields) < len(message) or not message


@examples(400)
@given(published)
def test_an_event_is_read_or_counts_as_missed(message: bytes):
    async def heard() -> Any:
        feed = Feed(Nobody(), "channel")  # pyright: ignore[reportArgumentType] - as much of a subscriber as it needs
        feed.on_message(message)
        return await feed.get(None)

    change = asyncio.run(heard())

    assert change is None or isinstance(change, (StateChange, ProgressChange))
    if isinstance(change, StateChange):
        change.key.encode()


@examples(300)
@given(published)
def test_a_word_to_workers_is_understood_or_passed_over(message: bytes):
    told: list[Any] = []

    def cancelled(key: str, generation: int, reason: str) -> None:
        told.append((key, generation, reason))

    async def told_of() -> None:
        nobody = Nobody()
        signals = Signals(nobody, [("wake", told.append)], "cancel", cancelled)  # pyright: ignore[reportArgumentType] - as above
        async with signals:
            for listener in nobody.listeners.values():
                listener.on_message(message)

    asyncio.run(told_of())

    assert all(moment is None or isinstance(moment, (int, tuple)) for moment in told)
