"""From a URL to what it names. The one place that knows the schemes; nobody else asks which topology it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from docket.errors import InvalidURL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SCHEMES", "Address", "Topology", "mask", "parse"]

Topology = Literal["server", "sentinel", "cluster", "embedded", "memory"]

_ALIASES = {"valkey": "redis", "valkeys": "rediss"}
_TOPOLOGIES: Mapping[str, Topology] = {"": "server", "cluster": "cluster", "sentinel": "sentinel"}
_OF_SENTINELS = {"sentinel_username": "username", "sentinel_password": "password"}
_OF_SERVERS = ("db", "username", "password")
"""Options that say nothing to sentinels, which have no databases, and credentials of their own."""
_DEFAULT_PORTS = {"server": 6379, "cluster": 6379, "sentinel": 26379}

SCHEMES = (
    "redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel",
    "valkey", "valkeys", "valkey+cluster", "valkeys+cluster", "valkey+sentinel", "valkeys+sentinel", "embedded", "memory",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """This is a checked URL: where it leads, in redis-py's spelling, and how to show it without its secrets."""

    url: str = field(repr=False)
    """What redis-py can read: credentials, TLS and options of every connection to a server; with several hosts, the first of them."""
    shown: str
    topology: Topology = "server"
    hosts: tuple[tuple[str, int], ...] = ()
    """Whom to ask where the server is: sentinels, or nodes of a cluster."""
    service: str = ""
    """What the sentinels call the server that is wanted."""
    asked_url: str = field(default="", repr=False)
    """The same for connections to whom is asked: sentinels have no databases, and credentials of their own."""
    path: str = ""
    """The directory of an embedded server, as it was given."""
    appendfsync: str = ""
    """When an embedded server is to have its writes on disk, where the URL says so."""
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
        return Address(url, shown, "memory", memory_name=rest)
    if scheme == "embedded":
        return _in_directory(url, *rest.partition("?")[::2])
    base, _, topology = scheme.partition("+")
    return _at_hosts(f"{_ALIASES.get(base, base)}://{rest}", shown, _TOPOLOGIES[topology])


def _in_directory(url: str, path: str, query: str) -> Address:
    """There is nothing secret in it, so it is shown as it is."""
    options = dict(parse_qsl(query, keep_blank_values=True))
    appendfsync = options.pop("appendfsync", "")
    if not path:
        raise InvalidURL(f"{mask(url)!r} names no directory; it should look like embedded://./.docket or embedded:///var/lib/docket.")
    if options or appendfsync not in ("", "everysec", "always"):
        raise InvalidURL(f"{mask(url)!r} has an option that an embedded server does not take; it takes ?appendfsync=everysec or ?appendfsync=always.")
    return Address("unix:///socket", url, "embedded", path=unquote(path), appendfsync=appendfsync)


def _at_hosts(url: str, shown: str, topology: Topology) -> Address:
    first, others = (url, ()) if topology == "server" else _one_of_the_hosts(url)
    parts = _split(first)
    if parts is None:
        raise InvalidURL(f"{shown!r} is no valid URL; is its port a number, and are special characters in its password percent-encoded?")
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise InvalidURL(f"{shown!r} names no socket; it should look like unix:///run/redis.sock.")
        return Address(url, shown)
    example = {
        "server": "redis://localhost:6379/0",
        "cluster": "redis+cluster://node-1:6379,node-2:6379",
        "sentinel": "redis+sentinel://host-1:26379,host-2/mymaster/0",
    }[topology]
    hosts = _hosts((_place(parts), *others), _DEFAULT_PORTS[topology])
    if hosts is None:
        raise InvalidURL(f"{shown!r} names no host, or one whose port is no number; it should look like {example}.")
    service, database = "", parts.path.strip("/")
    if topology == "sentinel":
        service, _, database = database.partition("/")
        if not service:
            raise InvalidURL(f"{shown!r} does not say what the sentinels call the server; it should look like {example}.")
    if database and not database.isdigit():
        raise InvalidURL(f"{shown!r} names a database {database!r}, which should be a number, as in {example}.")
    if topology == "cluster" and database.strip("0"):
        raise InvalidURL(f"{shown!r} names the database {database}, and a cluster has only 0.")
    if topology == "server":
        return Address(url, shown)
    options = parse_qsl(parts.query, keep_blank_values=True)
    if topology == "cluster":
        if any(name == "db" and value.strip("0") for name, value in options):
            raise InvalidURL(f"{shown!r} names a database, and a cluster has only 0.")
        url = parts.geturl()
        return Address(url, shown, topology, hosts, asked_url=url)
    of_server = [(name, value) for name, value in options if name not in _OF_SENTINELS]
    of_sentinels = [(name, value) for name, value in of_server if name not in _OF_SERVERS]
    guards = {_OF_SENTINELS[name]: value for name, value in options if name in _OF_SENTINELS}
    login = ":".join(quote(guards.get(name, ""), safe="") for name in ("username", "password")) + "@" if guards else ""
    return Address(
        parts._replace(path=f"/{database}" if database else "", query=urlencode(of_server)).geturl(),
        shown,
        topology,
        hosts,
        unquote(service),
        parts._replace(netloc=login + _place(parts), path="", query=urlencode(of_sentinels)).geturl(),
    )


def _one_of_the_hosts(url: str) -> tuple[str, Sequence[str]]:
    """A URL with only the first of its hosts, and the others as they are written."""
    scheme, _, rest = url.partition("://")
    end = min((found for mark in "/?#" if (found := rest.find(mark, rest.rfind("@") + 1)) >= 0), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    first, *others = hosts.split(",")
    return f"{scheme}://{credentials}{at}{first}{rest[end:]}", others


def _place(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _hosts(places: Sequence[str], default: int) -> tuple[tuple[str, int], ...] | None:
    """Hosts and ports as they are written; None where one of them is none."""
    found: list[tuple[str, int]] = []
    for place in places:
        try:
            parts = urlsplit(f"//{place}")
            host, port = parts.hostname, parts.port
        except ValueError:
            return None
        if not host:
            return None
        found.append((host, port or default))
    return tuple(found)


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None for what is none, and where a part of the password would be taken for a host, a path or a fragment, and so be shown."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may quote a part of the password, so it is not to stand behind an error of ours either
        return None
    is_cut = "@" not in parts.netloc and "@" in parts.path + parts.fragment + parts.query.partition("=")[0]
    return None if is_cut and parts.scheme != "unix" else parts
