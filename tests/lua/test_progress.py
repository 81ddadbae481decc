"""`progress.lua`."""

from __future__ import annotations

import pytest

from docket._store.records import ProgressChange
from tests.lua._scripts import Item, Lua


async def test_progress_of_a_running_run_is_reported(lua: Lua):
    await lua.running(Item())

    reply = await lua.progress(add=3, total=10, note="a third")

    assert reply == [b"reported", b"3", b"10", b"a third", reply[4]]
    record = await lua.record()
    assert (record["current"], record["total"], record["note"], record["updated_at"]) == ("3", "10", "a third", reply[4].decode())
    assert lua.events == [ProgressChange("k", 1, 3, 10, "a third", int(reply[4]))]


async def test_what_is_not_said_stays(lua: Lua):
    await lua.running(Item())
    await lua.progress(add=3, total=10, note="a third")

    reply = await lua.progress(run=(1, 1), add=2)

    assert reply[:4] == [b"reported", b"5", b"10", b"a third"]


async def test_the_total_is_a_hundred_until_it_is_said(lua: Lua):
    await lua.running(Item())

    assert (await lua.progress(add=1))[:4] == [b"reported", b"1", b"100", b""]


async def test_a_note_can_be_taken_away(lua: Lua):
    await lua.running(Item())
    await lua.progress(note="there")

    await lua.progress(note="")

    assert lua.events == [ProgressChange("k", 1, 0, 100, None, lua.events[0].updated_us if isinstance(lua.events[0], ProgressChange) else None)]


@pytest.mark.parametrize("run", [(2, 1), (1, 2)], ids=["generation", "delivery"])
async def test_another_claim_reports_nothing(lua: Lua, run: tuple[int, int]):
    await lua.running(Item())

    assert await lua.progress(run=run, add=1) == [b"superseded"]

    assert "current" not in await lua.record()
    assert lua.events == []


async def test_a_run_that_is_not_running_has_no_progress(lua: Lua):
    assert await lua.progress(add=1) == [b"superseded"]

    await lua.schedule(Item())

    assert await lua.progress(add=1) == [b"superseded"]
    assert "current" not in await lua.record()


async def test_a_report_that_is_repeated_counts_once(lua: Lua):
    await lua.running(Item())

    first = await lua.progress(run=(1, 1), add=3, note="three", number=1)
    again = await lua.progress(run=(1, 1), add=3, note="three", number=1)
    told_again = lua.events
    next_one = await lua.progress(run=(1, 1), add=2, number=2)

    assert (again, told_again) == (first, [])
    assert next_one[:4] == [b"reported", b"5", b"100", b"three"]
