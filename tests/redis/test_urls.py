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


@pytest.mark.parametrize(
    ("url", "spelt", "hosts"),
    [
        ("redis+cluster://node", "redis://node", (("node", 6379),)),
        ("redis+cluster://a:7000,b,[::1]:7002/0?client_name=me", "redis://a:7000/0?client_name=me", (("a", 7000), ("b", 6379), ("::1", 7002))),
        ("rediss+cluster://jane:s3%40cret@a,b", "rediss://jane:s3%40cret@a", (("a", 6379), ("b", 6379))),
        ("valkey+cluster://a", "redis://a", (("a", 6379),)),
        ("valkeys+cluster://a", "rediss://a", (("a", 6379),)),
    ],
)
async def test_a_cluster_is_named_by_some_of_its_nodes(url: str, spelt: str, hosts: tuple[tuple[str, int], ...]):
    address = parse(url)

    assert (address.topology, address.url, address.asked_url, address.hosts) == ("cluster", spelt, spelt, hosts)
    assert isinstance(make_backend(url, keys=["{a}:"], clock=SYSTEM), ServerBackend)


@pytest.mark.parametrize(
    ("url", "spelt", "asked", "hosts"),
    [
        ("redis+sentinel://a/mymaster", "redis://a", "redis://a", (("a", 26379),)),
        ("redis+sentinel://a:1,b/mymaster/3", "redis://a:1/3", "redis://a:1", (("a", 1), ("b", 26379))),
        (
            "rediss+sentinel://jane:pw@a,b/mymaster/0?ssl_cert_reqs=none",
            "rediss://jane:pw@a/0?ssl_cert_reqs=none",
            "rediss://a?ssl_cert_reqs=none",
            (("a", 26379), ("b", 26379)),
        ),
        ("redis+sentinel://:pw@a/mymaster?sentinel_password=x%2Fy", "redis://:pw@a", "redis://:x%2Fy@a", (("a", 26379),)),
        (
            "redis+sentinel://a/mymaster?password=pw&db=2&sentinel_username=w&sentinel_password=x",
            "redis://a?password=pw&db=2",
            "redis://w:x@a",
            (("a", 26379),),
        ),
        ("valkey+sentinel://a/mymaster", "redis://a", "redis://a", (("a", 26379),)),
        ("valkeys+sentinel://[::1]:5/mymaster", "rediss://[::1]:5", "rediss://[::1]:5", (("::1", 5),)),
    ],
)
async def test_sentinels_are_named_with_what_they_call_the_server(url: str, spelt: str, asked: str, hosts: tuple[tuple[str, int], ...]):
    address = parse(url)

    assert (address.topology, address.service, address.url, address.asked_url, address.hosts) == ("sentinel", "mymaster", spelt, asked, hosts)
    assert isinstance(make_backend(url, clock=SYSTEM), ServerBackend)


def test_a_service_may_have_any_name():
    assert parse("redis+sentinel://a/my%20master%2F1/0").service == "my master/1"


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
        ("redis+cluster://", "names no host, .* redis\\+cluster://node-1:6379,node-2:6379"),
        ("redis+cluster://a,", "names no host"),
        ("redis+cluster://a,b:port", "one whose port is no number"),
        ("redis+cluster://a/1", "names the database 1, and a cluster has only 0"),
        ("redis+cluster://a?db=1", "a cluster has only 0"),
        ("redis+cluster://a/b", "names a database 'b'"),
        ("redis+sentinel://a,b", "does not say what the sentinels call the server; .* redis\\+sentinel://host-1:26379,host-2/mymaster/0"),
        ("redis+sentinel:///mymaster", "names no host"),
        ("redis+sentinel://a/mymaster/b", "names a database 'b'"),
        ("unix+sentinel://a/mymaster", "it takes redis://"),
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
        "redis+cluster://jane:s3cret@a,b:1",
        "redis+cluster://jane:pa,s3cret@a,b:x",
        "redis+sentinel://jane:s3cret@a,b/mymaster/0",
        "redis+sentinel://a,b/mymaster/x?sentinel_username=jane&sentinel_password=s3cret",
        "redis+sentinel://jane:12/s3cret@a,b/mymaster",
        "valkeys+sentinel://jane:pa?s3cret@a,b/mymaster",
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
