"""Moving a docket that nobody uses from one number of shards to another."""

# The steps of a move are disturbed.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from docket import ConcurrencyLimit, Docket, Perpetual, Progress, RateLimit, Worker
from docket._keys import shard_of
from docket._redis import make_backend
from docket._store import moving
from docket._store.delivery import DeliveryStore
from docket._store.moving import Moved, _Mover, move
from docket._store.records import Applicant, Order, Requirement
from docket.errors import InvalidOption, LayoutMismatch, NotEntered, RedisUnavailable, WrongState
from docket.execution import ExecutionProgress
from docket.states import ExecutionState
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.shards._cluster import Cluster
from tests.worker._hands import at_work, claim, dead_worker

NUMBERS = [(1, 4), (4, 1), (4, 8), (3, 2)]
KEYS = [f"k{number}" for number in range(20)]
HOUR = timedelta(hours=1)


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return redis_server.url


async def job(number: int) -> int:
    ran.append(number)
    return number


async def fails() -> None:
    raise OSError("broken")


@ConcurrencyLimit(1)
async def narrow(number: int) -> None:
    ran.append(number)


ran: list[int] = []


@asynccontextmanager
async def opened(name: str, url: str, shards: int | None = None) -> AsyncGenerator[Docket]:
    async with Docket(name, url, shards=shards) as docket:
        for task in (job, fails, narrow):
            docket.register(task)
        yield docket


async def full(name: str, url: str, shards: int) -> None:
    """A docket with something of everything in it."""
    ran.clear()
    async with opened(name, url, shards) as docket:
        done = await docket.add(job, key="done")(1000)
        await docket.add(fails, key="dead")()
        async with Worker(docket) as worker:
            await worker.run_until_finished()
        assert await done.get_result() == 1000
        ran.clear()
        for number, key in enumerate(KEYS):
            await docket.add(job, key=key)(number)
            await docket.add(job, when=docket.clock.now() + HOUR, key=f"later-{key}")(number)
        await docket.add(job, key="large")(10**300)
        await docket.strike(job, "number", "==", 3)


async def check(name: str, url: str, shards: int) -> None:
    async with opened(name, url) as docket:
        assert len(docket.store.shards) == shards
        counts = await docket.counts()
        assert (counts.scheduled, counts.queued, counts.completed, counts.failed) == (20, 21, 1, 1)
        done = await docket.get_execution("done")
        assert done is not None and await done.get_result() == 1000
        assert [letter.key async for letter in docket.dead_letters()] == ["dead"]
        later = await docket.get_execution("later-k5")
        assert later is not None and later.state is ExecutionState.SCHEDULED
        generations = [each.generation async for each in docket.executions()]
        newer = await docket.add(job, key="newer")(2000)
        assert newer.generation is not None and newer.generation > max(generation or 0 for generation in generations)
        await docket.cancel("later-k0")
        for key in KEYS[1:]:
            await docket.replace(job, when=docket.clock.now(), key=f"later-{key}")(100)
        async with Worker(docket) as worker:
            await asyncio.wait_for(worker.run_until_finished(), 20)
    assert sorted(ran) == [*(number for number in range(20) if number != 3), *[100] * 19, 2000, 10**300]


@pytest.mark.parametrize(("before", "to"), NUMBERS)
async def test_everything_goes_along(docket_name: str, url: str, redis_server: RedisServer, before: int, to: int):
    await full(docket_name, url, before)

    moved = await move(docket_name, url, to)

    assert (moved.before, moved.after, moved.runs, moved.letters) == (before, to, 43, 1)
    await check(docket_name, url, to)
    old = f"{{{docket_name}~{before}." if before > 1 else f"{{{docket_name}}}:runs"
    client: Any = redis_server.client()
    left: list[bytes] = [key for key in client.scan_iter(match="*") if key.decode().startswith(old)]
    assert all(key.endswith(b":meta") for key in left)  # which tells whoever has it open still
    assert all(client.pttl(key) > 0 for key in left)


async def test_it_may_be_done_again(docket_name: str, url: str):
    await full(docket_name, url, 2)
    await move(docket_name, url, 3)

    assert (await move(docket_name, url, 3)).runs == 0

    await check(docket_name, url, 3)


