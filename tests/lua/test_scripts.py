"""How scripts are put together, and what holds for the text of each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docket._redis.scripts import script_names, scripts
from tests.lua._scripts import Lua

FOLDER = Path(__file__).parent.parent.parent / "docket" / "lua"
# Lua of the in-process engine lacks these (measured); those that only servers need stand in an include of their own.
NOT_EVERYWHERE = [
    "TIME",
    "HMGET",
    "INCR",
    "PERSIST",
    "PTTL",
    "UNLINK",
    "TYPE",
    "ZPOPMIN",
    "ZCOUNT",
    "HSETNX",
    "HLEN",
    "STRLEN",
    "ZRANK",
    "SCAN",
    "XGROUP",
    "XTRIM",
    "XPENDING",
    "XCLAIM",
    "XAUTOCLAIM",
    "cjson",
    "cmsgpack",
    "error_reply",
    "status_reply",
]


def test_every_script_has_its_tests():
    assert {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")} - {"scripts"} == set(script_names())


@pytest.mark.parametrize("name", script_names())
def test_a_script_opens_with_what_it_takes_and_answers(name: str):
    head = re.match(r"(--.*\n)+", (FOLDER / f"{name}.lua").read_text())

    assert head is not None
    for word in ("KEYS: ", "ARGV: ", "Replies", "Events: "):
        assert word in head[0]


@pytest.mark.parametrize("name", script_names())
def test_on_memory_a_script_uses_only_what_the_engine_has(name: str):
    source = re.sub(r"--.*", "", scripts("memory")[name].source)

    assert [word for word in NOT_EVERYWHERE if re.search(rf"\b{word}\b", source)] == []


@pytest.mark.parametrize("name", script_names())
def test_a_script_takes_time_from_the_server_or_from_the_caller(name: str):
    assert "redis.call('TIME')" in scripts("server")[name].source
    assert "redis.call('TIME')" not in scripts("memory")[name].source


def test_scripts_are_put_together_once():
    assert scripts("server") is scripts("server")
    assert all(len(script.sha) == 40 for script in scripts("memory").values())


@pytest.mark.only_server("the keys that a script touches are seen by MONITOR")
async def test_a_script_that_touched_more_than_its_keys_would_be_caught(lua: Lua):
    await lua.store.backend.script("depart", [lua.keys.workers, lua.keys.worker("w~1"), lua.keys.leases], (lua.keys.state(""), "w~1"))

    with pytest.raises(AssertionError, match="leases, which is not among the KEYS"):
        lua.check_touched({lua.keys.workers, lua.keys.worker("w~1")})
