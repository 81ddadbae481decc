"""The process that has an embedded server as its child: it waits until nobody uses the server any more, and shuts it down.

A program of its own, run by its path: it knows the standard library alone, so that it starts in milliseconds, stays small, and does not depend on
what the program that started it goes on to do. It never polls: one thread waits for the server's end, and one for a lock.

What it gets are open files and words: `lock`, which says that there is a keeper; `data`, the lock that the server alone keeps; `users`, which
everybody who uses the server has locked for as long as they do, the crashed ones until their death; for how many seconds a server may take to shut
down; a directory to remove in the end, or nothing; the beginning of what to write into `lock`; and the server's command.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from functools import partial

__all__: list[str] = []

PR_SET_PDEATHSIG = 1


def main(words: list[str]) -> None:
    """This leaves the keeping to a child: whoever started this is nobody's parent, and need not wait for the end of anything."""
    if os.fork() == 0:  # pragma: no cover - a frame that forks is not measured in the child
        lock, data, users = map(int, words[:3])
        keep(lock, data, users, patience=float(words[3]), passing=words[4], note=words[5], command=words[6:])
    os._exit(0)  # which lets go of the locks; a thread may be waiting for good


def keep(lock: int, data: int, users: int, *, patience: float, passing: str, note: str, command: list[str]) -> None:
    """This starts the server and stays until it has ended."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where the starter ignores it, ends could not be waited for
    for ours in (lock, users):
        os.set_inheritable(ours, False)
    server = start(command)
    os.close(data)
    for request in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(request, partial(pass_on, server))
    os.ftruncate(lock, 0)
    os.pwrite(lock, f'{note}, "pid": {server}, "keeper": {os.getpid()}}}\n'.encode(), 0)
    threading.Thread(target=shut_down_unused, args=(server, users, patience), daemon=True).start()
    wait_for(server)
    os.ftruncate(lock, 0)
    if passing:
        remove(passing)


def pass_on(server: int, *_: object) -> None:
    """This is what a request to end comes to: the server ends in good order, and then the keeper does."""
    os.kill(server, signal.SIGTERM)


def start(command: list[str]) -> int:
    """This starts the server, which ends when this process does, and gives its process id."""
    keeper = os.getpid()
    server = os.fork()
    if server:
        return server
    try:  # pragma: no cover - what measures coverage does not outlive `exec`
        if sys.platform == "linux":
            end_with_parent(keeper)
        os.execv(command[0], command)  # noqa: S606 - without a shell, on purpose
    except BaseException as exc:  # noqa: BLE001 # pragma: no cover - see above
        sys.stderr.write(f"{command[0]} cannot be run: {exc}\n")
        sys.stderr.flush()
    finally:  # pragma: no cover - see above
        os._exit(127)


def end_with_parent(parent: int) -> None:  # pragma: no cover - see above
    """This has the kernel ask this process to end when its parent has, however that ended."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    except (ImportError, OSError, AttributeError) as exc:
        sys.stderr.write(f"The server will outlive its keeper if that is killed: {exc}\n")
        sys.stderr.flush()
    if os.getppid() != parent:
        os._exit(1)


def shut_down_unused(server: int, users: int, patience: float) -> None:
    """This waits until nobody uses the server, which the dead do not, and ends it; who comes meanwhile waits for the lock.

    The server stays this process's child, dead or alive, so the number is no other's.
    """
    try:
        fcntl.flock(users, fcntl.LOCK_EX)
    finally:  # better none than one that nobody ends
        os.kill(server, signal.SIGTERM)
    time.sleep(patience)
    os.kill(server, signal.SIGKILL)


def wait_for(server: int) -> None:
    """This waits for the end of the server; where that can be done, without giving its process id free for others."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
    else:  # pragma: no cover - macOS before Python 3.13
        os.waitpid(server, 0)


def remove(directory: str) -> None:
    """This removes a directory made for a socket; the socket in it, too, if the server was killed."""
    for step, path in ((os.unlink, f"{directory}/socket"), (os.rmdir, directory)):
        try:
            step(path)
        except FileNotFoundError:
            pass  # a server that shuts down removes its socket itself
        except OSError as exc:
            sys.stderr.write(f"{path} cannot be removed: {exc}\n")


if __name__ == "__main__":  # pragma: no branch - it is a program
    main(sys.argv[1:])
