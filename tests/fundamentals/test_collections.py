"""Collections: any iterable of functions and handles, named by where it stands."""

from __future__ import annotations

import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

import docket as package
from docket import Docket, Perpetual, Worker


async def send(customer_id: int) -> str:
    return f"sent to {customer_id}"


def resize(width: int) -> int:
    return width // 2


@package.task(name="orders.import")
async def import_orders() -> str:
    return "imported"


@Perpetual(every=timedelta(minutes=5))
async def monitor(service: str) -> str:
    return f"{service} is fine"


@pytest.fixture(params=[list, tuple, iter, set], ids=["list", "tuple", "iterator", "set"])
def tasks_module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """This is an importable module with a collection of tasks."""
    module: Any = ModuleType("my_tasks")
    module.collection = request.param([send, resize, import_orders, monitor])
    monkeypatch.setitem(sys.modules, "my_tasks", module)
    return module


@pytest.mark.usefixtures("tasks_module")
async def test_a_collection_holds_functions_and_handles(docket: Docket, worker: Worker):
    docket.register_collection("my_tasks:collection")

    executions = [
        await docket.add("send")(1),
        await docket.add("resize")(100),
        await docket.add("orders.import")(),
        await docket.add("monitor", key="monitor-main")("main"),
    ]
    await worker.run_at_most({"monitor-main": 1})

    assert [await execution.get_result() for execution in executions] == ["sent to 1", 50, "imported", "main is fine"]


@pytest.mark.usefixtures("tasks_module")
async def test_a_worker_loads_a_collection(docket: Docket):
    execution = await docket.add("send")(1)

    await Worker.run(docket.name, docket.url, tasks=["my_tasks:collection"], until_finished=True)

    assert await execution.get_result() == "sent to 1"


async def test_every_docket_has_a_few_tasks_to_try_it_with(docket: Docket, worker: Worker):
    traced, slept, failed = await docket.add("trace")("Howdy!"), await docket.add("sleep")(0.01), await docket.add("fail")("Howdy!")
    await worker.run_until_finished()

    assert await traced.get_result() is await slept.get_result() is None
    with pytest.raises(RuntimeError, match="Howdy!.*attempt 2 of 2"):
        await failed.get_result()
