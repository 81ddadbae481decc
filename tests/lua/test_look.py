"""`look.lua`."""

from __future__ import annotations

from docket._store.base import as_dict
from tests._waiting import eventually
from tests.lua._scripts import Item, Lua


class Ear:
    """This hears."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)

    def on_interruption(self) -> None: ...


async def test_the_record_is_answered_and_the_mark_comes_on_the_askers_channel(lua: Lua):
    ear, other = Ear(), Ear()
    mine = lua.keys.echo("mine")
    await lua.store.backend.subscriber.add(mine, ear)
    await lua.store.backend.subscriber.add(lua.keys.echo("other"), other)
    await lua.schedule(Item())

    reply = await lua.run("look", [lua.keys.run("k")], mine, 7)

    record = as_dict(reply)
    assert {name.decode(): value.decode() for name, value in record.items()} == await lua.record()
    assert record[b"state"] == b"queued"
    assert lua.events == []
    await eventually(lambda: ear.messages == [b"7"])
    assert other.messages == []


async def test_where_there_is_no_record_the_mark_comes_all_the_same(lua: Lua):
    ear = Ear()
    await lua.store.backend.subscriber.add(lua.keys.echo("mine"), ear)

    assert await lua.run("look", [lua.keys.run("k")], lua.keys.echo("mine"), 1) == []

    await eventually(lambda: ear.messages == [b"1"])


async def test_a_mark_comes_after_what_was_told_before_and_before_what_is_told_after(lua: Lua):
    ear = Ear()
    subscriber = lua.store.backend.subscriber
    await subscriber.add(lua.keys.echo("mine"), ear)
    await subscriber.add(lua.keys.state("a"), ear)

    await lua.schedule(Item("a"))
    await lua.run("look", [lua.keys.run("a")], lua.keys.echo("mine"), 1)
    await lua.cancel("a")

    await eventually(lambda: len(ear.messages) == 3)
    assert [message.split(b" ")[2] if b" " in message else message for message in ear.messages] == [b"queued", b"1", b"cancelled"]
