"""Makes the keys of tasks that were not given one: UUIDs of version 7, which sort by the time they were made.

Made in blocks: a batch of 100,000 tasks needs as many, and one call of the operating system for each would show.
"""

import os
import time

__all__ = ["uuid7"]

_BLOCK = 256
_tails: list[str] = []
if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_tails.clear)  # or parent and child would go on with the same


def uuid7() -> str:
    """This gives a new UUID as text."""
    try:
        tail = _tails.pop()
    except IndexError:
        tail = _refill()
    milliseconds = f"{time.time_ns() // 1_000_000:012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-{tail}"


def _refill() -> str:
    digits = os.urandom(_BLOCK * 10).hex()
    fresh = [_tail(digits[start : start + 20]) for start in range(0, len(digits), 20)]
    last = fresh.pop()
    _tails.extend(fresh)
    return last


def _tail(digits: str) -> str:
    return f"7{digits[:3]}-{'89ab'[int(digits[3], 16) & 3]}{digits[4:7]}-{digits[7:19]}"
