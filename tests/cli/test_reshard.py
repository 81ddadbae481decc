"""`docket reshard --to N`: what it moves, and what it says of it."""

from __future__ import annotations

import json

import pytest

from docket import Docket
from tests.cli._command import Command

pytestmark = pytest.mark.only_server("a command is a process of its own")


async def test_a_docket_is_moved_and_told_how_much_that_was(docket_name: str, url: str, pointed: Command):
    async with Docket(docket_name, url) as docket:
        for key in "abc":
            await docket.add("job", key=key)()

    moved = pointed("reshard", "--to", "4")
    assert (moved.returncode, moved.stderr) == (0, "")
    assert moved.stdout == f"Moved the docket '{docket_name}' from 1 shard(s) to 4: 3 tasks, 0 dead letters.\n"
    listed = pointed("ls", "--json")
    assert sorted(json.loads(line)["key"] for line in listed.stdout.splitlines()) == ["a", "b", "c"]

    again = pointed("reshard", "--to", "4")
    assert again.stdout == f"The docket '{docket_name}' has 4 shard(s) already.\n"
    back = json.loads(pointed("reshard", "--to", "1", "--json").stdout)
    assert back == {"docket": docket_name, "before": 4, "after": 1, "runs": 3, "letters": 0}
    async with Docket(docket_name, url, shards=1) as docket:
        assert (await docket.counts()).queued == 3
        await docket.clear()


def test_a_docket_in_memory_is_refused(docket_command: Command):
    refused = docket_command("reshard", "--to", "4", "--url", "memory://x")

    assert refused.returncode == 1 and "nothing in it to move" in refused.stderr


@pytest.mark.parametrize("number", ["0", "257", "many"])
def test_what_is_no_number_of_shards_is_refused(docket_command: Command, number: str):
    assert docket_command("reshard", "--to", number).returncode == 2
