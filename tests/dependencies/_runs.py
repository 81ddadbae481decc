"""A run without a worker: an execution made by hand, and its dependencies resolved as a worker would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from docket.dependencies import SharedContext
from docket.dependencies._base import Dependency
from docket.dependencies._resolution import compile_plan
from docket.execution import Execution

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass
class Named:
    """Stands for a docket or a worker."""

    name: str
    labels: dict[str, str] = field(default_factory=dict[str, str])


DOCKET: Any = Named("orders")
WORKER: Any = Named("worker-1")


def an_execution(function: Callable[..., Any], *args: Any, key: str = "key-1", attempt: int = 1, **kwargs: Any) -> Execution[Any]:
    return Execution(DOCKET, cast("Any", function), args, kwargs, key, NOW, attempt, function_name=function.__name__)


async def run(
    function: Callable[..., Any],
    *args: Any,
    declared: tuple[Dependency, ...] = (),
    attempt: int = 1,
    shared: SharedContext | None = None,
    overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
    cleanup_timeout: timedelta | None = None,
    **kwargs: Any,
) -> Any:
    """This runs a task's body once, as a worker does."""
    plan = compile_plan(function, function.__name__, declared)
    execution = an_execution(function, *args, attempt=attempt, **kwargs)
    resolved = plan.begin(execution)
    async with resolved.dependencies(docket=DOCKET, worker=WORKER, shared=shared, overrides=overrides, cleanup_timeout=cleanup_timeout) as arguments:
        given = {**kwargs, **arguments}
        if resolved.runtime is not None:
            return await resolved.runtime.run(execution, function, args, given)
        return await function(*args, **given)
