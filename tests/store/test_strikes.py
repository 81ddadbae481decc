"""What is struck, kept up to date in every process."""

# Some tests wait for a reading that is under way, which nobody outside can see.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest

from docket._clock import SYSTEM
from docket._redis.scripts import scripts
from docket._store import Store, strikes
from docket._store.records import Claimed
from docket._store.strikes import Loaded
from docket.errors import InDoubt, RedisUnavailable, ServerError
from tests._proxy import Proxy
from tests._servers import RedisServer
from tests._shards import only_shard
from tests._waiting import eventually
from tests.store._work import INSTANCE, claim, fetch, order


class Ledger:
    """This follows what is struck."""

    def __init__(self, store: Store) -> None:
        self.struck = set(store.strikes.instructions)
        self.changes = 0
        store.strikes.follow(self)

    def on_strikes(self, struck: Iterable[bytes], restored: Iterable[bytes]) -> None:
        self.struck = self.struck.union(struck).difference(restored)
        self.changes += 1


async def open_store(name: str, url: str) -> Store:
    return await Store.open(name, url, execution_ttl=timedelta(minutes=1), clock=SYSTEM)


def unheard(message: bytes | None = None) -> None:
    """This hears nothing."""


def deaf(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """This keeps every message from a store."""
    monkeypatch.setattr(store.strikes, "on_message", unheard)
    monkeypatch.setattr(store.strikes, "on_interruption", unheard)


def soon(failures: int) -> float:
    """This makes nearly nothing of the second that is waited after a refusal."""
    return -0.99


@pytest.fixture
async def other(docket_name: str, url: str, store: Store) -> object:
    """This is the store of another process, as far as `store` can tell."""
    other = await open_store(docket_name, url)
    yield other
    await other.aclose()


async def test_at_first_nothing_is_struck(store: Store):
    assert await store.strikes.load() == Loaded(0, frozenset())
    assert store.strikes.instructions == set()


async def test_who_strikes_knows_it_at_once_and_so_does_who_comes_later(docket_name: str, store: Store, url: str):
    assert await store.strikes.change(b"a") is True
    assert await store.strikes.change(b"b") is True

    assert store.strikes.instructions == {b"a", b"b"}
    assert await store.strikes.load() == Loaded(store.strikes.version, frozenset({b"a", b"b"}))
    later = await open_store(docket_name, url)
    assert later.strikes.instructions == {b"a", b"b"}
    await later.aclose()


async def test_a_change_says_whether_it_changed_anything(store: Store):
    assert await store.strikes.change(b"a", restore=True) is False
    assert await store.strikes.change(b"a") is True
    assert await store.strikes.change(b"a") is False
    assert await store.strikes.change(b"a", restore=True) is True
    assert store.strikes.instructions == set()


async def test_others_hear_of_it(store: Store, other: Store):
    ledger = Ledger(other)
    await store.strikes.change(b"a")
    await store.strikes.change(b"b")
    await eventually(lambda: ledger.struck == {b"a", b"b"})

    await store.strikes.change(b"a", restore=True)
    await eventually(lambda: ledger.struck == {b"b"})

    other.strikes.unfollow(ledger)
    await store.strikes.change(b"b", restore=True)
    await eventually(lambda: other.strikes.instructions == set())
    assert ledger.struck == {b"b"}


async def test_a_change_that_follows_on_what_is_known_is_taken_from_the_message_without_reading(store: Store, other: Store, monkeypatch: pytest.MonkeyPatch):
    await store.strikes.change(b"a")
    await eventually(lambda: other.strikes.version == store.strikes.version and not other.strikes._missed.is_set())
    await other.strikes.read()  # whatever was under way has been

    async def load() -> Loaded:
        raise AssertionError("there was no need to read")

    monkeypatch.setattr(other.strikes, "load", load)
    await store.strikes.change(b"b")
    await store.strikes.change(b"a", restore=True)

    await eventually(lambda: other.strikes.version == store.strikes.version)
    assert other.strikes.instructions == {b"b"}


async def test_after_a_message_that_was_lost_everything_is_read_again(store: Store, other: Store):
    heard = other.strikes.on_message
    other.strikes.on_message = unheard
    await store.strikes.change(b"a")
    await asyncio.sleep(0.05)
    other.strikes.on_message = heard

    await store.strikes.change(b"b")

    await eventually(lambda: other.strikes.instructions == {b"a", b"b"})
    assert other.strikes.version == store.strikes.version


@pytest.mark.parametrize("message", [b"garbage", b"1:a,1:b,1:c,1:d,", b"1:0,1:1,"])
async def test_a_message_that_cannot_be_decoded_has_everything_read(store: Store, message: bytes, caplog: pytest.LogCaptureFixture):
    await store.backend.call("HSET", store.keys.strikes, "a", "1")

    store.strikes.on_message(message)

    await eventually(lambda: store.strikes.instructions == {b"a"})
    assert "A change of what is struck cannot be decoded" in caplog.text


async def test_who_changes_something_without_having_heard_of_the_last_change_reads_it_first(store: Store, other: Store, monkeypatch: pytest.MonkeyPatch):
    deaf(other, monkeypatch)
    await store.strikes.change(b"a")

    await other.strikes.change(b"b")

    assert other.strikes.instructions == {b"a", b"b"}
    assert other.strikes.version != 0


async def test_one_reading_serves_everybody_who_asked_before_it(store: Store, monkeypatch: pytest.MonkeyPatch):
    load, loads, go = store.strikes.load, 0, asyncio.Event()

    async def slow() -> Loaded:
        nonlocal loads
        loads += 1
        await go.wait()
        return await load()

    monkeypatch.setattr(store.strikes, "load", slow)
    readings = [asyncio.create_task(store.strikes.read()) for _ in range(5)]
    await eventually(lambda: loads == 1)
    late = asyncio.create_task(store.strikes.read())
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*readings, late)

    assert loads == 2


