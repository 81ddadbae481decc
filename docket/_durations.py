"""How log lines show durations."""

__all__ = ["format_duration"]


def format_duration(seconds: float) -> str:
    """This gives a duration in a column of fixed width: milliseconds below 100 s, seconds from there on."""
    if seconds < 100:
        return f"{seconds * 1000:6.0f}ms"
    return f"{seconds:6.0f}s "
