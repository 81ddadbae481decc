"""Builds the package as a release does and starts from it as a newcomer does: `python -m tests.packaging`, with `build` and `twine` installed.

The sdist and the wheel pass twine, have the files they should have and no other, and install in an environment of their own, as does a clean clone
of what is committed. In each of these docket says its version and runs the first example. Importing it takes at most 1.5 times as long as importing
redis-py's asyncio client and structlog; that is little, for what is not used is not imported, so what a program with a worker imports is bounded as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.packaging._contents import sdist_differs, wheel_differs

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 9
BASE = "redis.asyncio and structlog"
IMPORTS = {BASE: "import redis.asyncio, structlog", "docket": "import docket", "Docket and Worker": "from docket import Docket, Worker"}
MOST = {"docket": 1.5, "Docket and Worker": 1.8}
"""Times as long as the first: the second is what it takes (1.6), and some room."""
TIMED = "import time\nbegan = time.process_time()\n{}\nprint(time.process_time() - began)"


class Failed(Exception):
    """This is wrong with the package."""


def run(*command: str | Path, cwd: Path) -> str:
    """This runs a command with nothing of this process' settings that would help it, and gives what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKET_", "PYTHON"))}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def installed(source: Path | str, folder: Path) -> Path:
    """This makes an environment, installs docket into it as its readers do, and gives its `bin`."""
    if uv := shutil.which("uv"):
        run(uv, "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent)
        run(uv, "pip", "install", "--quiet", "--python", folder, source, cwd=folder.parent)
    else:
        run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
        run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source, cwd=folder.parent)
    return folder / "bin"


def start(programs: Path, quickstart: Path, version: str) -> None:
    """This starts as a newcomer does, away from the tree."""
    with tempfile.TemporaryDirectory() as elsewhere:
        said = run(programs / "docket", "--version", cwd=Path(elsewhere))
        if said.split()[-1] != version:
            raise Failed(f"`docket --version` says {said!r}, and the build is {version}")
        shown = run(programs / "python", "-W", "error", quickstart, cwd=Path(elsewhere))
        if "hello, Ada" not in shown or "third time lucky" not in shown:
            raise Failed(f"the first example prints\n{shown}")


def import_times(python: Path, folder: Path) -> dict[str, float]:
    """This gives the median processor time of each import in a process of its own, taken in turn."""
    found: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(ROUNDS):
        for name, code in IMPORTS.items():
            found[name].append(float(run(python, "-I", "-c", TIMED.format(code), cwd=folder)))
    return {name: statistics.median(times) for name, times in found.items()}


def check_imports(times: Mapping[str, float]) -> None:
    """This compares the times of docket with that of what it builds on. Raises `Failed`."""
    for name, most in MOST.items():
        ratio = times[name] / times[BASE]
        say(f"importing {name}: {1000 * times[name]:.0f} ms of processor time, {ratio:.2f} x {BASE}")
        if ratio > most:
            raise Failed(f"importing {name} takes {ratio:.2f} x as long as importing {BASE}, and may take {most}")


def say(text: str) -> None:
    print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)


def check(folder: Path, python: str) -> None:
    """This does all of it. Raises `Failed`."""
    built = folder / "dist"
    run(python, "-m", "build", "--outdir", built, ROOT, cwd=folder)
    [sdist], [wheel] = built.glob("*.tar.gz"), built.glob("*.whl")
    say(f"built {sdist.name} ({sdist.stat().st_size // 1024} kB) and {wheel.name} ({wheel.stat().st_size // 1024} kB)")
    run(python, "-m", "twine", "check", "--strict", sdist, wheel, cwd=folder)
    is_clone = (ROOT / ".git").exists()
    wrong = wheel_differs(wheel, ROOT) + (sdist_differs(sdist, ROOT) if is_clone else [])
    if wrong:
        raise Failed("\n".join(wrong))
    say("twine finds nothing, and every file is where it should be")

    version = wheel.name.split("-")[1]
    sources = {"the sdist": sdist, "the wheel": wheel}
    if is_clone:
        run("git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), folder / "clone", cwd=folder)
        sources["a clean clone"] = folder / "clone"
    for number, (name, source) in enumerate(sources.items()):
        programs = installed(source, folder / f"environment-{number}")
        start(programs, (source if source.is_dir() else ROOT) / "examples" / "quickstart.py", version)
        say(f"installed from {name}, docket starts")
    check_imports(import_times(folder / "environment-1" / "bin" / "python", folder))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.packaging", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the Python that has `build` and `twine`")
    chosen = parser.parse_args(words)
    try:
        with tempfile.TemporaryDirectory(prefix="docket-package-") as folder:
            check(Path(folder), chosen.python)
    except Failed as failed:
        say(f"FAILED: {failed}")
        return 1
    return 0


began = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
