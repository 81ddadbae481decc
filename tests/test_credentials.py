"""Credentials in a URL appear nowhere: not in errors or what stands behind them, not in logs, not in what objects show of themselves, not in what commands print."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import signal
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docket import Docket, StrikeList, Worker
from docket.errors import DocketError, InvalidOption, InvalidURL, LoadError
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.cli._command import Command

USER, PASSWORD, WRONG = "jane-secretive", "s3cret-passw0rd", "wr0ng-passw0rd"
KEY = "a-signing-key-that-nobody-sees"
SECRETS = (USER, PASSWORD, WRONG, KEY)


def assert_silent(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text, text


def everything_of(error: BaseException) -> str:
    """This is all that a logger, or somebody who looks through the errors behind an error, gets to see of it."""
    told = [*traceback.format_exception(type(error), error, error.__traceback__)]
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        told += [str(each), repr(each), repr(each.args), repr(vars(each))]
        left += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return "\n".join(told)


class _Heard(logging.Handler):
    """This keeps every line as a formatter would print it, with its fields."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {vars(record)!r}")


@pytest.fixture
def heard() -> Iterator[_Heard]:
    """This hears everything that is logged, down to debug."""
    handler, root, ours = _Heard(), logging.getLogger(), logging.getLogger("docket")
    before = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield handler
    ours.setLevel(before)
    root.removeHandler(handler)


@pytest.fixture
def locked(new_server: Callable[..., RedisServer]) -> RedisServer:
    """This is a server that asks for a name and a password."""
    server = new_server()
    client: Any = server.client()
    client.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
    client.execute_command("ACL", "SETUSER", "default", "resetpass", "off")
    return server


def url_of(server: RedisServer, password: str = PASSWORD) -> str:
    return f"redis://{USER}:{password}@127.0.0.1:{server.port}/0"