@pytest.mark.parametrize("restore", [False, True])
async def test_a_reading_does_not_take_back_what_was_changed_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch, restore: bool):
    await store.strikes.change(b"b")
    load, has_read, go = store.strikes.load, asyncio.Event(), asyncio.Event()

    async def slow() -> Loaded:
        loaded = await load()
        has_read.set()
        await go.wait()
        return loaded

    monkeypatch.setattr(store.strikes, "load", slow)
    reading = asyncio.create_task(store.strikes.read())
    await has_read.wait()
    await store.strikes.change(b"b" if restore else b"a", restore=restore)
    go.set()
    await reading

    assert store.strikes.instructions == (set() if restore else {b"a", b"b"})


async def test_what_was_lost_with_the_data_is_forgotten(store: Store):
    await store.strikes.change(b"a")
    await store.backend.call("DEL", store.keys.strikes, store.keys.meta)

    store.strikes.on_interruption()

    await eventually(lambda: store.strikes.instructions == set())
    assert store.strikes.version == 0


async def test_only_so_many_are_taken(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strikes, "MOST_STRIKES", 2)
    await store.strikes.change(b"a")
    await store.strikes.change(b"b")

    with pytest.raises(ServerError, match=r"^2 strikes stand on '\{.*\}:', and 2 is the most; restore what is not needed, or strike many at once"):
        await store.strikes.change(b"c")

    assert store.strikes.instructions == {b"a", b"b"}


async def test_ten_thousand_are_read_and_followed(docket_name: str, store: Store, url: str):
    fields = [f"instruction {number}" for number in range(strikes.MOST_STRIKES - 1)]
    for start in range(0, len(fields), 1000):
        await store.backend.call("HSET", store.keys.strikes, *[part for field in fields[start : start + 1000] for part in (field, "1")])

    later = await open_store(docket_name, url)
    assert len(later.strikes.instructions) == len(fields)
    await later.strikes.change(b"one more")
    with pytest.raises(ServerError, match="10000 strikes stand"):
        await later.strikes.change(b"one too many")
    await later.aclose()


async def test_opening_reads_them_in_the_round_trip_that_checks_the_layout(docket_name: str, proxy: Proxy, redis_server: RedisServer):
    proxy.silent_from = scripts("server")["open"].sha.encode()
    opening = asyncio.create_task(open_store(docket_name, proxy.url))

    def has_been_asked() -> bool:
        stats: dict[str, object] = redis_server.client().info("commandstats")  # pyright: ignore[reportUnknownMemberType]
        return "cmdstat_hgetall" in stats

    redis_server.client().config_resetstat()  # pyright: ignore[reportUnknownMemberType]
    await eventually(has_been_asked)  # although the layout's answer is held back

    assert not opening.done()
    proxy.silent_from, proxy.silent = None, False
    await (await opening).aclose()


# Claims


