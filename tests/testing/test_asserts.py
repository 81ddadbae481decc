"""Asserts about what is scheduled, on both backends: what is due later, ready now, set aside, or in line before a limit; of functions, handles and names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from docket import ConcurrencyLimit, Docket, RateLimit
from docket.testing import assert_no_tasks, assert_task_count, assert_task_not_scheduled, assert_task_scheduled
from tests._waiting import eventually
from tests.worker._hands import at_work

HOUR = timedelta(hours=1)
NEW_YEAR = datetime(2099, 1, 1, tzinfo=timezone.utc)


async def remind(order: int, *, polite: bool = False) -> None: ...


async def charge(order: int) -> None: ...


async def says(assertion: Awaitable[None]) -> str:
    """This is what an assert says that does not hold."""
    with pytest.raises(AssertionError) as failed:
        await assertion
    return str(failed.value)


async def test_ready_work_and_future_work_are_both_found(docket: Docket):
    await docket.add(remind, key="now")(1)
    await docket.add(remind, when=HOUR, key="later")(2, polite=True)

    await assert_task_scheduled(docket, remind)
    await assert_task_scheduled(docket, remind, args=(1,))
    await assert_task_scheduled(docket, remind, args=(2,), kwargs={"polite": True}, key="later")
    await assert_task_scheduled(docket, remind, kwargs={})
    await assert_task_not_scheduled(docket, charge)
    await assert_task_not_scheduled(docket, remind, args=(3,))
    await assert_task_not_scheduled(docket, remind, args=(2,), key="now")
    await assert_task_not_scheduled(docket, remind, kwargs={"polite": False})
    await assert_task_count(docket, remind, count=2)
    await assert_task_count(docket, count=2)
    await assert_task_count(docket, charge, count=0)
    await docket.clear()
    await assert_no_tasks(docket)


async def test_a_task_may_be_given_in_every_form(docket: Docket):
    handle = docket.task(name="emails.remind")(remind)
    docket.register(charge, names=["pay", "refund"])
    await handle.schedule(1, when=HOUR)
    await docket.add("pay", when=HOUR)(2)
    await docket.add("unknown here", when=HOUR)(3)

    for known in (remind, handle, "emails.remind", docket.add(handle)):
        await assert_task_scheduled(docket, known, args=(1,))
    await assert_task_scheduled(docket, charge, args=(2,))
    await assert_task_not_scheduled(docket, "refund")
    await assert_task_scheduled(docket, "unknown here", args=(3,))
    await docket.clear()


async def test_what_a_limit_holds_back_is_found(docket: Docket):
    began: list[int] = []
    go = asyncio.Event()

    @docket.task
    @ConcurrencyLimit(1)
    async def print_letter(number: int) -> None:
        began.append(number)
        await go.wait()

    @docket.task
    @RateLimit(1, per=HOUR)
    async def call_partner(number: int) -> None: ...

    async with at_work(docket):
        await print_letter.schedule(0)
        await eventually(lambda: began == [0])
        await print_letter.schedule(1)
        for number in range(2):
            await call_partner.schedule(number)

        async def set_aside() -> bool:
            return len(await docket.store.listing.parked(None, 9)) == 1 and len(await docket.store.listing.scheduled(None, 9)) == 1

        await eventually(set_aside)
        await assert_task_scheduled(docket, print_letter, args=(1,))
        await assert_task_not_scheduled(docket, print_letter, args=(0,))  # it runs
        await assert_task_count(docket, call_partner, count=1)
        go.set()
    await docket.clear()


async def test_what_they_say(docket: Docket):
    assert await says(assert_task_scheduled(docket, remind)) == "Task remind not found: no tasks scheduled on docket"

    await docket.add(remind, when=NEW_YEAR, key="later")(2, polite=True)
    await docket.add(charge, key="now")(7)

    listed = "\n  remind(2, polite=True) due 2099-01-01T00:00:00+00:00, key='later'\n  charge(7) queued, key='now'"
    later, _ = listed.rsplit("\n", 1)
    assert await says(assert_task_scheduled(docket, "other")) == f"Task other not found\nScheduled tasks:{listed}"
    assert (
        await says(assert_task_scheduled(docket, docket.task(remind), args=(3,), kwargs={"polite": True}, key="k"))
        == f"Task remind not found with args=(3,), kwargs={{'polite': True}}, key='k'\nScheduled tasks:{listed}"
    )
    assert await says(assert_task_not_scheduled(docket, remind)) == f"Task remind found but should not be scheduled:{later}"
    assert (
        await says(assert_task_not_scheduled(docket, remind, kwargs={"polite": True}))
        == f"Task remind found but should not be scheduled with kwargs={{'polite': True}}:{later}"
    )
    assert await says(assert_task_count(docket, remind, count=2)) == f"Expected 2 remind task(s), found 1\nScheduled tasks:{listed}"
    assert await says(assert_task_count(docket, count=3)) == f"Expected 3 task(s), found 2\nScheduled tasks:{listed}"
    assert await says(assert_no_tasks(docket)) == f"Expected no tasks, found 2 task(s) scheduled:{listed}"
    await docket.clear()
    assert await says(assert_task_count(docket, count=3)) == "Expected 3 task(s), found 0"


async def test_a_long_list_is_cut(docket: Docket):
    await docket.add_many(docket.call(charge, when=HOUR)(number) for number in range(150))

    said = await says(assert_no_tasks(docket))

    assert re.match(r"Expected no tasks, found 150 task\(s\) scheduled:\n  charge\(\d+\) due", said)
    assert said.endswith("... and 130 more")
    assert said.count("\n") == 21
    await docket.clear()


async def test_arguments_that_cannot_be_read_match_nothing_and_break_nothing(docket: Docket):
    await docket.add(charge, when=HOUR, key="k")(1)
    async with docket.redis() as redis:
        await redis.execute_command("HSET", docket.store.keys.run("k"), "payload", "no pickle")

    await assert_task_scheduled(docket, charge, key="k")
    said = await says(assert_task_scheduled(docket, charge, args=(1,)))

    assert re.search(r"\n  charge\(\.\.\. \(.+\)\) due", said)
    await docket.cancel("k")


async def test_a_function_without_a_name_is_called_what_it_is(docket: Docket):
    class Callback:
        async def __call__(self) -> None: ...

        def __repr__(self) -> str:
            return "<callback>"

    assert (await says(assert_task_scheduled(docket, Callback()))).startswith("Task <callback> not found")


@pytest.mark.only_memory("what pytest shows of a failure is the same on both")
async def test_a_failure_points_at_the_test(docket: Docket):
    checks: list[Callable[[], Awaitable[Any]]] = [
        lambda: assert_task_scheduled(docket, charge),
        lambda: assert_task_not_scheduled(docket, remind),
        lambda: assert_task_count(docket, count=7),
        lambda: assert_no_tasks(docket),
    ]
    await docket.add(remind)(1)

    for check in checks:
        with pytest.raises(AssertionError) as failed:
            await check()
        assert failed.traceback[-1].ishidden(failed)
        assert not failed.traceback[0].ishidden(failed)
