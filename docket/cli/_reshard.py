"""`docket reshard`: moves a docket that nobody uses from one number of shards to another."""

from __future__ import annotations

import click

from docket._options import MOST_SHARDS, DocketOptions
from docket.cli._options import Connection, as_json, connected, current_directory_first, refuse_memory, run_briefly

__all__ = ["reshard"]


@click.command()
@click.option("--to", "shards", type=click.IntRange(1, MOST_SHARDS), required=True, help="How many shards the docket is to have.")
@as_json("one JSON object (`before`, `after`, `runs`, `letters`)")
@connected("has only just begun: there is nothing in it to move")
def reshard(shards: int, as_json: bool, connection: Connection) -> None:
    """Move a docket that nobody uses to another number of shards.

    Stop every worker and every process that schedules tasks first; a worker that is alive is noticed and nothing is done. Meanwhile the docket cannot
    be opened. When this is interrupted the docket stays as it was; the same command begins again.
    """
    run_briefly(_reshard(connection, shards, as_json=as_json))


async def _reshard(connection: Connection, shards: int, *, as_json: bool) -> None:
    from docket._loading import load  # late, like what follows: heavy, and not needed for help
    from docket.cli._output import write_json
    from docket.docket import Docket

    current_directory_first()
    options = DocketOptions(**connection.options)
    refuse_memory(options.url, connection.not_in_memory)
    provider = None if connection.credential_provider is None else load(connection.credential_provider)
    moved = await Docket(options.name, options.url, credential_provider=provider).reshard(shards)
    if as_json:
        write_json([{"docket": options.name, "before": moved.before, "after": moved.after, "runs": moved.runs, "letters": moved.letters}])
    elif moved.before == moved.after:
        click.echo(f"The docket {options.name!r} has {shards} shard(s) already.")
    else:
        click.echo(f"Moved the docket {options.name!r} from {moved.before} shard(s) to {moved.after}: {moved.runs} tasks, {moved.letters} dead letters.")
