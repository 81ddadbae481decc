"""From a URL to what it names."""

from __future__ import annotations

import pytest
from redis.credentials import UsernamePasswordCredentialProvider

from docket._clock import SYSTEM
from docket._redis import make_backend
from docket._redis.memory import MemoryBackend
from docket._redis.server import ServerBackend
from docket._redis.urls import Address, mask, parse
from docket.errors import InvalidURL


@pytest.mark.parametrize(
    ("url", "spelt"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://localhost:6379/12", "rediss://localhost:6379/12"),
        ("valkey://localhost/1", "redis://localhost/1"),
        ("valkeys://localhost", "rediss://localhost"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://localhost?client_name=me", "redis://localhost?client_name=me"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix:///run/redis.sock?db=3", "unix:///run/redis.sock?db=3"),
    ],
)
async def test_a_server_is_named_in_the_spelling_of_redis_py(url: str, spelt: str):
    assert parse(url) == Address(spelt, shown=url)
    assert isinstance(make_backend(url, clock=SYSTEM), ServerBackend)


@pytest.mark.parametrize("name", ["", "tests", "a/b?c"])
async def test_an_engine_is_named_by_all_that_stands_behind_the_scheme(name: str):
    assert parse(f"memory://{name}").memory_name == name
    assert isinstance(make_backend(f"memory://{name}", clock=SYSTEM), MemoryBackend)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("", "it takes redis://.*memory://tests"),
        ("localhost:6379", "it takes redis://"),
        ("http://localhost", "it takes redis://"),
        ("redis+nonsense://localhost", "it takes redis://"),
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        ("redis://localhost/zero", "names a database 'zero', which should be a number"),
        ("redis://localhost:port/0", "is its port a number"),
        ("redis://localhost:99999/0", "is its port a number"),
        ("redis://[::1/0", "is no valid URL"),
        ("unix://", "names no socket"),
        ("unix://run", "names no socket"),
    ],
)
def test_what_is_no_url_is_refused_with_what_it_should_be(url: str, found: str):
    with pytest.raises(InvalidURL, match=found):
        parse(url)


@pytest.mark.parametrize("url", ["redis://localhost?db=x", "redis://localhost?no_such_option=1", "redis://localhost?socket_timeout=soon"])
async def test_an_option_that_redis_py_does_not_take_is_refused(url: str):
    with pytest.raises(InvalidURL, match="option|database"):
        make_backend(url, clock=SYSTEM)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@localhost/0",
        "redis://jane:s3cret@localhost/0",
        "redis://jane:%73s3cret@localhost/0",
        "redis://:pa@s3cret@localhost/0",
        "redis://:pa/s3cret@localhost/0",
        "redis://:pa?s3cret@localhost/0",
        "redis://:pa#s3cret@localhost:x/0",
        "redis://u:s3cret/x@localhost/0",
        "redis://u:12/s3cret@localhost/0",
        "redis://u:12#s3cret@localhost/0",
        "redis://u:12?s3cret@localhost/0",
        "redis://localhost/0?password=s3cret",
        "rediss://localhost/0?username=jane&password=s3cret&db=1",
        "rediss://localhost/0?ssl_password=s3cret",
        "unix://jane:s3cret@/run/redis.sock",
        "http://jane:s3cret@localhost",
        "redis://localhost/x?sentinel_password=s3cret",
        "redis://localhost/0?passwort=s3cret",
        "jane:s3cret@localhost",
        "jane:x://s3cret@localhost",
    ],
)
def test_credentials_are_shown_nowhere(url: str):
    assert "s3cret" not in mask(url)
    try:
        shown = parse(url).shown
    except InvalidURL as exc:
        shown = f"{exc} {exc.__cause__} {exc.__context__}"
    assert "s3cret" not in shown
    assert "jane" not in shown


def test_the_rest_of_a_url_is_shown():
    assert mask("redis://jane:s3cret@localhost:6380/3?password=x&db=1") == "redis://***@localhost:6380/3?password=***&db=1"


@pytest.mark.parametrize("url", ["redis://:secret@localhost", "redis://jane:secret@localhost", "redis://localhost?password=secret"])
async def test_credentials_in_the_url_and_from_a_provider_are_one_too_many(url: str):
    with pytest.raises(InvalidURL, match="not both") as caught:
        make_backend(url, clock=SYSTEM, credential_provider=UsernamePasswordCredentialProvider("jane", "secret"))

    assert "secret" not in str(caught.value)
