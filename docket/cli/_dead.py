"""`docket dead ...`: what failed for good is listed, shown, run again, thrown away. What a dead letter is, and what running it again means, is `_dead`'s business."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from docket._reasons import REASONS
from docket.cli._calls import moment_of, named_arguments
from docket.cli._durations import duration
from docket.cli._options import Connection, as_json, connected, current_directory_first, run_briefly

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from docket._dead import DeadLetter
    from docket.cli._output import Cell
    from docket.docket import Docket
    from docket.errors import DocketError
    from docket.execution import Execution

__all__ = ["dead"]

F = TypeVar("F", bound=Callable[..., Any])

ON_A_TERMINAL = 1000
"""Letters that a terminal is shown unless --limit asks for another number."""

PAGE = 200
"""Letters that are read at a time."""

TITLES = ("ID", "KEY", "TASK", "REASON", "DIED", "ERROR")

_IN_MEMORY = "has only just begun: nothing has failed in it"
_OBJECT = "`id`, `key`, `task`, `reason`, `error`, `attempt`, `when`, `died_at`, `arguments_bytes`, `trace_id`"


def _filtered(command: F) -> F:
    """This gives a command the options that say which letters are meant, as `task`, `key_prefix`, `reason` and `limit`."""
    for option in (
        click.option("--limit", "-n", type=click.IntRange(min=1), help="How many at most, the latest first."),
        click.option("--reason", "-r", type=click.Choice([*REASONS], case_sensitive=False), help="Only those that died of this."),
        click.option("--key-prefix", "-k", metavar="TEXT", help="Only those whose key starts so."),
        click.option("--task", "-t", metavar="NAME", help="Only those of this task."),
    ):
        command = option(command)
    return command


def _chosen(command: F) -> F:
    """This gives a command IDs, or `--all` with filters, and `--yes`."""
    command = click.option("--yes", "-y", is_flag=True, help="Do not ask.")(_filtered(command))
    command = click.option("--all", "everything", is_flag=True, help="All of them, or all that the filters leave.")(command)
    return click.argument("ids", metavar="[ID]...", nargs=-1)(command)


@click.group()
def dead() -> None:
    """Look at what failed for good, run it again, or throw it away.

    Whatever ends FAILED and is not tried again is kept as a dead letter, for a week unless the docket says otherwise: with its
    arguments, and what is known of its attempts.
    """


@dead.command()
@_filtered
@as_json(f"one JSON object a line ({_OBJECT}), with times in UTC")
@connected(_IN_MEMORY)
def ls(task: str | None, key_prefix: str | None, reason: str | None, limit: int | None, as_json: bool, connection: Connection) -> None:
    """List dead letters, the latest first.

    REASON says in a word why: failed (its attempts are used up), discarded (it raised Discard), poison (it took its workers down),
    undecodable (its arguments cannot be read), refused (they are not signed as they should be, or of a kind that the workers do not
    accept), arguments (they do not fit the function any more), unknown (no worker knew the task for too long).

    \b
    Examples:
      docket dead ls --reason poison
      docket dead ls --task send_invoice --json | jq -r .error | sort | uniq -c
    """  # noqa: D301 - the backspace tells click to leave the lines below as they are
    run_briefly(_ls(connection, _filters(task, key_prefix, reason), limit, as_json=as_json))


def _filters(task: str | None, key_prefix: str | None, reason: str | None) -> dict[str, Any]:
    return {"task": task, "key_prefix": key_prefix, "reason": reason}


async def _ls(connection: Connection, filters: Mapping[str, Any], limit: int | None, *, as_json: bool) -> None:
    from docket.cli._describe import now_of  # late, like what follows: heavy, and not needed for help
    from docket.cli._output import Columns, Page, count_of, is_for_people, note, write_json, write_lines

    async with connection.open() as docket:
        if as_json:
            async for part in _parts(docket, filters, limit):
                write_json(map(_object, part))
            return
        now = await now_of(docket)
        if not is_for_people():
            columns, is_empty = Columns(TITLES), True
            async for part in _parts(docket, filters, limit):
                is_empty = False
                write_lines(columns.lines(_rows(part, now)))
            if is_empty:
                note("No dead letters.")
            return
        shown = limit or ON_A_TERMINAL
        found = [letter async for part in _parts(docket, filters, shown + 1) for letter in part]
    if not found:
        note("No dead letters.")
        return
    page = Page()  # with no connection open: who reads a page takes their time
    page.table(TITLES, _rows(found[:shown], now))
    page.show()
    if len(found) > shown:
        note(f"The first {count_of(shown, 'dead letter')}; --limit shows more, and a pipe gets all.")


async def _parts(docket: Docket, filters: Mapping[str, Any], limit: int | None) -> AsyncIterator[list[DeadLetter]]:
    letters, cursor, left = docket.dead_letters(**filters), None, limit
    while True:
        page = await letters.page(cursor, PAGE)
        if part := page.letters[:left]:
            yield part
        left, cursor = None if left is None else left - len(part), page.cursor
        if cursor is None or left == 0:
            return


def _object(letter: DeadLetter) -> dict[str, Any]:
    """What is known of a letter, for JSON. The names are a promise."""
    from docket.cli._describe import iso  # late, as above

    return {
        "id": letter.id,
        "key": letter.key,
        "task": letter.task,
        "reason": letter.reason,
        "error": letter.error,
        "attempt": letter.attempt,
        "when": iso(letter.when),
        "died_at": iso(letter.died_at),
        "arguments_bytes": letter.payload_bytes,
        "trace_id": letter.trace_id,
    }


def _rows(letters: Sequence[DeadLetter], now: datetime) -> list[Sequence[Cell]]:
    from docket.cli._describe import ago  # late, as above
    from docket.cli._output import Styled

    return [(letter.id, letter.key, letter.task, letter.reason, ago(letter.died_at, now), Styled(letter.error, "red")) for letter in letters]


@dead.command()
@click.argument("letter_id", metavar="ID")
@click.option("--tasks", multiple=True, metavar="MODULE:MEMBER", help="Show the call, with the arguments annotated Logged: where the task is. Repeatable.")
@as_json(
    "one JSON object (that of `docket dead ls`, `call`, and in `attempts` `attempt`, `reason`, `error`, `traceback`, `worker`, `started_at`, `ended_at` of each)"
)
@connected(_IN_MEMORY)
def show(letter_id: str, tasks: tuple[str, ...], as_json: bool, connection: Connection) -> None:
    """Show everything that is known of the dead letter ID, with the traceback of every attempt.

    Of its arguments only the size is shown. Where --tasks names its collection or docket (as for a worker), the call is shown, with
    the values of parameters annotated Logged.

    Exits with status 1 when there is no such letter.
    """
    run_briefly(_show(connection, letter_id, tasks, as_json=as_json))


async def _show(connection: Connection, letter_id: str, tasks: tuple[str, ...], *, as_json: bool) -> None:
    from docket.cli._describe import iso, moment_words, now_of  # late, as above
    from docket.cli._output import Page, Styled, count_of, write_json

    async with connection.open(tasks=tasks) as docket:
        letter = await docket.dead_letters().get(letter_id)
        if letter is None:
            raise click.ClickException(_nothing(letter_id, docket))
        now = await now_of(docket)
    call = letter.call_repr() if letter.task in docket.tasks else None
    if as_json:
        attempts = [
            {
                **{name: getattr(attempt, name) for name in ("attempt", "reason", "error", "traceback", "worker")},
                "started_at": iso(attempt.started_at),
                "ended_at": iso(attempt.ended_at),
            }
            for attempt in letter.attempts
        ]
        write_json([{**_object(letter), "call": call, "attempts": attempts}])
        return
    known = {
        "ID": letter.id,
        "Key": letter.key,
        "Task": letter.task,
        "Reason": letter.reason,
        "Error": Styled(letter.error, "red") if letter.error else None,
        "Due": moment_words(letter.when, now),
        "Died": moment_words(letter.died_at, now),
        "Attempt": str(letter.attempt),
        "Call": call,
        "Arguments": None if call else f"{count_of(letter.payload_bytes, 'byte')} (--tasks shows those annotated Logged)",
        "Trace": letter.trace_id,
    }
    page = Page()
    page.table((), [(Styled(name, "bold"), value) for name, value in known.items() if value])
    for attempt in letter.attempts:
        page.line()
        page.line(Styled(f"Attempt {attempt.attempt}", "bold"))
        page.line(f"{moment_words(attempt.started_at, now)} on {attempt.worker}: {attempt.error}")
        for line in attempt.traceback.splitlines():
            page.line(f"  {line}")
    page.show()


def _nothing(letter_id: str, docket: Docket) -> str:
    from docket.cli._words import printable  # late, as above

    return f"There is no dead letter {printable(letter_id)} on the docket {docket.name!r}: it was run again, thrown away, or has expired."


@dead.command()
@_chosen
@click.option("--arg", "-a", "named", multiple=True, metavar="NAME=VALUE", help="With another argument, by name, as for docket add. Repeatable.")
@click.option("--only-args", is_flag=True, help="With none of the arguments that are stored: those of --arg are all.")
@click.option("--tasks", multiple=True, metavar="MODULE:MEMBER", help="Where the task is, to check other arguments by. Repeatable.")
@click.option("--in", "delay", type=duration, help="Run it after so long: 250ms, 5s, 10m, 1h, 1d.")
@click.option("--at", "moment", type=moment_of, metavar="TIME", help="Run it at this moment: 2030-01-31T12:00 (local time), 2030-01-31T12:00Z.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="NUMBER", help="So many a second at most; the others are scheduled for later.")
@as_json("one JSON object a letter (`id`, `key`, `task`, in `when` when it runs or null, in `error` why not or null)")
@connected(_IN_MEMORY)
@click.pass_context
def retry(
    context: click.Context,
    ids: tuple[str, ...],
    everything: bool,
    yes: bool,
    named: tuple[str, ...],
    only_args: bool,
    tasks: tuple[str, ...],
    delay: timedelta | None,
    moment: datetime | None,
    rate: float | None,
    as_json: bool,
    connection: Connection,
    limit: int | None,
    **filters: str | None,
) -> None:
    """Run dead letters again, each under its key, as a new run of its first attempt; then the letter is gone.

    A letter stays when something is scheduled, queued or running under its key, or when a strike means it.

    --arg takes the place of an argument that is stored. Where the call passes some by position, only --tasks can tell which one is
    meant. On a docket that signs its payloads, give --signing-keys.

    With --all, somebody in front of it is asked first, unless --yes is given. Exits with status 1 when a letter stays, or is not there.

    \b
    Examples:
      docket dead retry 17
      docket dead retry 17 --arg order=int:18 --in 5m
      docket dead retry --all --task send_invoice --rate 10
    """  # noqa: D301 - the backspace tells click to leave the lines below as they are
    if delay is not None and moment is not None:
        raise click.UsageError("--in and --at each say when; give one of them")
    current_directory_first()
    arguments = named_arguments(named)
    _check_choice(connection, ids, filters, limit, everything=everything, yes=yes, verb="Run", ending=" again")
    edit = _Edit(arguments, only=only_args) if arguments or only_args else None
    when = moment if delay is None else delay
    context.exit(run_briefly(_retry(connection, ids, filters, limit, when, rate, edit, tasks, as_json=as_json)))


def _check_choice(
    connection: Connection, ids: tuple[str, ...], filters: Mapping[str, Any], limit: int | None, *, everything: bool, yes: bool, verb: str, ending: str = ""
) -> None:
    """Takes IDs, or --all; and with --all asks whoever sits in front of it."""
    if everything == bool(ids):
        raise click.UsageError("give the IDs of dead letters (docket dead ls), or --all")
    if ids and (limit or any(filters.values())):
        raise click.UsageError("filters go with --all; an ID says all there is to say")
    from docket.cli._output import is_terminal  # late: not needed for help

    if everything and not yes and is_terminal(sys.stdin):
        name, there = run_briefly(_count(connection, filters, limit))  # with no connection open while somebody thinks about it
        click.confirm(f"{verb} {there} of the docket {name!r}{ending}?", abort=True, err=True)


async def _count(connection: Connection, filters: Mapping[str, Any], limit: int | None) -> tuple[str, str]:
    from docket.cli._output import count_of  # late, as above

    async with connection.open() as docket:
        there = 0
        async for part in _parts(docket, filters, limit):
            there += len(part)
    return docket.name, count_of(there, "dead letter")


class _Edit:
    """This gives a letter other arguments."""

    def __init__(self, named: Mapping[str, Any], *, only: bool) -> None:
        self._named = named
        self._only = only

    def __call__(self, letter: DeadLetter) -> tuple[Sequence[Any], Mapping[str, Any]]:
        from docket._signatures import get_signature  # late, as above
        from docket.errors import InvalidArguments

        if self._only:
            return (), self._named
        args, kwargs = letter.args, {**letter.kwargs, **self._named}
        if not args:
            return (), kwargs
        registered = letter.docket.registry.get(letter.task)
        if registered is None:
            raise InvalidArguments(
                f"{letter.task}{{{letter.key}}} passes arguments by position, so which of them is {', '.join(self._named)} cannot be known here; "
                "give --tasks, where the task is, or all arguments by name with --only-args"
            )
        try:
            bound = get_signature(registered.function).bind_partial(*args)
        except TypeError as exc:
            raise InvalidArguments(f"{letter.task} cannot be called like that: {exc}") from exc
        for name in [name for name in kwargs if name in bound.arguments]:
            bound.arguments[name] = kwargs.pop(name)
        return bound.args, {**bound.kwargs, **kwargs}


async def _retry(
    connection: Connection,
    ids: tuple[str, ...],
    filters: Mapping[str, Any],
    limit: int | None,
    when: datetime | timedelta | None,
    rate: float | None,
    edit: _Edit | None,
    tasks: tuple[str, ...],
    *,
    as_json: bool,
) -> int:
    from docket._dead import retry_all  # late, as above
    from docket.cli._output import note, write_json
    from docket.execution import Execution

    again = stayed = 0
    async with connection.open(tasks=tasks) as docket:
        missing: list[str] = []
        letters = _named_by(docket, ids, missing) if ids else docket.dead_letters(**filters, limit=limit)
        async for letter, became in retry_all(letters, rate=rate, when=when, edit=edit):
            is_again = isinstance(became, Execution)
            again, stayed = again + is_again, stayed + (not is_again)
            if as_json:
                write_json([_retried(letter, became)])
            elif not is_again:
                note(f"Error: {became}")
        if not as_json:
            _tell_of(again, docket)
        for letter_id in missing:
            note(f"Error: {_nothing(letter_id, docket)}")
    return 1 if stayed or missing else 0


def _tell_of(again: int, docket: Docket) -> None:
    from docket.cli._output import count_of, note  # late, as above

    if again:
        click.echo(f"Scheduled {count_of(again, 'dead letter')} of the docket {docket.name!r} again.")
    else:
        note("Nothing was run again.")


def _retried(letter: DeadLetter, became: Execution[Any] | DocketError) -> dict[str, Any]:
    from docket.cli._describe import iso  # late, as above
    from docket.execution import Execution

    is_again = isinstance(became, Execution)
    return {
        "id": letter.id,
        "key": letter.key,
        "task": letter.task,
        "when": iso(became.when) if is_again else None,
        "error": None if is_again else str(became),
    }


async def _named_by(docket: Docket, ids: tuple[str, ...], missing: list[str]) -> AsyncIterator[DeadLetter]:
    for letter_id in dict.fromkeys(ids):
        letter = await docket.dead_letters().get(letter_id)
        if letter is None:
            missing.append(letter_id)
        else:
            yield letter


@dead.command()
@_chosen
@as_json("one JSON object (`removed`: how many)")
@connected(_IN_MEMORY)
@click.pass_context
def rm(
    context: click.Context, ids: tuple[str, ...], everything: bool, yes: bool, as_json: bool, connection: Connection, limit: int | None, **filters: str | None
) -> None:
    """Throw dead letters away.

    With --all, somebody in front of it is asked first, unless --yes is given. Exits with status 1 when an ID is not there.
    """
    _check_choice(connection, ids, filters, limit, everything=everything, yes=yes, verb="Throw away")
    context.exit(run_briefly(_rm(connection, ids, filters, limit, as_json=as_json)))


async def _rm(connection: Connection, ids: tuple[str, ...], filters: Mapping[str, Any], limit: int | None, *, as_json: bool) -> int:
    from docket.cli._output import count_of, note, write_json  # late, as above

    missing: list[str] = []
    async with connection.open() as docket:
        if ids:
            letters = docket.store.letters
            missing = [letter_id for letter_id in dict.fromkeys(ids) if not await letters.discard([letter_id])]
            removed = len(dict.fromkeys(ids)) - len(missing)
        else:
            removed = await docket.dead_letters(**filters, limit=limit).discard()
    if as_json:
        write_json([{"removed": removed}])
    else:
        click.echo(f"Threw away {count_of(removed, 'dead letter')} of the docket {docket.name!r}.")
    for letter_id in missing:
        note(f"Error: {_nothing(letter_id, docket)}")
    return 1 if missing else 0
