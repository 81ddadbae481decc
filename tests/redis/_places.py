"""Directories of embedded servers, for tests: what runs there, and that nothing does in the end."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

__all__ = ["Place", "User", "held", "is_running", "new_place", "stop"]

DEADLINE = 20.0


def is_running(pid: int) -> bool:
    """This says whether a process lives; one that has ended and waits for its parent to notice does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return bool(state) and not state.startswith("Z")


def stop(pid: int) -> None:
    """This stops a process with all its threads (SIGSTOP), and waits until that has come about."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    while tasks.exists() and any(task.read_text().rpartition(")")[2].split()[0] != "T" for task in tasks.glob("*/stat")):
        time.sleep(0.001)


@contextmanager
def held(path: Path, how: int = fcntl.LOCK_EX) -> Generator[int]:
    """This holds the lock of a file or directory for a block, and fails where another has it."""
    number = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(number, how | fcntl.LOCK_NB)
        yield number
    finally:
        os.close(number)


class Place:
    """This is the directory of an embedded server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"embedded://{path}"

    @property
    def told(self) -> dict[str, Any]:
        """This is what the keeper has written, while there is one."""
        return json.loads((self.path / "lock").read_text())

    @property
    def log(self) -> str:
        return (self.path / "server.log").read_text()

    @property
    def is_over(self) -> bool:
        """This says whether there is neither a keeper nor a server."""
        try:
            with held(self.path / "lock"), held(self.path / "data"):
                return True
        except (FileNotFoundError, NotADirectoryError):
            return True
        except BlockingIOError:
            return False

    def end(self) -> None:
        """This waits until nothing runs there, and fails if something goes on."""
        give_up_at = time.monotonic() + DEADLINE
        while not self.is_over:
            if time.monotonic() > give_up_at:
                told = self.told
                for pid in (told["keeper"], told["pid"]):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"a server of {self.url} was left: {told}\n{self.log}")
            time.sleep(0.01)


@contextmanager
def new_place(*parts: str) -> Generator[Place]:
    """This is a directory for an embedded server, which must have ended when the block does."""
    above = Path(tempfile.mkdtemp(prefix="docket-place-"))
    place = Place(above.joinpath(*(parts or (".docket",))))
    try:
        yield place
    finally:
        try:
            place.end()
        finally:
            shutil.rmtree(above)


class User:
    """This is a process that uses a server, as `_user.py` does. Leaving its block kills it, if it has not left by itself."""

    def __init__(self, url: str, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("_user.py")), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self._from.close()
        self._to.close()

    def wait_until_ready(self) -> None:
        assert self._from.readline() == "ready\n"

    def begin(self) -> None:
        self._tell()

    def server(self) -> int:
        """This is the process id of the server that it has found."""
        return int(self._from.readline())

    def leave(self) -> int:
        """This has it leave in good order, and gives its exit status."""
        self._tell()
        return self.process.wait(DEADLINE)

    def _tell(self) -> None:
        self._to.write("\n")
        self._to.flush()
