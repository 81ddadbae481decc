"""From a URL to what it names. The one place that knows the schemes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from docket.errors import InvalidURL

__all__ = ["SCHEMES", "Address", "mask", "parse"]

_ALIASES = {"valkey": "redis", "valkeys": "rediss"}
SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix", "memory")


@dataclass(frozen=True, slots=True)
class Address:
    """This is a checked URL: where it leads, in redis-py's spelling, and how to show it without its secrets."""

    url: str = field(repr=False)
    shown: str
    memory_name: str | None = None


def mask(url: str) -> str:
    """This shows a URL without its secrets."""
    # Up to the last `@`: in a password that should have been percent-encoded there may be more of them, and the scheme may be missing
    url = re.sub(r"^([\w+.-]+://)?.*@", r"\1***@", url, flags=re.DOTALL)
    # By parts of the name: also `ssl_password`, and a name that is misspelt
    return re.sub(r"([?&][^=&]*(?:user|pass)[^=&]*=)[^&]*", r"\1***", url)


def parse(url: str) -> Address:
    """This checks a URL. Raises `InvalidURL`."""
    shown = mask(url)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise InvalidURL(
            f"{shown!r} is no URL docket can connect to: it takes {', '.join(f'{known}://' for known in SCHEMES)}, as in redis://localhost:6379/0 or memory://tests."
        )
    if scheme == "memory":
        return Address(url, shown, memory_name=rest)
    url = f"{_ALIASES.get(scheme, scheme)}://{rest}"
    parts = _split(url)
    if parts is None:
        raise InvalidURL(f"{shown!r} is no valid URL; is its port a number, and are special characters in its password percent-encoded?")
    if scheme != "unix":
        if not parts.hostname:
            raise InvalidURL(f"{shown!r} names no host; it should look like redis://localhost:6379/0.")
        database = parts.path.strip("/")
        if database and not database.isdigit():
            raise InvalidURL(f"{shown!r} names a database {database!r}, which should be a number, as in redis://localhost:6379/0.")
    elif not parts.path.strip("/"):
        raise InvalidURL(f"{shown!r} names no socket; it should look like unix:///run/redis.sock.")
    return Address(url, shown)


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None for what is none, and where a part of the password would be taken for a host, a path or a fragment, and so be shown."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may quote a part of the password, so it is not to stand behind an error of ours either
        return None
    is_cut = "@" not in parts.netloc and "@" in parts.path + parts.fragment + parts.query.partition("=")[0]
    return None if is_cut and parts.scheme != "unix" else parts
