"""`durable_adds`: scheduling waits until replicas have it, and says so when they have not."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from docket import Disposition, Docket, ExecutionState
from docket.errors import InvalidOption, NotReplicated, RedisUnavailable
from tests._proxy import Proxy, running_proxy
from tests._servers import RedisServer
from tests._waiting import eventually

LATER = timedelta(hours=1)


async def nothing(word: str = "") -> None: ...


class Pair:
    """This is a server and its replica, which can be stopped like a machine that has lost its network."""

    def __init__(self, master: RedisServer, replica: RedisServer) -> None:
        self.master = master
        self.replica: Any = replica.client()
        self._pid = replica.pid
        self.replica.execute_command("REPLICAOF", "127.0.0.1", master.port)

    async def in_step(self) -> None:
        """This waits until the replica takes what the master writes."""
        await eventually(lambda: self.replica.info("replication")["master_link_status"] == "up")

    def stop(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)


@pytest.fixture
def pair(new_server: Callable[..., RedisServer]) -> Iterator[Pair]:
    at_once = ("--repl-diskless-sync-delay", "0")
    found = Pair(new_server(*at_once), new_server(*at_once))
    yield found
    found.go_on()


async def test_what_was_added_is_on_the_replica(pair: Pair):
    await pair.in_step()
    async with Docket("orders", pair.master.url, durable_adds=1) as docket:
        for number in range(20):
            await docket.add(nothing, key=f"k{number}", when=LATER)("x" * 100)
            assert pair.replica.exists(f"{{orders}}:runs:k{number}") == 1
        await docket.replace(nothing, key="k0", when=LATER)("second")


async def test_a_shortfall_says_that_the_task_is_scheduled(pair: Pair):
    await pair.in_step()
    async with Docket("orders", pair.master.url, durable_adds=1) as docket:
        pair.stop()
        with pytest.raises(NotReplicated, match=r"nothing is scheduled under the key 'k', but only 0 of the 1 replicas"):
            await docket.add(nothing, key="k", when=LATER)()

        execution = await docket.get_execution("k")
        assert execution is not None
        assert execution.state is ExecutionState.SCHEDULED


async def test_repeating_the_same_key_asks_the_replicas_again(pair: Pair):
    await pair.in_step()
    async with Docket("orders", pair.master.url, durable_adds=1) as docket:
        pair.stop()
        with pytest.raises(NotReplicated):
            await docket.add(nothing, key="k", when=LATER)()
        with pytest.raises(NotReplicated):
            await docket.add(nothing, key="k", when=LATER)()
        pair.go_on()

        again = await docket.add(nothing, key="k", when=LATER)()
        assert again.disposition is Disposition.ALREADY_SCHEDULED
        assert again.schedule_exception is None


async def test_a_repeat_after_a_lost_reply_is_not_taken_for_confirmed(pair: Pair):
    """It writes nothing, on a connection that has written nothing: the server would have every replica confirm that."""
    await pair.in_step()
    proxy: Proxy
    async with running_proxy(pair.master.port) as proxy, Docket("orders", proxy.url, durable_adds=1) as docket:
        await docket.add(nothing, key="first", when=LATER)()
        pair.stop()
        proxy.lose_reply_to = b"WAIT"

        with pytest.raises(NotReplicated):
            await docket.add(nothing, key="k", when=LATER)()
        assert proxy.lost == 1


async def test_nothing_else_waits_for_replicas(pair: Pair):
    await pair.in_step()
    async with Docket("orders", pair.master.url, durable_adds=1) as docket:
        pair.stop()
        adding = asyncio.create_task(docket.add(nothing, key="k", when=LATER)())
        found = None
        while found is None:
            found = await docket.get_execution("k")
        assert not adding.done()
        with pytest.raises(NotReplicated):
            await adding


async def test_each_of_many_says_whether_it_was_confirmed(pair: Pair):
    await pair.in_step()
    async with Docket("orders", pair.master.url, durable_adds=1) as docket:
        good = await docket.add_many([docket.call(nothing, when=LATER)() for _ in range(3)])
        assert [each.schedule_exception for each in good] == [None] * 3
        pair.stop()
        short = await docket.add_many([docket.call(nothing, when=LATER)() for _ in range(3)])
        assert {each.disposition for each in short} == {Disposition.SCHEDULED}
        assert [type(each.schedule_exception) for each in short] == [NotReplicated] * 3


async def test_two_replicas_are_one_too_many(pair: Pair):
    await pair.in_step()
    async with Docket("orders", pair.master.url, durable_adds=2) as docket:
        with pytest.raises(NotReplicated, match="only 1 of the 2 replicas"):
            await docket.add(nothing, key="k", when=LATER)()


async def test_scripts_that_were_flushed_are_sent_again(pair: Pair):
    await pair.in_step()
    async with Docket("orders", pair.master.url, durable_adds=1) as docket:
        await docket.add(nothing, key="k", when=LATER)()
        client: Any = pair.master.client()
        client.script_flush()
        assert (await docket.add(nothing, key="k2", when=LATER)()).disposition is Disposition.SCHEDULED


async def test_without_a_server_it_is_an_outage_like_any_other(pair: Pair):
    await pair.in_step()
    async with Docket("orders", pair.master.url, durable_adds=1) as docket:
        pair.master.kill()
        with pytest.raises(RedisUnavailable):
            await docket.add(nothing, key="k", when=LATER)()
        pair.master.start()
        await pair.in_step()
        assert (await docket.add(nothing, key="k", when=LATER)()).disposition is Disposition.SCHEDULED


async def test_in_memory_there_is_nobody_to_ask():
    async with Docket("orders", "memory://durable", durable_adds=3) as docket:
        assert (await docket.add(nothing, when=timedelta(0))()).disposition is Disposition.SCHEDULED


@pytest.mark.parametrize("number", [-1, 1.5, True, "1"])
def test_it_is_a_number_of_replicas(number: Any):
    with pytest.raises(InvalidOption, match=r"durable_adds is .*at least 0"):
        Docket("orders", durable_adds=number)
