"""What a docket and a worker can be told: every option, its default (stated here and nowhere else) and what it may be.

Reading options from flags and variables is the command line's business; acting on them is everybody else's.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, cast

from docket.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.credentials import CredentialProvider

    from docket._dead import DeadLetter
    from docket.serializers import Serializer

__all__ = [
    "CLOUDPICKLE",
    "JSON_NAME",
    "MOST_SHARDS",
    "DocketOptions",
    "ResultStorage",
    "WorkerOptions",
    "check_accept",
    "default_worker_name",
    "name_of",
    "parse_duration",
]

CLOUDPICKLE = "cloudpickle"
JSON_NAME = "json"
MOST_SHARDS = 256
_SHARD = re.compile(r"~[0-9]+\.[0-9]+\Z", re.ASCII)
SHORTEST_KEY = 16
"""Bytes that a signing key has at least: a shorter one could be found by trying."""


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
    url: str = field(default="redis://localhost:6379/0", repr=False)  # it may hold a password
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
    credential_provider: CredentialProvider | None = field(default=None, repr=False)
    """What is asked for the credentials of each new connection."""
    serializer: str | Serializer = CLOUDPICKLE
    """What writes arguments and results: `"cloudpickle"`, `"json"`, or an object (see `docket.serializers.Serializer`)."""
    accept: Sequence[str | Serializer] | None = None
    """Whose payloads are read, by name, or as objects where a serializer is neither built in nor the docket's own; None: those of all that are known."""
    signing_keys: Sequence[str | bytes] = field(default=(), repr=False)
    """Keys that payloads, results and ends are signed with (the first) and may be signed with (all of them); none: nothing is signed."""
    require_signatures: bool = True
    """Whether, with signing keys, what is not signed is refused. False while signing is being introduced."""
    max_payload_bytes: int | None = 512 * 1024
    """How many bytes the arguments of a call, or a result, may take in Redis; None: any number."""
    dead_letter_retention: timedelta = timedelta(days=7)
    """How long what failed for good is kept as a dead letter; zero keeps none."""
    dead_letter_count: int = 10_000
    """How many dead letters are kept at most; the oldest go first."""
    unknown_task_limit: timedelta = timedelta(hours=24)
    """How long a task waits for a worker that knows it, before it ends FAILED."""
    on_dead: Callable[[DeadLetter], Any] | None = None
    """What is called, in the worker's process, with every dead letter that is written there; a coroutine function is awaited."""
    durable_adds: int = 0
    """How many replicas have to confirm a scheduled task, within a second, before `add` and its kin return; else they raise `NotReplicated`."""
    max_deliveries: int = 5
    """How many workers may die while they run one task and nothing else, before it ends FAILED; `MaxDeliveries` says otherwise for a task."""
    shards: int | None = None
    """Into how many shards the docket is divided, so that it can use as many primaries of a cluster; None: as it is in Redis, and 1 where it is new."""

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        if "{" in self.name or "}" in self.name:
            raise InvalidOption(f"name is {self.name!r}; braces mark the cluster slot in Redis keys, so give a name without them")
        if _SHARD.search(self.name):
            raise InvalidOption(f"name is {self.name!r}; what ends in '~' and two numbers is a shard of another docket, so give a name that does not")
        _check_url(self.url)
        _check_duration("heartbeat_interval", self.heartbeat_interval)
        _check_count("missed_heartbeats", self.missed_heartbeats)
        _check_duration("execution_ttl", self.execution_ttl, or_zero=True)
        _check_methods("result_storage", self.result_storage, "put", "get")
        _check_switch("enable_internal_instrumentation", self.enable_internal_instrumentation)
        _check_methods("credential_provider", self.credential_provider, "get_credentials")
        _check_serializer("serializer", self.serializer)
        if self.accept is not None:
            check_accept(self.accept, self.serializer)
        object.__setattr__(self, "signing_keys", _checked_keys(self.signing_keys))
        _check_switch("require_signatures", self.require_signatures)
        if self.max_payload_bytes is not None:
            _check_count("max_payload_bytes", self.max_payload_bytes)
        _check_count("max_deliveries", self.max_deliveries)
        _check_count("durable_adds", self.durable_adds, least=0)
        if self.shards is not None:
            _check_count("shards", self.shards)
            if self.shards > MOST_SHARDS:
                raise InvalidOption(f"shards is {self.shards}; give at most {MOST_SHARDS}")
        _check_duration("dead_letter_retention", self.dead_letter_retention, or_zero=True)
        _check_count("dead_letter_count", self.dead_letter_count)
        _check_duration("unknown_task_limit", self.unknown_task_limit)
        if self.on_dead is not None and not callable(self.on_dead):
            raise InvalidOption(f"on_dead is {self.on_dead!r}; give a function that takes a DeadLetter, or None")

    @property
    def key_bytes(self) -> tuple[bytes, ...]:
        """This gives the signing keys as they are put to use."""
        return _checked_keys(self.signing_keys)


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
    grace_period: timedelta = timedelta(seconds=30)
    """How long what runs may go on once the worker was told to stop; then it is cancelled and handed back to the other workers."""
    cleanup_timeout: timedelta = timedelta(seconds=10)
    """How long a cancelled task and its dependencies may take to close."""
    liveness_timeout: timedelta = timedelta(seconds=30)
    """How long the event loop may stand still before `/livez` says that the worker is not alive."""
    stall_limit: timedelta = timedelta(minutes=10)
    """How long the event loop may stand still before what the worker holds is let go for others to take over."""
    accept: Sequence[str | Serializer] | None = None
    """Whose payloads this worker takes (see `DocketOptions.accept`); None: those that its docket reads."""

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
        _check_duration("grace_period", self.grace_period, or_zero=True)
        _check_duration("cleanup_timeout", self.cleanup_timeout, or_zero=True)
        _check_duration("liveness_timeout", self.liveness_timeout)
        _check_duration("stall_limit", self.stall_limit)
        if self.accept is not None:
            check_accept(self.accept)


