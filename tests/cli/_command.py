"""Runs the real command in a process of its own, in a folder of its own, as its users do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import anyio.to_thread
from typing_extensions import Self

MODULE = (sys.executable, "-m", "docket")
SCRIPT = (str(Path(sys.executable).with_name("docket")),)

DEADLINE = 20.0
"""Seconds; far more than anything here takes, so that a test that fails ends."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This is the test's environment without what would help the command: its settings and its import path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("DOCKET_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **(extra or {})}


@dataclass(frozen=True)
class Command:
    """This runs `docket ...` in a folder."""

    folder: Path
    entry: tuple[str, ...] = MODULE
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    def with_variables(self, variables: Mapping[str, str]) -> Command:
        """This gives a command that is run with these variables, too."""
        return replace(self, variables={**self.variables, **variables})

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """This runs the command to its end."""
        return subprocess.run(
            [*self.entry, *arguments],
            cwd=self.folder,
            env=environment({**self.variables, **(env or {})}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    async def aside(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """This runs the command to its end, while what the test has in its own event loop goes on."""
        return await anyio.to_thread.run_sync(lambda: self(*arguments, env=env))

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> RunningCommand:
        """This starts the command; leaving the `with` block ends it."""
        output = self.folder / f"output-{time.monotonic_ns()}"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [*self.entry, *arguments], cwd=self.folder, env=environment({**self.variables, **(env or {})}), stdout=sink, stderr=subprocess.STDOUT
            )
        return RunningCommand(process, output)


@dataclass
class RunningCommand:
    """This is a command that runs until told to stop."""

    process: subprocess.Popen[bytes]
    output: Path
    deadline: float = field(default_factory=lambda: time.monotonic() + DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def text(self) -> str:
        """This is everything it has written so far."""
        return self.output.read_text()

    def wait_for(self, words: str) -> None:
        """This waits until the command has written the words."""
        while words not in self.text():
            assert self.process.poll() is None, f"ended with {self.process.returncode} before it wrote {words!r}:\n{self.text()}"
            assert time.monotonic() < self.deadline, f"did not write {words!r} in time:\n{self.text()}"
            time.sleep(0.02)

    def stop(self, with_signal: signal.Signals) -> int:
        """This sends the signal and gives the exit status."""
        self.process.send_signal(with_signal)
        return self.process.wait(DEADLINE)
