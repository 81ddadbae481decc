"""What a docket and a worker can be told: every option, its default (stated here and nowhere else) and what it may be.

Reading options from flags and variables is the command line's business; acting on them is everybody else's.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from docket.errors import InvalidOption

if TYPE_CHECKING:
    from redis.credentials import CredentialProvider

__all__ = ["DocketOptions", "ResultStorage", "WorkerOptions", "default_worker_name", "parse_duration"]


class ResultStorage(Protocol):
    """This keeps results somewhere else than in Redis; the stores of py-key-value satisfy it as they are."""

    async def put(self, key: str, value: dict[str, Any], *, collection: str | None = None, ttl: float | None = None) -> None:
        """This keeps a value under a key, for `ttl` seconds when one is given."""
        ...

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """This gives back the value kept under a key, or None when there is none (any more)."""
        ...


@dataclass(frozen=True, kw_only=True)
class DocketOptions:
    """This is what a `Docket` can be told, checked when it is made."""

    name: str = "docket"
    """What the docket is called; producers and workers of one docket use one name."""
    url: str = "redis://localhost:6379/0"
    """Where its Redis is, or `memory://name`."""
    heartbeat_interval: timedelta = timedelta(seconds=2)
    """How often a worker says that it is alive."""
    missed_heartbeats: int = 5
    """After how many silent intervals a worker counts as gone."""
    execution_ttl: timedelta = timedelta(minutes=15)
    """How long the record of an ended task, its result among it, is kept; zero keeps nothing."""
    result_storage: ResultStorage | None = None
    """Where results are kept instead of in Redis."""
    enable_internal_instrumentation: bool = False
    """Whether spans of docket's own Redis commands are let through."""
    credential_provider: CredentialProvider | None = None
    """What is asked for the credentials of each new connection."""

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        if "{" in self.name or "}" in self.name:
            raise InvalidOption(f"name is {self.name!r}; braces mark the cluster slot in Redis keys, so give a name without them")
        _check_text("url", self.url)
        _check_duration("heartbeat_interval", self.heartbeat_interval)
        _check_count("missed_heartbeats", self.missed_heartbeats)
        _check_duration("execution_ttl", self.execution_ttl, or_zero=True)
        _check_methods("result_storage", self.result_storage, "put", "get")
        _check_switch("enable_internal_instrumentation", self.enable_internal_instrumentation)
        _check_methods("credential_provider", self.credential_provider, "get_credentials")


def default_worker_name() -> str:
    """This names a worker after its host and process."""
    return f"{socket.gethostname()}#{os.getpid()}"


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """This is what a `Worker` can be told, checked when it is made."""

    name: str = field(default_factory=default_worker_name)
    """What the worker is called in logs and lists; two workers may share a name."""
    concurrency: int = 10
    """How many tasks run at the same time."""
    threads: int | None = None
    """How many synchronous functions (`def` tasks and dependencies) run in threads at the same time; None: as many as `concurrency`, so that none waits."""
    redelivery_timeout: timedelta = timedelta(minutes=5)
    """How long after a worker died its tasks are given to another."""
    reconnection_delay: timedelta = timedelta(seconds=5)
    """How long to wait before trying again when Redis is away."""
    minimum_check_interval: timedelta = timedelta(milliseconds=250)
    """How often to look for new work in case its wake-up was lost; wake-ups are the pace, not this."""
    scheduling_resolution: timedelta = timedelta(milliseconds=250)
    """How often to look for due work in case its wake-up was lost; wake-ups are the pace, not this."""
    schedule_automatic_tasks: bool = True
    """Whether to schedule automatic perpetual and cron tasks at the start."""
    enable_internal_instrumentation: bool = False
    """Whether spans of the worker's own Redis commands are let through."""
    message_batch: int = 1000
    """How many messages to fetch at most in one read."""
    cleanup_timeout: timedelta = timedelta(seconds=10)
    """How long the dependencies of a cancelled task may take to close."""
    liveness_timeout: timedelta = timedelta(seconds=30)
    """How long the event loop may stand still before `/livez` says that the worker is not alive."""

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        _check_count("concurrency", self.concurrency)
        if self.threads is not None:
            _check_count("threads", self.threads)
        _check_duration("redelivery_timeout", self.redelivery_timeout)
        _check_duration("reconnection_delay", self.reconnection_delay)
        _check_duration("minimum_check_interval", self.minimum_check_interval)
        _check_duration("scheduling_resolution", self.scheduling_resolution)
        _check_switch("schedule_automatic_tasks", self.schedule_automatic_tasks)
        _check_switch("enable_internal_instrumentation", self.enable_internal_instrumentation)
        _check_count("message_batch", self.message_batch)
        _check_duration("cleanup_timeout", self.cleanup_timeout, or_zero=True)
        _check_duration("liveness_timeout", self.liveness_timeout)


# The checks take `object`: the annotations above are promises, and callers without a type checker break them.


def _check_text(option: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidOption(f"{option} is {value!r}; give a string that is not empty")


def _check_count(option: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(f"{option} is {value!r}; give a whole number of at least 1")


def _check_switch(option: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidOption(f"{option} is {value!r}; give True or False")


def _check_duration(option: str, value: object, *, or_zero: bool = False) -> None:
    if not isinstance(value, timedelta):
        raise InvalidOption(f"{option} is {value!r}; give a datetime.timedelta, such as timedelta(seconds=5)")
    if value < timedelta() or (not value and not or_zero):
        raise InvalidOption(f"{option} is {value}; give a timedelta of {'zero or more' if or_zero else 'more than zero'}")


def _check_methods(option: str, value: object, *methods: str) -> None:
    if value is not None and not all(callable(getattr(value, method, None)) for method in methods):
        raise InvalidOption(f"{option} is a {type(value).__name__}; give an object with {' and '.join(methods)}, or None")


_WITH_UNIT = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d|)", re.ASCII)
_CLOCK = re.compile(r"(?:(?P<hours>\d+):(?=\d+:))?(?P<minutes>\d+):(?P<seconds>[0-5]?\d)", re.ASCII)
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "": timedelta(seconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def parse_duration(text: str) -> timedelta:
    """This reads `250ms`, `5s`, `10m`, `1h`, `1d`, plain seconds (`90`), `mm:ss` or `hh:mm:ss`.

    Anything else raises `InvalidOption`.
    """
    written = text.strip().lower()
    try:
        if found := _WITH_UNIT.fullmatch(written):
            number, unit = found["number"], _UNITS[found["unit"]]
            return int(number) * unit if number.isdigit() else float(number) * unit
        if found := _CLOCK.fullmatch(written):
            return timedelta(hours=int(found["hours"] or 0), minutes=int(found["minutes"]), seconds=int(found["seconds"]))
    except OverflowError as exc:
        raise InvalidOption(f"{text!r} is longer than a duration can be; give at most 999999999d") from exc
    raise InvalidOption(f"{text!r} is not a duration; write 250ms, 5s, 10m, 1h, 1d, 90 (seconds), mm:ss or hh:mm:ss")
