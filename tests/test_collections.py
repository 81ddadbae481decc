"""What `--tasks` may name, and what comes of it."""

import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from docket import Docket, Perpetual
from docket._collections import load_tasks
from docket.errors import LoadError


async def send() -> None: ...


async def receive() -> None: ...


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An importable module of this test's own."""
    module = ModuleType("my_tasks")
    monkeypatch.setitem(sys.modules, "my_tasks", module)
    return module


def test_collections_give_their_members_in_order(module: Any):
    module.first = [receive]
    module.second = (each for each in (send,))

    loaded = load_tasks(["my_tasks:first", "my_tasks:second"])

    assert loaded.functions == [receive, send]
    assert loaded.docket is None


def test_a_docket_is_given_whole(module: Any):
    module.docket = Docket(name="mine", url="memory://mine")
    module.collection = [send]

    loaded = load_tasks(["my_tasks:docket", "my_tasks:collection", "my_tasks:docket"])

    assert loaded.docket is module.docket
    assert loaded.functions == [send]


def test_two_dockets_are_refused_because_a_worker_runs_one(module: Any):
    module.one = Docket(name="one", url="memory://one")
    module.two = Docket(name="two", url="memory://two")

    with pytest.raises(LoadError, match="'my_tasks:one' is docket 'one' and 'my_tasks:two' is docket 'two'; a worker runs one docket"):
        load_tasks(["my_tasks:one", "my_tasks:two"])


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (send, "is a single callable; put it into a list"),
        (5, "is a int; name a list of tasks, or a Docket"),
        ("send", "is a str; name a list of tasks, or a Docket"),
        ([send, 5], "holds a int at position 1"),
        ({"send": send}, "holds a str at position 0"),
    ],
)
def test_anything_else_is_refused(found: object, complaint: str, module: Any):
    module.found = found

    with pytest.raises(LoadError, match=f"^'my_tasks:found' {complaint}"):
        load_tasks(["my_tasks:found"])


def test_automatic_tasks_are_seen_in_collections_and_in_dockets(module: Any):
    @Perpetual(every=timedelta(hours=1), automatic=True)
    async def beat() -> None: ...

    module.docket = Docket(name="mine", url="memory://mine")
    module.plain, module.beating = [send], [send, beat]

    assert not load_tasks(["my_tasks:docket", "my_tasks:plain"]).has_automatic_tasks()
    assert load_tasks(["my_tasks:beating"]).has_automatic_tasks()

    module.docket.register(beat)

    assert load_tasks(["my_tasks:docket"]).has_automatic_tasks()
