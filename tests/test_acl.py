"""The Redis user of docs/security.md can run everything on its docket, and touch nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from docket import ConcurrencyLimit, CurrentDocket, Docket, ExecutionState, ExponentialRetry, Perpetual, Progress, RateLimit, StrikeList, Worker
from docket.errors import RedisUnavailable, ServerError
from docket.execution import ExecutionProgress
from tests._servers import RedisServer
from tests._topologies import Cluster, Node, Trio

PAGE = Path(__file__).parent.parent / "docs" / "security.md"
SOON, LATER = timedelta(milliseconds=50), timedelta(hours=1)


def words_of_the_page(beginning: str, *without: str) -> list[str]:
    """This is a command of the page."""
    found = re.search(rf"^```text\n({re.escape(beginning)}.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return [word for word in found[1].replace("PASSWORD", "pw").split() if word not in without]


def make_user(server: RedisServer, *without: str) -> str:
    """This makes the user as the page says, and gives a URL with its name."""
    client: Any = server.client()
    client.execute_command(*words_of_the_page("ACL SETUSER orders on", *without))
    return f"redis://orders:pw@127.0.0.1:{server.port}/0"


def unknown_to(server: Node | RedisServer) -> list[str]:
    """These are the words of the page that are not for this server."""
    client: Any = server.client()
    is_old = int(client.info("server")["redis_version"].partition(".")[0]) < 7
    return ["+spublish", "+ssubscribe", "+sunsubscribe"] if is_old else []


def _is_about(entry: Any, command: str) -> bool:
    """Whether an entry of the server's log of refusals is about a command: redis-py gives a dict, or the flat reply."""
    return command in str(entry)


