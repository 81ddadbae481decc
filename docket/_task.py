"""The handle: a task as its module holds it, callable as the function it wraps, and able to schedule itself.

What becomes of a call is the docket's business; the handle finds the docket, checks the call and hands it over.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeGuard, cast, overload

from typing_extensions import ParamSpec, Self, TypeVar

from docket._context import ambient_docket, docket_named
from docket._signatures import CallShape, is_async, shape_of
from docket._uuid7 import uuid7
from docket._when import When, check_key, check_when
from docket.errors import DependencyNotGiven, DocketError, InvalidOption, InvalidSchedule, UnknownTask
from docket.execution import Execution, TaskCall, TaskFunction

if TYPE_CHECKING:
    from docket.docket import Docket

__all__ = ["Handle", "NamedTask", "Options", "Scheduler", "SyncTask", "Task", "TaskDecorator", "declare", "handle_of", "is_task", "task", "unwrapped"]

P = ParamSpec("P")
R = TypeVar("R")


class Handle(ABC, Generic[P, R]):
    """This is what every form of a task can do; how it is called differs. `@docket.task` gives one.

    `await send.schedule(5, key="x")` schedules a call of it. A call, `await send(5)`, runs the function here and now.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """This is the name the task is scheduled under."""

    @property
    @abstractmethod
    def function(self) -> Callable[P, Any]:
        """This is the function itself."""

    @property
    @abstractmethod
    def docket(self) -> Docket:
        """This is the docket it schedules on. Raises `NoDocket` when there is none to take."""

    @property
    @abstractmethod
    def shape(self) -> CallShape | None:
        """This knows which calls bind, None when the function is not known here; not part of the public interface."""

    def options(self, *, key: str | None = None, when: When | None = None) -> Options[P, R]:
        """This chooses key and time, and leaves every argument that follows to the task: the fully typed form of `schedule`.

        `await send.options(key="x", when=timedelta(hours=1)).schedule(5)`. Raises `InvalidSchedule` for a `key` or `when` that cannot be one.
        """
        return Options(self, key, when)

    async def schedule(self, *args: Any, key: str | None = None, when: When | None = None, **kwargs: Any) -> Execution[R]:
        """This schedules a call. On a key that is scheduled, queued or running it changes nothing and says so (`disposition`).

        `when` is an aware datetime, or a timedelta from now; None: at once. Without a `key` the call gets one of its own. One step, and with the same key
        safe to repeat. The arguments are checked against the signature before anything is written (`InvalidArguments`); everything else
        that it raises, `Docket.schedule` tells. A task that has a parameter named `key` or `when` takes these through `options`.
        """
        return await self._untyped(key, when).schedule(*args, **kwargs)

    async def replace(self, *args: Any, key: str, when: When | None = None, **kwargs: Any) -> Execution[R]:
        """This schedules a call in place of whatever stands under the key, in one step; on a free key it is `schedule`.

        What had not begun never starts; what runs is told to stop, and whatever it still does counts for nothing.
        """
        return await self._untyped(key, when).replace(*args, **kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall[R]:
        """This makes a call for `Docket.add_many`; nothing is scheduled yet. All arguments are the task's. Raises `InvalidArguments`."""
        return self.options().call(*args, **kwargs)

    async def cancel(self, key: str) -> None:
        """This cancels what stands under the key, as `Docket.cancel` does."""
        await self.docket.cancel(key)

    def _untyped(self, key: str | None, when: When | None) -> Options[..., R]:
        if self.shape is not None and self.shape.reserved:
            self._refuse_ambiguous({"key": key, "when": when})
        return cast("Options[..., R]", self.options(key=key, when=when))

    def _refuse_ambiguous(self, given: dict[str, object]) -> None:
        assert self.shape is not None
        for name in self.shape.reserved:
            if given[name] is not None:
                raise InvalidSchedule(
                    f"{name}= is ambiguous: task {self.name!r} has a parameter {name!r} of its own; "
                    f"write {self.name}.options(key=..., when=...).schedule(...), which passes every argument to the task"
                )


class Options(Generic[P, R]):
    """This is a task with key and time chosen: every argument that follows is the task's own."""

    __slots__ = ("_docket", "_handle", "_key", "_when")

    def __init__(self, handle: Handle[P, R], key: str | None, when: When | None, docket: Docket | None = None) -> None:
        if key is not None:
            check_key(key)
        if when is not None:
            check_when(when)
        self._handle = handle
        self._key = key
        self._when = when
        self._docket = docket

    async def schedule(self, *args: P.args, **kwargs: P.kwargs) -> Execution[R]:
        """This schedules the call, as `Handle.schedule` does."""
        return await self._on().schedule(self.call(*args, **kwargs))

    async def replace(self, *args: P.args, **kwargs: P.kwargs) -> Execution[R]:
        """This schedules the call in place of whatever stands under the key, as `Handle.replace` does. Raises `InvalidSchedule` where no key was given."""
        if self._key is None:
            raise InvalidSchedule(f"replacing needs the key of what is replaced: {self._handle.name}.options(key=...).replace(...)")
        return await self._on().schedule(self.call(*args, **kwargs), replace=True)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall[R]:
        """This makes a call for `Docket.add_many`; nothing is scheduled yet. Raises `InvalidArguments`."""
        handle = self._handle
        shape = handle.shape
        if shape is not None and not shape.accepts(args, kwargs):
            shape.check(handle.name, args, kwargs)
        return TaskCall(_callable(handle), args, kwargs, self._key or uuid7(), self._when, handle.name)

    def _on(self) -> Docket:
        return self._handle.docket if self._docket is None else self._docket


def _callable(handle: Handle[..., Any]) -> TaskFunction:
    return cast("TaskFunction", handle)  # every concrete handle can be called; with what, and what for, differs


class _FunctionTask(Handle[P, R]):
    """This is a handle that holds its function: the ground of `Task` and `SyncTask`."""

    def __init__(self, function: Callable[P, Any], name: str | None = None, declared: tuple[Any, ...] = ()) -> None:
        functools.update_wrapper(_callable(self), function)  # `inspect.signature` and friends then see the function
        for attribute in ("__code__", "__defaults__", "__kwdefaults__"):  # what makes an object a function to `inspect` before 3.12
            if hasattr(function, attribute):
                setattr(self, attribute, getattr(function, attribute))
        self._function = function
        self._name = _checked_name(function, name)
        self._shape = shape_of(function)
        self._owner: Docket | None = None
        self._known_to: weakref.ref[Docket] | None = None
        self.declared = declared
        """The behaviours declared by decorators (`@Perpetual(...)`)."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        docket = self.known_docket
        return _find, (docket and docket.name, self._name, self._function.__module__, getattr(self._function, "__qualname__", self._name))

    @property
    def name(self) -> str:
        """This is the name the task is scheduled under."""
        return self._name

    @property
    def function(self) -> Callable[P, Any]:
        """This is the function itself."""
        return self._function

    @property
    def shape(self) -> CallShape:
        """This knows which calls bind; not part of the public interface."""
        return self._shape

    @property
    def docket(self) -> Docket:
        """This is the docket it schedules on: the one it was declared on, or that knows it, else the ambient one.

        Where its own docket is not entered, an ambient one of the same name stands in: a worker may run the tasks of a module on a docket of its own making.
        """
        known = self.known_docket
        if known is None:
            return ambient_docket(f"task {self._name!r}")
        if known.is_entered:
            return known
        try:
            around = ambient_docket(f"task {self._name!r}")
        except DocketError:
            return known
        return around if self._owner is None or around.name == known.name else known

    @property
    def known_docket(self) -> Docket | None:
        """This is the docket it was declared on, or the first that came to know it and is still there; None: there is none."""
        return self._owner or (self._known_to and self._known_to())

    def for_docket(self, docket: Docket, name: str | None) -> Self:
        """This gives the handle that is to become the docket's own, named so: itself, unless it is another docket's or has another name already; not part of the public interface."""
        name = self._name if name is None else name
        if self.known_docket is None:
            self._name = _checked_name(self._function, name)
        if name == self._name and self._owner in (None, docket):
            return self
        return type(self)(self._function, name, self.declared)

    def become_owned_by(self, docket: Docket) -> None:
        """This makes the handle a docket's own (`docket.task`); not part of the public interface."""
        self._owner = docket

    def become_known_to(self, docket: Docket) -> None:
        """This remembers a docket that came to know the handle, unless there is one, without keeping that docket alive; not part of the public interface."""
        if self.known_docket is None:
            self._known_to = weakref.ref(docket)

    def _refuse_missing(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        missing = self._shape.missing_dependencies(args, kwargs)
        if missing:
            raise DependencyNotGiven(
                f"{self._name}() was called directly, without {', '.join(repr(name) for name in missing)}: a direct call resolves no dependencies. "
                f"Pass {'it' if len(missing) == 1 else 'them'}, schedule the task, or in a test run it with testing.run_task({self._name}, ...)"
            )


class Task(_FunctionTask[P, R]):
    """This is a task made of an `async def` function. Awaiting a call of it runs the function here and now, as though it were no task."""

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]], name: str | None = None, declared: tuple[Any, ...] = ()) -> None:
        super().__init__(function, name, declared)
        if hasattr(inspect, "markcoroutinefunction"):  # pragma: no cover - from 3.12 on; before, `__code__` and its companions say so
            cast("Any", inspect).markcoroutinefunction(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        if self._shape.dependencies:
            self._refuse_missing(args, kwargs)
        return self._function(*args, **kwargs)


class SyncTask(_FunctionTask[P, R]):
    """This is a task made of a `def` function, which a worker runs in a thread. A call of it runs the function here and now."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._shape.dependencies:
            self._refuse_missing(args, kwargs)
        return self._function(*args, **kwargs)


class NamedTask(Handle[..., Any]):
    """This is a task known by its name only: its function is registered elsewhere, so nothing about its arguments can be checked here."""

    def __init__(self, name: str, docket: Docket) -> None:
        self.__name__ = self.__qualname__ = self._name = _checked_name(None, name)
        self._docket = docket

    def __repr__(self) -> str:
        return f"<NamedTask {self._name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnknownTask(f"no task named {self._name!r} is registered with docket {self._docket.name!r} in this process, so it cannot be run here")

    @property
    def name(self) -> str:
        """This is the name the task is scheduled under."""
        return self._name

    @property
    def function(self) -> Callable[..., Any]:
        """This stands in for the function: calling it raises `UnknownTask`."""
        return self

    @property
    def docket(self) -> Docket:
        """This is the docket it schedules on."""
        return self._docket

    @property
    def shape(self) -> None:
        """This would know which calls bind; here nobody does."""
        return


class Scheduler(Handle[P, R]):
    """This is what `Docket.add` gives: calling it schedules, with the key and time given to `add`; and it can do what every handle can.

    A `key` or `when` given to `schedule` or `options` wins over the one given to `add`.
    """

    def __init__(self, handle: Handle[P, R], docket: Docket, key: str | None = None, when: When | None = None) -> None:
        self.handle = handle
        """The task it schedules."""
        self._docket = docket
        self._key = key
        self._when = when
        self._options = Options(handle, key, when, docket)

    def __repr__(self) -> str:
        return f"<Scheduler of {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Scheduler, (self.handle, self._docket, self._key, self._when)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Execution[R]:
        return await self._docket.schedule(self._options.call(*args, **kwargs))

    @property
    def __wrapped__(self) -> Callable[P, Any]:
        return self.handle.function

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - functions have it too
        return self.handle.function.__name__

    @property
    def name(self) -> str:
        """This is the name the task is scheduled under."""
        return self.handle.name

    @property
    def function(self) -> Callable[P, Any]:
        """This is the function itself."""
        return self.handle.function

    @property
    def docket(self) -> Docket:
        """This is the docket that it was added to."""
        return self._docket

    @property
    def shape(self) -> CallShape | None:
        """This knows which calls bind, None when the function is not known here; not part of the public interface."""
        return self.handle.shape

    def options(self, *, key: str | None = None, when: When | None = None) -> Options[P, R]:
        """This chooses key and time, where they are to be others than those given to `add`."""
        return Options(self.handle, self._key if key is None else key, self._when if when is None else when, self._docket)


def handle_of(function: Callable[P, Any], name: str | None = None) -> Task[P, Any] | SyncTask[P, Any]:
    """This makes a handle that no docket knows yet."""
    return Task(function, name) if is_async(function) else SyncTask(function, name)


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """This gives the handle inside a scheduler, and anything else as it is."""
    return _callable(cast("Scheduler[..., Any]", function).handle) if isinstance(function, Scheduler) else function


def is_task(function: object) -> TypeGuard[Task[..., Any] | SyncTask[..., Any]]:
    """This says whether it is a handle that holds its function."""
    return isinstance(function, (Task, SyncTask))


@overload
def declare(dependency: Any, function: Callable[P, Coroutine[Any, Any, R]]) -> Task[P, R]: ...  # pyright: ignore[reportOverlappingOverload] - a coroutine function is a function too: the first match counts
@overload
def declare(dependency: Any, function: Callable[P, R]) -> SyncTask[P, R]: ...
def declare(dependency: Any, function: Callable[..., Any]) -> Any:
    """This declares a behaviour on a function or a handle, and gives the handle: what `@Perpetual(...)` and its like do.

    On a handle that a docket knows already the task is registered again, now with the behaviour.
    """
    function = unwrapped(function)
    handle = function if is_task(function) else handle_of(function)
    before = handle.declared
    handle.declared = (dependency, *before)
    try:
        if (docket := handle.known_docket) is not None:
            docket.register(handle)
    except BaseException:
        handle.declared = before
        raise
    return cast("Any", handle)


@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...  # pyright: ignore[reportOverlappingOverload] - a coroutine function is a function too: the first match counts
@overload
def task(function: Callable[P, R], /) -> SyncTask[P, R]: ...
@overload
def task(*, name: str) -> TaskDecorator: ...
def task(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """This makes a task of a function, for the ambient docket: the innermost entered one, whichever that is when it is scheduled.

    `@task`, or `@task(name="emails.welcome")`. A worker is told of it with `docket.register(function)`, or `--tasks module:collection`.
    """
    if function is None:
        return functools.partial(_named_task, name=name)
    return _named_task(function, name)


def _named_task(function: Callable[..., Any], name: str | None) -> Any:
    function = unwrapped(function)
    if not is_task(function):
        return handle_of(function, name)
    if name is None or name == function.name:
        return cast("Any", function)
    return type(function)(function.function, name, function.declared)


class TaskDecorator(Protocol):
    """This is what `task(name=...)` gives: the decorator, typed."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...  # pyright: ignore[reportOverlappingOverload] - a coroutine function is a function too: the first match counts
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


def _checked_name(function: Callable[..., Any] | None, name: str | None) -> str:
    if name is None:
        name = getattr(function, "__name__", None)
        if name is None:
            raise InvalidOption(f"{function!r} has no name of its own; give it one: docket.task(name='...')(...), or docket.register(..., names=['...'])")
    if not name or not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        raise InvalidOption(f"the name of a task is {name!r}; give a string that is not empty")
    return name


def _find(docket_name: str | None, name: str, module: str, qualname: str) -> Any:
    """This is how a pickled handle comes back: from the docket of its name, else from the module that declared it."""
    if docket_name is not None:
        try:
            return docket_named(docket_name).registry.handle(name)
        except DocketError:
            pass  # not made yet: importing the module makes it
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if docket_name is not None:
        return docket_named(docket_name).registry.handle(name)
    if found is None:
        raise UnknownTask(f"task {name!r} was pickled as {module}.{qualname}, and that module has no such member here; handles travel by name")
    return cast("Any", found) if isinstance(found, Handle) else handle_of(found, name)
