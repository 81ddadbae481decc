"""What has to be in the wheel and in the sdist, and nothing else: two rules, read from the tree."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["in_sdist", "in_wheel", "sdist_differs", "wheel_differs"]

KINDS = {".py", ".lua"}
"""What the package is made of, besides `py.typed`: a file of another kind below docket/ is a mistake, until it is named here."""

METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}

NOT_IN_SDIST = (".ci/",)
"""Of the files that git knows: what only our own CI uses."""
ONLY_IN_SDIST = {"PKG-INFO"}


def _package(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in (root / "docket").rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def in_wheel(root: Path) -> set[str]:
    """This is what the wheel has of the tree: the package, whole."""
    return {name for name in _package(root) if Path(name).suffix in KINDS or name == "docket/py.typed"}


def in_sdist(root: Path) -> set[str]:
    """This is what the sdist has of the tree: all that git knows, or is about to, so that tests, site and examples can be run from it."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return {name for name in listing if (root / name).is_file() and not name.startswith(NOT_IN_SDIST)}


def _differences(what: str, found: Iterable[str], wanted: Iterable[str]) -> list[str]:
    found, wanted = set(found), set(wanted)
    return [f"{what} misses {name}" for name in sorted(wanted - found)] + [f"{what} should not have {name}" for name in sorted(found - wanted)]


def wheel_differs(wheel: Path, root: Path) -> list[str]:
    """This gives what is wrong with the wheel, in words."""
    name, version, *_ = wheel.name.split("-")
    metadata = {f"{name}-{version}.dist-info/{file}" for file in METADATA}
    with zipfile.ZipFile(wheel) as archive:
        found = [each for each in archive.namelist() if not each.endswith("/")]
    stray = [f"docket/ has a file of a kind that the package does not know: {name}" for name in sorted(_package(root) - in_wheel(root))]
    return _differences(wheel.name, found, in_wheel(root) | metadata) + stray


def sdist_differs(sdist: Path, root: Path) -> list[str]:
    """This gives what is wrong with the sdist, in words."""
    folder = sdist.name.removesuffix(".tar.gz") + "/"
    with tarfile.open(sdist) as archive:
        found = [member.name.removeprefix(folder) for member in archive.getmembers() if member.isfile()]
    return _differences(sdist.name, found, in_sdist(root) | ONLY_IN_SDIST)
