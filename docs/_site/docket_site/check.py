"""Looks at a built site: its pages are made of nothing that another host would have to send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

__all__ = ["complaints"]

FETCHED = {  # what a browser fetches without being asked, by element and attribute
    ("audio", "src"),
    ("embed", "src"),
    ("iframe", "src"),
    ("image", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("input", "src"),
    ("link", "href"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("track", "src"),
    ("use", "href"),
    ("video", "poster"),
    ("video", "src"),
}
ONLY_NAMED = {"canonical", "next", "prev"}  # links of a page's head that nothing is fetched from
ELSEWHERE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
IN_STYLES = re.compile(r"""url\(\s*["']?((?:https?:)?//[^)"']*)|@import\s+["']((?:https?:)?//[^"']*)""", re.IGNORECASE)


class _Fetched(HTMLParser):
    """This gathers what a browser would fetch from elsewhere for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "link" and set((named.get("rel") or "").split()) & ONLY_NAMED:
            return
        for attribute, value in attrs:
            if value and (tag, attribute) in FETCHED and ELSEWHERE.match(value.strip()):
                self.found.append(f"<{tag} {attribute}={value}>")
            if value and attribute == "style":
                self.found += [one or other for one, other in IN_STYLES.findall(value)]

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() == "<style>":
            self.found += [one or other for one, other in IN_STYLES.findall(data)]


def complaints(site: Path) -> Iterator[str]:
    """This gives, for every page and stylesheet of a site, what would come from another host; and says so where there is no site."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        yield f"{site}: there are no pages"
    for page in pages:
        reader = _Fetched()
        reader.feed(page.read_text(encoding="utf-8"))
        yield from (f"{page.relative_to(site)}: {each}" for each in reader.found)
    for style in sorted(site.rglob("*.css")):
        yield from (f"{style.relative_to(site)}: {one or other}" for one, other in IN_STYLES.findall(style.read_text(encoding="utf-8")))
