"""Asking a function, or a run, for its dependencies: for tools that build on docket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from docket.dependencies._base import Dependency
from docket.dependencies._parameters import dependency_parameters, parameters_of
from docket.dependencies._resolution import compile_plan
from docket.dependencies._shared import SharedContext

if TYPE_CHECKING:
    from docket.execution import Execution
    from docket.worker import Worker

__all__ = [
    "get_annotation_dependencies",
    "get_dependency_parameters",
    "get_single_dependency_of_type",
    "get_single_dependency_parameter_of_type",
    "resolved_dependencies",
    "validate_dependencies",
]

D = TypeVar("D", bound=Dependency)


def get_dependency_parameters(function: Callable[..., Any]) -> dict[str, Dependency]:
    """This gives the parameters of a function that a worker fills, with what fills them."""
    return dict(dependency_parameters(function))


def get_annotation_dependencies(function: Callable[..., Any]) -> dict[str, list[Dependency]]:
    """This gives the dependencies that act for single arguments, from their `Annotated` metadata."""
    return {name: list(actors) for name, actors in parameters_of(function).acting.items()}


def get_single_dependency_parameter_of_type(function: Callable[..., Any], dependency_type: type[D]) -> D | None:
    """This gives the one default of a function's parameters that is of that type, or None."""
    return get_single_dependency_of_type(dependency_parameters(function), dependency_type)


def get_single_dependency_of_type(dependencies: Mapping[str, Any], dependency_type: type[D]) -> D | None:
    """This gives the one value that is of that type, or None."""
    return next((value for value in dependencies.values() if isinstance(value, dependency_type)), None)


def validate_dependencies(function: Callable[..., Any]) -> None:
    """This raises the error that registering the function would raise for its dependencies, a ValueError, if it would."""
    compile_plan(function, getattr(function, "__name__", repr(function)))


@asynccontextmanager
async def resolved_dependencies(worker: Worker, execution: Execution[Any]) -> AsyncGenerator[dict[str, Any]]:
    """This resolves an execution's dependencies as a worker would, and closes them on leaving."""
    plan = compile_plan(execution.function, execution.function_name)
    async with SharedContext() as shared, plan.begin(execution).dependencies(docket=worker.docket, worker=worker, shared=shared) as arguments:
        yield arguments
