"""Reads `--tasks`: each path names a collection of tasks or a whole docket.

Finding the object is `_loading`'s business; registering the tasks and running the docket is the worker's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from docket._loading import load, members_of
from docket._task import SyncTask, Task, handle_of, unwrapped
from docket.dependencies._resolution import Plan, compile_plan
from docket.docket import Docket
from docket.errors import LoadError

__all__ = ["LoadedTasks", "load_tasks"]

AnyTask: TypeAlias = "Task[..., Any] | SyncTask[..., Any]"


@dataclass(frozen=True)
class LoadedTasks:
    """This is what the paths of `--tasks` lead to."""

    functions: list[Any]
    """The functions and handles of all collections, in order."""
    docket: Docket | None
    """The docket that was named, with every task declared on it; None when only collections were."""

    def has_automatic_tasks(self) -> bool:
        """This says whether a worker would find work without anybody scheduling any."""
        plans = [_plan_of(function) for function in self.functions]
        if self.docket is not None:
            plans += [registered.plan for registered in self.docket.registry]
        return any(plan.perpetual is not None and plan.perpetual.automatic for plan in plans)


def load_tasks(paths: Sequence[str]) -> LoadedTasks:
    """This loads what every path names: `module:collection` (an iterable of functions or handles) or `module:docket`.

    Raises `LoadError` when a path leads to nothing or to something else, and when two paths name different dockets.
    """
    functions: list[Any] = []
    docket: Docket | None = None
    named_by = ""
    for path in paths:
        found = load(path)
        if not isinstance(found, Docket):
            functions.extend(members_of(path, found))
        elif docket is None or docket is found:
            docket, named_by = found, path
        else:
            raise LoadError(f"{named_by!r} is docket {docket.name!r} and {path!r} is docket {found.name!r}; a worker runs one docket, so name one of them")
    return LoadedTasks(functions, docket)


def _plan_of(function: Any) -> Plan:
    function = unwrapped(function)
    handle = cast("AnyTask", function) if isinstance(function, (Task, SyncTask)) else handle_of(function)
    return compile_plan(handle.function, handle.name, handle.declared)
