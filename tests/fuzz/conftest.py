"""What fuzzers of parsers share: room in memory that has an end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOM = 2 * 2**30
"""Bytes that a parser may take beyond what the process has: far more than any needs, and far less than a length that lies may ask for."""


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """This has whoever asks for too much memory get a `MemoryError`, and not the machine's last page."""
    if sys.platform != "linux":
        yield
        return
    import resource  # late: only some systems have it

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM if hard == resource.RLIM_INFINITY else min(taken + ROOM, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
