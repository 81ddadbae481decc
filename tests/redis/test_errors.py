"""Foreign errors become ours."""

from __future__ import annotations

import asyncio

import pytest
import redis.exceptions

from docket._redis.errors import OUTAGE_REPLIES, holds_everybody_up, in_doubt, reply_error, translate, unavailable
from docket.errors import InDoubt, RedisUnavailable, ServerError


@pytest.mark.parametrize("word", OUTAGE_REPLIES)
def test_not_now_is_unavailable_and_nothing_was_written(word: str):
    error = translate(redis.exceptions.ResponseError(f"{word} for some reason"), "redis://host")

    assert type(error) is RedisUnavailable
    assert "Nothing was written" in str(error)
    assert word in str(error)


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.exceptions.MasterDownError("Link with MASTER is down"),
        redis.exceptions.ResponseError("Error running script: -OOM command not allowed"),
        redis.exceptions.ResponseError("Protocol error: unauthenticated bulk length"),
    ],
)
def test_not_now_is_known_without_its_leading_word_too(error: Exception):
    assert type(translate(error, "redis://host")) is RedisUnavailable


def test_in_a_cluster_that_a_slot_has_moved_is_no_reason_for_advice():
    moved = redis.exceptions.MovedError("1 there:2")

    assert "redis+cluster://" in str(translate(moved, "redis://host"))
    assert "It is part" not in str(translate(moved, "redis+cluster://host"))


@pytest.mark.parametrize("error", [redis.exceptions.ResponseError("WRONGTYPE Operation against a key"), redis.exceptions.NoPermissionError("no permissions")])
def test_not_like_this_is_a_server_error(error: Exception):
    translated = translate(error, "redis://host")

    assert type(translated) is ServerError
    assert str(error) in str(translated)


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ConnectionError("Connection lost"), redis.exceptions.TimeoutError(), redis.exceptions.BusyLoadingError("loading"), OSError("reset"),
        asyncio.TimeoutError(), EOFError(), redis.exceptions.AuthenticationError("wrong password"),
    ],
)  # fmt: skip
def test_a_broken_connection_is_unavailable(error: Exception):
    translated = translate(error, "redis://host")

    assert type(translated) is RedisUnavailable
    assert (str(error) or type(error).__name__) in str(translated)


@pytest.mark.parametrize(
    ("error", "everybody"),
    [
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), True),
        (redis.exceptions.BusyLoadingError("loading"), True),
        (redis.exceptions.ResponseError("MISCONF Errors writing to the AOF file"), True),
        (redis.exceptions.ResponseError("Error running script: @user_script:12: -READONLY You can't write against a read only replica."), True),
        (redis.exceptions.ResponseError("Error running script: @user_script:12: -OOM command not allowed"), False),
        (redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), False),
        (redis.exceptions.ResponseError("MOVED 3999 127.0.0.1:6381"), False),
        (redis.exceptions.ResponseError("WRONGTYPE Operation against a key"), False),
        (redis.exceptions.ResponseError("BUSYGROUP Consumer Group name already exists"), False),
    ],
)
def test_what_keeps_everybody_from_renewing_is_known(error: Exception, everybody: bool):
    assert holds_everybody_up(str(error), type(error).__name__) is everybody


def test_what_nobody_expects_is_a_server_error():
    assert type(translate(redis.exceptions.InvalidResponse("what?"), "redis://host")) is ServerError


def test_errors_say_where_and_end_their_sentences_once():
    assert "redis://host cannot be reached: it broke. Nothing" in str(unavailable("redis://host", "it broke."))
    assert "OSError. The call may" in str(in_doubt("redis://host", OSError()))
    assert isinstance(in_doubt("redis://host", "x"), InDoubt)
    assert "redis://host" in str(reply_error("ERR no", "redis://host"))
