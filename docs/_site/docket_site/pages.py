"""The pages of the site: those of docs/, completed, and the files elsewhere in the repository that they link to."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from docket_site.parts import PARTS, Source

__all__ = ["complete", "write"]

NOT_PAGES = ("_site",)
MARKED = re.compile(r"^<!-- generated: (?P<name>[a-z]+)(?: (?P<about>\S+))? -->\n(?P<instead>.*?)^<!-- end of generated -->$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<before>\]\()(?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?(?=\))")

# Files that are pages of the site under another name.
PAGE_OF = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "AGENTS.md": "contributing.md"}


class UnknownPart(ValueError):
    """This page asks for something that no maker makes."""


def complete(text: str, root: Path) -> str:
    """This gives the text of a page with what is generated in its places.

    Raises `UnknownPart` for a name that no maker has, and for a mark without an end.
    """

    def made(found: re.Match[str]) -> str:
        maker = PARTS.get(found["name"])
        if maker is None:
            raise UnknownPart(f"no maker makes {found['name']!r}; there are {', '.join(PARTS)}")
        return maker(Source(root=root, about=found["about"] or "", instead=found["instead"])).strip("\n")

    text = MARKED.sub(made, text)
    if "<!-- generated:" in text or "<!-- end of generated" in text:
        raise UnknownPart("a mark has no end, or an end no mark")
    return text


def _relinked(text: str, place: Path, root: Path, taken: set[Path]) -> str:
    """This has the links of a page lead to places of the site: a file outside docs/ comes along, and a folder is only named."""
    docs = root / "docs"

    def led(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(place.parent / found["path"]))
        if target.is_relative_to(docs) or not target.is_relative_to(root):
            return found[0]
        inside = target.relative_to(root).as_posix()
        if inside in PAGE_OF:
            goal = docs / PAGE_OF[inside]
        else:
            taken.add(target)
            goal = docs / "files" / inside
        return found["before"] + os.path.relpath(goal, place.parent) + (found["anchor"] or "")

    return LINK.sub(led, text)


def write(root: Path, to: Path) -> None:
    """This writes everything that the site is built from, in place of what was there."""
    docs = root / "docs"
    if to.exists():
        shutil.rmtree(to)
    shutil.copytree(docs, to, ignore=lambda folder, names: [name for name in names if Path(folder) == docs and name in NOT_PAGES])
    for style in (docs / "_site").glob("*.css"):
        shutil.copy(style, to / style.name)

    taken: set[Path] = set()
    for page in sorted(to.rglob("*.md")):
        place = docs / page.relative_to(to)
        page.write_text(_relinked(complete(page.read_text(encoding="utf-8"), root), place, root, taken), encoding="utf-8")
    for file in taken:
        goal = to / "files" / file.relative_to(root)
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, goal)
