"""What several commands share: `--docket` and `--url`, declared once, and what follows from them."""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from docket._options import DocketOptions
from docket.cli._durations import duration, format_short
from docket.errors import InvalidURL, RedisUnavailable

if TYPE_CHECKING:
    from docket.docket import Docket

__all__ = [
    "Connection",
    "as_json",
    "connected",
    "connecting",
    "current_directory_first",
    "default_of",
    "given",
    "is_memory",
    "refuse_memory",
    "run",
    "run_briefly",
    "trusting",
]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

OPENING_TIMEOUT = timedelta(seconds=5)
"""How long a command waits for Redis to answer at all. A worker waits for ever, but somebody sits in front of a command."""


def connecting(command: F) -> F:
    """This gives a command `--docket` and `--url`, as `docket_name` and `url`; None when not said."""
    command = click.option("--url", "-u", envvar="DOCKET_URL", show_envvar=True, help=f"The URL of its Redis.  {default_of(DocketOptions(), 'url')}")(command)
    return click.option(
        "--docket", "-d", "docket_name", envvar="DOCKET_NAME", show_envvar=True, help=f"The name of the docket.  {default_of(DocketOptions(), 'name')}"
    )(command)


def trusting(command: F) -> F:
    """This gives a command `--serializer`, `--accept`, `--signing-keys` and `--require-signatures`, each None (or empty) when not said."""
    options = (
        click.option(
            "--serializer",
            envvar="DOCKET_SERIALIZER",
            show_envvar=True,
            help=f"What writes arguments and results: cloudpickle, json, or module:object.  {default_of(DocketOptions(), 'serializer')}",
        ),
        click.option(
            "--accept",
            multiple=True,
            envvar="DOCKET_ACCEPT",
            show_envvar=True,
            help="Whose payloads are read, as --serializer names them. Repeatable.  [default: all]",
        ),
        click.option(
            "--signing-keys",
            envvar="DOCKET_SIGNING_KEYS",
            show_envvar=True,
            help="Keys that payloads are signed with: module:list, or env:NAME for a variable with keys separated by commas. The first signs.",
        ),
        click.option(
            "--require-signatures/--no-require-signatures",
            default=None,
            envvar="DOCKET_REQUIRE_SIGNATURES",
            show_envvar=True,
            help=f"With signing keys, refuse what is not signed.  {default_of(DocketOptions(), 'require_signatures')}",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True)
class Connection:
    """This is where a command was pointed: at which docket, at which Redis, and how; and what it trusts."""

    not_in_memory: str
    """How the sentence ends that refuses a docket in memory."""
    credential_provider: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was said of the docket, by flag or by variable; the rest is the code's or has its default."""
    trust: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What `trusting` was told."""

    @asynccontextmanager
    async def open(self, declared: Docket | None = None, tasks: Sequence[str] = ()) -> AsyncGenerator[Docket]:
        """This gives an entered docket that knows the tasks: the one declared in the user's code, pointed elsewhere where that was said, or else a new one.

        Raises `InvalidURL` for one in memory, `LoadError`, and `RedisUnavailable` within seconds.
        """
        options = dict(self.options)
        DocketOptions(**options)  # for its checks: what is wrong is refused before anything heavy is imported
        trust = given(**self.trust)
        refuse_memory(options.get("url"), self.not_in_memory)

        import anyio  # late, like what follows: heavy, and not needed for help

        from docket._loading import load, load_option
        from docket._redis.urls import mask
        from docket.docket import Docket

        current_directory_first()
        functions: list[Any] = []
        if tasks:
            from docket._collections import load_tasks

            loaded = load_tasks(tasks)
            functions, declared = loaded.functions, loaded.docket
        if self.credential_provider is not None:
            options["credential_provider"] = load(self.credential_provider)
        options |= {name: load_option(name, value) for name, value in trust.items()}
        if declared is not None:
            declared.reconfigure(**options)
        docket = declared or Docket(**options)
        refuse_memory(docket.url, self.not_in_memory)
        for function in functions:
            docket.register(function)
        async with AsyncExitStack() as entered:
            try:
                with anyio.fail_after(OPENING_TIMEOUT.total_seconds()):
                    await entered.enter_async_context(docket)
            except TimeoutError as exc:
                seconds = f"{OPENING_TIMEOUT.total_seconds():g} seconds"
                raise RedisUnavailable(f"Redis at {mask(docket.url)} did not answer within {seconds}. Is the server running, and is the URL right?") from exc
            yield docket


def connected(not_in_memory: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """This gives a command `--docket`, `--url`, `--credential-provider` and what `trusting` adds, as one `connection: Connection`.

    `not_in_memory` ends the sentence that refuses `memory://...`: "it lives inside one process, and this one ...". Two more options
    are there and not shown: they tell who counts as alive, which few have a reason to change, and those for all commands.
    """

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        @connecting
        @click.option(
            "--credential-provider", envvar="DOCKET_CREDENTIAL_PROVIDER", show_envvar=True, help="module:object that gives the credentials for Redis."
        )
        @click.option("--heartbeat-interval", type=duration, envvar="DOCKET_HEARTBEAT_INTERVAL", hidden=True)
        @click.option("--missed-heartbeats", type=click.IntRange(min=1), envvar="DOCKET_MISSED_HEARTBEATS", hidden=True)
        @trusting
        @functools.wraps(command)
        def with_connection(
            *args: Any,
            docket_name: str | None,
            url: str | None,
            credential_provider: str | None,
            heartbeat_interval: timedelta | None,
            missed_heartbeats: int | None,
            **others: Any,
        ) -> T:
            trust = {name: others.pop(name) for name in ("serializer", "accept", "signing_keys", "require_signatures")}
            options = given(name=docket_name, url=url, heartbeat_interval=heartbeat_interval, missed_heartbeats=missed_heartbeats)
            return command(*args, connection=Connection(not_in_memory, credential_provider, options, trust), **others)

        return with_connection

    return decorate


def as_json(what: str) -> Callable[[F], F]:
    """This gives a command `--json`, as `as_json`. Wherever times are written, they are in UTC, in ISO 8601."""
    return click.option("--json", "as_json", is_flag=True, help=f"Write {what}, for scripts.")


def refuse_memory(url: str | None, because: str) -> None:
    """This raises `InvalidURL` for a docket in memory, in a command that would find it empty or leave in it what nobody ever sees."""
    if is_memory(url):
        raise InvalidURL(f"{url} lives inside one process, and this one {because}; give --url redis://...")


def default_of(options: Any, name: str) -> str:
    """This tells, for help, the default that the options class states."""
    value = getattr(options, name)
    shown = format_short(value) if isinstance(value, timedelta) else value
    return f"[default: {shown}]"


def given(**options: Any) -> dict[str, Any]:
    """This keeps the options that were said, by flag or by variable; the rest have their defaults elsewhere."""
    return {name: value for name, value in options.items() if value is not None and value != ()}


def is_memory(url: str | None) -> bool:
    """This says whether a URL names an in-process docket, which no other process sees."""
    return url is not None and url.startswith("memory:")


def current_directory_first() -> None:
    """This lets `module:member` find modules of the current directory, as `python -m` would, also from the console script."""
    here = str(Path.cwd())
    if sys.path[:1] not in ([here], [""]):
        sys.path.insert(0, here)


def run(main: Coroutine[Any, Any, None]) -> None:
    """This runs a command's coroutine to its end, on uvloop where that is installed."""
    try:
        from uvloop import run as run_on_uvloop  # late: an optional extra
    except ImportError:
        run_briefly(main)
    else:
        run_on_uvloop(main)


def run_briefly(main: Coroutine[Any, Any, T]) -> T:
    """This runs a coroutine that asks Redis a few things. On the event loop that is there: importing uvloop would take longer than it saves."""
    import asyncio  # late: not needed for help

    return asyncio.run(main)
