"""The docket: where tasks are declared and scheduled. Entering it connects to Redis; running its tasks is a worker's business."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import anyio
from typing_extensions import ParamSpec, Self

from docket import _context, instrumentation, tasks
from docket._clock import SYSTEM, Clock, from_us
from docket._keys import Keys
from docket._loading import load, members_of
from docket._messages import loads_call, loads_trace
from docket._options import DocketOptions, ResultStorage
from docket._registry import Registry
from docket._scheduling import Scheduling
from docket._store import Store
from docket._task import Handle, NamedTask, Options, Scheduler, SyncTask, Task, TaskDecorator, is_task, unwrapped
from docket._when import When, check_key
from docket.dependencies._overrides import StandIns
from docket.errors import NotEntered
from docket.execution import Execution, TaskCall, TaskFunction

if TYPE_CHECKING:
    from datetime import timedelta

    from redis.credentials import CredentialProvider

__all__ = ["Docket", "RedisClient", "TaskCollection"]

P = ParamSpec("P")
R = TypeVar("R")

TaskCollection = Iterable[TaskFunction]


class RedisClient(Protocol):
    """This sends single commands to the docket's Redis, or to the engine behind `memory://`."""

    async def execute_command(self, *args: Any) -> Any:
        """This sends a command and gives its reply, with bytes for text."""
        ...


class _Session:
    """This is one stretch of a docket's being entered: in one process, in one event loop, with one store."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.opening = anyio.Lock()
        self.entered = 0
        self.store: Store | None = None

    @property
    def is_abandoned(self) -> bool:
        """This says whether nobody is in it, or only somebody who cannot come back to leave it: a forked child's parent, a loop that was closed."""
        return self.pid != os.getpid() or self.loop.is_closed() or not (self.entered or self.opening.locked())


