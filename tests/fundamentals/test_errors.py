"""Errors: they say what was asked, what was found and what to do, and come before anything is written.

Each stands under `DocketError`, and under the built-in that one would expect.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable
from datetime import datetime, timedelta, timezone
from types import ModuleType
from typing import Any

import pytest

from docket import Docket, DocketError, Worker
from docket.errors import InvalidArguments, InvalidSchedule, InvalidURL, LoadError, NameTaken, NotEntered, NotSerializable, RedisUnavailable, UnknownTask


async def send(customer_id: int, name: str = "Jane") -> None: ...


async def test_a_docket_that_was_not_entered(docket_name: str, url: str):
    docket = Docket(docket_name, url)

    with pytest.raises(NotEntered, match=f"docket '{docket_name}' is not entered; do this inside `async with docket:`") as caught:
        await docket.add(send)(1)
    assert isinstance(caught.value, (DocketError, RuntimeError))
    uses: list[Awaitable[object]] = [docket.cancel("k"), docket.get_execution("k"), docket.add_many([]), docket.task(send).schedule(1)]
    for use in uses:
        with pytest.raises(NotEntered):
            await use


async def test_arguments_that_do_not_bind_to_the_signature(docket: Docket):
    unchecked: Any = send  # a type checker would tell as well
    attempts: list[Awaitable[object]] = [
        docket.add(unchecked, key="k")(),
        docket.add(unchecked, key="k")(1, nmae="Jane"),
        docket.replace(unchecked, None, "k")(1, "Jane", "Smith"),
        docket.add("send", key="k")(1, 2, 3),
        docket.task(send).schedule(key="k"),
    ]

    for attempt in attempts:
        with pytest.raises(InvalidArguments, match=r"^send\(customer_id: int, name: str = 'Jane'\) cannot be called like that: ") as caught:
            await attempt
        assert isinstance(caught.value, TypeError)
    assert await docket.get_execution("k") is None


async def test_an_argument_that_cannot_be_pickled(docket: Docket):
    lock: Any = threading.Lock()

    with pytest.raises(NotSerializable, match=r"^argument 1 \(a lock\) cannot be pickled: .* Pass what it is made from") as caught:
        await docket.add(send, key="k")(lock)
    with pytest.raises(NotSerializable, match="^argument 'name'"):
        await docket.add(send, key="k")(1, name=lock)
    assert isinstance(caught.value, TypeError)
    assert await docket.get_execution("k") is None


async def test_a_time_without_a_time_zone(docket: Docket):
    naive = datetime(2030, 1, 1, 12)

    for attempt in (
        lambda: docket.add(send, when=naive, key="k")(1),
        lambda: docket.replace(send, when=naive, key="k")(1),
        lambda: docket.task(send).schedule(1, key="k", when=naive),
        lambda: docket.task(send).options(key="k", when=naive).schedule(1),
    ):
        with pytest.raises(InvalidSchedule, match=r"^when is 2030-01-01T12:00:00, without a time zone.*datetime\.now\(timezone\.utc\)") as caught:
            await attempt()
        assert isinstance(caught.value, ValueError)
    assert await docket.get_execution("k") is None


async def test_a_key_that_is_none(docket: Docket):
    keys: list[Any] = ["", 5]
    for key in keys:
        with pytest.raises(InvalidSchedule, match="^key is .*; give a string that is not empty"):
            await docket.add(send, key=key)(1)


async def test_a_name_that_stands_for_another_function(docket: Docket):
    def another() -> Any:
        async def send() -> None: ...

        return send

    docket.register(send)

    with pytest.raises(
        NameTaken, match=r"^the name 'send' stands for .*test_errors\.send .* so it cannot stand for .*another\.<locals>\.send too; give one"
    ) as caught:
        await docket.add(another(), key="k")()
    assert isinstance(caught.value, ValueError)
    assert docket.tasks["send"] is send
    assert await docket.get_execution("k") is None


@pytest.fixture
def tasks_module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """This is an importable module with a collection of tasks."""
    module: Any = ModuleType("my_tasks")
    module.collection = [send]
    monkeypatch.setitem(sys.modules, "my_tasks", module)
    return module


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("my_tasks:colection", "no 'colection' in module 'my_tasks'; did you mean 'collection'?"),
        ("my_tasks", "write module:member, such as my_tasks:tasks"),
        ("nowhere_to_be_found:tasks", "there is no module 'nowhere_to_be_found'"),
        ("subproces:run", "there is no module 'subproces'; did you mean 'subprocess'?"),
    ],
)
async def test_a_collection_that_is_not_there(tasks_module: Any, path: str, said: str):
    with pytest.raises(LoadError) as caught:
        Docket().register_collection(path)
    assert str(caught.value).startswith(f"Cannot load '{path}': {said}")
    assert isinstance(caught.value, ImportError)
    with pytest.raises(LoadError):
        await Worker.run(tasks=[path], url="memory://never", until_finished=True)


async def test_a_task_that_must_run_here_and_is_not_known(docket: Docket):
    execution = await docket.add("sned", key="k")(1)

    with pytest.raises(UnknownTask, match=f"^no task named 'sned' is registered with docket '{docket.name}' in this process") as caught:
        execution.function(1)
    assert isinstance(caught.value, KeyError)
    await docket.cancel("k")


@pytest.mark.parametrize("url", ["http://user:secret@host:6379/0", "redis://user:secret@host:port/0", "user:secret@host", "redis://host/0?passwort=secret"])
async def test_a_url_that_is_none(url: str):
    docket = Docket(url=url)

    with pytest.raises(InvalidURL) as caught:
        await docket.__aenter__()
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert not docket.is_entered


async def test_a_server_that_cannot_be_reached():
    docket = Docket(url="redis://user:secret@127.0.0.1:1/0")

    with pytest.raises(RedisUnavailable, match=r"127\.0\.0\.1:1") as caught:
        await docket.__aenter__()
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, ConnectionError)


async def test_the_ways_to_wait_for_a_result_that_never_comes(docket: Docket):
    execution = await docket.add(send, when=timedelta(hours=1))(1)

    with pytest.raises(TimeoutError) as caught:
        await execution.get_result(deadline=datetime.now(timezone.utc))
    assert isinstance(caught.value, DocketError)
    await docket.cancel(execution.key)
