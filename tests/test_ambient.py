"""Entering and leaving dockets, and which one is meant by code that names none."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import multiprocessing
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

import docket as package
from docket import Docket, Perpetual
from docket._context import ambient_docket, docket_named
from docket.errors import InvalidOption, InvalidURL, NoDocket, NotEntered, RedisUnavailable

pytestmark = pytest.mark.leaves_keys("work is scheduled here, and no worker runs it")


async def send(number: int) -> None: ...


def memory(name: str) -> Docket:
    return Docket(name, f"memory://{name}")


class TestEntering:
    async def test_a_docket_may_be_entered_more_than_once(self, docket_name: str, url: str):
        docket = Docket(docket_name, url)
        async with docket, docket:
            async with docket:
                pass
            await docket.add(send)(1)

        assert not docket.is_entered
        with pytest.raises(NotEntered):
            await docket.add(send)(1)

    async def test_a_docket_may_be_entered_by_several_at_once(self, docket_name: str, url: str):
        docket = Docket(docket_name, url)

        async def use(number: int) -> None:
            async with docket:
                await docket.add(send)(number)

        await asyncio.gather(*(use(number) for number in range(10)))

        assert not docket.is_entered

    def test_a_docket_is_used_in_one_event_loop_after_another(self, docket_name: str, url: str):
        docket = Docket(docket_name, url)

        async def use() -> None:
            async with docket:
                await docket.add(send)(1)

        for _ in range(3):
            asyncio.run(use())

    async def test_a_docket_is_not_entered_in_two_event_loops_at_once(self, docket_name: str, url: str):
        docket = Docket(docket_name, url)
        errors: list[str] = []

        async def enter() -> None:
            try:
                await docket.__aenter__()
            except NotEntered as exc:
                errors.append(str(exc))
            try:
                await docket.add(send)(1)
            except NotEntered as exc:
                errors.append(str(exc))
            assert not docket.is_entered

        async with docket:
            thread = threading.Thread(target=lambda: asyncio.run(enter()))
            thread.start()
            await asyncio.to_thread(thread.join)

        assert len(errors) == 2
        assert all("another event loop" in error for error in errors)

    def test_a_docket_that_was_never_left_is_entered_again_in_the_next_loop(self, docket_name: str):
        docket = memory(docket_name)

        async def enter_and_forget() -> None:
            await docket.__aenter__()
            await docket.add(send)(1)

        async def use() -> None:
            async with docket:
                await docket.add(send)(1)

        asyncio.run(enter_and_forget())
        assert not docket.is_entered
        asyncio.run(use())

        assert not docket.is_entered

    async def test_leaving_takes_milliseconds(self, docket_name: str, url: str):
        docket = Docket(docket_name, url)
        await docket.__aenter__()
        started = time.monotonic()

        await docket.__aexit__(None, None, None)

        assert time.monotonic() - started < 0.5

    async def test_a_docket_is_left_in_another_task_than_it_was_entered_in(self, docket_name: str, url: str):
        docket = Docket(docket_name, url)

        await asyncio.create_task(docket.__aenter__())
        assert ambient_docket("this test") is docket
        await asyncio.create_task(docket.__aexit__(None, None, None))

        assert not docket.is_entered
        with pytest.raises(NoDocket):
            ambient_docket("this test")

    async def test_leaving_what_was_not_entered_is_an_error(self):
        with pytest.raises(NotEntered):
            await memory("unused").__aexit__(None, None, None)

    async def test_an_unreachable_server_is_an_error_of_its_own_and_the_docket_can_be_entered_later(self):
        docket = Docket(url="redis://:secret@127.0.0.1:1/0")

        for _ in range(2):
            with pytest.raises(RedisUnavailable) as caught:
                await docket.__aenter__()
            assert "secret" not in str(caught.value)
        assert not docket.is_entered

    async def test_a_bad_url_is_an_error_of_its_own(self):
        with pytest.raises(InvalidURL) as caught:
            await Docket(url="http://user:secret@host/").__aenter__()
        assert "secret" not in str(caught.value)

    def test_options_are_checked_when_a_docket_is_made(self):
        with pytest.raises(InvalidOption, match="heartbeat_interval"):
            Docket(heartbeat_interval=timedelta(0))

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
    @pytest.mark.only_server("children share no memory with their parent")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_docket_made_before_a_fork_is_entered_in_each_child(self, docket_name: str, url: str):
        docket = Docket(docket_name, url)

        async def use(key: str) -> None:
            async with docket:
                await docket.add(send, key=key)(1)

        async def entered_by_the_parent() -> bool:
            async with docket:
                child = multiprocessing.get_context("fork").Process(target=_in_child, args=(docket, use))
                child.start()
                await asyncio.to_thread(child.join)
                await docket.add(send, key="parent")(1)
                found = [await docket.get_execution(key) for key in ("parent", "child")]
                return child.exitcode == 0 and None not in found

        assert asyncio.run(entered_by_the_parent())


def _in_child(docket: Docket, use: Any) -> None:
    async def refused() -> str:
        try:
            await docket.add(send)(1)
        except NotEntered as exc:
            return str(exc)
        return ""

    asyncio._set_running_loop(None)
    if docket.is_entered or "before this process was forked" not in asyncio.run(refused()):
        os._exit(1)
    asyncio.run(use("child"))


class TestAmbient:
    async def test_an_unbound_handle_takes_the_only_entered_docket(self, docket: Docket):
        handle = package.task(send)

        assert handle.docket is docket
        assert (await handle.schedule(1)).docket is docket

    async def test_an_unbound_handle_takes_the_innermost_docket(self, docket: Docket):
        handle = package.task(send)
        async with memory("inner") as inner:
            assert handle.docket is inner
        assert handle.docket is docket

    async def test_several_dockets_of_other_contexts_are_an_error_that_names_them(self):
        first, second = memory("first"), memory("second")
        for docket in (first, second):
            await asyncio.create_task(docket.__aenter__())

        with pytest.raises(NoDocket, match=r"2 dockets are entered \('first', 'second'\)"):
            _ = package.task(send).docket

        for docket in (first, second):
            await asyncio.create_task(docket.__aexit__(None, None, None))

    async def test_a_docket_left_elsewhere_is_no_longer_ambient(self):
        handle = package.task(send)
        docket = memory("left")
        await docket.__aenter__()
        await asyncio.create_task(docket.__aexit__(None, None, None))

        with pytest.raises(NoDocket):
            _ = handle.docket

        async with docket:
            held = contextvars.copy_context()
        async with memory("other") as other:
            assert held.run(lambda: handle.docket) is other

    async def test_a_docket_that_comes_to_know_a_handle_binds_it(self):
        first, second = memory("first"), memory("second")
        handle = Perpetual(interval=timedelta(minutes=5))(send)
        first.register(handle)
        second.register(handle)

        async with first, second:
            assert handle.docket is first

    async def test_adding_a_handle_binds_it(self):
        handle = Perpetual(interval=timedelta(minutes=5))(send)
        async with memory("first") as first, memory("second"):
            await first.add(handle)(1)

            assert (await handle.schedule(1, key="k")).docket is first

    async def test_a_docket_that_knew_a_handle_and_is_left_does_not_hold_it(self):
        handle = Perpetual(interval=timedelta(minutes=5))(send)
        async with memory("first") as first:
            first.register(handle)
        async with memory("second") as second:
            assert handle.docket is second

        assert handle.docket is first  # which says that it is not entered
        del first
        gc.collect()
        with pytest.raises(NoDocket):
            _ = handle.docket

    async def test_a_declared_task_stays_with_its_docket(self):
        first = memory("first")
        handle = first.task(send)

        async with memory("second"):
            assert handle.docket is first
            with pytest.raises(NotEntered):
                await handle.schedule(1)

    async def test_a_docket_of_the_same_name_stands_in_for_one_that_is_not_entered(self):
        handle = memory("orders").task(send)

        async with memory("orders") as stand_in:
            assert handle.docket is stand_in


class TestByName:
    def test_a_docket_is_found_by_its_name(self):
        first, second = Docket("found"), Docket("found")

        assert first is not second
        assert docket_named("found") is second

    async def test_an_entered_docket_is_found_first(self):
        docket, later = memory("found"), memory("found")

        async with docket, memory("other"):
            assert docket_named("found") is docket
        assert docket_named("found") is later

    def test_a_name_that_no_docket_has_is_an_error(self):
        with pytest.raises(NoDocket, match="no docket named 'nowhere'"):
            docket_named("nowhere")
