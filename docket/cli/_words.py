"""How commands write what they read: text that a terminal takes no orders from, spans of time, moments."""

from __future__ import annotations

import io
import re
import sys
from datetime import datetime

from docket._clock import from_us

__all__ = ["local_moment", "percent", "printable", "span", "tolerate_any_text"]

# Control characters, line separators, overrides of the writing direction, halves of surrogate pairs
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """This spells out every character that would do something to the terminal, or break the line: keys, messages and errors are anybody's."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def span(seconds: float) -> str:
    """This writes a span of time in its two largest units: `0.25s`, `12s`, `4m 05s`, `2h 30m`, `3d 4h`; what is negative is none."""
    if seconds < 0.995:
        return f"{seconds:.2f}s" if seconds >= 0.005 else "0s"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole // 60 % 60:02}m"
    return f"{whole // 86400}d {whole // 3600 % 24}h"


def local_moment(microseconds: int) -> str:
    """This writes a moment as the clock on the wall shows it, to the second."""
    return _local(microseconds).strftime("%Y-%m-%d %H:%M:%S")


def percent(current: int, total: int) -> int:
    """This gives how much of the total is done, in whole percents, of which 100 are kept for all of it."""
    return min(100, 100 * current // total)


def tolerate_any_text() -> None:
    """This has standard output write `?` for a character that its encoding lacks, where it would raise."""
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")


def _local(microseconds: int) -> datetime:
    return from_us(microseconds).astimezone()