async def test_a_claim_is_answered_once_everything_is_known_that_was_struck_before(store: Store, other: Store, monkeypatch: pytest.MonkeyPatch):
    deaf(store, monkeypatch)
    await store.lifecycle.schedule(order())
    entries = await fetch(store)
    await other.strikes.change(b"a")
    assert store.strikes.instructions == set()

    [claimed] = await claim(store, entries)

    assert isinstance(claimed, Claimed)
    assert store.strikes.instructions == {b"a"}


async def test_a_claim_reads_nothing_while_nothing_has_changed(store: Store, monkeypatch: pytest.MonkeyPatch):
    await store.strikes.change(b"a")
    await store.strikes.read()
    await store.lifecycle.schedule(order())
    entries = await fetch(store)

    async def load() -> Loaded:
        raise AssertionError("there was no need to read")

    await eventually(lambda: not store.strikes._missed.is_set() and not store.strikes._reading.locked())
    monkeypatch.setattr(store.strikes, "load", load)

    assert len(await claim(store, entries)) == 1


async def test_a_claim_waits_out_an_outage_in_which_what_is_struck_cannot_be_read(
    far_store: Store, proxy: Proxy, url_of_the_server: str, docket_name: str, monkeypatch: pytest.MonkeyPatch
):
    deaf(far_store, monkeypatch)
    near = await open_store(docket_name, url_of_the_server)
    await near.lifecycle.schedule(order())
    entries = await fetch(far_store)
    await near.strikes.change(b"a")
    proxy.lose_request_with = b"HGETALL"

    [claimed] = await claim(far_store, entries)

    assert proxy.lost == 1
    assert isinstance(claimed, Claimed)
    assert far_store.strikes.instructions == {b"a"}
    await near.aclose()


async def test_a_claim_that_is_no_longer_wanted_waits_no_more(
    far_store: Store, proxy: Proxy, url_of_the_server: str, docket_name: str, monkeypatch: pytest.MonkeyPatch
):
    deaf(far_store, monkeypatch)
    near = await open_store(docket_name, url_of_the_server)
    await near.lifecycle.schedule(order())
    entries = await fetch(far_store)
    await near.strikes.change(b"a")
    proxy.lose_request_with, proxy.lose_again = b"HGETALL", 1000

    with pytest.raises(RedisUnavailable):
        await asyncio.wait_for(only_shard(far_store).lifecycle.claim(INSTANCE, entries, lambda: proxy.lost == 0), 20)

    proxy.lose_request_with = None
    await near.aclose()