async def everything(docket: Docket, worker: Worker) -> None:
    """This does what can be done with a docket."""
    done: list[str] = []

    @docket.task
    async def job(word: str, again: bool = False, here: Docket = CurrentDocket(), progress: ExecutionProgress = Progress()) -> str:
        done.append(word)
        await progress.set_total(2)
        await progress.increment()
        if again:
            await here.add(job, key="again")(word)
        return word * 200

    @docket.task
    @Perpetual(every=timedelta(0))
    async def chain() -> None: ...

    @docket.task
    async def limited(limit: ConcurrencyLimit = ConcurrencyLimit(1), rate: RateLimit = RateLimit(100, per=timedelta(seconds=1))) -> None: ...

    @docket.task
    async def failing(retry: ExponentialRetry = ExponentialRetry(attempts=2, minimum_delay=timedelta(milliseconds=1))) -> None:
        raise ValueError("x" * 100)

    ready, heard = asyncio.Event(), asyncio.Event()

    async def listen() -> None:
        async for _ in docket.events(ready=ready):
            heard.set()

    listening = asyncio.create_task(listen())
    await asyncio.wait([listening, asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not listening.done(), listening.exception()
    execution = await job.schedule("x" * 100, key="k", when=SOON)
    await job.schedule("again", again=True, key="again")
    await job.replace("second", key="later", when=LATER)
    await docket.add_many([limited.call() for _ in range(3)])
    await chain.schedule(key="chain")
    failed = await failing.schedule(key="failing")
    await failing.schedule(key="dying")
    assert await docket.strike("nothing")
    assert await docket.restore("nothing")
    await (await job.schedule("moved", key="moved", when=LATER)).reschedule(SOON)
    await (await job.schedule("now", key="now", when=LATER)).promote()
    await docket.cancel("later")
    await worker.run_at_most({"chain": 2})
    assert await execution.get_result() == "x" * 100 * 200
    with pytest.raises(ValueError, match="xxx"):
        await failed.get_result()
    again = await failed.retry()
    await again.cancel()
    await execution.sync()
    assert execution.state is ExecutionState.COMPLETED
    assert (await docket.snapshot()).running == []
    assert (await docket.counts()).completed
    assert {each.key async for each in docket.executions(state="completed")} >= {"k", "again", "moved", "now"}
    [letter] = [letter async for letter in docket.dead_letters()]  # that of the other went with its run
    assert letter.key == "dying"
    await (await letter.retry(when=LATER)).cancel()
    assert not await letter.discard()
    assert await docket.workers() == []
    await job.schedule("cleared", when=LATER)
    assert await docket.clear() == 1
    await heard.wait()
    listening.cancel()
    assert done.count("again") == 2
    assert "second" not in done


async def test_the_user_of_the_page_can_do_everything(new_server: Callable[..., RedisServer]):
    server = new_server()
    url = make_user(server)

    async with Docket("orders", url, signing_keys=["a signing key for this test"]) as docket, Worker(docket) as worker, StrikeList(url, "orders"):
        await everything(docket, worker)
    client: Any = server.client()
    denied = client.execute_command("ACL", "LOG")
    assert [entry for entry in denied if not _is_about(entry, "info")] == []


async def refused(servers: Sequence[Node], url: str, shards: int | None = None) -> list[Any]:
    """This does everything, and gives what was refused to anybody meanwhile."""
    try:
        for server in servers:
            server.ask("ACL", "LOG", "RESET")
        async with Docket("orders", url, shards=shards) as docket, Worker(docket) as worker, StrikeList(url, "orders"):
            await everything(docket, worker)
        return [entry for server in servers for entry in server.ask("ACL", "LOG") if not _is_about(entry, "info")]
    finally:
        for server in servers:
            server.ask("ACL", "DELUSER", "orders")


async def test_in_a_cluster_it_needs_what_the_page_adds(cluster: Cluster):
    for node in cluster.nodes:
        make_user(node)
    with pytest.raises(ServerError, match="cluster"):
        async with Docket("orders", cluster.url.replace("://", "://orders:pw@")):
            pytest.fail("it got in")
    for node in cluster.nodes:
        node.ask(*words_of_the_page("ACL SETUSER orders +cluster"))

    assert await refused(cluster.nodes, cluster.url.replace("://", "://orders:pw@")) == []


async def test_in_shards_it_needs_what_the_page_adds(cluster: Cluster):
    url = cluster.url.replace("://", "://orders:pw@")
    for node in cluster.nodes:
        make_user(node)
        node.ask(*words_of_the_page("ACL SETUSER orders +cluster"))
    async with Docket("orders", url, shards=3) as docket:
        with pytest.raises(ServerError, match="permission"):
            await docket.add("job")()
    for node in cluster.nodes:
        node.ask(*words_of_the_page("ACL SETUSER orders ~{orders~*", *unknown_to(node)))
    cluster.flush()  # on which channels messages come was settled without the right to shards' own

    assert await refused(cluster.nodes, url, shards=3) == []


async def test_to_move_it_it_needs_what_the_page_adds(new_server: Callable[..., RedisServer]):
    server = new_server()
    docket = Docket("orders", make_user(server))
    client: Any = server.client()
    client.execute_command(*words_of_the_page("ACL SETUSER orders ~{orders~*", *unknown_to(server)))
    async with docket:
        for number in range(4):
            await docket.add("job", key=f"k{number}", when=docket.clock.now() + LATER)("x" * 100)
    with pytest.raises(ServerError, match="permission"):
        await docket.reshard(2)
    client.execute_command(*words_of_the_page("ACL SETUSER orders +dump"))
    client.execute_command("ACL", "LOG", "RESET")

    assert (await docket.reshard(2)).runs == 4
    assert (await docket.reshard(1)).runs == 4

    assert [entry for entry in client.execute_command("ACL", "LOG") if not _is_about(entry, "info")] == []
    async with docket:
        assert await docket.clear() == 4


async def test_under_sentinels_it_needs_what_the_page_adds(trio: Trio):
    url = trio.url.replace("://", "://orders:pw@") + "?sentinel_username=watcher&sentinel_password=pw"
    for server in trio.servers:
        make_user(server)
        server.ask(*words_of_the_page("ACL SETUSER orders +role"))
    for sentinel in trio.sentinels:
        sentinel.ask(*words_of_the_page("ACL SETUSER watcher"))

    assert await refused([*trio.servers, *trio.sentinels], url) == []


async def test_without_the_right_to_ask_for_its_role_the_master_is_found_all_the_same(trio: Trio):
    for server in trio.servers:
        make_user(server)
    try:
        async with Docket("orders", trio.url.replace("://", "://orders:pw@")) as docket:
            assert (await docket.counts()).queued == 0
    finally:
        for server in trio.servers:
            server.ask("ACL", "DELUSER", "orders")


async def test_and_nothing_on_another_docket(new_server: Callable[..., RedisServer]):
    url = make_user(new_server())

    with pytest.raises((ServerError, RedisUnavailable), match="NOPERM|No permissions|permission"):
        async with Docket("invoices", url):
            pytest.fail("it got in")


async def test_without_scan_only_listing_without_a_state_fails(new_server: Callable[..., RedisServer]):
    async with Docket("orders", make_user(new_server(), "+scan")) as docket:
        assert [each async for each in docket.executions(state="scheduled")] == []
        with pytest.raises(ServerError, match="scan"):
            await docket.executions().page()


def test_the_page_names_no_command_that_is_not_used(new_server: Callable[..., RedisServer]):
    """A right that nobody needs is one too many; what is sent stands in the code, in one case or the other."""
    source = "\n".join(path.read_text() for path in (PAGE.parent.parent / "docket").rglob("*") if path.suffix in (".py", ".lua")).lower()
    given = re.findall(r"\+([a-z]+)(?:\|([a-z]+))?", PAGE.read_text().partition("ACL SETUSER")[2].partition("```")[0])
    by_redis_py = {"client", "select", "ping"}

    assert [command for command, _ in given if command not in by_redis_py and not re.search(rf"['\"]{command}['\"]", source)] == []