# The checks take `object`: the annotations above are promises, and callers without a type checker break them.


def _check_text(option: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidOption(f"{option} is {value!r}; give a string that is not empty")


def _check_url(value: object) -> None:
    if not isinstance(value, str) or not value:  # what it is instead is not shown: bytes may hold a password all the same
        raise InvalidOption(f"url is {'empty' if value == '' else f'of class {type(value).__name__}'}; give a string that is not empty")


def _check_count(option: str, value: object, *, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidOption(f"{option} is {value!r}; give a whole number of at least {least}")


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


_SERIALIZER_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)
_SERIALIZER_METHODS = ("dumps_call", "loads_call", "dumps_result", "loads_result")


def name_of(serializer: str | Serializer) -> str:
    """This is the name that stands in payloads."""
    return serializer if isinstance(serializer, str) else serializer.name


def _check_serializer(option: str, value: object) -> None:
    if isinstance(value, str):
        if value not in (CLOUDPICKLE, JSON_NAME):
            raise InvalidOption(f"{option} is {value!r}; give {CLOUDPICKLE!r}, {JSON_NAME!r}, or an object with {', '.join(_SERIALIZER_METHODS)} and a name")
        return
    missing = [method for method in _SERIALIZER_METHODS if not callable(getattr(value, method, None))]
    if missing:
        raise InvalidOption(
            f"{option} is a {type(value).__name__} without {', '.join(missing)}; give {CLOUDPICKLE!r}, {JSON_NAME!r}, or an object that has them"
        )
    name = getattr(value, "name", None)
    if (
        not isinstance(name, str)
        or not _SERIALIZER_NAME.fullmatch(name)
        or name == CLOUDPICKLE
        or (name == JSON_NAME and type(value).__name__ != "JSONSerializer")
    ):
        raise InvalidOption(f"{option} is a {type(value).__name__} called {name!r}; give it a name of its own: letters, digits, '-', '_' and '.', at most 32")


def check_accept(accept: object, own: str | Serializer | None = None) -> None:
    """This raises `InvalidOption` for what names no serializers, or leaves out the docket's own, whose payloads could then not be read back."""
    if isinstance(accept, str) or not isinstance(accept, (list, tuple, set, frozenset)) or not accept:
        raise InvalidOption(f"accept is {accept!r}; give names of serializers, as in ({JSON_NAME!r},), or None for all that are known")
    members = cast("Sequence[str | Serializer]", accept)
    for each in members:
        if own is None or each != name_of(own):
            if isinstance(each, str) and own is None and _SERIALIZER_NAME.fullmatch(each):  # whether the docket knows it is seen when it is put to use
                continue
            _check_serializer("accept", each)
    if own is not None and name_of(own) not in map(name_of, members):
        raise InvalidOption(
            f"accept is {tuple(map(name_of, members))!r}, without the docket's own serializer; give {name_of(own)!r} too, or write with another"
        )


def _checked_keys(keys: object) -> tuple[bytes, ...]:
    """The keys as bytes. Errors do not show them."""
    if isinstance(keys, (str, bytes)) or not isinstance(keys, (list, tuple)):
        raise InvalidOption(f"signing_keys is a {type(keys).__name__}; give a list of keys, as in [new, old]: the first signs, and all are taken")
    found: list[bytes] = []
    for position, key in enumerate(cast("Sequence[object]", keys), start=1):
        if not isinstance(key, (str, bytes)):
            raise InvalidOption(f"signing_keys is a list whose item {position} is a {type(key).__name__}; give each key as str or bytes")
        written = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
        if len(written) < SHORTEST_KEY:
            raise InvalidOption(
                f"signing_keys is a list whose item {position} has {len(written)} bytes; give at least {SHORTEST_KEY}, such as secrets.token_hex(32) gives"
            )
        found.append(written)
    return tuple(found)


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
