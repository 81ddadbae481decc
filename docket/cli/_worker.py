"""`docket worker`: translates flags and variables into `Worker.run`, which does the work."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from docket._options import DocketOptions, WorkerOptions
from docket.cli._durations import duration
from docket.cli._logging import FORMATS, LEVELS, set_up_logging
from docket.cli._options import connecting, current_directory_first, default_of, given, is_memory, run, trusting
from docket.errors import InvalidURL

__all__ = ["worker"]

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TASKS = ("docket.tasks:standard_tasks",)


def _setting(of: type[DocketOptions | WorkerOptions], flag: str, kind: Any, meaning: str) -> Callable[[F], F]:
    """This declares a flag for one option of a docket or a worker: its default is the option's, its variable is named after it."""
    name = flag.removeprefix("--").replace("-", "_")
    prefix = "DOCKET_WORKER_" if of is WorkerOptions else "DOCKET_"
    return click.option(flag, name, type=kind, envvar=prefix + name.upper(), show_envvar=True, help=f"{meaning}  {default_of(of(), name)}")


def _switch(flag: str, meaning: str) -> Callable[[F], F]:
    name = flag.removeprefix("--").replace("-", "_")
    variable = f"DOCKET_WORKER_{name.upper()}"
    both = f"{flag}/--no-{flag.removeprefix('--')}"
    return click.option(both, name, default=None, envvar=variable, show_envvar=True, help=f"{meaning}  {default_of(WorkerOptions(), name)}")


@click.command()
@click.option(
    "--tasks",
    multiple=True,
    default=DEFAULT_TASKS,
    envvar="DOCKET_TASKS",
    show_default=True,
    show_envvar=True,
    help="What to run: module:collection (a list of tasks) or module:docket (its tasks, and its name, URL and options). Repeatable.",
)
@connecting
@trusting
@click.option("--name", envvar="DOCKET_WORKER_NAME", show_envvar=True, help="The name of this worker.  [default: host#pid]")
@click.option(
    "--logging-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="INFO",
    envvar="DOCKET_LOGGING_LEVEL",
    show_default=True,
    show_envvar=True,
    help="How important a line must be to be logged.",
)
@click.option(
    "--logging-format",
    type=click.Choice(FORMATS, case_sensitive=False),
    envvar="DOCKET_LOGGING_FORMAT",
    show_envvar=True,
    help="How a line looks.  [default: rich on a terminal, else plain]",
)
@_setting(WorkerOptions, "--concurrency", click.IntRange(min=1), "How many tasks run at the same time.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    envvar="DOCKET_WORKER_THREADS",
    show_envvar=True,
    help="How many synchronous functions run in threads at the same time.  [default: as many as --concurrency]",
)
@_setting(WorkerOptions, "--message-batch", click.IntRange(min=1), "How many messages to fetch at most in one read.")
@_setting(WorkerOptions, "--redelivery-timeout", duration, "How long after a worker died its tasks are given to another.")
@_setting(WorkerOptions, "--reconnection-delay", duration, "How long to wait before trying again when Redis is away.")
@_setting(WorkerOptions, "--minimum-check-interval", duration, "How often to look for new work in case its wake-up was lost.")
@_setting(WorkerOptions, "--scheduling-resolution", duration, "How often to look for due work in case its wake-up was lost.")
@_setting(WorkerOptions, "--grace-period", duration, "How long what runs may go on once told to stop; then it is handed back.")
@_setting(WorkerOptions, "--cleanup-timeout", duration, "How long a cancelled task and its dependencies may take to close.")
@_setting(WorkerOptions, "--liveness-timeout", duration, "How long the event loop may stand still before /livez says so.")
@_setting(WorkerOptions, "--stall-limit", duration, "How long it may stand still before others take over what the worker holds.")
@_switch("--schedule-automatic-tasks", "Schedule automatic perpetual and cron tasks at the start.")
@_switch("--enable-internal-instrumentation", "Let spans of docket's own Redis commands through.")
@click.option("--until-finished", is_flag=True, help="Leave when nothing that this worker can run is left.")
@click.option(
    "--healthcheck-port",
    type=click.IntRange(0, 65535),
    envvar="DOCKET_WORKER_HEALTHCHECK_PORT",
    show_envvar=True,
    help="Answer health checks here: /livez, and /readyz (and /).",
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), envvar="DOCKET_WORKER_METRICS_PORT", show_envvar=True, help="Serve Prometheus metrics here.")
@click.option("--fallback-task", envvar="DOCKET_FALLBACK_TASK", show_envvar=True, help="module:function, run for tasks that no collection has.")
@click.option("--dependencies", envvar="DOCKET_WORKER_DEPENDENCIES", show_envvar=True, help="module:member, dependencies to run around every task.")
@_setting(DocketOptions, "--execution-ttl", duration, "How long the record of an ended task is kept.")
@_setting(DocketOptions, "--max-payload-bytes", click.IntRange(min=1), "How many bytes arguments, or a result, may take in Redis.")
@_setting(DocketOptions, "--heartbeat-interval", duration, "How often the worker says that it is alive.")
@_setting(DocketOptions, "--missed-heartbeats", click.IntRange(min=1), "After how many silent intervals a worker counts as gone.")
@_setting(DocketOptions, "--max-deliveries", click.IntRange(min=1), "How many workers a task may take down before it is given up.")
@_setting(DocketOptions, "--unknown-task-limit", duration, "How long a task that no worker knows is handed back before it is given up.")
@_setting(DocketOptions, "--dead-letter-retention", duration, "How long what failed for good is kept; 0 keeps none.")
@_setting(DocketOptions, "--dead-letter-count", click.IntRange(min=1), "How much of it is kept at most.")
@click.option("--result-storage", envvar="DOCKET_RESULT_STORAGE", show_envvar=True, help="module:object that keeps results instead of Redis.")
@click.option("--credential-provider", envvar="DOCKET_CREDENTIAL_PROVIDER", show_envvar=True, help="module:object that gives Redis credentials.")
def worker(tasks: tuple[str, ...], url: str | None, logging_level: str, logging_format: str | None, **settings: Any) -> None:
    """Run tasks, until SIGTERM or SIGINT.

    Told to stop, the worker finishes the tasks that are running, for --grace-period at most; what has not finished then, it hands
    back to the other workers at once. A second signal leaves no more time. Either way it exits 0. Durations are written 250ms, 5s,
    10m, 1h, 1d, 90 (seconds), mm:ss or hh:mm:ss.
    """
    from docket.worker import Worker  # late: heavy, and not needed for help

    set_up_logging(logging_level, logging_format)
    current_directory_first()
    _refuse_idle_memory(tasks, url)
    run(_work(Worker.run(tasks=list(tasks), **given(url=url, **settings))))  # every setting is named as `Worker.run` names it


async def _work(working: Coroutine[Any, Any, None]) -> None:
    from docket._worker._drain import abandoned  # late, as the worker

    await working
    if abandoned():
        _leave()


def _leave() -> None:
    """Ends the process although tasks go on in it that do not stop: waiting for them, as Python would, is what the worker was told not to do."""
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - which flush logs, spans and metrics, and nothing public calls them
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _refuse_idle_memory(tasks: tuple[str, ...], url: str | None) -> None:
    from docket._collections import load_tasks  # late, as above

    loaded = load_tasks(tasks)
    url = url or (loaded.docket.url if loaded.docket else None)
    if is_memory(url) and not loaded.has_automatic_tasks():
        raise InvalidURL(
            f"{url} lives inside this process, so nobody else can give this worker work, and none of its tasks starts by itself "
            f"(automatic perpetual or cron); give --url redis://..."
        )
