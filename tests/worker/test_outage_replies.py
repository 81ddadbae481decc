"""Servers that are there and say `not now`, or have lost what the worker relies on: waited out like an outage, by everybody, without a spin."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest

from docket import Docket, ExecutionState, Worker
from docket._store import lifecycle
from docket._worker._reclaimer import Reclaimer
from docket.errors import RedisUnavailable, ServerError
from tests._busy import busy
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.worker._hands import SOON, Long, at_work, claim, command, crew_of, dead_worker, lasts, read_all, record

LEASE = lasts(1000)
PATIENT: dict[str, Any] = {"reconnection_delay": lasts(1000), "redelivery_timeout": lasts(8000)}
"""For what is counted: pauses grow to a second."""

A_SPIN = 400
"""More replies than a worker's duties get in the time that they are watched here, and far fewer than one of them gets that does not pause."""


@pytest.fixture
def server(new_server: Callable[..., RedisServer]) -> RedisServer:
    return new_server()


@pytest.fixture
async def docket(docket_name: str, server: RedisServer) -> AsyncGenerator[Docket, None]:
    async with Docket(docket_name, server.url, heartbeat_interval=lasts(50)) as docket:
        yield docket


async def noticed(docket: Docket) -> None:
    """This waits until a call of this process has been refused."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    await eventually(lambda: docket.store.backend.connected_for() < loop.time() - since)


def told(server: RedisServer) -> int:
    """How many errors the server has replied so far."""
    return int(command(server, "INFO", "stats")["total_error_replies"])


class Plight(Protocol):
    """This is a state of a server in which it refuses what workers do."""

    word: str

    async def begin(self, server: RedisServer) -> None: ...

    async def end(self, server: RedisServer) -> None: ...


class Demoted:
    """It has become a replica, of a server that cannot be reached."""

    word = "READONLY"

    async def begin(self, server: RedisServer) -> None:
        command(server, "REPLICAOF", "127.0.0.1", "1")

    async def end(self, server: RedisServer) -> None:
        command(server, "REPLICAOF", "NO", "ONE")


class CutOff(Demoted):
    """It is a replica that answers nothing while it has no master."""

    word = "MASTERDOWN"

    async def begin(self, server: RedisServer) -> None:
        command(server, "CONFIG", "SET", "replica-serve-stale-data", "no")
        await super().begin(server)


class CannotSave:
    """It takes no writes, because what it holds could not be saved: a directory stands where the file should."""

    word = "MISCONF"

    async def begin(self, server: RedisServer) -> None:
        (server.directory / "dump.rdb").mkdir()
        command(server, "CONFIG", "SET", "save", "3600 1000000", "stop-writes-on-bgsave-error", "yes")
        await self._saved(server, "err")

    async def end(self, server: RedisServer) -> None:
        (server.directory / "dump.rdb").rmdir()
        await self._saved(server, "ok")

    async def _saved(self, server: RedisServer, status: str) -> None:
        command(server, "BGSAVE")
        await eventually(lambda: command(server, "INFO", "persistence")["rdb_last_bgsave_status"] == status)


class Busy:
    """It runs somebody's script that does not end."""

    word = "BUSY"

    def __init__(self) -> None:
        self._busy = AsyncExitStack()

    async def begin(self, server: RedisServer) -> None:
        command(server, "CONFIG", "SET", "lua-time-limit", "10")
        await self._busy.enter_async_context(busy(server))

    async def end(self, server: RedisServer) -> None:
        await self._busy.aclose()


PLIGHTS = [Demoted, CutOff, CannotSave, Busy]


@pytest.fixture(params=PLIGHTS, ids=lambda plight: plight.word)
def plight(request: pytest.FixtureRequest) -> Plight:
    return request.param()


