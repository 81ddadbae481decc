"""FastAPI (and Starlette): the docket opened with the application, given to routes, and scheduling once a request has gone well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, overload

from typing_extensions import ParamSpec

from docket._task import Scheduler
from docket.docket import Docket
from docket.errors import NotEntered
from docket.execution import TaskCall
from docket.integrations._extras import not_installed
from docket.states import Disposition
from docket.worker import Worker

try:
    from fastapi import BackgroundTasks, Depends
    from fastapi.requests import HTTPConnection
except ImportError as exc:
    raise not_installed("fastapi", exc, "fastapi") from exc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docket._when import When

__all__ = ["AfterResponse", "Background", "DocketDep", "lifespan"]

logger = logging.getLogger("docket.docket")

P = ParamSpec("P")
R = TypeVar("R")

_STATE = "docket"
"""What the docket is called in the state of an application and of its requests."""


def lifespan(
    docket: Docket, *, worker: Worker | bool = False, inside: Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]] | None = None
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """This opens the docket for as long as an application runs: `FastAPI(lifespan=lifespan(docket))`.

    With `worker=True`, or a `Worker` of that docket with options of your own, tasks run in the application's process as well, and are given the worker's
    `grace_period` to finish when it ends. `inside` is a lifespan of your own, entered once the docket is; what it yields is the state of requests,
    as ever. Or call it from yours: `async with lifespan(docket)(app) as state: yield state`.

    Where Redis cannot be reached, the application does not start: this raises `RedisUnavailable`.
    """

    @asynccontextmanager
    async def lives(app: Any) -> AsyncGenerator[dict[str, Any], None]:
        async with docket, AsyncExitStack() as stack:
            if worker:
                await stack.enter_async_context(_running(Worker(docket) if worker is True else worker))
            app.state.docket = docket
            state = None if inside is None else await stack.enter_async_context(inside(app))
            yield {**(state or {}), _STATE: docket}

    return lives


@asynccontextmanager
async def _running(worker: Worker) -> AsyncGenerator[None, None]:
    """Runs a worker beside the application."""

    async def run() -> None:
        try:
            await worker.run_forever()
        except Exception:  # the application goes on answering, and says so when it ends, too
            logger.exception("The worker inside the application has failed; it runs no tasks any more", extra=worker.labels())
            raise

    async with worker:
        running = asyncio.create_task(run(), name=f"docket worker {worker.name} of the application")
        try:
            yield
        finally:
            worker.stop()
            await running


def _docket_of(connection: HTTPConnection) -> Docket:
    """This gives the docket that the application was given; of an application that is mounted, what it is mounted in was given."""
    state: dict[str, Any] = connection.scope.get("state") or {}
    found = state.get(_STATE) or getattr(connection.app.state, _STATE, None)
    if not isinstance(found, Docket):
        raise NotEntered(
            "this application has no docket: make it with FastAPI(lifespan=docket.integrations.fastapi.lifespan(docket)); "
            "in a test, use `with TestClient(app)`, which runs the lifespan"
        )
    return found


DocketDep = Annotated[Docket, Depends(_docket_of)]
"""This is the docket, for routes and dependencies: `async def create_order(docket: DocketDep) -> ...`."""


class Background:
    """This schedules tasks once a request has gone well: declare a parameter `background: AfterResponse`.

    It stands where FastAPI's own `BackgroundTasks` would: after the response was sent, and only if there was no error, what was added is scheduled,
    all in one go. From then on it is a task like any other, which a worker runs, retries and takes over; a process that ends between the response and the
    scheduling, in the milliseconds that takes, loses it. Where that must not be, await `docket.add` in the route.
    """

    def __init__(self, docket: DocketDep, background: BackgroundTasks) -> None:
        self._docket = docket
        self._background = background
        self._calls: list[TaskCall[Any]] = []

    def add_task(self, task: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> TaskCall[Any]:
        """This adds a call, to run at once: what FastAPI's `add_task` is for functions."""
        return self._later(self._docket.call(task)(*args, **kwargs))

    @overload
    def add(self, function: Scheduler[P, R], when: When | None = None, key: str | None = None) -> Callable[P, TaskCall[R]]: ...
    @overload
    def add(self, function: Callable[P, Coroutine[Any, Any, R]], when: When | None = None, key: str | None = None) -> Callable[P, TaskCall[R]]: ...
    @overload
    def add(self, function: Callable[P, R], when: When | None = None, key: str | None = None) -> Callable[P, TaskCall[R]]: ...
    @overload
    def add(self, function: str, when: When | None = None, key: str | None = None) -> Callable[..., TaskCall[Any]]: ...
    def add(self, function: Callable[..., Any] | str, when: When | None = None, key: str | None = None) -> Callable[..., TaskCall[Any]]:
        """This adds a call with time and key: `background.add(f, when=..., key=...)(*args, **kwargs)`. The call it gives says its `key`, for the response.

        The arguments are checked now (`InvalidArguments`).
        """
        call = self._docket.call(function, when, key)
        return lambda *args, **kwargs: self._later(call(*args, **kwargs))

    def _later(self, call: TaskCall[R]) -> TaskCall[R]:
        if not self._calls:
            self._background.add_task(self._schedule)
        self._calls.append(call)
        return call

    async def _schedule(self) -> None:
        for execution in await self._docket.add_many(self._calls):
            if execution.disposition is Disposition.FAILED:
                extra = {**self._docket.labels(), **execution.specific_labels()}
                logger.error("%s was not scheduled after its request: %s", execution.call_repr(), execution.schedule_exception, extra=extra)


AfterResponse = Annotated[Background, Depends()]
"""This is what a route schedules tasks with once its response was sent: `async def sign_up(background: AfterResponse) -> ...`."""
