from __future__ import annotations

from typing import Annotated, Any

import pytest

from docket.dependencies import (
    Dependency,
    Depends,
    ExponentialRetry,
    Retry,
    TaskKey,
    Timeout,
    get_annotation_dependencies,
    get_dependency_parameters,
    get_single_dependency_of_type,
    get_single_dependency_parameter_of_type,
    resolved_dependencies,
    validate_dependencies,
)
from docket.dependencies._parameters import dependency_parameters
from tests.dependencies._runs import DOCKET, an_execution

RETRY = ExponentialRetry(attempts=2)
ACTING = Dependency()


async def task(a: Annotated[int, ACTING], key: str = TaskKey(), retry: Retry = RETRY):
    return key


def test_a_function_tells_what_it_depends_on():
    assert list(get_dependency_parameters(task)) == ["key", "retry"]
    assert get_annotation_dependencies(task) == {"a": [ACTING]}
    assert get_single_dependency_parameter_of_type(task, Retry) is RETRY
    assert get_single_dependency_parameter_of_type(task, Timeout) is None
    assert get_single_dependency_of_type({"x": 1, "retry": RETRY}, Retry) is RETRY
    assert dependency_parameters(task) is dependency_parameters(task)


def test_a_function_is_checked_as_registering_it_would():
    async def broken(one: Retry = Retry(), two: Retry = RETRY): ...

    validate_dependencies(task)
    with pytest.raises(ValueError, match="Only one"):
        validate_dependencies(broken)


async def test_the_dependencies_of_an_execution_can_be_resolved_outside_a_worker():
    class Worker:
        docket = DOCKET
        name = "worker"

    worker: Any = Worker()
    async with resolved_dependencies(worker, an_execution(task, 1, key="k")) as arguments:
        assert arguments["key"] == "k" and arguments["retry"].attempts == 2


def test_depends_reads_well_in_messages():
    assert repr(Depends(task, a=1)) == "Depends(task, a=1)"
