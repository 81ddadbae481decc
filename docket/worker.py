"""The worker: runs a docket's tasks. Its duties are one class each in `_worker`; here they are put together, started and stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio

from docket._logging import bind_worker
from docket._options import WorkerOptions, default_worker_name
from docket._threads import Threads
from docket._worker._crew import Crew
from docket._worker._finish import Finish
from docket._worker._gauges import Gauges
from docket._worker._heartbeat import Heartbeat
from docket._worker._intake import Intake
from docket._worker._launch import launch
from docket._worker._leases import Leases
from docket._worker._mover import Mover
from docket._worker._perpetuals import Perpetuals
from docket._worker._plans import Plans, checked_dependencies
from docket._worker._reclaimer import Reclaimer
from docket._worker._report import Report, log_tasks
from docket._worker._run import Runner
from docket._worker._runs import Runs
from docket.dependencies._overrides import StandIns
from docket.dependencies._shared import SharedContext
from docket.errors import NotEntered, RedisUnavailable

if TYPE_CHECKING:
    from types import TracebackType

    from redis.credentials import CredentialProvider
    from typing_extensions import Self

    from docket._options import ResultStorage
    from docket._worker._service import Service
    from docket.docket import Docket
    from docket.execution import TaskFunction

__all__ = ["Worker"]

logger = logging.getLogger("docket.worker")


class Worker:
    """This runs tasks of a docket, up to `concurrency` at a time, until it is told to stop or nothing is left.

    Enter it around one of the `run_` methods. Leaving stops fetching and waits for what is running. Library use installs no
    signal handlers; `Worker.run` does. The options are those of `WorkerOptions`, checked at once: `InvalidOption` says what is wrong.
    """

    def __init__(
        self,
        docket: Docket,
        name: str | None = None,
        concurrency: int = WorkerOptions.concurrency,
        redelivery_timeout: timedelta = WorkerOptions.redelivery_timeout,
        reconnection_delay: timedelta = WorkerOptions.reconnection_delay,
        minimum_check_interval: timedelta = WorkerOptions.minimum_check_interval,
        scheduling_resolution: timedelta = WorkerOptions.scheduling_resolution,
        schedule_automatic_tasks: bool = WorkerOptions.schedule_automatic_tasks,
        enable_internal_instrumentation: bool = WorkerOptions.enable_internal_instrumentation,
        fallback_task: TaskFunction | None = None,
        dependencies: Mapping[str, Any] | Sequence[Any] | None = None,
        message_batch: int = WorkerOptions.message_batch,
        cleanup_timeout: timedelta = WorkerOptions.cleanup_timeout,
        liveness_timeout: timedelta = WorkerOptions.liveness_timeout,
        threads: int | None = WorkerOptions.threads,
    ) -> None:
        self.docket = docket
        self.options = WorkerOptions(
            name=default_worker_name() if name is None else name,
            concurrency=concurrency,
            redelivery_timeout=redelivery_timeout,
            reconnection_delay=reconnection_delay,
            minimum_check_interval=minimum_check_interval,
            scheduling_resolution=scheduling_resolution,
            schedule_automatic_tasks=schedule_automatic_tasks,
            enable_internal_instrumentation=enable_internal_instrumentation,
            message_batch=message_batch,
            cleanup_timeout=cleanup_timeout,
            liveness_timeout=liveness_timeout,
            threads=threads,
        )
        self.fallback_task = fallback_task
        self.dependencies = checked_dependencies(dependencies)
        self._stand_ins = StandIns()
        self._threads: Threads | None = None
        self._shared: SharedContext | None = None
        self._host: asyncio.Task[None] | None = None
        self._intake: Intake | None = None
        self._stopping = False

    @property
    def name(self) -> str:
        """This is what the worker is called."""
        return self.options.name

    @property
    def concurrency(self) -> int:
        """This is how many tasks run at the same time."""
        return self.options.concurrency

    def labels(self) -> dict[str, str]:
        """This gives the labels of the worker's metrics."""
        return {**self.docket.labels(), "docket.worker": self.name}

    def override(self, dependency: Callable[..., Any], stand_in: Callable[..., Any]) -> AbstractContextManager[None]:
        """This has runs of this worker use `stand_in` wherever they depend on `dependency`, for as long as it is entered.

        Runs that have begun keep what they began with. A worker's overrides win over its docket's.
        """
        return self._stand_ins.override(dependency, stand_in)

    @property
    def overrides(self) -> Mapping[Callable[..., Any], Callable[..., Any]]:
        """This is what stands in for dependency functions in runs that begin now: see `override`, here and on the docket."""
        own, around = self._stand_ins.current, self.docket.overrides
        return {**around, **own} if own and around else own or around

    async def __aenter__(self) -> Self:
        _ = self.docket.store  # raises NotEntered, with advice
        if self._shared is not None:
            raise NotEntered(f"worker {self.name!r} is entered already; a Worker is entered once at a time")
        self._threads = Threads(self.options.threads or self.concurrency)
        thread = self._threads.thread(lambda: f"A shared dependency of worker {self.name!r}", self.labels())
        self._shared = await SharedContext(thread).__aenter__()
        self._stopping = False
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()
        with anyio.CancelScope(shield=True):
            if self._host is not None:
                await asyncio.wait([self._host])
            shared, self._shared = self._shared, None
            if shared is not None:
                await shared.__aexit__(None, None, None)

    def is_claiming(self) -> bool:
        """This says whether the worker can take on work now: it runs, is not being stopped, and Redis answers. Safe to call from another thread."""
        return self.not_ready() is None

    def not_ready(self) -> str | None:
        """This says in words why the worker cannot take on work now; None: it can. Safe to call from another thread."""
        intake = self._intake
        if self._stopping:
            return "draining: told to stop, finishing what is running"
        if not self.docket.is_connected:
            return "Redis is unavailable"
        if not self.docket.strike_list.is_loaded:
            return "the strikes are not loaded"
        if intake is None or not intake.has_begun:
            return "starting"
        return intake.trouble

    def stop(self) -> None:
        """This stops fetching; what is running goes on to its end, and the `run_` method then returns. Safe to repeat."""
        self._stopping = True
        if self._intake is not None:
            self._intake.stop()

    async def run_forever(self) -> None:
        """This runs tasks until `stop`, or until it is cancelled: then it stops fetching, and leaving the worker waits for what is running."""
        await self._run(until_finished=False, limits={})

    async def run_until_finished(self) -> None:
        """This runs tasks until nothing that this worker can run is scheduled, queued or running. Future work is waited for."""
        await self._run(until_finished=True, limits={})

    async def run_at_most(self, iterations_by_key: Mapping[str, int]) -> None:
        """This runs each of these keys so many times and then ends its chain; everything else as `run_until_finished` does."""
        for key, times in iterations_by_key.items():
            if times < 1:
                await self.docket.cancel(key)
        await self._run(until_finished=True, limits={key: max(times, 0) for key, times in iterations_by_key.items()})

    async def _run(self, *, until_finished: bool, limits: dict[str, int]) -> None:
        if self._shared is None or self._threads is None:
            raise NotEntered(f"worker {self.name!r} is not entered; run it inside `async with Worker(docket) as worker:`")
        if self._host is not None and not self._host.done():
            if not self._stopping:
                raise NotEntered(f"worker {self.name!r} is running already; make another Worker to run more at once")
            await asyncio.wait([self._host])  # what a cancelled run left behind comes to its end first
        self._stopping = False
        # One host task holds the worker's groups: they must be left in the task that entered them, and cancelling the caller is not to cut runs short
        host = self._host = asyncio.create_task(self._work(self._shared, self._threads, until_finished, limits), name=f"docket worker {self.name}")
        try:
            await asyncio.shield(host)
        finally:
            self.stop()

    async def _work(self, shared: SharedContext, threads: Threads, until_finished: bool, limits: dict[str, int]) -> None:
        bind_worker(self.docket.name, self.name)
        crew = Crew(self, self.docket, self.options)
        plans = Plans(crew.registry, self.dependencies, self.fallback_task)
        report = Report(crew, plans.is_registered)
        runner = Runner(crew, report, shared, threads, plans.find, limits)
        runs = Runs(self.concurrency, runner.perform)
        finished = Finish(crew, plans) if until_finished else None
        intake = self._intake = Intake(crew, runs, report, finished.reached if finished else None)
        if self._stopping:
            intake.stop()
        mover, leases = Mover(crew), Leases(crew, runs, intake.interrupt)
        claiming: list[Service] = [mover, Heartbeat(crew, lambda: intake.trouble), Reclaimer(crew)]
        gauges = Gauges(crew)
        if self.options.schedule_automatic_tasks:
            claiming.append(Perpetuals(crew))
        try:
            if not await self._begin(crew, leases, claiming, intake):
                return
            async with crew.store.events.signals(on_wake=mover.wake, on_cancel=runs.stop), anyio.create_task_group() as holding:
                holding.start_soon(leases.run)
                holding.start_soon(gauges.run)
                async with anyio.create_task_group() as fetching:
                    for service in claiming:
                        fetching.start_soon(service.run)
                    await intake.run()
                    fetching.cancel_scope.cancel()
                await self._drain(crew, runs)
                holding.cancel_scope.cancel()
        finally:
            self._intake = None
            with anyio.CancelScope(shield=True):
                await self._drain(crew, runs)
                gauges.leave()
                report.tally.flush()
                await self._depart(crew)

    async def _begin(self, crew: Crew, leases: Leases, services: Sequence[Service], intake: Intake) -> bool:
        """Says who we are and what we can do, before anything is fetched. An outage is waited out, unless the worker is told to stop."""
        log_tasks(crew)
        while not self._stopping:
            try:
                await crew.store.delivery.ensure_group()
                await leases.start()
                for service in services:
                    if service.at_start:
                        await service.tick()
            except RedisUnavailable as exc:
                await intake.wait_out(exc)
            else:
                return True
        return False

    async def _drain(self, crew: Crew, runs: Runs) -> None:
        def is_out() -> bool:
            return not crew.store.backend.is_connected

        if not runs.idle:
            logger.info("Shutdown requested, finishing %d active tasks...", len(runs), extra=crew.labels)
        if not await runs.drained(is_out=is_out, patience=self.options.cleanup_timeout.total_seconds()):
            logger.warning("Redis is away, so what had finished here could not be settled; it runs again when the lease lapses", extra=crew.labels)

    async def _depart(self, crew: Crew) -> None:
        try:
            await crew.store.workers.depart(crew.instance)
        except RedisUnavailable as exc:
            logger.warning("Could not say goodbye; the worker is forgotten when its lease lapses: %s", exc, extra=crew.labels)

    @classmethod
    async def run(
        cls,
        docket_name: str | None = None,
        url: str | None = None,
        name: str | None = None,
        concurrency: int | None = None,
        redelivery_timeout: timedelta | None = None,
        reconnection_delay: timedelta | None = None,
        minimum_check_interval: timedelta | None = None,
        scheduling_resolution: timedelta | None = None,
        schedule_automatic_tasks: bool | None = None,
        enable_internal_instrumentation: bool | None = None,
        until_finished: bool = False,
        healthcheck_port: int | None = None,
        metrics_port: int | None = None,
        tasks: Sequence[str] = ("docket.tasks:standard_tasks",),
        fallback_task: str | None = None,
        message_batch: int | None = None,
        dependencies: Mapping[str, Any] | Sequence[Any] | str | None = None,
        cleanup_timeout: timedelta | None = None,
        liveness_timeout: timedelta | None = None,
        threads: int | None = None,
        execution_ttl: timedelta | None = None,
        heartbeat_interval: timedelta | None = None,
        missed_heartbeats: int | None = None,
        result_storage: ResultStorage | str | None = None,
        credential_provider: CredentialProvider | str | None = None,
    ) -> None:
        """This makes a docket and a worker and runs them until SIGTERM or SIGINT, which drain it, or (`until_finished`) until nothing is left.

        What is not given has the default of `DocketOptions` or `WorkerOptions`, or, where `tasks` names a docket (`module:docket`),
        that docket's own value. Strings of the form `module:member` are loaded.
        """
        await launch(
            cls,
            docket_options={
                "name": docket_name, "url": url, "execution_ttl": execution_ttl, "heartbeat_interval": heartbeat_interval,
                "missed_heartbeats": missed_heartbeats, "result_storage": result_storage, "credential_provider": credential_provider,
            },
            worker_options={
                "name": name, "concurrency": concurrency, "redelivery_timeout": redelivery_timeout, "reconnection_delay": reconnection_delay,
                "minimum_check_interval": minimum_check_interval, "scheduling_resolution": scheduling_resolution,
                "schedule_automatic_tasks": schedule_automatic_tasks, "enable_internal_instrumentation": enable_internal_instrumentation,
                "message_batch": message_batch, "cleanup_timeout": cleanup_timeout, "liveness_timeout": liveness_timeout,
                "threads": threads,
            },
            tasks=tasks, fallback_task=fallback_task, dependencies=dependencies, until_finished=until_finished,
            healthcheck_port=healthcheck_port, metrics_port=metrics_port,
        )  # fmt: skip