@contextlib.asynccontextmanager
async def a_server_that_quotes() -> AsyncGenerator[int]:
    """This answers every command as servers do that do not know it: with its arguments."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            words = data.decode("utf-8", "replace").split("\r\n")[2::2]
            told = " ".join(f"'{word}'" for word in words[1:])
            writer.write(f"-ERR unknown command '{words[0]}', with args beginning with: {told}\r\n".encode())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_what_shows_itself_does_not_show_them():
    url = f"redis://{USER}:{PASSWORD}@localhost/0"
    docket = Docket("shown", url, signing_keys=[KEY])

    for shown in (docket, docket.options, Worker(docket), Worker(docket).options, StrikeList(url), docket.strike_list, docket.payloads, docket.registry):
        assert_silent(f"{shown!r} {shown!s}")
    assert_silent(pickle.dumps(docket).decode("latin-1"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Docket(url=f"redis://{USER}:{PASSWORD}@localhost/0".encode()),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        lambda: Docket(signing_keys=KEY),
        lambda: Docket(signing_keys=[KEY[:10]]),
        lambda: Docket(signing_keys=[KEY, 5]),  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
        lambda: Docket(signing_keys={KEY: 1}),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ],
)
def test_an_option_that_is_refused_is_not_shown_where_it_holds_a_secret(make: Callable[[], Any]):
    with pytest.raises(InvalidOption) as caught:
        make()
    assert_silent(everything_of(caught.value))
    assert KEY[:10] not in everything_of(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://{USER}:{PASSWORD}@localhost:port/0",
        f"redis://{USER}:{PASSWORD}@[::1/0",
        f"redis://{USER}:5/{PASSWORD}@localhost/0",
        f"redis://{USER}:5#{PASSWORD}@localhost/0",
        f"redis://{USER}:{PASSWORD}@localhost/0?nonsense={WRONG}",
        f"redis://localhost/0?username={USER}&password={PASSWORD}&socket_timeout=soon",
        f"redis://{USER}:{PASSWORD}@localhost/zero",
        f"http://{USER}:{PASSWORD}@localhost",
        f"{USER}:{PASSWORD}@localhost",
    ],
)
async def test_a_url_that_is_refused_does_not_show_them(url: str):
    with pytest.raises(InvalidURL) as caught:
        async with Docket(url=url):
            pytest.fail("it connected")
    assert_silent(everything_of(caught.value).replace(f"nonsense={WRONG}", "nonsense"))


async def test_an_error_of_the_connection_does_not_show_them(heard: _Heard, locked: RedisServer):
    async with a_server_that_quotes() as port:
        urls = [
            url_of(locked, WRONG),
            f"redis://{USER}:{PASSWORD}@127.0.0.1:1/0",
            f"redis://{USER}:{PASSWORD}@no-such-host.invalid/0",
            f"redis://127.0.0.1:{port}/0?username={USER}&password={PASSWORD}",
            f"redis://:{PASSWORD}@127.0.0.1:{port}/0",
            f"rediss://{USER}:{PASSWORD}@127.0.0.1:{locked.port}/0",
            f"unix://{USER}:{PASSWORD}@/no/such/socket",
        ]
        for url in urls:
            for entered in (Docket(url=url), StrikeList(url)):
                with pytest.raises(DocketError) as caught:
                    async with entered:
                        pytest.fail("it connected")
                assert_silent(everything_of(caught.value))
    assert_silent("\n".join(heard.lines))


async def test_an_outage_does_not_log_them(heard: _Heard, locked: RedisServer, docket_name: str):
    async with Docket(docket_name, url_of(locked), signing_keys=[KEY]) as docket, Worker(docket) as worker:

        @docket.task
        async def job() -> None: ...

        running = asyncio.create_task(worker.run_forever())
        execution = await job.schedule()
        await execution.get_result()
        locked.kill()
        await eventually(lambda: any("unavailable" in line for line in heard.lines))
        locked.start()  # which knows nobody of that name any more
        refusals: list[str] = []

        async def is_refused() -> bool:
            try:
                await job.schedule()
            except DocketError as exc:
                refusals.append(everything_of(exc))
            return "invalid username-password" in refusals[-1]

        await eventually(is_refused)
        assert_silent("".join(refusals))
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert heard.lines
    assert_silent("\n".join(heard.lines))


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker", "--until-finished"),
        ("ls",),
        ("show", "k"),
        ("add", "sleep"),
        ("snapshot",),
        ("workers",),
        ("strike", "f"),
        ("watch", "k"),
        ("check",),
        ("clear", "--yes"),
    ],
    ids=" ".join,
)
def test_a_command_that_fails_does_not_print_them(tmp_path: Path, locked: RedisServer, arguments: tuple[str, ...]):
    command = Command(tmp_path)
    with command.start(*arguments, "--url", url_of(locked, WRONG)) as running:
        if arguments[0] == "worker":
            running.wait_for("retrying")
            running.stop(signal.SIGTERM)
        else:
            running.process.wait(20)
        assert running.text().strip()
        assert_silent(running.text())
    done = command(*arguments, "--url", f"redis://{USER}:{PASSWORD}@localhost:port/0")
    assert done.returncode != 0
    assert_silent(done.stdout + done.stderr)


def test_a_key_that_stands_where_its_name_should_is_not_printed(tmp_path: Path):
    done = Command(tmp_path)("worker", "--url", "redis://localhost:1", "--signing-keys", KEY)

    assert done.returncode != 0
    assert "signing_keys takes module:member or env:NAME" in done.stderr
    assert_silent(done.stdout + done.stderr)


def test_a_variable_without_keys_is_said_by_name(monkeypatch: pytest.MonkeyPatch):
    from docket._loading import load_option

    monkeypatch.setenv("KEYS", f"{KEY}, {PASSWORD},")
    assert load_option("signing_keys", "env:KEYS") == [KEY, PASSWORD]
    with pytest.raises(LoadError, match="'NO_KEYS', which is not set or empty"):
        load_option("signing_keys", "env:NO_KEYS")
