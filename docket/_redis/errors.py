"""Foreign errors become ours here, at the call that raised them."""

from __future__ import annotations

import asyncio

import redis.exceptions

from docket.errors import DocketError, InDoubt, RedisUnavailable, ServerError

__all__ = ["OUTAGE_REPLIES", "translate", "unavailable"]

OUTAGE_REPLIES = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "OOM", "BUSY", "NOREPLICAS", "NOAUTH", "WRONGPASS", "MOVED", "ASK")
"""Replies that say `not now` rather than `not like this`: the call was refused before anything was written."""


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
}


def reply_error(text: str, where: str, kind: str = "") -> DocketError:
    """This gives our error for the text of an error reply. redis-py cuts the leading word from some; `kind` then stands in for it."""
    code = _NAMED.get(kind) or text.partition(" ")[0].removeprefix("-").removeprefix("ERR:")
    if code in OUTAGE_REPLIES or any(f"-{word} " in text for word in OUTAGE_REPLIES) or text.startswith("OOM "):
        return RedisUnavailable(f"Redis at {where} takes no writes now ({code}): {text}. Nothing was written.")
    return ServerError(f"Redis at {where} refused a command: {text}")
