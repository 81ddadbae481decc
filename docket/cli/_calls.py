"""How the arguments of a call, and when it is to run, are spelled on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from docket._moments import read_moment

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["literal", "moment_of", "named_arguments"]


def moment_of(text: str) -> datetime:
    """This is an option type for click: a moment in ISO 8601, in local time unless it says otherwise."""
    try:
        return read_moment(text).astimezone()
    except (ValueError, OverflowError) as exc:
        raise click.BadParameter(f"{text!r} is no moment; write 2030-01-31T12:00 (local time), 2030-01-31T12:00Z or 2030-01-31T12:00+02:00") from exc


def literal(text: str) -> Any:
    """This reads a value: a string, or `type:literal`."""
    from docket._literals import parse_literal  # late: not needed for help

    return parse_literal(text)


def named_arguments(pairs: tuple[str, ...]) -> dict[str, Any]:
    """This reads arguments that were given by name: `order=int:17`."""
    named: dict[str, Any] = {}
    for text in pairs:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise click.BadParameter(f"{text!r} is no argument; write NAME=VALUE, such as order=int:17", param_hint="--arg")
        if name in named:
            raise click.BadParameter(f"{name!r} is given twice", param_hint="--arg")
        named[name] = literal(value)
    return named
