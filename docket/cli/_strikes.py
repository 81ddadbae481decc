"""`docket strike` and `docket restore` change which calls run, on all workers at once; `docket strikes` lists what is struck.

What a strike means, and which call it means, is `strikelist`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from docket.cli._durations import format_short
from docket.cli._options import Connection, as_json, connected, current_directory_first, run_briefly

if TYPE_CHECKING:
    from docket._instructions import StrikeInstruction

__all__ = ["restore", "strike", "strikes", "typed_literal"]

F = TypeVar("F", bound=Callable[..., Any])

OPERATORS = ["==", "!=", ">", ">=", "<", "<=", "between"]

_OBJECT = "one JSON object (`function`, `parameter`, `operator`, `value` as it is typed, and in `changed` whether anything did)"
_IN_MEMORY = "ends now: no worker would ever learn of it"


def _instructing(command: F) -> F:
    """This gives a command the four arguments that name calls."""
    for argument in (
        click.argument("value", required=False),
        click.argument("operator", metavar="[OPERATOR]", type=click.Choice(OPERATORS), default="=="),
        click.argument("parameter", default="*"),
        click.argument("function", default="*"),
    ):
        command = argument(command)
    return command


@click.command()
@_instructing
@as_json(_OBJECT)
@connected(_IN_MEMORY)
def strike(function: str, parameter: str, operator: str, value: str | None, as_json: bool, connection: Connection) -> None:
    """Keep tasks from running, on all workers at once, until they are restored.

    FUNCTION is the name of a task, * for all of them. With a PARAMETER, only calls are meant whose argument compares so with VALUE.
    OPERATOR is one of == != > >= < <= between.

    VALUE is a string, or type:literal, such as int:5, float:0.5, decimal:9.99, bool:true, none:, date:2030-01-31,
    datetime:2030-01-31T12:00Z, timedelta:90s, uuid:..., or module.Enum:MEMBER. "between" takes the lowest and the highest: int:1..5.
    Without a VALUE it is none.

    A struck call is not scheduled. One that is scheduled already ends cancelled when a worker comes to it.

    \b
    Examples:
      docket strike send_email
      docket strike send_email customer == int:17
      docket strike charge amount '>=' decimal:1000
      docket strike '*' tenant == acme
    """  # noqa: D301 - the backspace tells click to leave the lines below as they are
    run_briefly(_change(connection, *_named(function, parameter, operator, value), is_strike=True, as_json=as_json))


@click.command()
@_instructing
@as_json(_OBJECT)
@connected(_IN_MEMORY)
def restore(function: str, parameter: str, operator: str, value: str | None, as_json: bool, connection: Connection) -> None:
    """Take a strike back: the one that named the same calls, in the same words.

    `docket strikes` lists what is struck, as it is to be typed here.
    """
    run_briefly(_change(connection, *_named(function, parameter, operator, value), is_strike=False, as_json=as_json))


@click.command()
@as_json("one JSON object a strike (`function`, `parameter`, `operator`, `value` as it is typed; null for all)")
@connected("has only just begun: nothing is struck in it")
def strikes(as_json: bool, connection: Connection) -> None:
    """List the strikes in effect."""
    run_briefly(_strikes(connection, as_json=as_json))


def _named(function: str, parameter: str, operator: str, value: str | None) -> tuple[str | None, str | None, str, Any]:
    from docket._literals import parse_literal, parse_pair  # late: not needed for help

    current_directory_first()
    read = parse_pair if operator == "between" else parse_literal
    return _all_or(function), _all_or(parameter), operator, None if value is None else read(value)


def _all_or(name: str) -> str | None:
    return None if name in {"", "*"} else name


async def _change(connection: Connection, function: str | None, parameter: str | None, operator: str, value: Any, *, is_strike: bool, as_json: bool) -> None:
    from docket._instructions import Operator, Restore, Strike  # late, as above
    from docket.cli._output import note, write_json
    from docket.cli._words import printable

    instruction = (Strike if is_strike else Restore)(function, parameter, Operator(operator), value)
    async with connection.open() as docket:
        changed = await docket.strike_list.send_instruction(instruction)
    calls = printable(instruction.call_repr())
    if as_json:
        write_json([{**_object(instruction), "changed": changed}])
    elif changed:
        click.echo(f"{'Struck' if is_strike else 'Restored'} {calls}.")
    else:
        note(f"{calls} is {'struck already' if is_strike else 'not struck; docket strikes lists what is'}.")


async def _strikes(connection: Connection, *, as_json: bool) -> None:
    from docket.cli._output import Page, note, write_json  # late, as above

    async with connection.open() as docket:
        found = sorted(map(_object, docket.strike_list.instructions), key=lambda each: [text or "" for text in each.values()])
    if as_json:
        write_json(found)
    elif found:
        page = Page()
        page.table(("FUNCTION", "PARAMETER", "OPERATOR", "VALUE"), [_row(**each) for each in found])
        page.show()
    else:
        note("Nothing is struck.")


def _object(instruction: StrikeInstruction) -> dict[str, str | None]:
    is_all = instruction.parameter is None
    return {
        "function": instruction.function,
        "parameter": instruction.parameter,
        "operator": None if is_all else instruction.operator.value,
        "value": None if is_all else typed_literal(instruction.value),
    }


def _row(function: str | None, parameter: str | None, operator: str | None, value: str | None) -> tuple[str, str, str, str]:
    return function or "*", parameter or "*", operator or "", value or ""


def typed_literal(value: object) -> str:
    """This writes a strike's value as it can be typed: as `parse_literal` reads it, or a pair as `parse_pair` does."""
    from docket._literals import to_tagged  # late, as above

    if isinstance(value, tuple):
        return "..".join(map(typed_literal, cast("tuple[object, ...]", value)))
    [(tag, written)] = cast("dict[str, Any]", to_tagged(value)).items()
    if tag == "enum":
        path, name, *_ = written
        return f"{path}:{name}"
    if tag == "str":
        return f"str:{written}" if ":" in written or not written else written
    if tag == "timedelta":
        return f"{tag}:{'-' * (written < 0)}{_milliseconds(abs(written))}"
    if tag == "bool":
        return f"{tag}:{str(written).lower()}"
    return "none:" if tag == "none" else f"{tag}:{written}"


def _milliseconds(microseconds: int) -> str:
    whole, rest = divmod(microseconds, 1000)
    if rest:
        return f"{whole}.{rest:03}ms"
    return format_short(timedelta(milliseconds=whole)) if not whole % 1000 else f"{whole}ms"
