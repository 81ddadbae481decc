"""`Worker.run`: from names and settings to a docket and a worker that run until they are told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from docket import instrumentation
from docket._collections import LoadedTasks, load_tasks
from docket._loading import load, load_option
from docket._options import WorkerOptions
from docket._redis.wire import backoff
from docket._worker._pulse import Pulse
from docket.docket import Docket
from docket.errors import LayoutMismatch, RedisUnavailable

if TYPE_CHECKING:
    from docket.worker import Worker

__all__ = ["launch"]

logger = logging.getLogger("docket.worker")


async def launch(
    kind: type[Worker],
    *,
    docket_options: dict[str, Any],
    worker_options: dict[str, Any],
    tasks: Sequence[str],
    fallback_task: str | Callable[..., Any] | None,
    dependencies: Mapping[str, Any] | Sequence[Any] | str | None,
    until_finished: bool,
    healthcheck_port: int | None,
    metrics_port: int | None,
) -> None:
    """This runs a worker to its end."""
    loaded = load_tasks(tasks)
    docket = _docket(
        loaded,
        {name: load_option(name, value) for name, value in _given(docket_options)},
    )
    given = dict(_given(worker_options))
    delay = given.get("reconnection_delay", WorkerOptions.reconnection_delay).total_seconds()
    worker = kind(
        docket,
        **given,
        fallback_task=load(fallback_task) if isinstance(fallback_task, str) else fallback_task,
        dependencies=load(dependencies) if isinstance(dependencies, str) else dependencies,
    )
    for function in loaded.functions:
        docket.register(function)
    stop = asyncio.Event()
    with (
        _signals(stop.set, partial(worker.stop, grace=timedelta())),
        Pulse() as pulse,
        instrumentation.healthcheck_server(port=healthcheck_port, live=partial(_stuck, pulse, worker.options.liveness_timeout), ready=worker.not_ready),
        instrumentation.metrics_server(port=metrics_port),
    ):
        while await _enter(docket, stop, delay):
            try:
                async with worker:
                    await _until_told(worker, stop, until_finished=until_finished)
                return
            except LayoutMismatch as exc:  # entering it again gives the shards that there are now; or says why not
                logger.warning("The worker begins anew: %s", exc)
            finally:
                await docket.__aexit__(None, None, None)


def _stuck(pulse: Pulse, patience: timedelta) -> str | None:
    """Says for how long the event loop has been standing still, if that is too long."""
    silence = pulse.silence()
    return f"the event loop has not turned for {silence:.0f} s" if silence > patience.total_seconds() else None


def _given(options: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in options.items() if value is not None]


def _docket(loaded: LoadedTasks, given: dict[str, Any]) -> Docket:
    """The docket that was named, with its options unless a setting says otherwise; else a new one."""
    if loaded.docket is None:
        return Docket(**given)
    loaded.docket.reconfigure(**given)
    return loaded.docket


async def _enter(docket: Docket, stop: asyncio.Event, delay: float) -> bool:
    """Connects; a Redis that is not there yet is waited for, unless told to stop. A worker often starts before its Redis does."""
    failures = 0
    while not stop.is_set():
        try:
            await docket.__aenter__()
        except RedisUnavailable as exc:
            logger.warning("Redis is unavailable, retrying until it is there: %s", exc)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), backoff(failures, delay))
            failures += 1
        else:
            return True
    return False


async def _until_told(worker: Worker, stop: asyncio.Event, *, until_finished: bool) -> None:
    running = asyncio.ensure_future(worker.run_until_finished() if until_finished else worker.run_forever())
    told = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([running, told], return_when=asyncio.FIRST_COMPLETED)
        worker.stop()
        await running
    finally:
        told.cancel()
        running.cancel()  # of effect only when this is cancelled itself


@contextmanager
def _signals(on_stop: Callable[[], object], on_hurry: Callable[[], object]) -> Generator[None, None, None]:
    """SIGTERM and SIGINT stop the worker for as long as this is entered, and a second one hurries it. Where handlers cannot be had (another thread, Windows), there are none."""
    loop = asyncio.get_running_loop()
    installed: list[signal.Signals] = []
    is_told = False

    def received(number: signal.Signals) -> None:
        nonlocal is_told
        if is_told:
            logger.info("Received %s again, handing back what is running now...", number.name)
            on_hurry()
            return
        is_told = True
        logger.info("Received %s, initiating graceful shutdown...", number.name)
        on_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, received, number)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)
