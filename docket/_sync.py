"""The docket for blocking code: a thread with an event loop in which the docket is entered, and a client whose methods wait for what goes on there.

What is done there is the docket's own business; here is only the way there and back.

* A thread and its connection belong to one process. A forked child finds that the thread is its parent's, leaves what belongs to it alone, and
  starts another. The lock is the process's too: a parent's may be taken at the fork by a thread that the child does not have.
* A caller's context goes along (the run that it is part of, its span), so what a call does there is what it would do here.
* A client that is closed while calls are under way lets them come to their end; calls that come after that start another thread.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, Literal, cast, overload

from typing_extensions import ParamSpec, Self, TypeVar

from docket._context import while_waiting
from docket._task import Options, Scheduler
from docket.errors import WouldBlock
from docket.execution import Execution
from docket.strikelist import LiteralOperator, Operator

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from types import TracebackType

    from docket._dead import DeadLetter
    from docket._events import InterruptionEvent, ProgressEvent, StateEvent
    from docket._progress import ExecutionProgress
    from docket._snapshot import Counts, DocketSnapshot, WorkerInfo
    from docket._when import When
    from docket.docket import Docket
    from docket.execution import TaskCall
    from docket.states import Disposition, ExecutionState

__all__ = ["SyncClient", "SyncExecution"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True, default=Any)

_PATIENCE_AT_EXIT = 5.0
"""Seconds that a process which ends waits for the connection to be closed in good order."""

_END: Any = object()


class _Thread:
    """This is one thread with an event loop, in which the docket is entered until it is told to leave."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._stand = docket.beside()
        self._loop = asyncio.new_event_loop()
        self._told = asyncio.Event()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, name=f"docket client {docket.name}", daemon=True)
        self.callers = 0
        """Who waits for something here, or is about to."""
        self.is_retired = False
        """Whether nobody else is to come."""
        self._is_ending = False
        """Whether the process ends."""

    @property
    def is_over(self) -> bool:
        return self.is_retired or not self._thread.is_alive()  # of a forked child's parent, no thread is

    # Outside of it

    def start(self) -> None:
        self._thread.start()
        atexit.register(self._end)

    def wait_until_open(self) -> None:
        """Raises what entering the docket raised."""
        self._opened.result()

    def call(self, function: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        future = asyncio.run_coroutine_threadsafe(self._within(function, args, kwargs), self._loop)
        try:
            value, error = future.result()
        except BaseException as exc:  # noqa: BLE001 - raised below: whoever waits is interrupted, by Ctrl-C for example
            future.cancel()
            value, error = None, exc
        if self._is_ending:  # pragma: no cover - this is a daemon thread then, with nobody left whom what came of it could help
            threading.Event().wait()
        if error is not None:
            try:
                raise error
            finally:
                del error  # which holds this frame
        return cast("T", value)

    def leave(self) -> None:
        """This has it come to its end, without waiting for that."""
        with suppress(RuntimeError):  # it never opened, and is over
            self._loop.call_soon_threadsafe(self._told.set)

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def _end(self) -> None:
        """The process ends. Whoever still waits is a daemon thread, which ends with it."""
        if self._thread.is_alive():  # pragma: no branch - it is not in a forked child, which is not measured any more when it ends
            self.is_retired = self._is_ending = True
            self.leave()
            self.join(_PATIENCE_AT_EXIT)

    # Inside

    def _main(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as exc:  # noqa: BLE001 - raised by whoever waits for it to open
            self.is_retired = True
            self._opened.set_exception(exc)
        finally:
            self._loop.close()  # not as `asyncio.run` does: it would start a thread, which a process that ends cannot
            atexit.unregister(self._end)

    async def _serve(self) -> None:
        self._stand()
        async with self._docket:
            self._opened.set_result(None)
            await self._told.wait()
        if left := asyncio.all_tasks() - {asyncio.current_task()}:  # of threads that still wait when the process ends
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    async def _within(self, function: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> tuple[T | None, BaseException | None]:
        """Calls a function in the caller's context. What it raises is a value here, as the loop would take SystemExit for its own."""
        self._stand()
        while_waiting.set(None)  # a worker's, to be entered in its event loop: see `_aside`
        try:
            return await function(*args, **kwargs), None
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001 - raised again by `call`
            return None, exc


@contextmanager
def _aside() -> Generator[None, None, None]:
    """This is what a run enters for as long as it waits for another one, where this is the thread of a `def` task."""
    aside = while_waiting.get()
    if aside is None:
        yield
        return
    from anyio import from_thread  # late: 4 ms of start-up, for what is rare

    from_thread.run(aside.__aenter__)
    try:
        yield
    finally:
        from_thread.run(aside.__aexit__, None, None, None)


class _Process:
    """This is what one process has of a client."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: _Thread | None = None
        self.inside = 0
        """How many are inside `with`."""


class SyncClient:
    """This is a docket for blocking code; `Docket.sync` gives it. Each method does what the docket's own does, and waits until it is done.

    Any number of threads may use it at once. It connects when it is first used, or entered: `with docket.sync() as client:`. When the last of
    those who entered it has left, it disconnects; a process that never enters it stays connected until it ends. Where an event loop runs in the
    same thread, its methods raise `WouldBlock`.
    """

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._processes: dict[int, _Process] = {}
        """By process id. That of a parent is kept: what it holds must not be closed here."""

    def __repr__(self) -> str:
        return f"<SyncClient of {self._docket.name!r}>"

    @property
    def docket(self) -> Docket:
        """This is the docket."""
        return self._docket

    # Connecting

    def __enter__(self) -> Self:
        with self._connected():
            process = self._process()
            with process.lock:
                process.inside += 1
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        process = self._process()
        with process.lock:
            process.inside -= 1
            is_last = not process.inside
        if is_last:
            self.close()

    @property
    def is_open(self) -> bool:
        """This says whether it is connected in this process, or about to be."""
        thread = self._process().thread
        return thread is not None and not thread.is_over

    def close(self) -> None:
        """This disconnects and ends the thread; calls of other threads that are under way come to their end first. The next call connects again. Safe to repeat."""
        thread = self._retire()
        if thread is not None:
            thread.join()

    def leave(self) -> None:
        """This disconnects as `close` does, without waiting for it: also where an event loop runs."""
        self._retire()

    def _retire(self) -> _Thread | None:
        """Gives the thread that ends now, if there is one."""
        process = self._process()
        with process.lock:
            thread, process.thread = process.thread, None
            if thread is None or thread.is_over:
                return None
            thread.is_retired = True
            if thread.callers:
                return None  # the last of them has it end
        thread.leave()
        return thread

    def _process(self) -> _Process:
        pid = os.getpid()
        return self._processes.get(pid) or self._processes.setdefault(pid, _Process())  # one step of the interpreter, so no lock is needed

    @contextmanager
    def _connected(self) -> Generator[_Thread, None, None]:
        """This is the thread, which stays for as long as this is entered."""
        self._refuse_to_block()
        process = self._process()
        with process.lock:
            thread = process.thread
            if thread is None or thread.is_over:
                thread = process.thread = _Thread(self._docket)
                thread.start()
            thread.callers += 1
        try:
            thread.wait_until_open()
            yield thread
        finally:
            with process.lock:
                thread.callers -= 1
                is_last = thread.is_retired and not thread.callers
            if is_last:
                thread.leave()

    def _refuse_to_block(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise WouldBlock(
            f"docket.sync() of docket {self._docket.name!r} was used where an event loop runs, which would stand still meanwhile; "
            "there, use the docket itself: `async with docket:` and `await docket.add(...)(...)`"
        )

    def _call(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._connected() as thread:
            return thread.call(function, *args, **kwargs)

    @overload
    def run(self, awaitable: Awaitable[Execution[R]]) -> SyncExecution[R]: ...
    @overload
    def run(self, awaitable: Awaitable[T]) -> T: ...
    def run(self, awaitable: Awaitable[Any]) -> Any:
        """This awaits whatever can be awaited, where the docket is entered, and gives what came of it: `client.run(send_email.schedule(5, key="x"))`.

        It is for what has no method here. An `Execution` comes as a `SyncExecution`.
        """
        try:
            self._refuse_to_block()
        except WouldBlock:
            if isinstance(awaitable, Coroutine):
                awaitable.close()  # or else it says that it was never awaited
            raise

        async def whatever() -> Any:
            return await awaitable

        found = self._call(whatever)
        return SyncExecution(self, cast("Execution[Any]", found)) if isinstance(found, Execution) else found

    def each(self, source: Callable[[], AsyncIterator[T]]) -> Generator[T, None, None]:
        """This gives one item after another of what is iterated asynchronously, in one stretch of being connected: `client.each(execution.subscribe)`."""
        with self._connected() as thread:

            async def begin() -> AsyncIterator[T]:
                return source()

            async def go_on() -> T:
                return await anext(items, _END)

            items = thread.call(begin)
            try:
                while (item := thread.call(go_on)) is not _END:
                    yield item
            finally:
                if isinstance(items, AsyncGenerator):
                    thread.call(items.aclose)

    # Scheduling

    @overload
    def add(self, function: Scheduler[P, R], when: When | None = None, key: str | None = None) -> Callable[P, SyncExecution[R]]: ...
    @overload
    def add(self, function: Callable[P, Coroutine[Any, Any, R]], when: When | None = None, key: str | None = None) -> Callable[P, SyncExecution[R]]: ...
    @overload
    def add(self, function: Callable[P, R], when: When | None = None, key: str | None = None) -> Callable[P, SyncExecution[R]]: ...
    @overload
    def add(self, function: str, when: When | None = None, key: str | None = None) -> Callable[..., SyncExecution[Any]]: ...
    def add(self, function: Callable[..., Any] | str, when: When | None = None, key: str | None = None) -> Callable[..., SyncExecution[Any]]:
        """This schedules a task, as `Docket.add` does: `client.add(f, when=..., key=...)(*args, **kwargs)` gives its `SyncExecution`."""
        options = self._docket.add(function, when, key).options()
        return lambda *args, **kwargs: self.schedule(options.call(*args, **kwargs))

    @overload
    def replace(self, function: Scheduler[P, R], when: When | None, key: str) -> Callable[P, SyncExecution[R]]: ...
    @overload
    def replace(self, function: Callable[P, Coroutine[Any, Any, R]], when: When | None, key: str) -> Callable[P, SyncExecution[R]]: ...
    @overload
    def replace(self, function: Callable[P, R], when: When | None, key: str) -> Callable[P, SyncExecution[R]]: ...
    @overload
    def replace(self, function: str, when: When | None, key: str) -> Callable[..., SyncExecution[Any]]: ...
    def replace(self, function: Callable[..., Any] | str, when: When | None, key: str) -> Callable[..., SyncExecution[Any]]:
        """This schedules a task in place of whatever stands under the key, as `Docket.replace` does: `client.replace(f, when, key)(*args, **kwargs)`."""
        options: Options[..., Any] = self._docket.add(function, when, key).options()
        return lambda *args, **kwargs: self.schedule(options.call(*args, **kwargs), replace=True)

    def schedule(self, call: TaskCall[R] | Execution[R], *, replace: bool = False) -> SyncExecution[R]:
        """This schedules a prepared call, as `Docket.schedule` does: of `Docket.call`, or of a handle: `client.schedule(send_email.options(key="x").call(5))`."""
        return SyncExecution(self, self._call(self._docket.schedule, call, replace=replace))

    def add_many(self, calls: Iterable[TaskCall[R]], *, chunk_size: int | None = 1000) -> list[SyncExecution[R]]:
        """This schedules many calls, as `Docket.add_many` does."""
        return [SyncExecution(self, execution) for execution in self._call(self._docket.add_many, list(calls), chunk_size=chunk_size)]

    def replace_many(self, calls: Iterable[TaskCall[R]], *, chunk_size: int | None = 1000) -> list[SyncExecution[R]]:
        """This schedules many calls in place of whatever stands under their keys, as `Docket.replace_many` does."""
        return [SyncExecution(self, execution) for execution in self._call(self._docket.replace_many, list(calls), chunk_size=chunk_size)]

    def cancel(self, key: str) -> None:
        """This cancels what stands under a key, as `Docket.cancel` does."""
        self._call(self._docket.cancel, key)

    def clear(self) -> int:
        """This cancels all work that has not begun, as `Docket.clear` does."""
        return self._call(self._docket.clear)

    # Striking

    def strike(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | LiteralOperator = Operator.EQUAL,
        value: object = None,
    ) -> bool:
        """This has calls neither scheduled nor run, as `Docket.strike` does."""
        return self._call(self._docket.strike, function, parameter, operator, value)

    def restore(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | LiteralOperator = Operator.EQUAL,
        value: object = None,
    ) -> bool:
        """This takes back a strike, as `Docket.restore` does."""
        return self._call(self._docket.restore, function, parameter, operator, value)

    # Looking

    def get_execution(self, key: str) -> SyncExecution[Any] | None:
        """This reads the run that stands under a key, or the last one that did, as `Docket.get_execution` does."""
        execution = self._call(self._docket.get_execution, key)
        return None if execution is None else SyncExecution(self, execution)

    def executions(
        self, *, state: ExecutionState | str | None = None, task: str | None = None, key_prefix: str | None = None, limit: int | None = None
    ) -> Iterator[SyncExecution[Any]]:
        """This lists executions, as `Docket.executions` does. For a page at a time: `client.run(docket.executions(...).page(cursor))`."""
        listing = self._docket.executions(state=state, task=task, key_prefix=key_prefix, limit=limit)
        return (SyncExecution(self, execution) for execution in self.each(listing.__aiter__))

    def dead_letters(
        self, *, task: str | None = None, key_prefix: str | None = None, reason: str | None = None, limit: int | None = None
    ) -> Iterator[DeadLetter]:
        """This lists what ended FAILED for good, as `Docket.dead_letters` does. One is run again with `client.run(letter.retry())`."""
        return self.each(self._docket.dead_letters(task=task, key_prefix=key_prefix, reason=reason, limit=limit).__aiter__)

    def retry_dead_letters(
        self,
        *,
        task: str | None = None,
        key_prefix: str | None = None,
        reason: str | None = None,
        limit: int | None = None,
        rate: float | None = None,
        when: When | None = None,
    ) -> list[SyncExecution[Any]]:
        """This runs dead letters again, as `Docket.retry_dead_letters` does."""
        again = self._call(self._docket.retry_dead_letters, task=task, key_prefix=key_prefix, reason=reason, limit=limit, rate=rate, when=when)
        return [SyncExecution(self, execution) for execution in again]

    def counts(self) -> Counts:
        """This counts what is scheduled, ready, waiting and running, as `Docket.counts` does."""
        return self._call(self._docket.counts)

    def snapshot(self, *, limit: int = 1000, after: str | None = None) -> DocketSnapshot:
        """This looks at everything at once, as `Docket.snapshot` does."""
        return self._call(self._docket.snapshot, limit=limit, after=after)

    def workers(self) -> list[WorkerInfo]:
        """This lists the workers that are alive."""
        return self._call(self._docket.workers)

    def task_workers(self, task_name: str) -> list[WorkerInfo]:
        """This lists the workers that are alive and know a task."""
        return self._call(self._docket.task_workers, task_name)

    @overload
    def events(self, *, include_progress: Literal[False] = False) -> Generator[StateEvent | InterruptionEvent, None, None]: ...
    @overload
    def events(self, *, include_progress: bool) -> Generator[StateEvent | ProgressEvent | InterruptionEvent, None, None]: ...
    def events(self, *, include_progress: bool = False) -> Generator[StateEvent | ProgressEvent | InterruptionEvent, None, None]:
        """This gives the transitions of all tasks as they happen, without end, as `Docket.events` does."""
        return self.each(lambda: self._docket.events(include_progress=include_progress))


class SyncExecution(Generic[R_co]):
    """This is one scheduled call of a task, for blocking code. What it says of the run is as of when it was made or last `sync`ed."""

    __slots__ = ("_client", "_execution")

    def __init__(self, client: SyncClient, execution: Execution[R_co]) -> None:
        self._client = client
        self._execution = execution

    def __repr__(self) -> str:
        return f"<Sync{repr(self._execution)[1:]}"

    @property
    def execution(self) -> Execution[R_co]:
        """This is the execution itself, with everything it knows. What it does has to be awaited: `client.run(...)`."""
        return self._execution

    @property
    def key(self) -> str:
        """This is the key."""
        return self._execution.key

    @property
    def function_name(self) -> str:
        """This is the name of the task."""
        return self._execution.function_name

    @property
    def args(self) -> tuple[Any, ...]:
        """This is what the call passes by position. Of a run that was read it may raise `PayloadError`."""
        return self._execution.args

    @property
    def kwargs(self) -> dict[str, Any]:
        """This is what the call passes by name; as with `args`, it may raise `PayloadError`."""
        return self._execution.kwargs

    @property
    def when(self) -> datetime:
        """This is when it is due."""
        return self._execution.when

    @property
    def state(self) -> ExecutionState:
        """This is where it stands."""
        return self._execution.state

    @property
    def disposition(self) -> Disposition:
        """This is what became of the request to schedule."""
        return self._execution.disposition

    @property
    def schedule_exception(self) -> Exception | None:
        """This is why it could not be scheduled, for an item of `add_many` whose disposition is `FAILED`."""
        return self._execution.schedule_exception

    @property
    def attempt(self) -> int:
        """This is which attempt it is, from 1."""
        return self._execution.attempt

    @property
    def worker(self) -> str | None:
        """This is the worker that runs it, or ran it last."""
        return self._execution.worker

    @property
    def started_at(self) -> datetime | None:
        """This is when it started."""
        return self._execution.started_at

    @property
    def completed_at(self) -> datetime | None:
        """This is when it ended."""
        return self._execution.completed_at

    @property
    def error(self) -> str | None:
        """This is what it failed of."""
        return self._execution.error

    @property
    def progress(self) -> ExecutionProgress:
        """This is how far it said it was when it was made or last `sync`ed."""
        return self._execution.progress

    def sync(self) -> None:
        """This reads where the run stands, as `Execution.sync` does."""
        self._client.run(self._execution.sync())

    def get_result(self, *, timeout: timedelta | None = None, deadline: datetime | None = None) -> R_co:
        """This waits for the end of the run and gives its result, or raises what the task raised, as `Execution.get_result` does."""
        with _aside():
            return self._client.run(self._execution.get_result(timeout=timeout, deadline=deadline))

    def cancel(self) -> None:
        """This cancels this very run, as `Execution.cancel` does."""
        self._client.run(self._execution.cancel())

    def reschedule(self, when: When) -> None:
        """This moves a run that has not begun to another moment, as `Execution.reschedule` does."""
        self._client.run(self._execution.reschedule(when))

    def promote(self) -> None:
        """This makes a scheduled run ready now, as `Execution.promote` does."""
        self._client.run(self._execution.promote())

    def retry(self) -> SyncExecution[R_co]:
        """This runs a run that failed or was cancelled again, as `Execution.retry` does, and gives the new run."""
        return self._client.run(self._execution.retry())

    def is_superseded(self) -> bool:
        """This says whether another run has taken this one's place before its end."""
        return self._client.run(self._execution.is_superseded())

    def subscribe(self) -> Generator[StateEvent | ProgressEvent, None, None]:
        """This gives the state and the progress as they stand, then every change, without end, as `Execution.subscribe` does."""
        return self._client.each(self._execution.subscribe)
