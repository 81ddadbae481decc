"""Names and what they stand for on a docket."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import docket as package
from docket import Docket, Perpetual
from docket.errors import LoadError, NameTaken, NotEntered, UnknownTask


async def send(number: int) -> None: ...


def another_function_named(name: str) -> Callable[..., Any]:
    async def function() -> None: ...

    function.__name__ = name
    return function


def test_a_docket_starts_with_the_standard_tasks():
    assert set(Docket().tasks) == {"trace", "fail", "sleep"}


def test_a_function_is_registered_under_its_name_or_others():
    docket = Docket()
    docket.register(send)
    docket.register(send, names=["a", "b"])

    assert {name for name, function in docket.tasks.items() if function is send} == {"send", "a", "b"}


def test_registering_the_same_again_changes_nothing():
    docket = Docket()
    docket.register(send)
    before = docket.registry.get("send")

    docket.register(send)

    assert docket.registry.get("send") is before


def test_another_function_under_a_taken_name_is_refused_and_both_are_named():
    docket = Docket()
    docket.register(send)

    with pytest.raises(NameTaken, match=r"'send' stands for .*test_registry\.send .*another_function_named.<locals>\.function"):
        docket.register(another_function_named("send"))
    assert docket.tasks["send"] is send


def test_redefining_a_function_replaces_it():
    def define() -> Callable[[], None]:
        def job() -> None: ...

        return job

    docket = Docket()
    first, second = define(), define()
    docket.register(first)
    docket.register(second)

    assert docket.tasks["job"] is second
    assert docket.registry.ensure(second).function is second


def test_a_task_of_the_users_takes_the_name_of_a_standard_one():
    docket = Docket()
    function = another_function_named("sleep")
    docket.register(function)

    assert docket.tasks["sleep"] is function


def test_a_handle_declared_with_a_name_keeps_it_when_it_is_registered():
    docket, other = Docket(), Docket()
    handle = docket.task(name="emails.send")(send)
    other.register(handle)
    other.register(handle, names=["alias"])

    assert other.tasks["emails.send"] is other.tasks["alias"] is send


def test_a_scheduler_is_registered_as_its_task():
    docket, other = Docket(), Docket()
    other.register(docket.add(send))

    assert other.tasks["send"] is send


def test_a_behaviour_declared_later_is_registered():
    docket = Docket()
    docket.register(send)
    perpetual = Perpetual()
    docket.register(perpetual(send))

    registered = docket.registry.get("send")
    assert registered is not None
    assert registered.declared == (perpetual,)


def test_a_name_that_must_be_known_here_and_is_not_suggests_another():
    docket = Docket("orders")
    docket.register(send)

    with pytest.raises(UnknownTask, match=r"no task named 'sned'.*'orders'.*did you mean 'send'\?"):
        docket.registry.handle("sned")
    with pytest.raises(KeyError):
        docket.registry.handle("sned")


def test_a_registry_tells_what_it_holds():
    docket = Docket()
    docket.register(send)

    assert len(docket.registry) == 4
    assert [registered.name for registered in docket.registry][-1] == "send"


@pytest.fixture
def tasks_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("my_tasks")
    module.tasks = (send, Perpetual()(another_function_named("other")))
    module.number = 5
    module.text = "send"
    module.mixed = [send, 5]
    monkeypatch.setitem(sys.modules, "my_tasks", module)
    return module


def test_a_collection_is_registered_by_its_path(tasks_module: ModuleType):
    docket = Docket()
    docket.register_collection("my_tasks:tasks")

    assert {"send", "other"} < set(docket.tasks)


@pytest.mark.parametrize("path", ["my_tasks:number", "my_tasks:text", "my_tasks:mixed", "my_tasks:tsks", "no_such_module:tasks", "my_tasks"])
def test_a_path_that_leads_to_no_collection_is_refused(tasks_module: ModuleType, path: str):
    docket = Docket()

    with pytest.raises(LoadError, match=path.partition(":")[0]):
        docket.register_collection(path)
    assert "send" not in docket.tasks


def test_a_registration_survives_an_annotation_that_only_type_checkers_see():
    def typed(number: OnlyForTypeCheckers, other: int) -> None: ...  # pyright: ignore  # noqa: F821, PGH003

    docket = Docket()
    docket.register(typed)  # pyright: ignore[reportUnknownArgumentType]

    assert docket.tasks["typed"] is typed


async def test_a_docket_that_is_entered_is_not_reconfigured(docket: Docket):
    docket.reconfigure(name=docket.name)  # nothing changes

    with pytest.raises(NotEntered, match="is entered, so its options cannot be changed"):
        docket.reconfigure(missed_heartbeats=9)

    assert docket.missed_heartbeats == 5


async def test_another_handle_of_a_known_function_is_not_bound_by_being_scheduled(docket: Docket):
    docket.register(send)
    handle = package.task(send)

    execution = await handle.schedule(1)

    assert execution.docket is docket
    assert handle.known_docket is None
    await docket.cancel(execution.key)
