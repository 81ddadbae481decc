"""An agenda: work collected first, and spread over a stretch of time."""

from __future__ import annotations

from datetime import timedelta

from docket import Agenda, Docket, Worker

MINUTE = timedelta(minutes=1)


async def test_an_agenda_spreads_its_calls_over_time(docket: Docket):
    @docket.task
    async def check(shop: str) -> None: ...

    agenda = Agenda()
    for shop in ("north", "east", "south"):
        agenda.add(check, key=f"check {shop}")(shop)
    first, second, third = await agenda.scatter(docket, over=10 * MINUTE)

    assert [execution.args for execution in (first, second, third)] == [("north",), ("east",), ("south",)]
    assert second.when - first.when == third.when - second.when == 5 * MINUTE
    for execution in (first, second, third):
        await docket.cancel(execution.key)


async def test_what_was_scattered_runs(docket: Docket, worker: Worker):
    ran: list[int] = []

    @docket.task
    async def check(shop: int) -> None:
        ran.append(shop)

    agenda = Agenda()
    for shop in range(5):
        agenda.add(check)(shop)
    await agenda.scatter(docket, over=timedelta(milliseconds=200), jitter=timedelta(milliseconds=20))
    await worker.run_until_finished()

    assert sorted(ran) == [0, 1, 2, 3, 4]
