"""Asserts about what is scheduled: everything that is to run and has not begun, whether it is due later, ready now, or held back by a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from docket._task import Handle
from docket.errors import PayloadError
from docket.states import ExecutionState

if TYPE_CHECKING:
    from docket.docket import Docket
    from docket.execution import Execution

__all__ = ["assert_no_tasks", "assert_task_count", "assert_task_not_scheduled", "assert_task_scheduled"]

_LISTED = 20
"""Tasks that a message lists."""

Task = Callable[..., Any] | str
"""A task as asserts take it: its function, its handle, or its name."""


async def assert_task_scheduled(
    docket: Docket, function: Task, *, args: tuple[Any, ...] | None = None, kwargs: Mapping[str, Any] | None = None, key: str | None = None
) -> None:
    """This asserts that a run of a task is scheduled: with just these positional arguments, with these keyword arguments among others, under this key."""
    __tracebackhide__ = True
    found = await _not_begun(docket)
    if not found:
        raise AssertionError(f"Task {_name(function)} not found: no tasks scheduled on docket")
    if not any(_matches(docket, execution, function, args, kwargs, key) for execution in found):
        criteria = _criteria(args, kwargs, key)
        raise AssertionError(f"Task {_name(function)} not found{criteria and f' with {criteria}'}\nScheduled tasks:{_list(found)}")


async def assert_task_not_scheduled(
    docket: Docket, function: Task, *, args: tuple[Any, ...] | None = None, kwargs: Mapping[str, Any] | None = None, key: str | None = None
) -> None:
    """This asserts that no such run is scheduled; it takes what `assert_task_scheduled` takes."""
    __tracebackhide__ = True
    found = [execution for execution in await _not_begun(docket) if _matches(docket, execution, function, args, kwargs, key)]
    if found:
        criteria = _criteria(args, kwargs, key)
        raise AssertionError(f"Task {_name(function)} found but should not be scheduled{criteria and f' with {criteria}'}:{_list(found)}")


async def assert_task_count(docket: Docket, function: Task | None = None, *, count: int) -> None:
    """This asserts how many runs are scheduled, of one task or of all."""
    __tracebackhide__ = True
    everything = await _not_begun(docket)
    found = [execution for execution in everything if function is None or _matches(docket, execution, function, None, None, None)]
    if len(found) != count:
        what = "task(s)" if function is None else f"{_name(function)} task(s)"
        others = f"\nScheduled tasks:{_list(everything)}" if everything else ""
        raise AssertionError(f"Expected {count} {what}, found {len(found)}{others}")


async def assert_no_tasks(docket: Docket) -> None:
    """This asserts that nothing is scheduled."""
    __tracebackhide__ = True
    found = await _not_begun(docket)
    if found:
        raise AssertionError(f"Expected no tasks, found {len(found)} task(s) scheduled:{_list(found)}")


async def _not_begun(docket: Docket) -> list[Execution[Any]]:
    """Everything that is scheduled or queued, in the order in which it was scheduled, one shard after another."""
    found: dict[str, Execution[Any]] = {}  # by key: what moves while it is listed may be listed twice
    for state in (ExecutionState.SCHEDULED, ExecutionState.QUEUED):
        async for execution in docket.executions(state=state):
            found[execution.key] = execution
    return sorted(found.values(), key=lambda execution: execution.generation)


def _matches(
    docket: Docket, execution: Execution[Any], function: Task, args: tuple[Any, ...] | None, kwargs: Mapping[str, Any] | None, key: str | None
) -> bool:
    if execution.function_name not in _names(docket, function) or key not in (None, execution.key):
        return False
    if args is None and kwargs is None:
        return True
    try:
        passed, named = execution.args, execution.kwargs
    except PayloadError:
        return False
    return args in (None, passed) and all(name in named and named[name] == value for name, value in (kwargs or {}).items())


def _name(function: Task) -> str:
    if isinstance(function, str):
        return function
    return cast("Handle[..., Any]", function).name if isinstance(function, Handle) else getattr(function, "__name__", repr(function))


def _names(docket: Docket, function: Task) -> set[str]:
    """The names that a task is scheduled under: a function may be registered under several."""
    registered = {each.name for each in docket.registry if each.function is function}
    return registered or {_name(function)}


def _criteria(args: tuple[Any, ...] | None, kwargs: Mapping[str, Any] | None, key: str | None) -> str:
    given = {"args": args, "kwargs": kwargs, "key": key}
    return ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)


def _list(executions: Iterable[Execution[Any]]) -> str:
    lines = [_line(execution) for execution in executions]
    left = [f"... and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "".join(f"\n  {line}" for line in [*lines[:_LISTED], *left])


def _line(execution: Execution[Any]) -> str:
    try:
        passed = ", ".join([*map(repr, execution.args), *(f"{name}={value!r}" for name, value in execution.kwargs.items())])
    except PayloadError as exc:
        passed = f"... ({exc})"
    when = "queued" if execution.state is ExecutionState.QUEUED else f"due {execution.when.isoformat()}"
    return f"{execution.function_name}({passed}) {when}, key={execution.key!r}"
