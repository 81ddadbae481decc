"""`hand.lua`."""

from __future__ import annotations

import pytest

from tests.lua._scripts import Lua


@pytest.mark.parametrize(("stands", "version", "instead_of", "after"), [
    (None, 7, "", b"7"),
    (6, 7, "", b"7"),
    (8, 7, "", b"8"),
    (8, 7, 8, b"7"),
    (9, 7, 8, b"9"),
    (None, 7, 0, b"7"),
    ("nonsense", 7, "", b"7"),
    ("nonsense", 7, 0, b"7"),
    (9_999_999_999_999_999, 7, 0, b"7"),
])  # fmt: skip
async def test_a_version_is_handed_on(lua: Lua, stands: int | str | None, version: int, instead_of: int | str, after: bytes):
    """A later change is not taken back by one that was handed on late; a reader who has looked brings back what it replaces, and nothing else. What is no version counts as none."""
    if stands is not None:
        await lua.store.backend.call("HSET", lua.keys.meta, "strikes", stands)

    assert await lua.run("hand", [lua.keys.meta], version, instead_of) == after
    assert await lua.run("hand", [lua.keys.meta], version, instead_of) == after
    assert await lua.store.backend.call("HGET", lua.keys.meta, "strikes") == after
