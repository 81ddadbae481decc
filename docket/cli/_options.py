"""What several commands share: `--docket` and `--url`, declared once, and what follows from them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from docket._options import DocketOptions
from docket.cli._durations import format_short

__all__ = ["connecting", "current_directory_first", "default_of", "given", "is_memory", "run"]

F = TypeVar("F", bound=Callable[..., Any])


def connecting(command: F) -> F:
    """This gives a command `--docket` and `--url`, as `docket_name` and `url`; None when not said."""
    command = click.option("--url", "-u", envvar="DOCKET_URL", show_envvar=True, help=f"The URL of its Redis.  {default_of(DocketOptions(), 'url')}")(command)
    return click.option(
        "--docket", "-d", "docket_name", envvar="DOCKET_NAME", show_envvar=True, help=f"The name of the docket.  {default_of(DocketOptions(), 'name')}"
    )(command)


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
        asyncio.run(main)
    else:
        run_on_uvloop(main)
