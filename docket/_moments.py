"""Reading a moment as it is written in ISO 8601. What a moment without an offset means is the reader's business."""

from __future__ import annotations

from datetime import datetime

__all__ = ["read_moment"]


def read_moment(text: str) -> datetime:
    """This reads a date and a time, `Z` for UTC among the offsets. Raises `ValueError`."""
    return datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in {"Z", "z"} else text)  # Python 3.10 does not know the Z
