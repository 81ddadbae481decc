"""Says that this worker can claim work, and which tasks it knows. An outage or a stuck loop silences it, as it should."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docket._worker._service import Service
from docket.errors import LayoutMismatch, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from docket._worker._crew import Crew

__all__ = ["Heartbeat"]


class Heartbeat(Service):
    """This announces the worker, for as long as nothing keeps it from claiming work."""

    name = "heartbeat"
    at_start = True

    def __init__(self, crew: Crew, trouble: Callable[[], str | None] = lambda: None, on_divided: Callable[[LayoutMismatch], object] = lambda _: None) -> None:
        super().__init__(crew)
        self._on_divided = on_divided
        """Told when the docket has another number of shards by now: nothing more comes where this worker reads."""
        self._trouble = trouble
        self._announced: tuple[str, frozenset[str]] | None = None
        self.refusal: str | None = None
        """Why the last beat did not get through, in words; None when it did. Whoever waits for entries may be the last to learn that there are none to be had."""

    async def tick(self) -> float:
        crew = self._crew
        options = crew.docket.options
        interval = options.heartbeat_interval.total_seconds()
        if self._trouble() is not None:
            return interval
        announcement = (crew.instance, frozenset(crew.registry.functions))
        ttl_ms = int(interval * (options.missed_heartbeats + 1) * 1000)
        tasks = None if announcement == self._announced else announcement[1]
        self._announced = None
        try:
            is_known = await crew.store.workers.heartbeat(crew.instance, crew.options.name, tasks, ttl_ms)
        except RedisUnavailable as exc:
            self.refusal = str(exc)
            raise
        except LayoutMismatch as exc:
            self.refusal = str(exc)
            self._on_divided(exc)
            return interval
        self.refusal = None
        if is_known:
            self._announced = announcement
            return interval
        return 0.0  # the description had expired: say everything again
