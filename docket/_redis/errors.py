"""Foreign errors become ours here, at the call that raised them."""

from __future__ import annotations

import asyncio
import re

import redis.exceptions

from docket.errors import DocketError, InDoubt, LayoutMismatch, RedisUnavailable, ServerError

__all__ = ["OUTAGE_REPLIES", "divided", "holds_everybody_up", "is_elsewhere", "is_moved", "translate", "unavailable", "without_arguments"]

_FOR_EVERYBODY = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "BUSY", "NOREPLICAS")
"""Replies to one that all get: meanwhile nobody can renew a lease."""

OUTAGE_REPLIES = (*_FOR_EVERYBODY, "OOM", "UNBLOCKED", "NOAUTH", "WRONGPASS", "MOVED", "ASK")
"""Replies that say `not now` rather than `not like this`: the call was refused before anything was written. (UNBLOCKED: a read that waited when the server became a
replica, or when somebody deleted the stream.)"""

_ELSEWHERE = ("READONLY", "MOVED", "MASTERDOWN", "UNBLOCKED")
"""Those that say that this server is not the one any more."""

_QUOTED = ("with args beginning with",)  # what servers that do not know AUTH or HELLO say of them, credentials and all


def without_arguments(error: BaseException) -> BaseException:
    """This gives an error of a connection that is being made, without the arguments that the server quotes: a password is among them."""
    told = str(error)
    for words in _QUOTED:
        told = told.partition(words)[0]
    if told != str(error):
        return redis.exceptions.ConnectionError(f"{told.rstrip(' ,:')} (the server quotes the arguments, which are left out here)")
    error.__cause__, error.__context__ = None, None  # it says what they say; and nobody looks through them for passwords
    return error


_DIVIDED = re.compile(r"DOCKET-DIVIDED (\d+)")
"""What scripts say to those who would write where nobody looks."""

_OPEN_AGAIN = "open it again, with that number or with none"


def divided(prefix: str, shards: int, there: int) -> LayoutMismatch:
    """This is the error for whoever has a docket open that has another number of shards by now."""
    return LayoutMismatch(f"the docket {prefix!r} has {there} shard(s) by now, and had {shards} when it was opened here; {_OPEN_AGAIN}")


def _clause(cause: BaseException | str) -> str:
    return str(cause).rstrip(".") or type(cause).__name__


def unavailable(where: str, cause: BaseException | str) -> RedisUnavailable:
    """This is the error for a call that was never sent."""
    return RedisUnavailable(f"Redis at {where} cannot be reached: {_clause(cause)}. Nothing was written. Is the server running, and is the URL right?")


def in_doubt(where: str, cause: BaseException | str) -> InDoubt:
    """This is the error for a call that was sent and not answered."""
    return InDoubt(
        f"the connection to Redis at {where} was lost before it answered: {_clause(cause)}. The call may have been carried out; repeating it with the same key is safe."
    )


def translate(error: BaseException, where: str) -> DocketError:
    """This gives our error for a reply that is an error, or for a connection that broke."""
    text = str(error)
    if isinstance(error, redis.exceptions.ResponseError):
        return reply_error(text, where, type(error).__name__)
    if isinstance(error, (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError, asyncio.TimeoutError, EOFError)):
        return unavailable(where, text or type(error).__name__)
    return ServerError(f"Redis at {where} gave an answer that cannot be understood: {type(error).__name__}: {text}")


_NAMED = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "AuthenticationError": "NOAUTH",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "TryAgainError": "TRYAGAIN",
    "ClusterDownError": "CLUSTERDOWN",
}


def is_elsewhere(error: Exception) -> bool:
    """This says whether an error reply means that another server is to be asked, so that the connection is of no use."""
    return _word(str(error), type(error).__name__) in _ELSEWHERE


def is_moved(error: Exception) -> bool:
    """This says whether an error reply means that another node of the cluster has the slot, and the connection is good for others."""
    return _word(str(error), type(error).__name__) == "MOVED"


def holds_everybody_up(text: str, kind: str = "") -> bool:
    """This says whether an error reply is one that all get meanwhile, so that no worker can keep its lease. A full server renews leases."""
    return _word(text, kind) in _FOR_EVERYBODY


def reply_error(text: str, where: str, kind: str = "") -> DocketError:
    """This gives our error for the text of an error reply. redis-py cuts the leading word from some; `kind` then stands in for it."""
    if text.startswith("Protocol error: unauthenticated"):  # some servers look at the length of a script before they look for a password
        text = f"NOAUTH Authentication required ({text})"
    if (moved := _DIVIDED.search(text)) is not None:
        return LayoutMismatch(
            f"the docket has been divided into {moved[1]} shard(s), or is being, since it was opened here, so nothing was scheduled; {_OPEN_AGAIN}"
        )
    word = _word(text, kind)
    if word in OUTAGE_REPLIES:
        advice = " It is part of a cluster: connect with redis+cluster://." if word == "MOVED" and "+cluster://" not in where else ""
        return RedisUnavailable(f"Redis at {where} takes no writes now ({word}): {text}. Nothing was written.{advice}")
    return ServerError(f"Redis at {where} refused a command: {text}")


def _word(text: str, kind: str) -> str:
    """The word that says what is wrong, which is the first, unless a server puts an error inside a script behind words of its own."""
    first = _NAMED.get(kind) or text.partition(" ")[0].removeprefix("-").removeprefix("ERR:")
    return first if first in OUTAGE_REPLIES else next((word for word in OUTAGE_REPLIES if f"-{word} " in text), first)
