"""Durations on the command line: `250ms`, `5s`, `10m`, `1h`, `1d`, plain seconds, `mm:ss`, `hh:mm:ss`."""

from datetime import timedelta

import click

from docket._options import parse_duration
from docket.errors import InvalidOption

__all__ = ["duration", "format_short"]

_UNITS = [("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1))]


def duration(text: str) -> timedelta:
    """This is an option type for click: it reads what was typed, or says how to write it."""
    try:
        return parse_duration(text)
    except InvalidOption as exc:
        raise click.BadParameter(str(exc)) from exc


def format_short(duration: timedelta) -> str:
    """This writes a duration the way it can be typed: in the largest unit that divides it."""
    for unit, size in _UNITS:
        if duration and not duration % size:
            return f"{duration // size}{unit}"
    return f"{duration / timedelta(milliseconds=1):g}ms"