async def test_what_the_server_refuses_to_read_is_asked_for_again_for_as_long_as_it_is_wanted(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(strikes, "backoff", soon)
    await store.backend.call("SET", store.keys.strikes, "no hash")
    catching_up = asyncio.create_task(store.strikes.catch_up(1))
    await eventually(lambda: "What is struck cannot be read, so nothing is run until it can be" in caplog.text)
    assert store.strikes.trouble is not None and store.strikes.trouble.startswith("what is struck cannot be read: Redis at ")
    await store.backend.call("DEL", store.keys.strikes)

    await asyncio.wait_for(catching_up, 10)
    assert store.strikes.trouble is None
    await store.backend.call("SET", store.keys.strikes, "no hash")
    with pytest.raises(ServerError, match="WRONGTYPE"):
        await store.strikes.catch_up(1, lambda: False)

    await store.backend.call("DEL", store.keys.strikes)


# Outages


async def test_a_change_whose_reply_was_lost_is_answered_as_the_first_time(far_store: Store, proxy: Proxy):
    await far_store.strikes.change(b"b")
    proxy.lose_reply_to = b"strike\r\n"

    assert await far_store.strikes.change(b"a") is True

    assert proxy.lost == 1
    assert far_store.strikes.instructions == {b"a", b"b"}
    assert (await far_store.strikes.load()).instructions == {b"a", b"b"}


async def test_a_change_that_never_left_was_not_made(far_store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strikes, "CHANGE_PATIENCE", 0.2)
    await proxy.stop()
    await eventually(lambda: far_store.backend.connected_for() == 0)

    with pytest.raises(RedisUnavailable, match="Nothing was written") as caught:
        await far_store.strikes.change(b"a")

    assert not isinstance(caught.value, InDoubt)
    assert far_store.strikes.instructions == set()
    await proxy.start()


@pytest.mark.parametrize("restore", [False, True])
async def test_a_change_is_known_here_although_the_rest_cannot_be_read_now(
    far_store: Store, url_of_the_server: str, docket_name: str, monkeypatch: pytest.MonkeyPatch, restore: bool
):
    near = await open_store(docket_name, url_of_the_server)
    await near.strikes.change(b"a")
    await eventually(lambda: far_store.strikes.instructions == {b"a"})
    monkeypatch.setattr(strikes, "CHANGE_PATIENCE", 0.0)
    load, far_store.strikes.version = far_store.strikes.load, 1  # as though it had missed something

    async def broken() -> Loaded:
        raise RedisUnavailable("gone")

    monkeypatch.setattr(far_store.strikes, "load", broken)
    assert await far_store.strikes.change(b"a" if restore else b"b", restore=restore) is True

    assert far_store.strikes.instructions == (set() if restore else {b"a", b"b"})
    monkeypatch.setattr(far_store.strikes, "load", load)
    await eventually(lambda: far_store.strikes.version == near.strikes.version != 1)
    await near.aclose()


async def test_what_was_struck_while_the_connection_was_cut_is_learnt_when_it_is_back(far_store: Store, proxy: Proxy, url_of_the_server: str, docket_name: str):
    near = await open_store(docket_name, url_of_the_server)
    await near.strikes.change(b"a")
    await eventually(lambda: far_store.strikes.instructions == {b"a"})

    await proxy.stop()
    await near.strikes.change(b"b")
    await near.strikes.change(b"a", restore=True)
    await proxy.start()

    await eventually(lambda: far_store.strikes.instructions == {b"b"})
    await near.aclose()


async def test_what_a_server_that_came_back_knows_counts(docket_name: str, new_server: Callable[..., RedisServer]):
    server = new_server("--appendonly", "yes", "--appendfsync", "always")
    store = await open_store(docket_name, server.url)
    await store.strikes.change(b"a")

    server.kill()
    await asyncio.to_thread(server.start)
    early = await open_store(docket_name, server.url)
    assert early.strikes.instructions == {b"a"}
    await early.strikes.change(b"b")

    await eventually(lambda: store.strikes.instructions == {b"a", b"b"})
    await early.aclose()
    await store.aclose()


async def test_so_it_is_when_it_has_lost_everything(docket_name: str, new_server: Callable[..., RedisServer]):
    server = new_server()
    store = await open_store(docket_name, server.url)
    await store.strikes.change(b"a")

    server.kill()
    await asyncio.to_thread(server.start)

    await eventually(lambda: store.strikes.instructions == set())
    await store.strikes.change(b"b")
    assert store.strikes.instructions == {b"b"}
    await store.aclose()


async def test_on_a_full_server_it_can_be_struck_and_restored(docket_name: str, new_server: Callable[..., RedisServer]):
    server = new_server()
    store = await open_store(docket_name, server.url)
    server.client().config_set("maxmemory", "1mb")  # pyright: ignore[reportUnknownMemberType]

    assert await store.strikes.change(b"a") is True
    assert await store.strikes.change(b"b") is True
    assert await store.strikes.change(b"a", restore=True) is True

    assert (await store.strikes.load()).instructions == {b"b"}
    await store.aclose()


@pytest.mark.only_server("in memory there is nothing to wait for")
async def test_a_listener_that_cannot_read_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(strikes, "backoff", soon)
    await store.backend.call("SET", store.keys.strikes, "no hash", "PX", 60_000)
    store.strikes.on_interruption()
    with caplog.at_level(logging.ERROR):
        await eventually(lambda: "What is struck cannot be read, and that will be tried again" in caplog.text)

    await store.backend.call("HSET", store.keys.struck, "a", "1")
    await store.backend.call("RENAME", store.keys.struck, store.keys.strikes)

    await eventually(lambda: store.strikes.instructions == {b"a"})


async def test_where_changes_may_not_be_heard_they_are_read_now_and_then(
    docket_name: str, new_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(strikes, "REREAD_EVERY", 0.05)
    server = new_server()
    client = server.client()
    client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "resetchannels")  # pyright: ignore[reportUnknownMemberType]
    store = await open_store(docket_name, f"redis://app:secret@127.0.0.1:{server.port}/0")
    await eventually(lambda: "What is struck is read every 0.05 seconds, because changes cannot be heard" in caplog.text)

    client.hset(store.keys.strikes, "a", "1")

    await eventually(lambda: store.strikes.instructions == {b"a"})
    await store.aclose()


async def test_leaving_takes_the_listener_along(docket_name: str, url: str, store: Store):
    leaving = await open_store(docket_name, url)
    await leaving.strikes.read()
    await asyncio.sleep(0)

    await leaving.aclose()
    await store.strikes.change(b"a")

    assert leaving.strikes.instructions == set()
