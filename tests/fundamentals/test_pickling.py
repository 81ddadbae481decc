"""Pickling: dockets and handles travel by name, so they may be arguments and results."""

from __future__ import annotations

import pickle

from docket import Docket, Task, Worker


async def test_a_handle_is_an_argument_and_a_result(docket: Docket, worker: Worker):
    seen: list[object] = []

    @docket.task(name="shop.notify")
    async def notify(customer_id: int) -> None:
        seen.append(customer_id)

    @docket.task
    async def order(customer_id: int, then: Task[[int], None]) -> Task[[int], None]:
        seen.append(then)
        await then.schedule(customer_id)
        return then

    execution = await order.schedule(1, then=notify)
    await worker.run_until_finished()

    assert seen == [notify, 1]
    assert await execution.get_result() is notify


async def test_a_docket_is_an_argument(docket: Docket, worker: Worker):
    @docket.task
    async def job(elsewhere: Docket) -> bool:
        return elsewhere is docket

    execution = await job.schedule(docket)
    await worker.run_until_finished()

    assert await execution.get_result() is True


def test_a_docket_takes_no_password_along():
    docket = Docket("orders", url="redis://:secret@localhost/0")

    pickled = pickle.dumps(docket)

    assert b"secret" not in pickled
    assert pickle.loads(pickled) is docket