@pytest.mark.parametrize("step", ["_streams", "_things", "_verify", "finish"])
async def test_whoever_dies_on_the_way_has_changed_nothing_that_is_in_use(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch, step: str):
    await full(docket_name, url, 2)

    async def dies(*rest: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as dying:
        dying.setattr(_Mover, step, dies)
        with pytest.raises(asyncio.CancelledError):
            await move(docket_name, url, 3)
    if step != "finish":
        with pytest.raises(LayoutMismatch, match=r"being moved from 2 .*to 3.*docket reshard --to 3"):
            async with Docket(docket_name, url):
                pass

    await move(docket_name, url, 3)

    await check(docket_name, url, 3)


async def test_another_number_may_be_asked_for_after_that(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    await full(docket_name, url, 2)

    async def dies(*rest: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as dying:
        dying.setattr(_Mover, "_verify", dies)
        with pytest.raises(asyncio.CancelledError):
            await move(docket_name, url, 1)
    assert (await move(docket_name, url, 2)).runs == 0

    await check(docket_name, url, 2)


async def test_what_goes_wrong_leaves_it_as_it_was(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    await full(docket_name, url, 2)

    async def fails(*rest: Any) -> None:
        raise RedisUnavailable("away")

    with monkeypatch.context() as failing:
        failing.setattr(_Mover, "_schedule", fails)
        with pytest.raises(RedisUnavailable):
            await move(docket_name, url, 3)

    await check(docket_name, url, 2)


async def test_a_docket_somebody_works_on_is_left_alone(docket_name: str, url: str):
    async with opened(docket_name, url, 2) as docket, at_work(docket):
        await asyncio.sleep(0)
        while not await docket.workers():
            await asyncio.sleep(0.01)

        with pytest.raises(WrongState, match="1 worker.*stop them first"):
            await move(docket_name, url, 3)


@pytest.mark.parametrize(("before", "to"), NUMBERS)
async def test_whoever_schedules_meanwhile_or_afterwards_is_refused(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch, before: int, to: int):
    """What they write would be where nobody looks, and deleted."""
    await full(docket_name, url, before)
    verify = _Mover._verify
    async with opened(docket_name, url) as docket, Docket(docket_name, url, signing_keys=["a key for this test"]) as signing:
        signing.register(job)

        async def each_is_refused() -> None:
            for number in range(12):
                with pytest.raises(LayoutMismatch, match=f"divided into {to} "):
                    await docket.add(job, key=f"late{number}")(50)
                with pytest.raises(LayoutMismatch, match=f"divided into {to} "):
                    await signing.add(job, key=f"late{number}")(50)

        async def late(self: _Mover) -> None:
            await verify(self)
            await each_is_refused()
            with pytest.raises(LayoutMismatch, match=f"divided into {to} "):
                await docket.replace(job, when=docket.clock.now(), key="later-k3")(1)

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(_Mover, "_verify", late)
            await move(docket_name, url, to)
        await each_is_refused()

    await check(docket_name, url, to)


async def test_whoever_knows_it_from_two_moves_ago_is_refused_too(docket_name: str, url: str):
    await full(docket_name, url, 2)
    async with opened(docket_name, url) as docket:
        await move(docket_name, url, 3)
        await move(docket_name, url, 1)

        for number in range(8):
            with pytest.raises(LayoutMismatch, match="divided into"):
                await docket.add(job, key=f"late{number}")(50)

    await check(docket_name, url, 1)


async def test_what_was_refused_while_it_was_tried_is_taken_again_when_it_stayed_as_it_was(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    await full(docket_name, url, 2)

    async def breaks(self: _Mover) -> None:
        raise WrongState("broken")

    async with opened(docket_name, url) as docket:
        before = [each.generation async for each in docket.executions()]
        monkeypatch.setattr(_Mover, "_verify", breaks)
        with pytest.raises(WrongState):
            await move(docket_name, url, 3)

        later = [await docket.add(job, when=docket.clock.now() + HOUR, key=f"late{number}")(number) for number in range(8)]
        assert not {each.generation for each in later} & set(before)
        for each in later:
            await each.cancel()

    await check(docket_name, url, 2)


@pytest.mark.parametrize(("before", "to"), [(1, 2), (2, 1), (2, 3)])
async def test_it_may_die_anywhere(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch, before: int, to: int):
    """At each command in turn; what there was is there all the time, and is once more only at the end."""
    async with opened(docket_name, url, before) as docket:
        await docket.add(job, key="a")(1)
        await docket.add(job, key="b", when=docket.clock.now() + HOUR)(10**300)
        await docket.strike(job, "number", "==", 3)
    lives, commands = 0, 0

    def short_lived(url: str, **options: Any) -> Any:
        backend = make_backend(url, **options)
        call, script = backend.call, backend.script

        async def counted(send: Any, *words: Any) -> Any:
            nonlocal commands
            commands += 1
            if commands > lives:
                raise asyncio.CancelledError
            return await send(*words)

        monkeypatch.setattr(backend, "call", partial(counted, call))
        monkeypatch.setattr(backend, "script", partial(counted, script))
        return backend

    monkeypatch.setattr(moving, "make_backend", short_lived)
    while True:
        commands = 0
        try:
            await move(docket_name, url, to)
            break
        except asyncio.CancelledError:
            lives += 1
    assert lives > 20
    monkeypatch.undo()

    async with opened(docket_name, url, to) as docket:
        counts = await docket.counts()
        assert (counts.queued, counts.scheduled) == (1, 1)
        assert len(await strikes_of(docket)) == 1
        b = await docket.get_execution("b")
        assert b is not None and b.args == (10**300,)
        await b.cancel()
        async with Worker(docket) as worker:
            await worker.run_until_finished()


async def strikes_of(docket: Docket) -> Any:
    return docket.strike_list.instructions


@pytest.mark.parametrize("before", [1, 2])
async def test_the_users_own_keys_beside_it_stay_where_they_are(docket_name: str, url: str, redis_server: RedisServer, before: int):
    """A storage of results may keep them there, and `Docket.key` spells any."""
    client: Any = redis_server.client()
    async with opened(docket_name, url, before) as docket:
        own = [docket.key("mine"), docket.results_collection + "::done"]
        for key in own:
            client.set(key, "precious")

    await move(docket_name, url, 3)
    await move(docket_name, url, 1)

    assert [client.get(key) for key in own] == [b"precious"] * 2
    client.delete(*own)


async def test_payloads_that_are_signed_stay_good(docket_name: str, url: str):
    ran.clear()
    keys = ["a key for this test"]
    async with Docket(docket_name, url, shards=1, signing_keys=keys, require_signatures=True) as docket:
        docket.register(job)
        for number in range(8):
            await docket.add(job, key=f"k{number}")(number)

    await move(docket_name, url, 4)

    async with Docket(docket_name, url, signing_keys=keys, require_signatures=True) as docket:
        docket.register(job)
        async with Worker(docket) as worker:
            await asyncio.wait_for(worker.run_until_finished(), 20)
    assert sorted(ran) == list(range(8))


async def test_a_chain_goes_on_with_its_arguments_and_what_was_asked_for_to_follow(docket_name: str, url: str):
    """Its worker died in the middle, and had asked for a successor."""
    ran.clear()

    async def chain(number: int, perpetual: Perpetual = Perpetual(every=timedelta(0))) -> None:
        ran.append(number)
        if number < 3:
            perpetual.perpetuate(number + 1)
        else:
            perpetual.cancel()

    async with opened(docket_name, url, 2) as docket:
        docket.register(chain)
        await docket.add(chain, key="chain")(1)
        [run] = await claim(docket, "dead~1")
        successor = await docket.store.lifecycle.schedule(Order("chain", "chain", b"x" * 200, when_us=2**52, within=run.run))
        assert successor.created

    await move(docket_name, url, 3)

    async with opened(docket_name, url) as docket:
        docket.register(chain)
        async with Worker(docket) as worker:
            await asyncio.wait_for(worker.run_until_finished(), 20)
        record = await docket.store.inspection.load("chain")
    assert ran == [1, 2, 3]
    assert record is not None and record.state is ExecutionState.COMPLETED


async def test_how_far_it_had_come_and_what_a_rate_remembers_goes_along(docket_name: str, url: str):
    ran.clear()

    @RateLimit(2, per=timedelta(minutes=10), drop=True)
    async def rated(number: int) -> None:
        ran.append(number)

    async def reports(progress: ExecutionProgress = Progress()) -> None:
        await progress.set_total(7)
        await progress.increment(3)

    async with opened(docket_name, url, 2) as docket:
        docket.register(rated)
        await docket.add(reports, key="p")()
        for number in range(2):
            await docket.add(rated, key=f"r{number}")(number)
        async with Worker(docket) as worker:
            await worker.run_until_finished()
        await docket.add(rated, key="r2")(2)

    await move(docket_name, url, 1)

    async with opened(docket_name, url) as docket:
        docket.register(rated)
        moved = await docket.get_execution("p")
        assert moved is not None and (moved.progress.current, moved.progress.total) == (3, 7)
        async with Worker(docket) as worker:
            await worker.run_until_finished()
        assert (await docket.counts()).cancelled == 1
    assert ran == [0, 1]


async def test_a_worker_that_has_its_lease_is_alive_however_seldom_it_says_so(docket_name: str, url: str):
    async with opened(docket_name, url, 2) as docket:
        await dead_worker(docket, "idle~1", lease=60)

        with pytest.raises(WrongState, match="idle~1 has a lease that stands"):
            await move(docket_name, url, 3)
        await docket.store.workers.depart("idle~1")

    assert (await move(docket_name, url, 3)).after == 3


async def test_a_docket_says_it_too(docket_name: str, url: str):
    docket = Docket(docket_name, url)
    async with docket:
        docket.register(job)
        await docket.add(job, key="k", when=docket.clock.now() + HOUR)(1)
        with pytest.raises(NotEntered, match="leave it first"):
            await docket.reshard(4)

    assert await docket.reshard(4) == Moved(1, 4, 1)
    with pytest.raises(InvalidOption, match="shards is"):
        await docket.reshard(0)

    async with docket:
        assert len(docket.store.shards) == 4
        assert (await docket.counts()).scheduled == 1
        await docket.clear()


async def test_what_a_dead_worker_held_and_who_waits_for_a_place_is_ready_again(docket_name: str, url: str):
    ran.clear()
    async with opened(docket_name, url, 3) as docket:
        for number in range(9):
            await docket.add(narrow, key=f"n{number}")(number)
        started = asyncio.Event()
        block = asyncio.Event()

        async def blocks() -> None:
            started.set()
            await block.wait()

        docket.register(ConcurrencyLimit(1)(blocks))
        for number in range(5):
            await docket.add(blocks, key=f"b{number}")()
        held = await claim(docket, "dead~1")
        assert len(held) == 14

    await move(docket_name, url, 4)

    async with opened(docket_name, url) as docket:
        docket.register(blocks)
        block.set()
        async with Worker(docket) as worker:
            await asyncio.wait_for(worker.run_until_finished(), 20)
        assert (await docket.counts()).completed == 14
    assert sorted(ran) == list(range(9))


async def test_a_docket_in_memory_is_not_moved(docket_name: str):
    with pytest.raises(InvalidOption, match="in memory"):
        await move(docket_name, f"memory://{docket_name}", 2)


async def test_on_a_cluster_it_moves_from_one_primary_to_all(docket_name: str, cluster: Cluster):
    await full(docket_name, cluster.url, 1)

    await move(docket_name, cluster.url, 6)

    await check(docket_name, cluster.url, 6)


@pytest.mark.parametrize("to", [1, 4])
async def test_whoever_waits_for_a_place_or_was_let_in_is_ready_again(docket_name: str, url: str, to: int):
    """In the line of their own shard or of another one, let in and told so or not, read by a worker that died or not."""
    ran.clear()
    place = Requirement("concurrency", "x", "1")
    async with opened(docket_name, url, 3) as docket:
        for number in range(12):
            await docket.add(job, key=f"k{number}")(number)
        runs = sorted(await claim(docket, "dead~1"), key=lambda run: run.run.generation)
        assert len({docket.store.shard_of(run.run.key).index for run in runs}) == 3
        words = [(await docket.store.limits.admit(Applicant(run.run, run.message_id, (place,), 60_000_000))).word for run in runs]
        assert words == ["admitted"] + ["parked"] * 11
        home = docket.store.shard_of("x")
        for run in runs[:5]:  # some are let in, the last of them is not told
            await home.backend.call("DEL", docket.store.keys.concurrency("x")[0])
            await home.limits.sweep(2**52)
            if run is not runs[4]:
                await home.delivery.ensure_group()
                reader = home.delivery.reader()
                await home.delivery.read(reader, "dead~2", 1, 1)
                await reader.aclose()

    await move(docket_name, url, to)

    async with opened(docket_name, url) as docket:
        assert (await docket.counts()).waiting == 0
        async with Worker(docket) as worker:
            await asyncio.wait_for(worker.run_until_finished(), 20)
    assert sorted(ran) == list(range(12))


async def test_a_worker_that_comes_back_in_the_middle_is_alive(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
    pending = DeliveryStore.pending
    async with opened(docket_name, url, 2) as docket:
        await docket.add(job, key="k")(1)
        await claim(docket, "back~1")

        async def renewed(self: DeliveryStore, instance: str) -> Any:
            await self.renew(instance, 60_000_000, [], first=True)
            return await pending(self, instance)

        monkeypatch.setattr(DeliveryStore, "pending", renewed)
        with pytest.raises(WrongState, match="back~1 has a lease that stands"):
            await move(docket_name, url, 3)
        monkeypatch.undo()
        await docket.store.workers.depart("back~1")
        await move(docket_name, url, 1)
    async with opened(docket_name, url) as docket:
        assert await docket.clear() == 1


async def test_what_cannot_be_put_back_now_is_put_back_by_the_next_move(
    docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    await full(docket_name, url, 2)
    with monkeypatch.context() as away:

        async def is_away(*rest: Any) -> None:
            raise RedisUnavailable("away")

        async def goes_away(self: _Mover) -> None:
            away.setattr(_Mover, "_empty", is_away)
            await is_away()

        away.setattr(_Mover, "_verify", goes_away)
        with pytest.raises(RedisUnavailable):
            await move(docket_name, url, 3)
    assert "moving the docket again does that" in caplog.text

    await move(docket_name, url, 3)

    await check(docket_name, url, 3)


@pytest.mark.parametrize(("step", "match"), [("_later", "of the queue were found"), ("_enter", "were ready")])
async def test_what_did_not_arrive_is_noticed(docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch, step: str, match: str):
    await full(docket_name, url, 2)
    as_it_is = getattr(_Mover, step)

    async def sometimes(self: _Mover, key: str, *rest: Any, **named: Any) -> None:
        if key.endswith("k7"):
            self._ready += 1
        else:
            await as_it_is(self, key, *rest, **named)

    with monkeypatch.context() as lossy:
        lossy.setattr(_Mover, step, sometimes)
        with pytest.raises(WrongState, match=match):
            await move(docket_name, url, 3)

    await check(docket_name, url, 2)


@pytest.mark.parametrize("left", [-2, 0, 5])
async def test_what_expires_on_the_way_expires(docket_name: str, url: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, left: int):
    client: Any = redis_server.client()
    await full(docket_name, url, 1)

    def hasty(url: str, **options: Any) -> Any:
        backend = make_backend(url, **options)
        call = backend.call

        async def at_the_end(*words: Any) -> Any:
            if words[0] == "DUMP" and left == -2 and str(words[1]).endswith("runs:done"):
                client.delete(words[1])
            return left if words[0] == "PTTL" and str(words[1]).endswith("runs:done") else await call(*words)

        monkeypatch.setattr(backend, "call", at_the_end)
        return backend

    with monkeypatch.context() as hurried:
        hurried.setattr(moving, "make_backend", hasty)
        await move(docket_name, url, 3)

    async with opened(docket_name, url) as docket:
        await eventually(lambda: _is_gone(docket, "done"))
        await docket.clear()


async def _is_gone(docket: Docket, key: str) -> bool:
    return await docket.store.inspection.load(key) is None


async def test_a_dead_letter_that_is_listed_no_more_is_not_listed_again(docket_name: str, url: str):
    await full(docket_name, url, 1)
    async with opened(docket_name, url) as docket:
        await docket.store.backend.call("ZREM", docket.store.keys.dead, *(generation for _, generation in await docket.store.letters.newest(None, 10)))

    await move(docket_name, url, 2)

    async with opened(docket_name, url) as docket:
        assert await docket.store.letters.newest(None, 1) == []
        await docket.clear()


async def test_many_go_along_in_the_order_in_which_they_stand(docket_name: str, url: str):
    async with opened(docket_name, url, 2) as docket:
        await docket.add_many(docket.call(job, key=f"k{number}")(number) for number in range(2_000))

    assert (await move(docket_name, url, 1)).runs == 2_000

    async with opened(docket_name, url) as docket:
        [shard] = docket.store.shards
        found = [int(entry.key[1:]) for entry in await shard.listing.entries(None, 5_000)]
        for index in range(2):
            assert [number for number in found if shard_of(f"k{number}", 2) == index] == [n for n in range(2_000) if shard_of(f"k{n}", 2) == index]
        await docket.clear()
