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
from docket._stopping import Stopping
from docket._threads import Threads
from docket._worker._crew import Crew
from docket._worker._drain import Drain, Grace
from docket._worker._finish import Finish
from docket._worker._gauges import Gauges
from docket._worker._heartbeat import Heartbeat
from docket._worker._intakes import intake_of
from docket._worker._keeper import Keeper
from docket._worker._launch import launch
from docket._worker._leases import Leases
from docket._worker._mover import Mover
from docket._worker._perpetuals import Perpetuals
from docket._worker._plans import Plans, checked_dependencies
from docket._worker._pulse import NOTABLE
from docket._worker._reclaimer import Reclaimer
from docket._worker._report import Report, log_tasks
from docket._worker._run import Runner
from docket._worker._runs import Runs
from docket._worker._settling import Settler
from docket._worker._undertaker import Undertaker
from docket.dependencies._overrides import StandIns
from docket.dependencies._shared import SharedContext
from docket.errors import DocketError, LayoutMismatch, NotEntered, RedisUnavailable

if TYPE_CHECKING:
    from types import TracebackType

    from redis.credentials import CredentialProvider
    from typing_extensions import Self

    from docket._options import ResultStorage
    from docket._worker._intake import Intake
    from docket._worker._intakes import Intakes
    from docket._worker._service import Service
    from docket.docket import Docket
    from docket.execution import TaskFunction
    from docket.serializers import Serializer

__all__ = ["Worker"]

logger = logging.getLogger("docket.worker")


