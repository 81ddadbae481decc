"""Takes a claimed run through its limits, before anything of the user's is called."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from docket._store.records import Applicant

if TYPE_CHECKING:
    from docket._store.records import Admission, Requirement
    from docket._worker._crew import Crew
    from docket._worker._runs import Running
    from docket.execution import Execution

__all__ = ["Gatekeeper", "place_of"]

logger = logging.getLogger("docket.worker")


def place_of(requirements: tuple[Requirement, ...]) -> str:
    """This names the concurrency limit among a run's requirements, under which it holds a place until it is settled."""
    return next((requirement.identity for requirement in requirements if requirement.kind == "concurrency"), "")


class Gatekeeper:
    """This asks the store, once for all limits of a run, and says what came of it."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    async def admit(self, running: Running, execution: Execution[Any], requirements: tuple[Requirement, ...]) -> Admission:
        """This lets a run through, or sees it set aside. Admitted, the run keeps its place for as long as this worker holds it."""
        claimed = running.claimed
        applicant = Applicant(claimed.run, claimed.message_id, requirements, int(self._crew.lease_seconds * 1e6))
        admission = await self._crew.store.limits.admit(applicant)
        if admission.word == "admitted":
            place = place_of(requirements)
            running.holder = self._crew.store.limits.holder(place, claimed.run)
            running.place = place or None
        elif logger.isEnabledFor(logging.DEBUG):
            self._say(execution, admission)
        return admission

    def _say(self, execution: Execution[Any], admission: Admission) -> None:
        extra = {**self._crew.labels, **execution.specific_labels()}
        if admission.word == "dropped":
            logger.debug("⏭ Task %s blocked by %s, dropping", execution.key, admission.detail, extra=extra)
        elif admission.word == "later":
            logger.debug("⏳ Task %s blocked by admission control, rescheduling", execution.key, extra=extra)
        elif admission.word == "parked":
            logger.debug("⏳ Task %s parked until a place is free", execution.key, extra=extra)
