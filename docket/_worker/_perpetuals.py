"""Starts automatic perpetual tasks, and puts back what was lost. Scheduling a live key changes nothing, so every worker may do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docket._context import current_docket
from docket._worker._service import Service

if TYPE_CHECKING:
    from docket._worker._crew import Crew
    from docket.docket import Docket
    from docket.execution import TaskCall

__all__ = ["Perpetuals", "seed"]

RESEED_INTERVAL = 60.0


class Perpetuals(Service):
    """This schedules every automatic task under its name."""

    name = "seeding of automatic tasks"
    at_start = True

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew)
        self.seeded: list[str] = []
        """The keys seeded last."""

    async def run(self) -> None:
        """This ticks for ever, and as soon as something was restored: an automatic task that was struck comes back at once."""
        with self._crew.docket.strike_list.when_restored(self.nudge):
            await super().run()

    async def tick(self) -> float:
        self.seeded = await seed(self._crew.docket)
        return RESEED_INTERVAL


async def seed(docket: Docket) -> list[str]:
    """This schedules every automatic task of a docket that is not live already, and gives the keys."""
    calls = _first_calls(docket)
    for execution in await docket.seed(calls):
        if execution.schedule_exception is not None:
            raise execution.schedule_exception
    return [call.key for call in calls]


def _first_calls(docket: Docket) -> list[TaskCall]:
    """The calls that start the chains. A cron's first time is the next by the docket's clock, so it is asked as though in a run."""
    around = current_docket.set(docket)
    try:
        return [
            docket.call(registered.handle, when=registered.plan.perpetual.initial_when, key=registered.name)()
            for registered in docket.registry
            if registered.plan.perpetual is not None and registered.plan.perpetual.automatic
        ]
    finally:
        current_docket.reset(around)
