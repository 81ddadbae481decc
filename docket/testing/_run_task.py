"""`run_task`: one run of one task, now, through a worker, on a docket that nobody else sees."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from docket._context import ambient_docket
from docket._task import Handle, Scheduler, is_task, unwrapped
from docket._uuid7 import uuid7
from docket.dependencies._base import Verdict
from docket.docket import Docket
from docket.errors import DocketError, InvalidArguments, NoDocket
from docket.execution import TaskCall
from docket.states import ExecutionState
from docket.testing._clock import MovableClock
from docket.testing._runs import TaskRun, Watch
from docket.worker import Worker

if TYPE_CHECKING:
    from docket._signatures import CallShape

__all__ = ["run_task"]

R = TypeVar("R")

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]


@overload
async def run_task(
    function: Handle[..., R] | TaskCall[R],
    /,
    *args: Any,
    overrides: Overrides | None = None,
    docket: Docket | None = None,
    raises: bool = True,
    **kwargs: Any,
) -> TaskRun[R]: ...
@overload
async def run_task(
    function: Callable[..., Coroutine[Any, Any, R]],
    /,
    *args: Any,
    overrides: Overrides | None = None,
    docket: Docket | None = None,
    raises: bool = True,
    **kwargs: Any,
) -> TaskRun[R]: ...
@overload
async def run_task(
    function: Callable[..., R],
    /,
    *args: Any,
    overrides: Overrides | None = None,
    docket: Docket | None = None,
    raises: bool = True,
    **kwargs: Any,
) -> TaskRun[R]: ...
@overload
async def run_task(
    function: str, /, *args: Any, overrides: Overrides | None = None, docket: Docket | None = None, raises: bool = True, **kwargs: Any
) -> TaskRun[Any]: ...
async def run_task(
    function: Any, /, *args: Any, overrides: Overrides | None = None, docket: Docket | None = None, raises: bool = True, **kwargs: Any
) -> TaskRun[Any]:
    """This runs a task once, at once, and tells what it did: its result, logs and progress, what it scheduled, and what follows.

    A worker runs it, with its dependencies and behaviours, as in production; but on an empty docket in memory, which stands in for the task's own
    everywhere in the run, entered or not. There is one attempt and no waiting: a `Debounce` is taken to be quiet, the time stands still, and what the task
    schedules is not run.

    * `function` is a handle, a plain function, or a name; or a call (`send.call(12)`), all of whose arguments are the task's.
    * `overrides` names what stands in for dependency functions: `{get_db: fake_db}`.
    * `docket` is whose tasks the run finds by name; by default the task's own, else the one that is entered, else none but the task.

    A failure is raised: the very exception. With `raises=False` it is in `run.exception`. A body that decides what becomes of its run
    (`Snooze`, `Cancel`, `Retry.after`) has not failed: see `run.retry_at` and `run.state`.
    """
    ours = {"overrides": overrides is not None, "docket": docket is not None, "raises": not raises}
    home, call = _call(function, args, kwargs, docket, [name for name, is_given in ours.items() if is_given])
    clock = MovableClock(home.clock.now(), ticking=False)
    async with home.apart(clock), Worker(home, name="run_task", concurrency=1, schedule_automatic_tasks=False) as worker:
        watch = Watch(clock, on_begin=worker.stop)
        with ExitStack() as stack:
            stack.enter_context(watch.watching())
            for dependency, stand_in in (overrides or {}).items():
                stack.enter_context(worker.override(dependency, stand_in))
            await home.schedule(call)
            await worker.run_forever()
            while not len(watch) and (set_aside := await home.store.listing.scheduled(None, 1)):
                clock.reach_us(set_aside[0][0])  # a `Debounce` put it off
                await worker.run_forever()
    if not len(watch):
        raise DocketError(f"{call.key} did not come to an end; the log of docket.worker says why")
    run = watch.runs[0]
    if raises and run.exception is not None and _has_failed(run):
        raise run.exception
    return run


def _has_failed(run: TaskRun[Any]) -> bool:
    if run.state is ExecutionState.CANCELLED:
        return False
    return run.retry_at is None or not isinstance(run.exception, Verdict)


def _call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], docket: Docket | None, ours: list[str]) -> tuple[Docket, TaskCall[Any]]:
    """The call to run, for now, and the docket it is run on. `ours`: what was given to `run_task` itself."""
    if docket is not None and not isinstance(docket, Docket):  # pyright: ignore[reportUnnecessaryIsInstance] - meant for the task, perhaps
        raise InvalidArguments(_is_ours("docket"))
    if isinstance(function, str):
        home = docket or _home_of_name(function)
        return home, _made(home.registry.handle(function), args, kwargs, ours)
    if isinstance(function, TaskCall):
        if args or kwargs:
            raise InvalidArguments("run_task was given a call, which has its arguments already, and further arguments")
        call = cast("TaskCall[Any]", function)
        home = docket or _home(call.function)
        registered = home.registry.ensure(unwrapped(call.function), call.function_name, bind=False)
        return home, TaskCall(registered.handle, call.args, call.kwargs, call.key, None, registered.name)
    home = docket or _home(function)
    return home, _made(home.registry.ensure(unwrapped(function), bind=False).handle, args, kwargs, ours)


def _made(handle: Any, args: tuple[Any, ...], kwargs: dict[str, Any], ours: list[str]) -> TaskCall[Any]:
    shape: CallShape = handle.shape
    for name in ours:
        if name in shape.signature.parameters and name not in shape.dependencies:
            raise InvalidArguments(_is_ours(name))
    return TaskCall(handle, args, kwargs, uuid7(), None, handle.name)


def _is_ours(name: str) -> str:
    return f"{name}= is run_task's own; for a parameter of the task that is called so, write run_task(task.call({name}=...)), which passes every argument to the task"


def _home_of_name(name: str) -> Docket:
    try:
        return ambient_docket(f"run_task({name!r})")
    except NoDocket as exc:
        raise NoDocket(f"run_task({name!r}) finds the task by its name, and does not know on which docket: give it (docket=...), or the task itself") from exc


def _home(function: Any) -> Docket:
    """The docket of a task: its own, else the one that is entered, else a new one."""
    if isinstance(function, Scheduler):
        return cast("Scheduler[..., Any]", function).docket
    if is_task(function) and (known := function.known_docket) is not None:
        return known
    try:
        return ambient_docket("run_task")
    except NoDocket:
        return Docket(url="memory://")
