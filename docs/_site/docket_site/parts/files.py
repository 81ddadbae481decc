"""A file of the repository that is a page of the site as well."""

from __future__ import annotations

import re

from docket_site.source import Source

__all__ = ["file"]


def file(source: Source) -> str:
    """This gives a Markdown file of the repository's root without its title, its links led from docs/."""
    text = (source.root / source.about).read_text(encoding="utf-8")
    text = re.sub(r"\A# .*\n", "", text)
    return re.sub(r"\]\((?![a-z]+:|#)(?:docs/)?", lambda found: "](" if "docs/" in found[0] else "](../", text)
