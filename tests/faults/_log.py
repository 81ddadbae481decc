"""The log outside Redis: one file that every process of a run appends to, a line of JSON for each event.

Each line is one write to a file opened with O_APPEND, so lines of several processes never mix, and a process that is killed
leaves whole lines behind. `at` is the monotonic clock, which is one for all processes of a machine.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["Log", "read"]


class Log:
    """This writes events of one process."""

    def __init__(self, path: Path, who: str) -> None:
        self.who = who
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, **fields: Any) -> None:
        """This writes one event."""
        event = {"at": time.monotonic(), "kind": kind, "who": self.who, **fields}
        os.write(self._file, json.dumps(event).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> list[dict[str, Any]]:
    """This reads all events, in the order in which they were written."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
