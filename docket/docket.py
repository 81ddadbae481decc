"""The docket: where tasks are declared and scheduled. Entering it connects to Redis; running its tasks is a worker's business."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, TypeVar, overload

from typing_extensions import ParamSpec, Self

from docket import _changes, _context, tasks
from docket._clock import SYSTEM, Clock
from docket._dead import Attempt, DeadLetter, DeadLetterPage, DeadLetters, retry_all
from docket._events import InterruptionEvent, ProgressEvent, StateEvent, events_of
from docket._keys import Keys
from docket._listing import Executions
from docket._loading import load, members_of
from docket._operations import CLEAR_BATCH, Operations
from docket._options import DocketOptions, ResultStorage
from docket._payloads import Payloads
from docket._redis.urls import mask
from docket._registry import Registry
from docket._scheduling import Scheduling
from docket._sessions import Sessions
from docket._snapshot import Counts, DocketSnapshot, ExecutionPage, RunningExecution, WorkerInfo
from docket._store import Store
from docket._store.moving import Moved, move
from docket._sync import SyncClient, SyncExecution
from docket._task import Handle, NamedTask, Options, Scheduler, SyncTask, Task, TaskDecorator, is_task, unwrapped
from docket._when import When, check_key
from docket.dependencies._overrides import StandIns
from docket.errors import InvalidOption, NotEntered
from docket.execution import Execution, TaskCall, TaskFunction
from docket.strikelist import LiteralOperator, Operator, StrikeList

if TYPE_CHECKING:
    from datetime import timedelta

    from redis.credentials import CredentialProvider

    from docket.serializers import Serializer
    from docket.states import ExecutionState

__all__ = [
    "CLEAR_BATCH",
    "Attempt",
    "Counts",
    "DeadLetter",
    "DeadLetterPage",
    "DeadLetters",
    "Docket",
    "DocketSnapshot",
    "ExecutionPage",
    "Executions",
    "Moved",
    "RedisClient",
    "RedisMessage",
    "RedisMessageID",
    "RedisMessages",
    "RedisReadGroupResponse",
    "RedisStreamPendingMessage",
    "RunningExecution",
    "SyncClient",
    "SyncExecution",
    "TaskCollection",
    "WorkerInfo",
]

P = ParamSpec("P")
R = TypeVar("R")

TaskCollection = Iterable[TaskFunction]
"""What `register_collection` and `--tasks` take: functions and handles."""

# Names for what Redis answers about streams, for those who annotate with them.
RedisMessageID = bytes
"""What Redis calls an entry of a stream."""
RedisMessage = dict[bytes, bytes]
"""The fields of an entry of a stream."""
RedisMessages = Sequence[tuple[RedisMessageID, RedisMessage]]
"""Entries of a stream, each with its id."""
RedisReadGroupResponse = Sequence[tuple[bytes, RedisMessages]]
"""What a read of streams gives: their names, with what was read from each."""


class RedisStreamPendingMessage(TypedDict):
    """This tells of an entry that a worker has fetched and not yet acknowledged."""

    message_id: bytes
    """The entry's id."""
    consumer: bytes
    """Who has fetched it."""
    time_since_delivered: int
    """How long ago that was, in milliseconds."""
    times_delivered: int
    """How often it was fetched."""


class RedisClient(Protocol):
    """This sends single commands to the docket's Redis, or to the engine behind `memory://`."""

    async def execute_command(self, *args: Any) -> Any:
        """This sends a command and gives its reply, with bytes for text."""
        ...


