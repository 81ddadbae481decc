"""Starts automatic perpetual tasks, and puts back what was lost. Scheduling a live key changes nothing, so every worker may do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docket._worker._service import Service

if TYPE_CHECKING:
    from docket._worker._crew import Crew

__all__ = ["Perpetuals"]

RESEED_INTERVAL = 60.0


class Perpetuals(Service):
    """This schedules every automatic task under its name."""

    name = "seeding of automatic tasks"
    at_start = True

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew)
        self.seeded: list[str] = []
        """The keys seeded last."""

    async def tick(self) -> float:
        docket = self._crew.docket
        calls = [
            docket.call(registered.handle, when=registered.plan.perpetual.initial_when, key=registered.name)()
            for registered in self._crew.registry
            if registered.plan.perpetual is not None and registered.plan.perpetual.automatic
        ]
        for execution in await docket.add_many(calls):
            if execution.schedule_exception is not None:
                raise execution.schedule_exception
        self.seeded = [call.key for call in calls]
        return RESEED_INTERVAL
