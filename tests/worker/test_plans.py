"""Which plan a name stands for on a worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from docket import Depends, Docket, Retry, Timeout
from docket._worker._plans import Plans, checked_dependencies
from docket.errors import InvalidOption, InvalidWorkerDependency


async def task() -> None: ...
async def fallback() -> None: ...


def test_dependencies_are_given_as_mapping_or_sequence():
    one, other = Timeout(timedelta(seconds=1)), Retry(2)

    assert checked_dependencies(None) == ()
    assert checked_dependencies([one, other]) == (one, other)
    assert checked_dependencies({"one": one, "other": other}) == (one, other)


def test_names_of_dockets_own_are_refused():
    with pytest.raises(InvalidOption, match="'__one' has a name that starts with two underscores"):
        checked_dependencies({"__one": Timeout(timedelta(seconds=1))})


@pytest.mark.parametrize(("given", "named"), [({"one": 5}, "one"), ([Retry(1), 5], "number 1")])
def test_what_is_no_dependency_is_refused(given: Any, named: str):
    with pytest.raises(InvalidWorkerDependency, match=f"the worker dependency {named} is a int"):
        checked_dependencies(given)
    with pytest.raises(TypeError):
        checked_dependencies(given)


def test_without_dependencies_it_is_the_plan_of_the_docket():
    docket = Docket()
    docket.register(task)
    plans = Plans(docket.registry, (), None)

    registered = docket.registry.get("task")
    assert registered is not None
    assert plans.find("task") is registered.plan
    assert plans.find("nobody") is None
    assert plans.knows("task") and not plans.knows("nobody")


def test_dependencies_go_around_every_task_and_the_plan_is_made_once():
    docket = Docket()
    docket.register(task)
    plans = Plans(docket.registry, (Timeout(timedelta(seconds=1)),), None)

    made = plans.find("task")

    assert made is not None and made.runtime is not None
    assert plans.find("task") is made


def test_a_task_that_is_registered_again_gets_a_new_plan():
    docket = Docket()
    plans = Plans(docket.registry, (Timeout(timedelta(seconds=1)),), None)

    def define(times: int) -> Any:
        async def again() -> int:
            return times

        return again

    docket.register(define(1))
    first = plans.find("again")
    docket.register(define(2))
    second = plans.find("again")

    assert first is not None and second is not None
    assert first.function is not second.function


def test_a_clash_is_raised_for_the_task_that_has_it_only():
    async def impatient(timeout: Timeout = Timeout(timedelta(seconds=1))) -> None: ...

    docket = Docket()
    docket.register(task)
    docket.register(impatient)
    plans = Plans(docket.registry, (Timeout(timedelta(seconds=2)),), None)

    assert plans.find("task")
    with pytest.raises(InvalidOption, match="impatient"):
        plans.find("impatient")


def test_a_fallback_knows_every_name():
    docket = Docket()
    docket.register(task)
    plans = Plans(docket.registry, (Timeout(timedelta(seconds=2)),), fallback)

    found = plans.find("nobody")
    assert found is not None and found.function is fallback and found.runtime is not None
    own = plans.find("task")
    assert own is not None and own.function is task
    assert plans.knows("nobody")


def test_a_fallback_may_be_anything_that_can_be_called():
    class Anything:
        async def __call__(self, *args: Any, value: int = Depends(lambda: 5)) -> int:
            return value

    found = Plans(Docket().registry, (), Anything()).find("nobody")

    assert found is not None and found.name == "fallback" and found.is_coroutine