class Docket:
    """This is a named collection of tasks and their work, kept in Redis (or in memory).

    It may be made at import time. `async with docket:` connects; it may be entered more than once, in one event loop after
    another, and in forked children.

    `clock` is where its time comes from: the system's, except in tests, where a `docket.testing.MovableClock` can be moved. That works on
    `memory://` only, as a Redis server goes by a clock of its own: anywhere else this raises `InvalidOption`.
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
        serializer: str | Serializer = DocketOptions.serializer,
        accept: Sequence[str | Serializer] | None = None,
        signing_keys: Sequence[str | bytes] = (),
        require_signatures: bool = DocketOptions.require_signatures,
        max_payload_bytes: int | None = DocketOptions.max_payload_bytes,
        max_deliveries: int = DocketOptions.max_deliveries,
        durable_adds: int = DocketOptions.durable_adds,
        dead_letter_retention: timedelta = DocketOptions.dead_letter_retention,
        dead_letter_count: int = DocketOptions.dead_letter_count,
        unknown_task_limit: timedelta = DocketOptions.unknown_task_limit,
        on_dead: Callable[[DeadLetter], Any] | None = DocketOptions.on_dead,
        shards: int | None = DocketOptions.shards,
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
            max_deliveries=max_deliveries,
            durable_adds=durable_adds,
            dead_letter_retention=dead_letter_retention,
            dead_letter_count=dead_letter_count,
            unknown_task_limit=unknown_task_limit,
            on_dead=on_dead,
            shards=shards,
            serializer=serializer,
            accept=accept,
            signing_keys=signing_keys,
            require_signatures=require_signatures,
            max_payload_bytes=max_payload_bytes,
        )
        self._take(options, clock)
        self.registry = Registry(self)
        """The tasks of this docket, as workers read them."""
        self._sessions = Sessions(self, clock)
        for function in tasks.standard_tasks:
            self.registry.register(function, built_in=True)

        self._operations = Operations(self)
        self._stand_ins = StandIns()
        _context.remember(self)

    def _take(self, options: DocketOptions, clock: Clock) -> None:
        if clock.jumps and not options.url.startswith("memory://"):
            raise InvalidOption(
                f"docket {options.name!r} has a clock that can be moved, and url={mask(options.url)!r}: a server goes by a clock of its own; "
                "use memory:// with it, or leave the clock out"
            )
        self.options = options
        self.name = options.name
        self.url = options.url
        self.heartbeat_interval = options.heartbeat_interval
        self.missed_heartbeats = options.missed_heartbeats
        self.execution_ttl = options.execution_ttl
        self.enable_internal_instrumentation = options.enable_internal_instrumentation
        self.credential_provider = options.credential_provider
        self.payloads = Payloads(options)
        """What turns calls and results into bytes and back; not part of the public interface."""
        self._keys = Keys(options.name)

    def reconfigure(self, *, clock: Clock | None = None, **options: Any) -> None:
        """This changes options of a docket that is not entered; its tasks and handles stay its own. They are those of the constructor.

        Raises `InvalidOption`, and `NotEntered` where something is to change while the docket is entered anywhere in this process.
        """
        wanted, sessions = replace(self.options, **options), self._sessions
        if wanted == self.options and clock in (None, sessions.own_clock):
            return
        if sessions.is_under_way:
            raise NotEntered(f"docket {self.name!r} is entered, so its options cannot be changed; leave it first")
        clock = clock or sessions.own_clock
        self._take(wanted, clock)
        sessions.begin_anew(clock)

    async def reshard(self, shards: int) -> Moved:
        """This moves the docket to another number of shards, while nobody uses it: it must not be entered. See `docket reshard`, which does the same.

        Whoever enters it from then on gives that number, or none. Safe to repeat: what an attempt that was interrupted has left is put in order first.
        Raises `WrongState` while a worker is at work on it, `InvalidOption` in memory, `NotEntered` where it is entered in this process.
        """
        wanted, sessions = replace(self.options, shards=shards), self._sessions
        if sessions.is_under_way:
            raise NotEntered(f"docket {self.name!r} is entered, so it cannot be moved; leave it first")
        return await move(self.name, self.url, wanted.shards or 1, clock=sessions.own_clock, credential_provider=self.credential_provider)

    @property
    def clock(self) -> Clock:
        """This is where the docket's time comes from."""
        return self._sessions.here.clock

    @property
    def result_storage(self) -> ResultStorage | None:
        """This is where results are kept instead of in Redis."""
        return self.options.result_storage if self._sessions.here.memory_url is None else None

    @property
    def strike_list(self) -> StrikeList:
        """This knows which calls are struck, and takes conditions of your own. It follows the docket's strikes while the docket is entered."""
        return self._sessions.here.strike_list

    @property
    def _scheduling(self) -> Scheduling:
        return self._sessions.here.scheduling

    def __repr__(self) -> str:
        return f"<Docket {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _context.docket_named, (self.name,)  # by name: the URL may hold a password

    # Entering and leaving

    async def __aenter__(self) -> Self:
        await self._sessions.enter()
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self._sessions.leave()

    def apart(self, clock: Clock) -> AbstractAsyncContextManager[None]:
        """This has what runs in this context find the docket entered, empty, in memory and with this clock, wherever it stands for others: for tests.

        Its tasks and overrides are the docket's own; its results stay out of `result_storage`. What it held is gone when it is left.
        """
        return self._sessions.apart(clock)

    def beside(self) -> Callable[[], None]:
        """This gives what has the code of a context find the docket beside where it stands: the same one, to be entered in another event loop at the same time.

        It is for `sync`, and not part of the public interface.
        """
        return self._sessions.beside()

    def sync(self) -> SyncClient:
        """This gives the docket's client for blocking code: threads, scripts, Django views. `docket.sync().add(f, key=...)(*args)` waits, and gives a `SyncExecution`.

        There is one in a process, which any number of threads may use at once, whether or not the docket is entered as well. It connects when
        it is first used, and stays connected until the process ends, or for as long as somebody is inside `with docket.sync() as client:`.
        A forked child connects anew. Its methods raise `WouldBlock` where an event loop runs: there, await the docket's own.
        """
        return self._sessions.here.client

    @property
    def is_entered(self) -> bool:
        """This says whether the docket is entered in the running event loop."""
        return self._sessions.is_entered

    @property
    def is_connected(self) -> bool:
        """This says whether the docket is entered and its connection stands. Any thread may ask."""
        return self._sessions.is_connected

    @property
    def store(self) -> Store:
        """This is the docket's data, for workers and the parts of docket; not part of the public interface. Raises `NotEntered`."""
        store = self._sessions.entered().store
        assert store is not None
        return store

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

        Gives the handle to call and schedule it by. Raises `NameTaken` when another function has the name, and what is wrong with the task's dependencies:
        `InvalidOption`, `CycleError`.
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

        Safe to repeat. Raises `NameTaken` when another function has one of the names, and what is wrong with the task's dependencies: `InvalidOption`, `CycleError`.
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
        scheduled. Without a `key` each call gets one of its own. One step, and safe to repeat with the same key.

        A function that is not registered is, by this. A name need not be known here, only to a worker; its arguments are then checked there. What is given
        back is a handle too, so `@docket.add` declares. Calling it raises what `schedule` raises.
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

        One step. A scheduled or queued run never starts; a running one is told to stop, and whatever it still does leaves its replacement alone.
        On a free key this is `add`, whose parameters it takes.
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
        """This makes a call for `add_many` and `replace_many`: `docket.call(f, when=..., key=...)(*args, **kwargs)`; nothing is scheduled yet.

        Raises `InvalidArguments` for a call that does not bind, and `InvalidSchedule` for a `key` or `when` that cannot be one.
        """
        return Options(self._handle(function), key, when, self).call

    async def schedule(self, call: TaskCall[R] | Execution[R], *, replace: bool = False) -> Execution[R]:
        """This schedules a prepared call or execution; `add` and `replace` end here.

        Raises, before anything is written: `InvalidArguments`, `InvalidSchedule`, `NotSerializable`, `NameTaken`, `NotEntered`,
        `RedisUnavailable`. `InDoubt` says that it may have been scheduled, and that repeating the same key is safe; `NotReplicated`, where the docket has
        `durable_adds`, that it is scheduled, and on fewer replicas than that.
        """
        return await self._scheduling.schedule(call, replace=replace)

    async def add_many(self, calls: Iterable[TaskCall[R]], *, chunk_size: int | None = 1000) -> list[Execution[R]]:
        """This schedules many calls, in order, with at most `chunk_size` of them under way at a time (None: all).

        Each is atomic, and one that fails leaves the others alone: its execution has the disposition `FAILED` and the reason in
        `schedule_exception`. Only when nothing at all was written because Redis cannot be reached, this raises `RedisUnavailable`;
        and `InvalidOption` for a `chunk_size` below 1. With keys of their own the calls may all be repeated.
        """
        return await self._scheduling.schedule_many(calls, chunk_size, replace=False)

    async def seed(self, calls: Iterable[TaskCall[R]]) -> list[Execution[R]]:
        """This is `add_many` for the upkeep that workers do again and again, which makes no span; not part of the public interface."""
        return await self._scheduling.schedule_many(calls, None, replace=False, quietly=True)

    async def replace_many(self, calls: Iterable[TaskCall[R]], *, chunk_size: int | None = 1000) -> list[Execution[R]]:
        """This schedules many calls in place of whatever stands under their keys; otherwise it is `add_many`."""
        return await self._scheduling.schedule_many(calls, chunk_size, replace=True)

    async def cancel(self, key: str) -> None:
        """This cancels what stands under a key: scheduled or queued work never runs, running work gets a `CancelledError`, a chain ends.

        One step. On a key where nothing stands it does nothing, so it is safe to repeat. A running `def` task cannot be interrupted: its outcome no longer
        counts. The key of a running one is taken until it has stopped. Raises `InvalidSchedule` for what cannot be a key, and `RedisUnavailable`.
        """
        check_key(key)
        await _changes.cancel(self, key)

    async def clear(self) -> int:
        """This cancels all work that has not begun, scheduled or queued, and gives how many runs that was. What runs goes on, and so do its chains.

        What is scheduled after it was called stays. Safe beside workers, and safe to repeat.
        """
        return await self._operations.clear()

    def dead_letters(self, *, task: str | None = None, key_prefix: str | None = None, reason: str | None = None, limit: int | None = None) -> DeadLetters:
        """This lists what ended FAILED for good, the latest first: `async for letter in docket.dead_letters(reason="poison"): ...`, or `.page()`.

        They are kept for `dead_letter_retention` and up to `dead_letter_count`. Nobody has to know the tasks here.
        """
        return DeadLetters(self, task=task, key_prefix=key_prefix, reason=reason, limit=limit)

    async def retry_dead_letters(
        self,
        *,
        task: str | None = None,
        key_prefix: str | None = None,
        reason: str | None = None,
        limit: int | None = None,
        rate: float | None = None,
        when: When | None = None,
    ) -> list[Execution[Any]]:
        """This runs dead letters again, the latest first, at most `rate` a second (None: all at once), from `when` on, and gives what was scheduled.

        Each is a step of its own; see `DeadLetter.retry`. A letter whose key has something scheduled, queued or running stays, and so does one that a strike means.
        """
        letters = self.dead_letters(task=task, key_prefix=key_prefix, reason=reason, limit=limit)
        return [became async for _, became in retry_all(letters, rate=rate, when=when) if isinstance(became, Execution)]

    async def get_execution(self, key: str) -> Execution[Any] | None:
        """This reads the run that stands under a key, or the last one that did; None when nothing is known of it (any more).

        What has ended is known for `execution_ttl`. The task need not be registered here. Raises `RedisUnavailable`.
        """
        return await self._operations.get_execution(key)

    # Striking

    async def strike(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | LiteralOperator = Operator.EQUAL,
        value: object = None,
    ) -> bool:
        """This has calls neither scheduled nor run: of a task or of all (None), every call or those whose argument compares so with `value`.

        `await docket.strike(send, "customer", "==", 5)`. On return it is in effect everywhere: whatever a worker claims from now on, it drops
        (CANCELLED, `Disposition.STRUCK`), chain and all. What waits stays where it is until it is due, so a strike taken back before then
        leaves no trace. It says whether this changed anything, and stands until `restore`. Safe to repeat.

        The value is a number, str, bool, None, date, time, duration, UUID, Decimal or member of an Enum; a pair of them for `between`, both
        included. Raises `InvalidOption` for anything else, `ServerError` when there are too many strikes, and `RedisUnavailable`.
        """
        return await self.strike_list.strike(self._name_of(function), parameter, operator, value)

    async def restore(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | LiteralOperator = Operator.EQUAL,
        value: object = None,
    ) -> bool:
        """This takes back the strike that was made with the same arguments, and says whether there was one.

        What was dropped meanwhile stays dropped, except that automatic tasks are scheduled again.
        """
        return await self.strike_list.restore(self._name_of(function), parameter, operator, value)

    async def wait_for_strikes_loaded(self) -> None:
        """This returns once the strikes are known: at once, since entering the docket reads them. Raises `NotEntered`."""
        await self.strike_list.wait_for_strikes_loaded()

    def _name_of(self, function: Callable[..., Any] | str | None) -> Callable[..., Any] | str | None:
        """The name that a function's tasks have here, which need not be its own."""
        if function is None or isinstance(function, str):
            return function
        function = unwrapped(function)
        registered = self.registry.find(function)
        return function if registered is None else registered.name

    # Looking at it as a whole

    def executions(
        self, *, state: ExecutionState | str | None = None, task: str | None = None, key_prefix: str | None = None, limit: int | None = None
    ) -> Executions:
        """This lists executions, of one state, one task, or with keys that begin so: `async for execution in docket.executions(state="failed")`.

        `await docket.executions(...).page(cursor)` gives a page at a time, for web pages. What holds while work moves says `Executions`.
        """
        return Executions(self, state=state, task=task, key_prefix=key_prefix, limit=limit)

    async def counts(self) -> Counts:
        """This counts what is scheduled, ready, waiting and running, and the ends so far. It costs the same, however large the docket is."""
        return await self._operations.counts()

    async def snapshot(self, *, limit: int = 1000, after: str | None = None) -> DocketSnapshot:
        """This looks at everything at once: at most `limit` executions that have not begun, as many that run, and the workers.

        The rest, if there is any, comes with `after=snapshot.next`. It never fails for what was stored, and none of the tasks has to be known here.
        """
        return await self._operations.snapshot(limit, after)

    async def workers(self) -> list[WorkerInfo]:
        """This lists the workers that are alive: heard of within `heartbeat_interval * missed_heartbeats`. At most 1,000."""
        return await self._operations.workers()

    async def task_workers(self, task_name: str) -> list[WorkerInfo]:
        """This lists the workers that are alive and know a task."""
        return [worker for worker in await self._operations.workers() if task_name in worker.tasks]

    # Watching

    @overload
    def events(
        self, *, ready: asyncio.Event | None = None, include_progress: Literal[False] = False
    ) -> AsyncGenerator[StateEvent | InterruptionEvent, None]: ...
    @overload
    def events(self, *, ready: asyncio.Event | None = None, include_progress: bool) -> AsyncGenerator[StateEvent | ProgressEvent | InterruptionEvent, None]: ...
    def events(
        self, *, ready: asyncio.Event | None = None, include_progress: bool = False
    ) -> AsyncGenerator[StateEvent | ProgressEvent | InterruptionEvent, None]:
        """This gives the transitions of all tasks as they happen, from here on and without end; with `include_progress`, reports of progress too.

        Events tell of keys, not of tasks: ask `get_execution` for the rest. Where some are missing, an item of type `interruption` says so:
        after an outage, and when they come faster than they are taken (8 MB are kept for whoever is slow). Read what stands, with
        `executions`, when one comes: what happens after it is told. `ready` is set once every transition will be told.
        Raises `RedisUnavailable` when there is no connection to begin with, and `NotEntered` once the docket is left.
        """
        return events_of(self.store.events, ready, include_progress=include_progress)

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
