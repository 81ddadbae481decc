"""Who is asked where the server is, in which order, and whose word counts. Real sentinels and clusters: tests/topologies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import anyio
import pytest
import redis.exceptions

from docket._redis import whereabouts
from docket._redis.connector import Connector
from docket._redis.errors import is_elsewhere
from docket._redis.urls import parse
from docket._redis.whereabouts import ClusterMap, Fixed, Sentinels
from docket.errors import RedisUnavailable, ServerError
from tests._servers import RedisServer
from tests._waiting import eventually

HERE, THERE = ("here", 1), ("there", 2)

W = TypeVar("W", Sentinels, ClusterMap)


class Oracle:
    """This answers every command of whoever connects with the same words, and remembers how often it was asked."""

    def __init__(self) -> None:
        self.answer = b"*-1\r\n"
        self.asked = 0
        self.connected = 0
        self.port = 0
        self.silent = False

    @property
    def host(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def names(self, host: tuple[str, int]) -> None:
        """This says, as a sentinel, where the master is."""
        self.answer = b"*2\r\n" + bulk(host[0]) + bulk(str(host[1]))

    def maps(self, *groups: tuple[int, int, str | None, int]) -> None:
        """This says, as a node of a cluster, who has which slots."""
        told = b"".join(
            b"*3\r\n:%d\r\n:%d\r\n*3\r\n%s:%d\r\n%s" % (first, last, b"$-1\r\n" if host is None else bulk(host), port, bulk("id"))
            for first, last, host, port in groups
        )
        self.answer = b"*%d\r\n%s" % (len(groups), told)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        try:
            while data := await reader.read(4096):
                if b"CLIENT" in data:
                    writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
                    continue
                self.asked += 1
                if not self.silent:
                    writer.write(self.answer)
        except OSError:
            pass
        finally:
            self.connected -= 1
            writer.transport.abort()


def bulk(text: str) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text.encode())


@asynccontextmanager
async def oracles(count: int) -> AsyncGenerator[list[Oracle]]:
    async with AsyncExitStack() as stack:
        found: list[Oracle] = []
        for _ in range(count):
            oracle = Oracle()
            server = await asyncio.start_server(oracle.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            oracle.port = server.sockets[0].getsockname()[1]
            found.append(oracle)
        yield found


@pytest.fixture
async def three() -> AsyncIterator[list[Oracle]]:
    async with oracles(3) as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LOOK", 0.01), ("ANSWER", 0.2), ("SLOW_ANSWER", 0.4), ("SETTLING", 0.15)):
        monkeypatch.setattr(whereabouts, name, value)
    monkeypatch.setattr(whereabouts, "backoff", lambda _failures=0: 0.01)


def hosts_of(asked: list[Oracle]) -> str:
    return ",".join(f"127.0.0.1:{each.port}" for each in asked)


@asynccontextmanager
async def asking(asked: list[Oracle], where: W) -> AsyncGenerator[W]:
    """This is whoever asks them, for the length of a block; in the end it has let go of them all."""
    try:
        yield where
    finally:
        await where.aclose()
    await eventually(lambda: not any(each.connected for each in asked))


def sentinels(asked: list[Oracle]) -> AbstractAsyncContextManager[Sentinels]:
    return asking(asked, Sentinels(parse(f"redis+sentinel://{hosts_of(asked)}/mymaster")))


def cluster(asked: list[Oracle]) -> AbstractAsyncContextManager[ClusterMap]:
    return asking(asked, ClusterMap(parse(f"redis+cluster://{hosts_of(asked)}"), None, "{docket}:"))


@asynccontextmanager
async def watched(where: Any, on_found: Callable[[Any], None]) -> AsyncGenerator[None]:
    watching = asyncio.create_task(where.watch(on_found))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def asked_of(asked: list[Oracle]) -> list[int]:
    return [each.asked for each in asked]


async def test_one_server_is_where_its_url_says():
    fixed = Fixed()

    assert await fixed.find() == {}
    await fixed.watch(lambda _: pytest.fail("it moved"))
    fixed.hint(redis.exceptions.MovedError("1 there:2"))
    fixed.doubt()
    await fixed.check(None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - it does not look
    await fixed.aclose()


async def test_who_answered_last_is_asked_first_over_a_connection_that_stays(three: list[Oracle]):
    async with sentinels(three) as where:
        for each in three:
            each.names(HERE)
        three[0].silent = True

        assert [await where.find() for _ in range(3)] == [{"host": "here", "port": 1}] * 3

    assert asked_of(three) == [1, 3, 0]


async def test_who_knows_nothing_is_passed_over(three: list[Oracle]):
    async with sentinels(three) as where:
        three[2].names(HERE)

        assert await where.find() == {"host": "here", "port": 1}


async def test_when_those_who_answer_know_nothing_that_is_said_whoever_is_away(three: list[Oracle]):
    async with sentinels(three) as where:
        three[0].silent = True
        with pytest.raises(RedisUnavailable, match="no sentinel knows a service called 'mymaster'"):
            await where.find()


async def test_when_nobody_answers_the_first_failure_is_told(three: list[Oracle]):
    async with sentinels(three) as where:
        for each in three:
            each.answer = b"-ERR unknown command 'SENTINEL'\r\n"
        with pytest.raises(ServerError, match="unknown command 'SENTINEL'"):
            await where.find()


async def test_when_all_are_slow_they_are_asked_again_with_more_patience(three: list[Oracle]):
    async with sentinels(three) as where:
        for each in three:
            each.names(HERE)
            each.silent = True
        finding = asyncio.create_task(where.find())
        await eventually(lambda: asked_of(three) == [1, 1, 1])

        three[2].silent = False

        assert await finding == {"host": "here", "port": 1}
        assert asked_of(three) == [2, 2, 2]
        three[2].silent = True
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            await where.find()
        assert asked_of(three) == [4, 4, 4]


async def test_whose_word_led_nowhere_is_asked_after_the_others(three: list[Oracle]):
    async with sentinels(three) as where:
        where.doubt()  # nobody has said anything yet
        three[0].names(HERE)
        for each in three[1:]:
            each.names(THERE)
        assert await where.find() == {"host": "here", "port": 1}

        where.doubt()

        assert [await where.find() for _ in range(2)] == [{"host": "there", "port": 2}] * 2
        where.doubt()
        where.doubt()
        assert await where.find() == {"host": "there", "port": 2}
    assert asked_of(three) == [1, 2, 1]


async def test_the_watch_tells_where_the_server_is_and_outlives_that_nobody_knows(three: list[Oracle]):
    found: list[Any] = []
    async with sentinels(three) as where, watched(where, found.append):
        await eventually(lambda: min(asked_of(three)) > 1)
        assert not found
        for each in three:
            each.names(HERE)
        await eventually(lambda: HERE in found)
        for each in three:
            each.names(THERE)
        await eventually(lambda: THERE in found)


async def test_who_is_cancelled_while_asking_leaves_no_answer_for_the_next(three: list[Oracle]):
    async with sentinels(three[:1]) as where:
        three[0].names(HERE)
        three[0].silent = True
        with anyio.move_on_after(0.02):
            await where.find()
        three[0].silent = False
        three[0].names(THERE)

        assert await where.find() == {"host": "there", "port": 2}


async def test_a_server_that_is_no_master_is_not_believed(three: list[Oracle], redis_server: RedisServer):
    connector = Connector(redis_server.url, "shown")
    async with sentinels(three) as where:
        connection = await connector.connect({})
        await where.check(connection)
        await connection.disconnect()
        for answer, error in ((b"*1\r\n" + bulk("slave"), "name a server that is a slave"), (b"-NOPERM no\r\n", None)):
            three[0].answer = answer
            connection = await connector.connect({"host": "127.0.0.1", "port": three[0].port})
            if error is None:
                await where.check(connection)
            else:
                with pytest.raises(RedisUnavailable, match=error):
                    await where.check(connection)
            await connection.disconnect()
    assert where.hint(redis.exceptions.ReadOnlyError("READONLY")) is None


# A cluster


async def test_the_node_with_the_slot_is_found_and_all_nodes_are_asked_from_then_on(three: list[Oracle]):
    async with cluster(three[:1]) as where:
        three[0].maps((0, 5, "low", 1), (6, 16383, "127.0.0.1", three[1].port))
        three[1].maps((0, 16383, "here", 1))

        assert await where.find() == {"host": "127.0.0.1", "port": three[1].port}
        where.doubt()
        assert await where.find() == {"host": "here", "port": 1}


@pytest.mark.parametrize("name", [None, "", "?"])
async def test_a_node_without_a_name_is_the_one_that_was_asked(three: list[Oracle], name: str | None):
    async with cluster(three[:1]) as where:
        three[0].maps((0, 16383, name, 7))

        assert await where.find() == {"host": "127.0.0.1", "port": 7}


async def test_a_slot_that_nobody_has_is_said(three: list[Oracle]):
    async with cluster(three) as where:
        for each in three:
            each.maps((0, 1, "here", 1))
        with pytest.raises(RedisUnavailable, match=r"no node of the cluster has slot \d+"):
            await where.find()


async def test_a_servers_word_goes_before_what_nodes_say_and_who_said_otherwise_is_doubted(three: list[Oracle]):
    found: list[Any] = []
    async with cluster(three) as where:
        three[0].maps((0, 16383, "here", 1))
        for each in three[1:]:
            each.maps((0, 16383, "there", 2))
        assert await where.find() == {"host": "here", "port": 1}

        where.hint(redis.exceptions.MovedError("1 there:2"))
        where.hint(redis.exceptions.MovedError("1 :2"))  # from a server that does not know names: nothing new
        where.hint(redis.exceptions.ReadOnlyError("READONLY"))
        async with watched(where, found.append):
            await asyncio.sleep(0.05)
            assert asked_of(three) == [1, 0, 0]  # others may not have heard of it
            assert await where.find() == {"host": "there", "port": 2}
            assert await where.find() == {"host": "there", "port": 2}
            await eventually(lambda: found)
    assert set(found) == {THERE}


async def test_a_look_under_way_when_a_server_says_better_is_forgotten(three: list[Oracle], monkeypatch: pytest.MonkeyPatch):
    found: list[Any] = []
    looks = 0
    async with cluster(three[:1]) as where:

        async def look(**_: Any) -> tuple[str, int]:
            nonlocal looks
            looks += 1
            if looks == 1:
                where.hint(redis.exceptions.MovedError("1 there:2"))
            return HERE if looks == 1 else THERE

        monkeypatch.setattr(where, "_look", look)
        async with watched(where, found.append):
            await eventually(lambda: looks > 1)
    assert set(found) <= {THERE}


@pytest.mark.parametrize(
    ("error", "elsewhere"),
    [
        (redis.exceptions.MovedError("1 there:2"), True),
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), True),
        (redis.exceptions.ResponseError("Error running script (call to f_x): @user_script:1: -READONLY You can't write against a read only replica."), True),
        (redis.exceptions.ResponseError("UNBLOCKED the stream key no longer exists"), True),
        (redis.exceptions.ResponseError("wrong kind of value"), False),
        (redis.exceptions.TryAgainError("TRYAGAIN"), False),
    ],
)
def test_which_replies_say_that_another_server_is_to_be_asked(error: Exception, elsewhere: bool):
    assert is_elsewhere(error) is elsewhere