class TestNotNow:
    async def test_the_worker_goes_on_by_itself_and_everything_runs_once(
        self, docket: Docket, server: RedisServer, plight: Plight, long: Long, caplog: pytest.LogCaptureFixture
    ):
        running = await docket.add(long.task)("running")
        later = await docket.add(long.task, when=docket.clock.now() + lasts(200))("later")
        async with at_work(docket, redelivery_timeout=LEASE, reconnection_delay=lasts(50)) as worker:
            await eventually(lambda: long.begun == ["running"])

            await plight.begin(server)
            await noticed(docket)
            long.go.set()  # it ends now, and can be settled only afterwards
            await asyncio.sleep(1.5 * LEASE.total_seconds())
            assert plight.word in (worker.not_ready() or "")
            await plight.end(server)
            after = await docket.add(long.task)("after")

            assert [await one.get_result(timeout=SOON) for one in (running, later, after)] == ["running", "later", "after"]
            await eventually(worker.is_claiming)
        assert sorted(long.begun) == ["after", "later", "running"]
        assert await docket.store.delivery.depth() == (0, 0)
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR]

    async def test_nobody_spins_and_nobody_beats(self, docket: Docket, server: RedisServer, plight: Plight, long: Long):
        await docket.add(long.task)("running")
        async with at_work(docket, **PATIENT):
            await eventually(lambda: long.begun == ["running"])
            before = told(server)
            await plight.begin(server)
            await noticed(docket)
            beats_us = docket.clock.now_us()
            long.go.set()
            await asyncio.sleep(1.5)
            ends_us = docket.clock.now_us()
            await plight.end(server)
            refused = told(server) - before

            async def beats_again() -> bool:
                await docket.store.backend.available(10)  # a connection to what was a replica is given up
                [seen] = await docket.store.workers.live(since_us=0)
                assert not beats_us + 50_000 < seen.last_seen_us < ends_us
                return seen.last_seen_us >= ends_us

            await eventually(beats_again)
        assert 5 < refused < A_SPIN

    async def test_adding_says_why_not_in_bounded_time(self, docket: Docket, server: RedisServer, plight: Plight, long: Long, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(lifecycle, "SCHEDULE_PATIENCE", 0.3)
        await plight.begin(server)

        with pytest.raises(RedisUnavailable, match=plight.word):
            await asyncio.wait_for(docket.add(long.task, key="k")("never"), 10)

        await plight.end(server)
        assert await docket.get_execution("k") is None

    async def test_adding_outlasts_a_short_one(self, docket: Docket, server: RedisServer, plight: Plight, long: Long):
        await plight.begin(server)
        adding = asyncio.ensure_future(docket.add(long.task, key="k")("k"))
        done, _ = await asyncio.wait([adding], timeout=0.2)  # not every refusal can be noticed from outside
        assert not done

        await plight.end(server)

        await asyncio.wait_for(adding, 10)
        await docket.cancel("k")

    async def test_one_that_starts_meanwhile_waits_for_its_end_without_a_spin(
        self, docket: Docket, server: RedisServer, plight: Plight, long: Long, caplog: pytest.LogCaptureFixture
    ):
        long.go.set()
        asked = await docket.add(long.task)("k")
        before = told(server)
        await plight.begin(server)
        async with Worker(docket, **PATIENT) as worker:
            running = asyncio.create_task(worker.run_forever())
            await asyncio.sleep(1)
            assert not running.done()
            await plight.end(server)
            refused = told(server) - before

            assert await asked.get_result(timeout=SOON) == "k"
            worker.stop()
            await running
        assert 0 < refused < A_SPIN / 4
        assert caplog.text.count("Redis is unavailable, retrying in") == 1

    async def test_told_to_stop_meanwhile_it_stops(self, docket: Docket, server: RedisServer, plight: Plight):
        async with Worker(docket, reconnection_delay=lasts(60_000), cleanup_timeout=lasts(100)) as worker:
            running = asyncio.create_task(worker.run_forever())
            await eventually(worker.is_claiming)
            await plight.begin(server)

            worker.stop()
            await asyncio.wait_for(running, 15)
        await plight.end(server)

    async def test_after_it_nothing_is_taken_from_anybody_for_the_length_of_a_lease(self, docket: Docket, server: RedisServer, plight: Plight, long: Long):
        """The connection has stood all the time, and still nobody could renew."""
        asked = await docket.add(long.task)("left")
        dead = await dead_worker(docket)
        await claim(docket, dead)
        crew = crew_of(docket, redelivery_timeout=LEASE)
        await eventually(lambda: docket.store.backend.connected_for() > LEASE.total_seconds())
        await plight.begin(server)
        with pytest.raises(RedisUnavailable, match=plight.word):
            await docket.store.delivery.renew("w~1", 1, [], first=True)
        await plight.end(server)
        assert await docket.store.backend.available(5)  # a server that is no master is connected to anew

        assert 0 < await Reclaimer(crew).tick() <= LEASE.total_seconds()

        assert list(await read_all(docket)) == [dead]
        assert docket.store.backend.connected_for() < LEASE.total_seconds()
        long.go.set()
        async with at_work(docket, redelivery_timeout=LEASE):
            assert await asked.get_result(timeout=SOON) == "left"
        assert long.begun == ["left"]


async def test_after_a_server_stood_still_nothing_is_taken_from_anybody_for_the_length_of_a_lease(docket: Docket, server: RedisServer, long: Long):
    """What the others sent meanwhile to renew may be behind the question who has not renewed."""
    await docket.add(long.task, key="left")("left")
    dead = await dead_worker(docket)
    await claim(docket, dead)
    lease = lasts(400)
    await eventually(lambda: docket.store.backend.connected_for() > lease.total_seconds())
    reclaimer = Reclaimer(crew_of(docket, redelivery_timeout=lease))
    os.kill(server.pid, signal.SIGSTOP)
    looking = asyncio.create_task(reclaimer.tick())
    await asyncio.sleep(0.2)
    os.kill(server.pid, signal.SIGCONT)

    assert await looking == 0.1
    assert 0 < await reclaimer.tick() <= 0.1

    assert list(await read_all(docket)) == [dead]

    async def is_taken() -> bool:
        await reclaimer.tick()
        return not await read_all(docket)

    await eventually(is_taken)
    await docket.cancel("left")


class TestLoading:
    @pytest.fixture
    def server(self, new_server: Callable[..., RedisServer]) -> RedisServer:
        """One that takes more than a second to load what it has saved."""
        return new_server("--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024")

    async def test_a_server_that_loads_is_waited_for(self, docket: Docket, server: RedisServer, long: Long):
        asked = await docket.add(long.task)("once")
        for number in range(400):
            server.client().set(f"ballast:{number}", os.urandom(4000), px=60_000)
        async with at_work(docket, redelivery_timeout=LEASE, reconnection_delay=lasts(50)) as worker:
            await eventually(lambda: long.begun == ["once"])
            command(server, "SAVE")
            server.kill()
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            await eventually(lambda: not worker.is_claiming())

            async def says_so() -> bool:
                try:
                    await docket.store.backend.call("PING")
                except RedisUnavailable as exc:
                    return "loading" in str(exc).lower()
                return False

            await eventually(says_so)
            assert not starting.done()
            long.go.set()
            await starting

            assert await asked.get_result(timeout=SOON) == "once"
        assert long.begun == ["once"]


class TestForgottenScripts:
    async def test_nothing_fails_however_often_they_are_forgotten(self, docket: Docket, server: RedisServer, caplog: pytest.LogCaptureFixture):
        ran: list[int] = []

        async def noted(number: int) -> None:
            ran.append(number)

        docket.register(noted)
        async with at_work(docket) as worker:
            await eventually(worker.is_claiming)
            before = told(server)
            for number in range(50):
                server.client().script_flush()
                await docket.add(noted)(number)
            await eventually(lambda: len(ran) == 50)
            await eventually(lambda: worker._intake is not None and worker._intake._runs.idle)
        assert sorted(ran) == list(range(50))
        assert 50 <= told(server) - before < A_SPIN
        assert caplog.messages == []


class TestAFullServer:
    async def test_it_is_drained_and_takes_new_work_once_there_is_room(self, docket: Docket, server: RedisServer, long: Long, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(lifecycle, "SCHEDULE_PATIENCE", 0.3)
        asked = [await docket.add(long.task)(str(number)) for number in range(30)]
        later = await docket.add(long.task, when=docket.clock.now() + lasts(200))("later")
        command(server, "CONFIG", "SET", "maxmemory", "1mb")  # before any worker was there to make the group
        before = told(server)
        async with at_work(docket, redelivery_timeout=LEASE) as worker:
            await eventually(lambda: len(long.begun) == 10)
            with pytest.raises(RedisUnavailable, match="OOM|maxmemory"):
                await asyncio.wait_for(docket.add(long.task, key="new")("new"), 10)
            assert worker.is_claiming()
            long.go.set()

            assert [await one.get_result(timeout=SOON) for one in asked] == [str(number) for number in range(30)]
            assert await later.get_result(timeout=SOON) == "later"
            refused = told(server) - before
            command(server, "CONFIG", "SET", "maxmemory", "0")
            assert await (await docket.add(long.task, key="new")("new")).get_result(timeout=SOON) == "new"
        assert len(long.begun) == len(set(long.begun)) == 32
        assert refused < A_SPIN

    async def test_what_a_dead_worker_left_there_is_taken_over(self, docket: Docket, server: RedisServer, long: Long):
        asked = await docket.add(long.task)("left")
        await claim(docket, await dead_worker(docket))
        command(server, "CONFIG", "SET", "maxmemory", "1mb")
        long.go.set()
        async with at_work(docket, redelivery_timeout=LEASE):
            assert await asked.get_result(timeout=SOON) == "left"


class TestNotLikeThis:
    """Somebody has put something else under a key of ours. That fails the call, in the log, and nothing but what needs that key."""

    def spoil(self, server: RedisServer, key: str) -> None:
        server.client().delete(key)
        server.client().set(key, "not ours", px=60_000)

    @pytest.mark.parametrize(("key", "said"), [("queue", "The worker's mover failed"), ("workers", "The worker's heartbeat failed")])
    async def test_other_duties_go_on(self, docket: Docket, server: RedisServer, key: str, said: str, long: Long, caplog: pytest.LogCaptureFixture):
        long.go.set()
        async with at_work(docket, redelivery_timeout=LEASE) as worker:
            await eventually(worker.is_claiming)
            before = told(server)
            self.spoil(server, docket.key(key))
            await eventually(lambda: said in caplog.text)

            assert await (await docket.add(long.task)("now")).get_result(timeout=SOON) == "now"

            await asyncio.sleep(1)
            assert told(server) - before < A_SPIN / 8
            server.client().delete(docket.key(key))
            assert await (await docket.add(long.task, when=docket.clock.now() + lasts(50))("later")).get_result(timeout=SOON) == "later"

    @pytest.mark.parametrize("key", ["stream", "meta"])
    async def test_what_cannot_be_read_or_claimed_is_tried_again_without_a_spin(
        self, docket: Docket, server: RedisServer, key: str, long: Long, caplog: pytest.LogCaptureFixture
    ):
        long.go.set()
        asked = await docket.add(long.task, key="k")("k")
        before = told(server)
        async with Worker(docket, redelivery_timeout=LEASE) as worker:
            client = server.client()
            kept = client.dump(docket.key(key))
            await docket.store.delivery.ensure_group()
            kept = client.dump(docket.key(key)) or kept
            assert isinstance(kept, bytes)
            running = asyncio.create_task(worker.run_forever())
            if key == "stream":
                await asked.get_result(timeout=SOON)
            self.spoil(server, docket.key(key))
            with pytest.raises(ServerError, match="WRONGTYPE"):
                await docket.add(long.task, key="refused")("refused")
            await asyncio.sleep(1)
            assert not running.done()
            assert told(server) - before < A_SPIN / 8
            client.delete(docket.key(key))
            if key == "meta":
                client.restore(docket.key(key), 0, kept)
            assert await (await docket.add(long.task, key="after")("after")).get_result(timeout=SOON) == "after"
            assert await asked.get_result(timeout=SOON) == "k"
            worker.stop()
            await running
        assert "WRONGTYPE" in caplog.text

    async def test_where_no_lease_can_be_kept_nothing_is_begun_until_it_can(
        self, docket: Docket, server: RedisServer, long: Long, caplog: pytest.LogCaptureFixture
    ):
        long.go.set()
        async with at_work(docket, redelivery_timeout=LEASE) as worker:
            await eventually(worker.is_claiming)
            before = told(server)
            self.spoil(server, docket.key("leases"))
            asked = await docket.add(long.task)("k")
            await eventually(lambda: "The worker's lease renewal" in caplog.text and "Claiming 1 entries failed" in caplog.text)
            await asyncio.sleep(1)
            assert long.begun == []
            assert told(server) - before < A_SPIN / 8
            server.client().delete(docket.key("leases"))

            assert await asked.get_result(timeout=SOON) == "k"

    async def test_one_that_leaves_then_leaves(self, docket: Docket, server: RedisServer, caplog: pytest.LogCaptureFixture):
        async with at_work(docket) as worker:
            await eventually(worker.is_claiming)
            self.spoil(server, docket.key("leases"))
        assert "Could not say goodbye; the worker is forgotten when its lease lapses" in caplog.text

    async def test_a_run_whose_record_was_spoilt_harms_no_other(self, docket: Docket, server: RedisServer, long: Long, caplog: pytest.LogCaptureFixture):
        spoilt = await docket.add(long.task, key="spoilt")("spoilt")
        other = await docket.add(long.task)("other")
        async with at_work(docket, redelivery_timeout=LEASE):
            await eventually(lambda: len(long.begun) == 2)
            self.spoil(server, docket.key(f"runs:{spoilt.key}"))
            long.go.set()

            assert await other.get_result(timeout=SOON) == "other"
            await eventually(lambda: "Settling spoilt failed" in caplog.text)
            assert await (await docket.add(long.task)("after")).get_result(timeout=SOON) == "after"
        assert sorted(long.begun) == ["after", "other", "spoilt"]


class TestAGroupThatIsGone:
    async def test_what_a_dead_worker_held_is_taken_over_all_the_same(self, docket: Docket, server: RedisServer, long: Long):
        asked = await docket.add(long.task, key="k")("left")
        dead = await dead_worker(docket, lease=0.5)
        await claim(docket, dead)
        command(server, "XGROUP", "DESTROY", docket.key("stream"), docket.worker_group_name)
        long.go.set()
        async with at_work(docket, redelivery_timeout=LEASE):
            assert await asked.get_result(timeout=SOON) == "left"
        assert long.begun == ["left"]
        assert (await record(docket, "k")).crashes == 1

    async def test_what_runs_stays_its_workers_and_is_taken_over_if_that_dies(self, docket: Docket, server: RedisServer, long: Long):
        """The entry comes to another worker, which gives it back to the one that runs it."""
        asked = await docket.add(long.task, key="k")("k")
        living = await dead_worker(docket, "living~1", lease=60)
        [claimed] = await claim(docket, living)
        command(server, "XGROUP", "DESTROY", docket.key("stream"), docket.worker_group_name)

        assert await claim(docket, "other~1") == []

        assert {instance: [entry.message_id for entry in entries] for instance, entries in (await read_all(docket)).items()} == {living: [claimed.message_id]}
        assert (await record(docket, "k")).worker == "living"
        await docket.store.delivery.renew(living, -1, [])
        long.go.set()
        async with at_work(docket, redelivery_timeout=LEASE):
            assert await asked.get_result(timeout=SOON) == "k"

    async def test_a_worker_without_a_free_slot_makes_it_again(self, docket: Docket, server: RedisServer, long: Long, caplog: pytest.LogCaptureFixture):
        asked = await docket.add(long.task)("k")
        async with at_work(docket, concurrency=1, redelivery_timeout=LEASE):
            await eventually(lambda: long.begun == ["k"])
            await eventually(lambda: docket.store.backend.connected_for() > LEASE.total_seconds())
            command(server, "XGROUP", "DESTROY", docket.key("stream"), docket.worker_group_name)

            await eventually(lambda: command(server, "XINFO", "GROUPS", docket.key("stream")))
            long.go.set()

            assert await asked.get_result(timeout=SOON) == "k"
        assert long.begun == ["k"]
        assert "reclaimer failed" not in caplog.text

    async def test_a_stream_that_was_deleted_stops_nobody(self, docket: Docket, server: RedisServer, long: Long, caplog: pytest.LogCaptureFixture):
        asked = await docket.add(long.task, key="k")("k")
        async with at_work(docket, redelivery_timeout=LEASE, reconnection_delay=lasts(50)):
            await eventually(lambda: long.begun == ["k"])

            server.client().delete(docket.key("stream"))
            after = await docket.add(long.task)("after")
            await eventually(lambda: len(long.begun) == 2)
            long.go.set()

            assert [await asked.get_result(timeout=SOON), await after.get_result(timeout=SOON)] == ["k", "after"]
        assert long.begun == ["k", "after"]
        assert (await record(docket, "k")).state is ExecutionState.COMPLETED
        assert await docket.store.delivery.depth() == (0, 0)
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
