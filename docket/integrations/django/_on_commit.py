"""Scheduling once a transaction has committed, so that a worker finds what was written, and nothing is scheduled for what was rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, overload

from django.db import transaction
from typing_extensions import TypeVar

from docket._task import Scheduler, is_task
from docket.errors import InvalidSchedule
from docket.execution import TaskCall
from docket.integrations.django._docket import get_docket

if TYPE_CHECKING:
    from collections.abc import Callable

    from docket._when import When
    from docket.docket import Docket

__all__ = ["schedule_on_commit"]

R = TypeVar("R")


@overload
def schedule_on_commit(task: TaskCall[R], /, *, using: str | None = None, robust: bool = False) -> TaskCall[R]: ...
@overload
def schedule_on_commit(
    task: Callable[..., Any] | str,
    /,
    *args: Any,
    key: str | None = None,
    when: When | None = None,
    using: str | None = None,
    robust: bool = False,
    **kwargs: Any,
) -> TaskCall[Any]: ...
def schedule_on_commit(
    task: Callable[..., Any] | str | TaskCall[Any],
    /,
    *args: Any,
    key: str | None = None,
    when: When | None = None,
    using: str | None = None,
    robust: bool = False,
    **kwargs: Any,
) -> TaskCall[Any]:
    """This schedules a task when the current transaction has committed; at once where there is none. If it is rolled back, nothing is scheduled.

    `key` and `when` (an aware datetime, or a timedelta from the commit on) are as for `Docket.add`; `using` and `robust` as for Django's `transaction.on_commit`:
    with `robust`, an outage of Redis is logged; without, it is raised from where the transaction commits, when that can no longer be undone. The arguments
    are checked now (`InvalidArguments`, `NotSerializable`), while it can. The call it gives says the `key` that the run will have.

    Types are checked where it is given a call: `schedule_on_commit(send_invoice.call(5))`, or `send_invoice.options(key="x").call(5)`. So is a task scheduled that has
    a parameter `key` or `when` of its own.
    """
    docket = _docket_of(task.function if isinstance(task, TaskCall) else task)
    call = cast("TaskCall[Any]", task) if isinstance(task, TaskCall) else _call_of(docket, task, args, key, when, kwargs)
    docket.payloads.dumps_call(call.args, call.kwargs, call.function)

    def schedule_after_commit() -> None:  # a function, as Django asks it for its name when it has failed
        docket.sync().schedule(call)

    transaction.on_commit(schedule_after_commit, using=using, robust=robust)
    return call


def _call_of(docket: Docket, task: Callable[..., Any] | str, args: Any, key: str | None, when: When | None, kwargs: Any) -> TaskCall[Any]:
    handle = docket.add(task)
    if handle.shape is not None and handle.shape.reserved and (key, when) != (None, None):
        raise InvalidSchedule(
            f"task {handle.name!r} has a parameter of its own named key or when, so give the call: "
            f"schedule_on_commit({handle.name}.options(key=..., when=...).call(...))"
        )
    return handle.options(key=key, when=when).call(*args, **kwargs)


def _docket_of(task: Callable[..., Any] | str) -> Docket:
    """The docket that the task was declared on, else the project's."""
    if isinstance(task, Scheduler):
        return task.docket
    return (task.known_docket if is_task(task) else None) or get_docket()