class Docket:
    """This is a named collection of tasks and their work, kept in Redis (or in memory).

    It may be made at import time. `async with docket:` connects; it may be entered more than once, in one event loop after
    another, and in forked children.
    """

    def __init__(
        self,
        name: str = DocketOptions.name,
        url: str = DocketOptions.url,
        heartbeat_interval: timedelta = DocketOptions.heartbeat_interval,
        missed_heartbeats: int = DocketOptions.missed_heartbeats,
        execution_ttl: timedelta = DocketOptions.execution_ttl,
        result_storage: ResultStorage | None = None,
        enable_internal_instrumentation: bool = DocketOptions.enable_internal_instrumentation,
        credential_provider: CredentialProvider | None = None,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        options = DocketOptions(
            name=name,
            url=url,
            heartbeat_interval=heartbeat_interval,
            missed_heartbeats=missed_heartbeats,
            execution_ttl=execution_ttl,
            result_storage=result_storage,
            enable_internal_instrumentation=enable_internal_instrumentation,
            credential_provider=credential_provider,
        )
        self._take(options)
        self.clock = clock
        self.registry = Registry(self)
        """The tasks of this docket, as workers read them."""
        for function in tasks.standard_tasks:
            self.registry.register(function, built_in=True)

        self._scheduling = Scheduling(self)
        self._stand_ins = StandIns()
        self._session: _Session | None = None
        _context.remember(self)

    def _take(self, options: DocketOptions) -> None:
        self.options = options
        self.name = options.name
        self.url = options.url
        self.heartbeat_interval = options.heartbeat_interval
        self.missed_heartbeats = options.missed_heartbeats
        self.execution_ttl = options.execution_ttl
        self.result_storage = options.result_storage
        self.enable_internal_instrumentation = options.enable_internal_instrumentation
        self.credential_provider = options.credential_provider
        self._keys = Keys(options.name)

    def reconfigure(self, **options: Any) -> None:
        """This changes options of a docket that is not entered; its tasks and handles stay its own. They are those of the constructor.

        Raises `InvalidOption`, and `NotEntered` where something is to change while the docket is entered anywhere in this process.
        """
        wanted = replace(self.options, **options)
        if wanted == self.options:
            return
        if self._session is not None and not self._session.is_abandoned:
            raise NotEntered(f"docket {self.name!r} is entered, so its options cannot be changed; leave it first")
        self._take(wanted)

    def __repr__(self) -> str:
        return f"<Docket {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _context.docket_named, (self.name,)  # by name: the URL may hold a password

    # Entering and leaving

    async def __aenter__(self) -> Self:
        session = self._session
        if session is None or session.is_abandoned:
            session = self._session = _Session()
        elif session.loop is not asyncio.get_running_loop():
            raise NotEntered(f"docket {self.name!r} is entered in another event loop; leave it there first, or make another Docket for this loop")

        async with session.opening:
            if session.store is None:
                session.store = await Store.open(
                    self.name, self.url, execution_ttl=self.execution_ttl, clock=self.clock, credential_provider=self.credential_provider
                )
            session.entered += 1
        _context.enter(self)
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        session = self._entered_session()
        session.entered -= 1
        _context.leave(self)
        if session.entered:
            return
        store, session.store = session.store, None
        assert store is not None
        await store.aclose()

    @property
    def is_entered(self) -> bool:
        """This says whether the docket is entered in the running event loop."""
        session = self._session
        return session is not None and session.store is not None and session.pid == os.getpid() and session.loop is _running_loop()

    @property
    def is_connected(self) -> bool:
        """This says whether the docket is entered and its connection stands. Any thread may ask."""
        session = self._session
        return session is not None and session.store is not None and session.pid == os.getpid() and session.store.backend.is_connected

    @property
    def store(self) -> Store:
        """This is the docket's data, for workers and the parts of docket; not part of the public interface. Raises `NotEntered`."""
        store = self._entered_session().store
        assert store is not None
        return store

    def _entered_session(self) -> _Session:
        session = self._session
        if session is None or session.store is None:
            raise NotEntered(f"docket {self.name!r} is not entered; do this inside `async with docket:`, which connects it")
        if session.pid != os.getpid():
            raise NotEntered(f"docket {self.name!r} was entered before this process was forked; enter it again here, with `async with docket:`")
        if session.loop is not _running_loop():
            raise NotEntered(f"docket {self.name!r} is entered in another event loop; do this there, or make another Docket for this loop")
        return session

    # Declaring

    @property
    def tasks(self) -> Mapping[str, TaskFunction]:
        """This gives the functions of this docket by name: those registered, and `trace`, `fail` and `sleep`."""
        return self.registry.functions

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...  # pyright: ignore[reportOverlappingOverload] - a coroutine function is a function too: the first match counts
    @overload
    def task(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(self, /, *, name: str) -> TaskDecorator: ...
    def task(self, function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
        """This makes a task of a function, under the function's name or another: `@docket.task`, `@docket.task(name="emails.welcome")`.

        Gives the handle to call and schedule it by. Raises `NameTaken` when another function has the name.
        """
        if function is None:
            return partial(self._declare, name=name)
        return self._declare(function, name)

    def _declare(self, function: Callable[..., Any], name: str | None) -> Any:
        function = unwrapped(function)
        if is_task(function):
            function = function.for_docket(self, name)
        registered = self.registry.register(function, name)
        handle = (function if is_task(function) else registered.handle).for_docket(self, None)
        handle.become_owned_by(self)
        return handle

    def register(self, function: TaskFunction, names: Sequence[str] | None = None) -> None:
        """This lets workers of this docket run a function or handle, under its own name or under several others.

        Raises `NameTaken` when another function has one of the names.
        """
        for name in names or (None,):
            self.registry.register(function, name)

    def register_collection(self, collection_path: str) -> None:
        """This registers every function of a collection: `"module:attribute"`, any iterable of functions and handles. Raises `LoadError`."""
        for function in members_of(collection_path, load(collection_path)):
            self.register(function)

    def override(self, dependency: Callable[..., Any], stand_in: Callable[..., Any]) -> AbstractContextManager[None]:
        """This has runs use `stand_in` wherever they depend on `dependency`, on every worker of this docket in this process: for tests.

        It holds for as long as it is entered: `with docket.override(get_db, fake_db): ...`. Runs that have begun keep what they began with.
        """
        return self._stand_ins.override(dependency, stand_in)

    @property
    def overrides(self) -> Mapping[Callable[..., Any], Callable[..., Any]]:
        """This is what stands in for dependency functions now; see `override`."""
        return self._stand_ins.current

    # Scheduling

    @overload
    def add(self, function: Scheduler[P, R], when: When | None = None, key: str | None = None) -> Scheduler[P, R]: ...
    @overload
    def add(self, function: Callable[P, Coroutine[Any, Any, R]], when: When | None = None, key: str | None = None) -> Scheduler[P, R]: ...
    @overload
    def add(self, function: Callable[P, R], when: When | None = None, key: str | None = None) -> Scheduler[P, R]: ...
    @overload
    def add(self, function: str, when: When | None = None, key: str | None = None) -> Scheduler[..., Any]: ...
    def add(self, function: Callable[..., Any] | str, when: When | None = None, key: str | None = None) -> Scheduler[..., Any]:
        """This schedules a task: `await docket.add(f, when=..., key=...)(*args, **kwargs)` gives its `Execution`.

        `when` is an aware datetime or a timedelta from now; without it the task runs at once. On a key that is scheduled, queued or
        running nothing changes (`Disposition.ALREADY_SCHEDULED`), except from inside the run of that key, where the run's successor is
        scheduled. What is given back is a handle too, so `@docket.add` declares. Safe to repeat with the same key.
        """
        return Scheduler(self._handle(function), self, key, when)

    @overload
    def replace(self, function: Scheduler[P, R], when: When | None, key: str) -> Callable[P, Coroutine[Any, Any, Execution[R]]]: ...
    @overload
    def replace(self, function: Callable[P, Coroutine[Any, Any, R]], when: When | None, key: str) -> Callable[P, Coroutine[Any, Any, Execution[R]]]: ...
    @overload
    def replace(self, function: Callable[P, R], when: When | None, key: str) -> Callable[P, Coroutine[Any, Any, Execution[R]]]: ...
    @overload
    def replace(self, function: str, when: When | None, key: str) -> Callable[..., Coroutine[Any, Any, Execution[Any]]]: ...
    def replace(self, function: Callable[..., Any] | str, when: When | None, key: str) -> Callable[..., Coroutine[Any, Any, Execution[Any]]]:
        """This schedules a task in place of whatever stands under the key: `await docket.replace(f, when, key)(*args, **kwargs)`.

        A scheduled or queued run never starts; a running one is told to stop, and whatever it still does leaves its replacement alone.
        On a free key this is `add`.
        """
        return Options(self._handle(function), key, when, self).replace

    @overload
    def call(self, function: Scheduler[P, R], when: When | None = None, key: str | None = None) -> Callable[P, TaskCall[R]]: ...
    @overload
    def call(self, function: Callable[P, Coroutine[Any, Any, R]], when: When | None = None, key: str | None = None) -> Callable[P, TaskCall[R]]: ...
    @overload
    def call(self, function: Callable[P, R], when: When | None = None, key: str | None = None) -> Callable[P, TaskCall[R]]: ...
    @overload
    def call(self, function: str, when: When | None = None, key: str | None = None) -> Callable[..., TaskCall[Any]]: ...
    def call(self, function: Callable[..., Any] | str, when: When | None = None, key: str | None = None) -> Callable[..., TaskCall[Any]]:
        """This makes a call for `add_many` and `replace_many`: `docket.call(f, when=..., key=...)(*args, **kwargs)`; nothing is scheduled yet."""
        return Options(self._handle(function), key, when, self).call

    async def schedule(self, call: TaskCall[R] | Execution[R], *, replace: bool = False) -> Execution[R]:
        """This schedules a prepared call or execution; `add` and `replace` end here.

        Raises, before anything is written: `InvalidArguments`, `InvalidSchedule`, `NotSerializable`, `NameTaken`, `NotEntered`,
        `RedisUnavailable`. `InDoubt` says that it may have been scheduled, and that repeating the same key is safe.
        """
        return await self._scheduling.schedule(call, replace=replace)

    async def add_many(self, calls: Iterable[TaskCall[R]], *, chunk_size: int | None = 1000) -> list[Execution[R]]:
        """This schedules many calls, in order, with at most `chunk_size` of them under way at a time (None: all).

        Each is atomic, and one that fails leaves the others alone: its execution has the disposition `FAILED` and the reason in
        `schedule_exception`. Only when nothing at all was written because Redis cannot be reached, this raises `RedisUnavailable`.
        """
        return await self._scheduling.schedule_many(calls, chunk_size, replace=False)

    async def replace_many(self, calls: Iterable[TaskCall[R]], *, chunk_size: int | None = 1000) -> list[Execution[R]]:
        """This schedules many calls in place of whatever stands under their keys; otherwise it is `add_many`."""
        return await self._scheduling.schedule_many(calls, chunk_size, replace=True)

    async def cancel(self, key: str) -> None:
        """This cancels what stands under a key: scheduled or queued work never runs, running work gets a `CancelledError`, a chain ends.

        On a key where nothing stands it does nothing, so it is safe to repeat.
        """
        check_key(key)
        lifecycle = self.store.lifecycle
        if not instrumentation.is_traced():
            await lifecycle.cancel(key)
            return
        with instrumentation.tracer.start_as_current_span("docket.cancel", attributes={**self.labels(), "docket.key": key}):
            await lifecycle.cancel(key)

    async def get_execution(self, key: str) -> Execution[Any] | None:
        """This reads the run that stands under a key, or the last one that did; None when nothing is known of it (any more)."""
        record = await self.store.inspection.load(key)
        if record is None:
            return None
        registered = self.registry.get(record.function)
        function = registered.function if registered else NamedTask(record.function, self)
        args, kwargs = ((), {}) if record.payload is None else loads_call(record.payload)
        execution = Execution(
            self, function, args, kwargs, key, from_us(record.when_us), record.attempt, loads_trace(record.trace) or None, function_name=record.function
        )
        execution.read(record)
        return execution

    # What others need to know of it

    @asynccontextmanager
    async def redis(self) -> AsyncGenerator[RedisClient, None]:
        """This gives a client for commands of the caller's own, with bytes for text; on `memory://` the few that the engine knows."""
        yield _Client(self.store)

    def labels(self) -> dict[str, str]:
        """This gives the labels of its metrics, spans and log lines."""
        return {"docket.name": self.name}

    @property
    def prefix(self) -> str:
        """This is what every key of the docket starts with."""
        return self._keys.prefix

    @property
    def worker_group_name(self) -> str:
        """This is the consumer group of its workers."""
        return self._keys.group

    @property
    def results_collection(self) -> str:
        """This is the collection of `result_storage` that its results are kept in."""
        return self.key("results")

    def key(self, suffix: str) -> str:
        """This spells a key of the docket's own."""
        return self._keys.prefix + suffix

    # The work behind it

    def _handle(self, function: Callable[..., Any] | str) -> Handle[..., Any]:
        if not isinstance(function, str):
            return self.registry.ensure(unwrapped(function)).handle
        registered = self.registry.get(function)
        return registered.handle if registered else NamedTask(function, self)


class _Client:
    def __init__(self, store: Store) -> None:
        self._backend = store.backend

    async def execute_command(self, *args: Any) -> Any:
        """This sends a command and gives its reply, with bytes for text."""
        return await self._backend.call(*args)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
