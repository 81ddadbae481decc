"""Sentinels: who knows where the master is, who does not, and who may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from docket import Docket
from docket.errors import InvalidURL, RedisUnavailable
from tests._topologies import Node, Trio, running_trio
from tests._waiting import eventually
from tests.topologies._work import backend_of, patiently, works


async def test_a_service_that_no_sentinel_knows_is_named(trio: Trio, docket_name: str):
    with pytest.raises(RedisUnavailable, match="no sentinel knows a service called 'mimaster'"):
        async with Docket(docket_name, trio.url.replace("/mymaster/", "/mimaster/")):
            pytest.fail("it got in")


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_two_sentinels_of_three_may_be_away(trio: Trio, docket_name: str, how: str):
    for each in trio.sentinels[:2]:
        getattr(each, how)()

    async with Docket(docket_name, trio.url) as docket:
        await works(docket)


async def test_a_sentinel_that_stops_answering_is_one_that_is_asked_no_more(trio: Trio, docket_name: str):
    async with Docket(docket_name, trio.url) as docket:
        whereabouts: Any = backend_of(docket)._whereabouts
        asked = whereabouts._line[0]
        next(each for each in trio.sentinels if each.port == asked[1]).pause()

        await eventually(lambda: whereabouts._line is not None and whereabouts._line[0] != asked)

        await works(docket)


async def test_while_all_sentinels_are_away_whoever_is_connected_works_on(trio: Trio, docket_name: str):
    async with Docket(docket_name, trio.url) as docket:
        for each in trio.sentinels:
            each.kill()

        await asyncio.sleep(1.5)  # a look at nobody
        await works_on(docket, trio.servers)
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            async with Docket(docket_name, trio.url):
                pytest.fail("it got in")

        await asyncio.to_thread(trio.heal)
        await works(docket)


async def works_on(docket: Docket, servers: list[Node]) -> None:
    """This fails unless the docket reaches a server over the connection that stands."""
    assert await backend_of(docket).call("PING") == b"PONG"
    assert any(server.is_running for server in servers)


async def test_a_sentinel_that_is_behind_is_not_believed(trio: Trio, docket_name: str):
    """It names a server that was the master; which answers, and writes nothing."""
    async with Docket(docket_name, trio.url) as docket:
        behind = trio.sentinels[0]
        behind.pause()
        await asyncio.to_thread(trio.switch, trio.sentinels[1])
        behind.resume()

        await patiently(partial(works, docket))


@pytest.fixture(scope="module")
def locked() -> Iterator[Trio]:
    """This asks for passwords everywhere: the servers for one, the sentinels for another."""
    with running_trio_with_passwords() as trio:
        yield trio


def running_trio_with_passwords() -> Any:
    return running_trio(
        "--requirepass", "of-servers", "--masterauth", "of-servers",
        settings=["auth-pass mymaster of-servers", "sentinel-pass of-sentinels"],
        guards=["requirepass of-sentinels"],
        password="of-servers",
        sentinel_password="of-sentinels",
    )  # fmt: skip


async def test_sentinels_have_credentials_of_their_own(locked: Trio, docket_name: str):
    url = locked.url.replace("://", "://:of-servers@")

    async with Docket(docket_name, url + "?sentinel_password=of-sentinels") as docket:
        await works(docket)
    async with Docket(docket_name, locked.url + "?password=of-servers&sentinel_username=default&sentinel_password=of-sentinels") as docket:
        await works(docket)


@pytest.mark.parametrize(
    ("login", "options"),
    [
        (":of-servers@", ""),
        (":of-servers@", "?sentinel_password=wr0ng"),
        (":wr0ng@", "?sentinel_password=of-sentinels"),
        ("", "?sentinel_password=of-sentinels"),
    ],
)
async def test_wrong_credentials_are_an_error_that_names_none(locked: Trio, docket_name: str, login: str, options: str):
    with pytest.raises(RedisUnavailable, match="(?i)NOAUTH|WRONGPASS|authentication|invalid username") as caught:
        async with Docket(docket_name, locked.url.replace("://", f"://{login}") + options):
            pytest.fail("it got in")

    assert not any(secret in str(caught.value) for secret in ("of-servers", "of-sentinels", "wr0ng"))


async def test_the_url_names_a_service():
    with pytest.raises(InvalidURL, match="does not say what the sentinels call the server"):
        async with Docket(url="redis+sentinel://localhost"):
            pytest.fail("it got in")
