"""Keys as they are pressed, without Enter and without an echo; and the terminal as it was before, whatever happens."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

try:
    import termios
    import tty
except ImportError:  # pragma: no cover - Windows, where keys do nothing and Ctrl-C ends the command
    termios = tty = None

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Keyboard"]

_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.?)", re.DOTALL)
"""What arrows, function keys and Alt make."""


class Keyboard:
    """This hands over each key, for as long as it is entered; if standard input is no terminal, or another job's, there are none."""

    def __init__(self, on_key: Callable[[str], object]) -> None:
        self._on_key = on_key
        self._modes: list[Any] | None = None

    def __enter__(self) -> Self:
        if termios is not None and tty is not None and _is_ours(sys.stdin):
            terminal = sys.stdin.fileno()
            self._modes = termios.tcgetattr(terminal)
            tty.setcbreak(terminal)  # Ctrl-C and Ctrl-Z stay signals
            asyncio.get_running_loop().add_reader(terminal, self._read, terminal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._modes is not None and termios is not None:
            terminal = sys.stdin.fileno()
            asyncio.get_running_loop().remove_reader(terminal)
            termios.tcsetattr(terminal, termios.TCSADRAIN, self._modes)
            self._modes = None

    def _read(self, terminal: int) -> None:
        for key in _SEQUENCE.sub("", os.read(terminal, 1024).decode(errors="ignore")):
            self._on_key(key)


def _is_ours(stdin: TextIO) -> bool:
    """A job in the background would be stopped for touching the terminal's modes."""
    return stdin.isatty() and os.tcgetpgrp(stdin.fileno()) == os.getpgrp()
