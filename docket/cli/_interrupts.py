"""Runs a command that goes on until it is told to stop: Ctrl-C and SIGTERM end it quietly, once everything it opened is closed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from docket.cli._options import run_briefly

__all__ = ["run_until_interrupted"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_until_interrupted(main: Coroutine[Any, Any, int]) -> int:
    """This runs a command's coroutine and gives its exit status: what it returns, 130 after Ctrl-C, 143 after SIGTERM."""
    try:
        return run_briefly(_interruptible(main))
    except KeyboardInterrupt:  # where the event loop takes no signal handlers, and before or after it does
        return 128 + signal.SIGINT


async def _interruptible(main: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in _SIGNALS:
        with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0]
    finally:
        for number in _SIGNALS:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
