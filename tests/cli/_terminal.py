"""Runs the real command in a pseudo-terminal, as somebody sits before it: reads the screen, types, resizes, interrupts."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pyte
from typing_extensions import Self

from tests.cli._command import DEADLINE, Command, environment

__all__ = ["ALTERNATE_SCREEN", "CURSOR", "Terminal", "is_stopped", "open_terminal"]

ALTERNATE_SCREEN = ("\x1b[?1049h", "\x1b[?1049l")
CURSOR = ("\x1b[?25l", "\x1b[?25h")


@dataclass
class Terminal:
    """This is a terminal with a command in it; leaving the `with` block ends the command and closes the terminal."""

    process: subprocess.Popen[bytes]
    master: int
    slave: int
    screen: pyte.Screen
    stream: pyte.ByteStream
    settings: list[object]
    """The terminal's modes as they were before the command."""
    output: bytearray = field(default_factory=bytearray)
    """Everything it has written so far."""
    is_open: bool = True
    deadline: float = field(default_factory=lambda: time.monotonic() + DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.read()
        self.is_open = False
        os.close(self.master)
        os.close(self.slave)

    def read(self) -> None:
        """This takes what the command has written."""
        while self.is_open and select.select([self.master], [], [], 0)[0]:
            written = os.read(self.master, 1 << 16)
            self.output += written
            self.stream.feed(written)

    @property
    def text(self) -> str:
        """This is what the screen shows."""
        self.read()
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def written(self) -> str:
        """This is everything that was written, with the words for the terminal."""
        self.read()
        return self.output.decode(errors="replace")

    async def wait_until(self, holds: Callable[[], object], what: str) -> None:
        """This waits until something holds of the terminal, while the command runs."""
        while not holds():
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {what}:\n{self.text}\n{self.written[-2000:]!r}"
            assert time.monotonic() < self.deadline, f"in time there was not {what}:\n{self.text}\n{self.written[-2000:]!r}"
            await asyncio.sleep(0.01)

    async def wait_for(self, *words: str) -> None:
        """This waits until the screen shows all of the words at once."""

        def shows() -> bool:
            text = self.text
            return all(each in text for each in words)

        await self.wait_until(shows, f"{words} on the screen")

    async def wait_until_gone(self, words: str) -> None:
        """This waits until the screen does not show the words."""
        await self.wait_until(lambda: words not in self.text, f"no {words!r} on the screen")

    def type(self, keys: str) -> None:
        """This presses keys."""
        os.write(self.master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """This changes the size of the window; the terminal tells the command."""
        self.screen.resize(lines, columns)
        _set_size(self.master, columns, lines)

    async def end(self) -> int:
        """This waits for the command to end and gives its exit status."""
        while self.process.poll() is None:
            assert time.monotonic() < self.deadline, f"did not end in time:\n{self.text}"
            self.read()
            await asyncio.sleep(0.01)
        self.read()
        return self.process.returncode

    async def stop(self, with_signal: signal.Signals) -> int:
        """This sends the signal and gives the exit status."""
        self.process.send_signal(with_signal)
        return await self.end()

    def modes(self) -> list[object]:
        """These are the terminal's modes now."""
        return termios.tcgetattr(self.slave)


def open_terminal(
    command: Command, *arguments: str, columns: int = 80, lines: int = 24, env: Mapping[str, str] | None = None, stdin: int | None = None
) -> Terminal:
    """This starts `docket ...` in a terminal of its own."""
    master, slave = pty.openpty()
    _set_size(master, columns, lines)
    settings = termios.tcgetattr(slave)
    variables = environment({"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(env or {})})
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        variables.pop(name, None)
    process = subprocess.Popen(
        [*command.entry, *arguments],
        cwd=command.folder,
        env={**variables, **(env or {})},
        stdin=slave if stdin is None else stdin,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call, which takes no locks
    )
    screen = pyte.Screen(columns, lines)
    return Terminal(process, master, slave, screen, pyte.ByteStream(screen), settings)


def is_stopped(pid: int) -> bool:
    """This says whether a process is suspended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _set_size(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
