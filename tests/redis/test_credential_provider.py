"""Credentials from an object of the user's: asked for each new connection, in nobody's way, and shown nowhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis.credentials import CredentialProvider

from docket import Docket, Worker
from docket.errors import LoadError, RedisUnavailable
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.redis._backends import opened

FIRST, SECOND = "f1rst-secret", "s3cond-secret"


class Rotating(CredentialProvider):
    """This gives the password of the day."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.asked = 0
        self.threads: set[threading.Thread] = set()

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        self.threads.add(threading.current_thread())
        return "app", self.password


class RotatingByItself(Rotating):
    async def get_credentials_async(self) -> tuple[str, str]:
        await asyncio.sleep(0)
        return self.get_credentials()


class Duck:
    """This is no subclass of anything."""

    def get_credentials(self) -> list[str]:
        return ["app", FIRST]


provider = Rotating(FIRST)


@pytest.fixture
def locked(new_server: Callable[..., RedisServer]) -> RedisServer:
    """This is a server that knows `app` by the first password."""
    server = new_server()
    set_password(server, FIRST)
    return server


def set_password(server: RedisServer, password: str) -> None:
    client: Any = server.client()
    client.execute_command("ACL", "SETUSER", "app", "on", "resetpass", f">{password}", "~*", "&*", "+@all")


def cut_all(server: RedisServer) -> None:
    """This ends every connection of the user."""
    client: Any = server.client()
    client.execute_command("CLIENT", "KILL", "USER", "app")


async def who(url: str, provider: Any) -> bytes:
    async with opened(url, credential_provider=provider) as backend:
        return await backend.call("ACL", "WHOAMI")


@pytest.mark.parametrize("given", [Rotating(FIRST), RotatingByItself(FIRST), Duck()], ids=["in a thread", "awaited", "of no class"])
async def test_who_gives_credentials_is_asked_for_each_connection(locked: RedisServer, given: Any):
    assert await who(locked.url, given) == b"app"

    if isinstance(given, RotatingByItself):
        assert given.threads == {threading.main_thread()}
    elif isinstance(given, Rotating):
        assert threading.main_thread() not in given.threads


async def test_a_password_that_changes_is_taken_by_new_connections_while_those_that_stand_work_on(locked: RedisServer, docket_name: str):
    rotating = Rotating(FIRST)
    async with Docket(docket_name, locked.url, credential_provider=rotating) as docket, Worker(docket) as worker:

        @docket.task
        async def word() -> str:
            return "a"

        running = asyncio.create_task(worker.run_forever())
        assert await (await word.schedule()).get_result() == "a"
        asked = rotating.asked

        set_password(locked, SECOND)
        assert await (await word.schedule()).get_result() == "a"
        assert rotating.asked == asked  # nobody asked: to the server, who is in is in

        rotating.password = SECOND
        cut_all(locked)
        await eventually(lambda: rotating.asked > asked)
        assert await (await persistently(word.schedule)).get_result() == "a"
        worker.stop()
        await running


async def test_a_provider_that_is_behind_is_an_outage_until_it_is_not(locked: RedisServer, docket_name: str):
    rotating = Rotating(FIRST)
    async with Docket(docket_name, locked.url, credential_provider=rotating) as docket:
        set_password(locked, SECOND)
        cut_all(locked)
        told: list[str] = []

        async def is_refused() -> bool:
            try:
                await docket.counts()
            except RedisUnavailable as exc:
                told.append(str(exc))
            return "invalid username-password" in "".join(told)

        await eventually(is_refused)
        assert FIRST not in "".join(told)

        rotating.password = SECOND
        await persistently(docket.counts)


async def persistently(attempt: Callable[[], Any]) -> Any:
    while True:
        try:
            return await attempt()
        except RedisUnavailable:
            await asyncio.sleep(0.02)


class Failing:
    def get_credentials(self) -> Any:
        raise KeyError(FIRST)


class Useless:
    def __init__(self, given: Any) -> None:
        self.given = given

    def get_credentials(self) -> Any:
        return self.given


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (Failing(), r"raised KeyError \(test_credential_provider.py, line \d+\)"),
        (Useless(FIRST), "gave a str, and a tuple of a user and a password"),
        (Useless(("app", None)), "gave a tuple"),
        (Useless(()), "gave a tuple"),
        (Useless(None), "gave a NoneType"),
    ],
)
async def test_a_provider_that_fails_is_an_outage_that_shows_no_secret(locked: RedisServer, given: Any, found: str):
    with pytest.raises(RedisUnavailable, match=f"the credential provider {found}") as caught:
        await who(locked.url, given)

    seen: BaseException | None = caught.value
    while seen is not None:
        assert FIRST not in f"{seen!r} {seen.__context__!r}"
        seen = seen.__cause__


async def test_a_provider_is_slow_in_a_thread_and_stops_nobody(locked: RedisServer):
    turned = threading.Event()

    class Slow:
        def get_credentials(self) -> tuple[str, str]:
            assert turned.wait(10)
            return "app", FIRST

    asked = asyncio.create_task(who(locked.url, Slow()))
    await asyncio.sleep(0.01)
    turned.set()

    assert await asked == b"app"


async def test_a_worker_takes_one_by_its_name(locked: RedisServer, docket_name: str):
    provider.asked = 0

    await Worker.run(docket_name=docket_name, url=locked.url, credential_provider=f"{__name__}:provider", until_finished=True)

    assert provider.asked
    with pytest.raises(LoadError, match="no 'provide'"):
        await Worker.run(docket_name=docket_name, url=locked.url, credential_provider=f"{__name__}:provide", until_finished=True)


def test_it_is_asked_by_nobody_who_waits():
    from docket._redis.credentials import Provided

    with pytest.raises(NotImplementedError):
        Provided(provider).get_credentials()
