"""The Lua scripts: read once, put together from their includes, and named by the hash the server knows them by."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Script", "script_names", "scripts"]

_FOLDER = Path(__file__).parent.parent / "lua"
_EDGES = {
    "server": ("now_server", "publish_server", "pick_server", "group_server"),
    "sharded": ("now_server", "publish_sharded", "pick_server", "group_server"),
    "memory": ("now_memory", "publish_memory", "pick_memory", "group_memory"),
}
_INCLUDE = re.compile(r"^--@include (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """This is one script as a backend runs it."""

    name: str
    source: str
    sha: str


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _compose(name: str, variant: str) -> Script:
    """A script defines `main`; what it needs of the outside (clock, publishing) differs from variant to variant."""
    body = _INCLUDE.sub(lambda match: _read(_FOLDER / "include" / f"{match[1]}.lua"), _read(_FOLDER / f"{name}.lua"))
    edges = [_read(_FOLDER / "include" / f"{edge}.lua") for edge in _EDGES[variant]]
    ending = "return { main(), published }\n" if variant == "memory" else "return main()\n"
    source = "\n".join([*edges, body, ending])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def script_names() -> list[str]:
    """This names every script there is."""
    return sorted(path.stem for path in _FOLDER.glob("*.lua"))


@cache
def scripts(variant: str) -> dict[str, Script]:
    """This gives every script by name, for a `server`, for a server where shards have channels of their own (`sharded`), or for `memory`."""
    return {name: _compose(name, variant) for name in script_names()}
