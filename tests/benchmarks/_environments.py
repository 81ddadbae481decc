"""One virtual environment per peer, made once and kept in `.bench/`. What runs in them is `_jobs`' business."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.benchmarks._results import Failed

# hiredis because docket has it as well: the client's parser is not what is compared.
_EVERYWHERE = ("uvloop", "hiredis")

PEERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "saq": ("saq[redis]", "typing_extensions"),  # saq 0.26.4 imports typing_extensions and does not ask for it
        "taskiq": ("taskiq", "taskiq-redis"),
        "arq": ("arq",),
        "streaq": ("streaq",),
        "pydocket": ("pydocket",),
    }
)

_INSTALL_TIMEOUT = 600
_ERROR_LENGTH = 300
_SHOWN = ("docket", "pydocket", "saq", "taskiq", "taskiq-redis", "arq", "streaq", "redis", "coredis", "hiredis", "burner-redis", "uvloop")
_LIST_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Environment:
    """This is an interpreter to measure with, and what is installed beside it."""

    python: Path
    versions: Mapping[str, str]


def own_environment() -> Environment:
    """This is the environment that runs the benchmark: it has the docket of this repository."""
    return Environment(Path(sys.executable), _versions(Path(sys.executable)))


def peer_environment(name: str, folder: Path, *, fresh: bool) -> Environment | Failed:
    """This makes the environment of a peer, or takes the one it made before; a peer that does not install is an answer, not an end."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    place = folder / "peers" / f"{name}-py{version}"
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    requirements = (*PEERS[name], *_EVERYWHERE)
    stamp = place / "requirements.json"
    try:
        if fresh or not stamp.exists() or json.loads(stamp.read_text()) != list(requirements):
            shutil.rmtree(place, ignore_errors=True)
            _install(place, python, requirements)
            stamp.write_text(json.dumps(requirements))
        return Environment(python, _versions(python))
    except subprocess.CalledProcessError as error:
        output = (error.stderr or error.stdout or "").strip()
        return Failed(f"does not install: {output[-_ERROR_LENGTH:]}")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Failed(f"does not install: {error}")


def _install(place: Path, python: Path, requirements: Sequence[str]) -> None:
    if uv := _working_uv():
        _call(uv, "venv", "--quiet", "--python", sys.executable, str(place))
        _call(uv, "pip", "install", "--quiet", "--python", str(python), *requirements)
    else:
        _call(sys.executable, "-m", "venv", str(place))
        _call(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)


def _working_uv() -> str | None:
    """This finds `uv`; a shim on PATH may lead nowhere."""
    uv = shutil.which("uv")
    if uv is None or subprocess.run([uv, "--version"], check=False, capture_output=True).returncode != 0:
        return None
    return uv


def _versions(python: Path) -> dict[str, str]:
    return json.loads(_call(str(python), "-c", _LIST_VERSIONS, *_SHOWN))


def _call(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT).stdout
