"""Whether anything is left to do, for a worker that runs until it is finished."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from docket._worker._crew import Crew
    from docket._worker._plans import Plans

__all__ = ["Finish"]

logger = logging.getLogger("docket.worker")


class Finish:
    """This looks for work that this worker could run: scheduled, queued, or under way anywhere."""

    def __init__(self, crew: Crew, plans: Plans) -> None:
        self._crew = crew
        self._plans = plans

    def __contains__(self, task: object) -> bool:
        return isinstance(task, str) and self._plans.knows(task)

    async def reached(self, agrees: Callable[[], bool] = lambda: True) -> bool:
        """This says whether nothing is left, and whoever asks `agrees` once all has been looked at.

        Tasks nobody here knows are left in place, named in one log line, and do not count.
        """
        delivery = self._crew.store.delivery
        # Looked at on both sides of the limits, for what is parked, or let in, meanwhile
        if not any(await delivery.depth()) and not await delivery.contended() and not any(await delivery.depth()):
            return agrees()
        left, strangers = await delivery.work_for(self)
        if left or not agrees():
            return False
        if strangers:  # none: what was left a moment ago has gone
            logger.info("Finished; tasks left for workers that know them: %s", ", ".join(sorted(strangers)), extra=self._crew.labels)
        return True
