"""Writes the pages that the site is built from, or looks at the site that was built."""

from __future__ import annotations

import sys
from pathlib import Path

from docket_site.check import complaints
from docket_site.pages import write

__all__: list[str] = []

ROOT = Path(__file__).parents[3]


def main(words: list[str]) -> int:
    """This does what it is told, and gives the exit code."""
    if words == ["check"]:
        found = list(complaints(ROOT / "site"))
        print(*found or ["The site refers to no other host for what its pages are made of."], sep="\n")
        return 1 if found else 0
    if words:
        print("python -m docket_site [check]", file=sys.stderr)
        return 2
    write(ROOT, ROOT / "build" / "docs")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
