"""The makers: each gives the Markdown for one place of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from docket_site.parts.api import api, names
from docket_site.parts.commands import commands
from docket_site.parts.errors import errors
from docket_site.parts.files import file
from docket_site.parts.keys import keys
from docket_site.parts.options import options
from docket_site.parts.road import road
from docket_site.parts.states import states
from docket_site.source import Source

__all__ = ["PARTS", "Source"]

PARTS: Mapping[str, Callable[[Source], str]] = {
    "api": api,
    "commands": commands,
    "errors": errors,
    "file": file,
    "keys": keys,
    "names": names,
    "options": options,
    "road": road,
    "states": states,
}
