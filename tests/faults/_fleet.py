"""The worker processes: so many slots, in each at most one process at a time, and what is known of each in the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults._history import Process

__all__ = ["Fleet", "Member"]

ROOT = Path(__file__).parents[2]
ENDS_WITHIN = 30.0
MAX_DELIVERIES = 50
"""More workers than a schedule kills: what ran in them is innocent."""


class Member:
    """This is one worker process."""

    def __init__(self, name: str, slot: int, code: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.slot = slot
        self.code = code
        self.began = time.monotonic()
        self._process = process

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.is_alive:
            self._process.send_signal(number)

    async def end(self, how: str) -> Process:
        """This kills it, or tells it to stop, and waits for its end. `died`: it had ended by itself."""
        asked = time.monotonic()
        if not self.is_alive:
            how = "died"
        self.signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
        while self.is_alive and time.monotonic() - asked < ENDS_WITHIN:
            await asyncio.sleep(0.005)
        if self.is_alive:
            self.signal(signal.SIGABRT)  # for ever, it seems; where it hangs stands in its log
            self._process.wait()
        ended = time.monotonic()
        return Process(self.name, self.slot, self.code, self.began, ended, how, ended - asked, self._process.returncode)


class Fleet:
    """This starts and ends workers."""

    def __init__(self, folder: Path, log: Path, docket: str, urls: Sequence[str], lease: float) -> None:
        self.ended: list[Process] = []
        self.members: dict[int, Member] = {}
        self._folder = folder
        self._log = log
        self._docket = docket
        self._urls = urls
        self._lease = lease
        self._numbers = [0 for _ in urls]

    def start(self, slot: int, code: str) -> None:
        """This starts a worker in a slot that is free."""
        self._numbers[slot] += 1
        name = f"w{slot}.{self._numbers[slot]}"
        settings = {
            "name": name, "code": code, "docket": self._docket, "url": self._urls[slot], "lease": self._lease, "log": str(self._log),
            "driver": os.getpid(), "max_deliveries": MAX_DELIVERIES,
        }  # fmt: skip
        with (self._folder / f"{name}.log").open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "tests.faults._worker", json.dumps(settings)], cwd=ROOT, stdout=sink, stderr=sink
            )
        self.members[slot] = Member(name, slot, code, process)

    async def end(self, slot: int, how: str) -> None:
        """This ends the worker in a slot."""
        member = self.members.pop(slot, None)
        if member is not None:
            self.ended.append(await member.end(how))

    async def end_all(self, how: str) -> None:
        """This ends every worker at once."""
        await asyncio.gather(*(self.end(slot, how) for slot in list(self.members)))

    def kill(self) -> None:
        """This leaves nobody behind, whatever happened."""
        for member in self.members.values():
            member.signal(signal.SIGKILL)

    def trouble(self) -> list[str]:
        """This is what workers logged as errors."""
        return [
            f"{path.stem} logged: {line}"
            for path in sorted(self._folder.glob("w*.log"))
            for line in path.read_text(errors="replace").splitlines()
            if " ERROR " in line or " CRITICAL " in line or line.startswith("Fatal")
        ]