class Worker:
    """This runs tasks of a docket, up to `concurrency` at a time, until it is told to stop or nothing is left.

    Enter it around one of the `run_` methods. Leaving stops it as `stop` does, and waits until it has stopped. Library use installs no
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
        grace_period: timedelta = WorkerOptions.grace_period,
        stall_limit: timedelta = WorkerOptions.stall_limit,
        accept: Sequence[str | Serializer] | None = WorkerOptions.accept,
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
            grace_period=grace_period,
            stall_limit=stall_limit,
            accept=accept,
        )
        docket.payloads.accepting(accept)  # what does not go together is said here, and not when the first task comes
        self.fallback_task = fallback_task
        self.dependencies = checked_dependencies(dependencies)
        self._stand_ins = StandIns()
        self._threads: Threads | None = None
        self._shared: SharedContext | None = None
        self._host: asyncio.Task[None] | None = None
        self._intake: Intake | Intakes | None = None
        self._stopping = Stopping()
        self._grace = Grace()
        self._divided: LayoutMismatch | None = None
        """That the docket has another number of shards than this worker reads, once that is known."""
        self._drain: Drain | None = None
        self._keeper: Keeper | None = None
        self._heartbeat: Heartbeat | None = None

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
        self._host = None
        self._begin_anew()
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()
        hurried: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            hurried = None if self._host is None else await self._has_stopped(self._host)
            shared, self._shared = self._shared, None
            if shared is not None:
                await shared.__aexit__(None, None, None)
        if hurried is not None:
            raise hurried

    async def _has_stopped(self, host: asyncio.Task[None]) -> asyncio.CancelledError | None:
        """Waits for the end of a run that was told to stop. Whoever is cancelled while waiting for it is in a hurry: nothing may go on then."""
        hurried: asyncio.CancelledError | None = None
        while not host.done():
            try:
                await asyncio.wait([host])
            except asyncio.CancelledError as exc:
                hurried = exc
                self.stop(grace=timedelta())
        return hurried

    def is_claiming(self) -> bool:
        """This says whether the worker can take on work now: it runs, is not being stopped, and Redis answers. Safe to call from another thread."""
        return self.not_ready() is None

    def not_ready(self) -> str | None:
        """This says in words why the worker cannot take on work now; None: it can. Safe to call from another thread."""
        intake = self._intake
        if self._stopping.is_set():
            return "draining: told to stop, finishing what is running"
        if not self.docket.is_connected:
            trouble = None if intake is None else intake.trouble
            return trouble or "Redis is unavailable"
        if not self.docket.strike_list.is_loaded:
            return "the strikes are not loaded"
        if intake is None or not intake.has_begun:
            return "starting"
        blocked = 0.0 if self._keeper is None else self._keeper.pulse.overdue()
        if blocked >= NOTABLE:
            return f"the event loop has been blocked for {blocked:.1f} s"
        return intake.trouble or (self._heartbeat and self._heartbeat.refusal)

    def stop(self, *, grace: timedelta | None = None) -> None:
        """This stops fetching. What is running may go on for `grace`, by default the worker's `grace_period`; the `run_` method returns when it has ended.

        What has not finished by then is cancelled and handed back to the other workers at once: same attempt, its places under limits free. What does
        not stop either is abandoned after `cleanup_timeout`, its run handed back all the same. Safe to repeat; the shortest grace counts, and
        `stop(grace=timedelta())` leaves none. To be called in the worker's event loop.
        """
        self._stopping.set()
        self._grace.give(self.options.grace_period if grace is None else grace)
        if self._intake is not None:
            self._intake.stop()
        if self._drain is not None:
            self._drain.hurry()

    def _begin_anew(self) -> None:
        self._stopping, self._grace = Stopping(), Grace()
        self._divided = None

    async def run_forever(self) -> None:
        """This runs tasks until `stop`, or until the docket was divided or moved to other shards. Cancelled, it stops as well, and returns at once: what is running has its grace until the worker is left, which waits for that.

        An outage of Redis is waited out, for as long as it takes. Raises `NotEntered` where the worker is not entered, or runs already, and
        `LayoutMismatch` once the docket has another number of shards.
        """
        await self._run(until_finished=False, limits={})

    async def run_until_finished(self) -> None:
        """This runs tasks until nothing that this worker can run is scheduled, queued or running. Future work is waited for, so a perpetual chain has it run for ever.

        Raises as `run_forever` does.
        """
        await self._run(until_finished=True, limits={})

    async def run_at_most(self, iterations_by_key: Mapping[str, int]) -> None:
        """This runs each of these keys so many times and then ends its chain; everything else as `run_until_finished` does: `{"monitor-main": 3}`.

        A key with a number below one is cancelled. Raises as `run_forever` does.
        """
        for key, times in iterations_by_key.items():
            if times < 1:
                await self.docket.cancel(key)
        await self._run(until_finished=True, limits={key: max(times, 0) for key, times in iterations_by_key.items()})

    async def _run(self, *, until_finished: bool, limits: dict[str, int]) -> None:
        if self._shared is None or self._threads is None:
            raise NotEntered(f"worker {self.name!r} is not entered; run it inside `async with Worker(docket) as worker:`")
        if self._host is not None and not self._host.done():
            if not self._stopping.is_set():
                raise NotEntered(f"worker {self.name!r} is running already; make another Worker to run more at once")
            await asyncio.wait([self._host])  # what a cancelled run left behind comes to its end first
        if self._host is not None:  # what told that run to stop is not meant for this one
            self._begin_anew()
        # One host task holds the worker's groups: they must be left in the task that entered them, and cancelling the caller is not to cut runs short
        host = self._host = asyncio.create_task(self._work(self._shared, self._threads, until_finished, limits), name=f"docket worker {self.name}")
        try:
            await asyncio.shield(host)
        finally:
            self.stop()
        if self._divided is not None:
            raise self._divided

    def _end_here(self, exc: LayoutMismatch) -> None:
        """The docket has another number of shards by now."""
        self._divided = exc
        self.stop()

    async def _work(self, shared: SharedContext, threads: Threads, until_finished: bool, limits: dict[str, int]) -> None:
        bind_worker(self.docket.name, self.name)
        crew = Crew(self, self.docket, self.options, self._stopping)
        plans = Plans(crew.registry, self.dependencies, self.fallback_task)
        report = Report(crew, plans.is_registered)
        undertaker = Undertaker(crew)
        settler = Settler(crew, report, undertaker)
        runner = Runner(crew, report, settler, shared, threads, plans.find, limits)
        runs = Runs(self.concurrency, runner.perform)
        drain = self._drain = Drain(crew, runs, self._grace, settler.hand_back)
        finished = Finish(crew, plans) if until_finished else None
        intake = self._intake = intake_of(crew, runs, report, finished.reached if finished else None)
        if self._stopping.is_set():
            intake.stop()
        keeper = self._keeper = Keeper(crew, runs)
        leases = Leases(crew, runs, intake.interrupt, keeper.keep)
        movers = [Mover(crew, shard) for shard in crew.store.shards]
        reclaimers = [Reclaimer(crew, shard) for shard in crew.store.shards]
        heartbeat = self._heartbeat = Heartbeat(crew, lambda: intake.trouble, self._end_here)
        claiming: list[Service] = [*movers, heartbeat, *reclaimers, undertaker]
        gauges = Gauges(crew)
        if self.options.schedule_automatic_tasks:
            claiming.append(Perpetuals(crew))
        try:
            keeper.start(leases.nudge)
            if not await self._begin(crew, leases, claiming, intake):
                return
            async with crew.store.events.signals(on_wake=[mover.wake for mover in movers], on_cancel=runs.stop), anyio.create_task_group() as holding:
                holding.start_soon(leases.run)
                holding.start_soon(gauges.run)
                async with anyio.create_task_group() as fetching:
                    for service in claiming:
                        fetching.start_soon(service.run)
                    await intake.run()
                    fetching.cancel_scope.cancel()
                await drain.run()
                holding.cancel_scope.cancel()
        finally:
            self.stop()  # which limits what is left to do here, whatever brought us here
            self._intake = None
            with anyio.CancelScope(shield=True):
                await drain.run()
                self._drain = None
                await keeper.stop()
                gauges.leave()
                report.tally.flush()
                await self._depart(crew)

    async def _begin(self, crew: Crew, leases: Leases, services: Sequence[Service], intake: Intake | Intakes) -> bool:
        """Says who we are and what we can do, before anything is fetched. An outage is waited out, unless the worker is told to stop."""
        log_tasks(crew)
        failures = 0
        while not self._stopping.is_set():
            try:
                await crew.store.delivery.ensure_group()
                await leases.start()
                for service in services:
                    await service.begin()
            except RedisUnavailable as exc:
                await intake.wait_out(exc, failures)
                failures += 1
            else:
                return True
        return False

    async def _depart(self, crew: Crew) -> None:
        try:
            await crew.store.workers.depart(crew.instance)
        except DocketError as exc:
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
        grace_period: timedelta | None = None,
        stall_limit: timedelta | None = None,
        execution_ttl: timedelta | None = None,
        heartbeat_interval: timedelta | None = None,
        missed_heartbeats: int | None = None,
        result_storage: ResultStorage | str | None = None,
        credential_provider: CredentialProvider | str | None = None,
        max_deliveries: int | None = None,
        serializer: Serializer | str | None = None,
        accept: Sequence[Serializer | str] | None = None,
        signing_keys: Sequence[str | bytes] | str | None = None,
        require_signatures: bool | None = None,
        max_payload_bytes: int | None = None,
        dead_letter_retention: timedelta | None = None,
        dead_letter_count: int | None = None,
        unknown_task_limit: timedelta | None = None,
    ) -> None:
        """This makes a docket and a worker and runs them until SIGTERM or SIGINT, which stop it as `stop` does, or (`until_finished`) until nothing is left.

        A second signal leaves what runs no more time: it is cancelled and handed back now.

        What is not given has the default of `DocketOptions` or `WorkerOptions`, or, where `tasks` names a docket (`module:docket`),
        that docket's own value. Strings of the form `module:member` are loaded. `signing_keys` may also be `env:NAME`, for a variable that
        holds keys separated by commas. `accept` is for the results that tasks read, too.
        """
        await launch(
            cls,
            docket_options={
                "name": docket_name, "url": url, "execution_ttl": execution_ttl, "heartbeat_interval": heartbeat_interval,
                "missed_heartbeats": missed_heartbeats, "result_storage": result_storage, "credential_provider": credential_provider,
                "max_deliveries": max_deliveries, "serializer": serializer, "accept": accept, "signing_keys": signing_keys,
                "require_signatures": require_signatures, "max_payload_bytes": max_payload_bytes,
                "dead_letter_retention": dead_letter_retention, "dead_letter_count": dead_letter_count, "unknown_task_limit": unknown_task_limit,
            },
            worker_options={
                "name": name, "concurrency": concurrency, "redelivery_timeout": redelivery_timeout, "reconnection_delay": reconnection_delay,
                "minimum_check_interval": minimum_check_interval, "scheduling_resolution": scheduling_resolution,
                "schedule_automatic_tasks": schedule_automatic_tasks, "enable_internal_instrumentation": enable_internal_instrumentation,
                "message_batch": message_batch, "cleanup_timeout": cleanup_timeout, "liveness_timeout": liveness_timeout,
                "threads": threads, "grace_period": grace_period, "stall_limit": stall_limit,
            },
            tasks=tasks, fallback_task=fallback_task, dependencies=dependencies, until_finished=until_finished,
            healthcheck_port=healthcheck_port, metrics_port=metrics_port,
        )  # fmt: skip
